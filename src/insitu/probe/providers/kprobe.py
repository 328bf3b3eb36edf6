"""kprobe:FUNCTION and kretprobe:FUNCTION: any instruction of the kernel, and any function's return.

Also kprobe@SOURCE:LINE, where the kernel's debug information is installed.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence

from insitu.capabilities import links
from insitu.errors import InsituError
from insitu.kernel import bpf, perf_event, procfs
from insitu.kernel.bpf_abi import AttachType, ProgramType
from insitu.probe.providers.arguments import Argument
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.alternatives import instead_of, successors
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import has_wildcard, missing, number, parts, select
from insitu.probe.providers.support.perf_attachment import attach_events, on_one_cpu
from insitu.probe.providers.support.signature import entry_arguments, in_one_register, is_returned, return_argument
from insitu.symbols.btf import Btf, Type

__all__ = ["PROVIDERS"]

_RETURN = 1  # config of the kprobe PMU: /sys/bus/event_source/devices/kprobe/format/retprobe
_MANY = 12
_MULTI = "multi"  # a point's detail: one of those that share a link


class Kprobe:
    """perf's kprobe events; where a wildcard named many functions, one link for all of them if the kernel can."""

    def __init__(self, kind: str, alias: str, returning: bool) -> None:
        self.names = (kind, alias)
        self._returning = returning
        self.traits = Traits(
            of_process=True,
            returning=returning,
            numbered="registers",
            entry=not returning,
            # What is pushed last onto a task's list of pending returns is popped first: two reversals.
            last_first=not returning,
        )
        self.takes_parameters, self.takes_result = not returning, returning
        self._arguments: dict[Type, list[Argument]] = {}  # by prototype: half of all functions share one

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        _check(spec, context)
        if _names_source(spec):
            return self._at_line(spec, context)
        module, function, offset = self._split(spec)
        if offset and self._returning:
            raise InsituError(f"{spec}: a return probe cannot have an offset")
        address = number(function)
        if address is not None:
            return [self._at_address(spec, function, address + offset)]
        if not has_wildcard(function) and (module == "*" or not has_wildcard(module)):
            if not _exists(function, module, context):
                raise _absent(function, context, module)
            return [self._point(module.replace("*", ""), function, offset)]
        found = self.listing(spec, context)
        if not found:
            raise _absent(function, context, module)
        shared = len(found) > 1 and links.kprobe_multi().available
        return [self._point(point.target, point.function, 0, _MULTI if shared else None) for point in found]

    def _at_address(self, spec: AttachSpec, written: str, address: int) -> AttachPoint:
        """The point at an instruction's address, as ``kprobe:0xffffffff81234560``."""
        if self._returning:
            raise InsituError(f"{spec}: a return probe cannot be at an address")
        from insitu.symbols.kallsyms import Kallsyms, read_kallsyms

        kernel = Kallsyms(read_kallsyms())
        found = kernel.symbol(address) if address >> 64 == 0 and kernel.covers(address) else None
        if found is None:
            raise AbsentError(f"{spec}: {written} is not in a kernel function")
        name, offset = found
        return AttachPoint(self.names[0], str(spec), function=name, offset=offset, address=address)

    def _at_line(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        """The points at the code of ``kprobe@SOURCE:LINE``: one in each function that it was inlined into."""
        from insitu.probe.providers.support.source_lines import code_of_line
        from insitu.symbols.kernel_file import find_vmlinux, slide

        (first, *rest), kind = spec.parts, self.names[0]
        if self._returning:
            raise InsituError(f"{spec}: a return probe cannot be at a source line")
        if len(rest) != 1 or not rest[0].isdecimal() or len(first) == 1:
            raise InsituError(f"{spec}: expected {kind}@SOURCE:LINE; columns are not supported", status=2)
        path = find_vmlinux()
        elf = context.elf(path)
        text, distance, forbidden = elf.section(".text"), slide(elf), _blacklist()
        line = int(rest[0])
        found = [
            AttachPoint(
                kind,
                f"{kind}{first}:{line}",
                function=code.function,
                offset=code.address - code.start,
                address=code.address + distance,
            )
            for code in code_of_line(elf, path, first[1:], line)
            # Code that only the start of the kernel needs is gone.
            if text is not None
            and text.address <= code.address < text.address + text.size
            and code.function not in forbidden
        ]
        if not found:
            raise AbsentError(f"{spec}: the kernel takes no probe in any function with that line")
        return found

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        """By BTF, where it knows the function: at its entry the parameters, at its return ``retval``."""
        if point.offset:
            return None
        prototype = _prototype(point.function, point.target or "*", context)
        if prototype is None:
            return None
        found = self._arguments.get(prototype)
        if found is None:
            found = (return_argument if self._returning else entry_arguments)(prototype)
            self._arguments[prototype] = found
        return found

    def prototypes(self, points: Sequence[AttachPoint], context: Context) -> list[tuple[Btf, int] | None]:
        if len(points) <= _MANY or any(point.offset for point in points):
            return [
                None if point.offset else _found(point.function, point.target or "*", context) for point in points
            ]
        try:
            return _found_by_names(points, context)
        except InsituError:
            return [None] * len(points)

    def is_argument(self, parameter: Type) -> bool:
        return in_one_register(parameter)

    def is_result(self, returned: Type) -> bool:
        return is_returned(returned)

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return ProgramKind(
            ProgramType.KPROBE,
            "pt_regs",
            attach_type=AttachType.TRACE_KPROBE_MULTI if point.detail == _MULTI else 0,
            shared=True,
            cookies=links.perf_links().available,
        )

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        if points[0].detail == _MULTI:
            names, cookies = [point.function for point in points], [point.cookie for point in points]
            return Descriptors([bpf.link_kprobe_multi(program_fd, names, cookies, returning=self._returning)])
        events, names_held = [], []
        for point in points:
            symbol = f"{point.target}:{point.function}" if point.target else point.function
            name = ctypes.create_string_buffer(symbol.encode())
            names_held.append(name)
            attr = perf_event.Attr(
                type=procfs.pmu_type("kprobe") or 0,
                config=_RETURN if self._returning else 0,
                config1=0 if point.address else ctypes.addressof(name),
                config2=point.address or point.offset,
                disabled=1,
            )
            events += on_one_cpu(attr, point.cookie)
        try:
            return attach_events(program_fd, events, tracing=True)
        except InsituError as error:
            raise _refused(points[0], error, context) from None

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        _check(pattern, context)
        if _names_source(pattern):
            return self._at_line(pattern, context)
        module, function, _ = self._split(pattern)
        # A set: static functions of one name are listed each, and a link refuses to take a name twice.
        found = set(context.functions)
        if function != "*":
            wanted = set(select(function, [name for name, _ in found]))
            found = {each for each in found if each[0] in wanted}
        if module != "*":
            owners = set(select(module, {owner or "vmlinux" for _, owner in found}))
            found = {each for each in found if (each[1] or "vmlinux") in owners}
        blacklist = _blacklist()
        # One string of each pair takes half the time to sort by: no name holds a zero.
        inorder = sorted((each for each in found if each[0] not in blacklist), key="\0".join)
        kind = self.names[0]
        return [
            self._point(owner, name, 0) if owner else AttachPoint(kind, f"{kind}:{name}", function=name)
            for name, owner in inorder
        ]

    def _split(self, spec: AttachSpec) -> tuple[str, str, int]:
        """Module (a pattern), function (a pattern) and offset."""
        kind = self.names[0]
        first, second = parts(spec, f"{kind}:FUNCTION[+OFFSET] or {kind}:MODULE:FUNCTION", 0, 2)
        module, text = (first, second) if second else ("*", first or "*")
        function, plus, offset = text.partition("+")
        distance = number(offset) if plus else 0
        if distance is None:
            raise InsituError(f"{spec}: {offset} is not an offset")
        return module, function, distance

    def _point(self, module: str, function: str, offset: int, detail: object = None) -> AttachPoint:
        module = "" if module == "vmlinux" else module
        name = ":".join(filter(None, (self.names[0], module, function))) + (f"+{offset}" if offset else "")
        return AttachPoint(self.names[0], name, target=module, function=function, offset=offset, detail=detail)


def _names_source(spec: AttachSpec) -> bool:
    return bool(spec.parts) and spec.parts[0].startswith("@")


def _check(spec: AttachSpec, context: Context) -> None:
    if procfs.pmu_type("kprobe") is None:
        raise InsituError(
            f"{spec}: this kernel has no kprobes (CONFIG_KPROBES is off)",
            remedy=instead_of(spec.parts[-1] if spec.parts else "", context),
        )


def _prototype(function: str, module: str, context: Context) -> Type | None:
    """The function's in BTF, the kernel's or that of a module that matches; None on kernels without BTF, too."""
    found = _found(function, module, context)
    return found[0].type(found[1]) if found else None


def _found(function: str, module: str, context: Context) -> tuple[Btf, int] | None:
    """Where that prototype is: its number in a set of types."""
    try:
        if module == "*" and (found := context.btf.prototype_id(function)):
            return found
        owners = select(module, context.btf_owners)
        return next(filter(None, (context.btf_of(owner).prototype_id(function) for owner in owners)), None)
    except InsituError:
        return None


def _found_by_names(points: Sequence[AttachPoint], context: Context) -> list[tuple[Btf, int] | None]:
    """The same of many functions, by all names of functions: to search for each would take longer."""
    sets = {owner: context.btf_of(owner) for owner in context.btf_owners}
    anywhere: dict[str, tuple[Btf, int]] = {}
    for btf in reversed(sets.values()):
        anywhere |= btf.prototypes
    nothing = context.btf, 0
    return [
        anywhere.get(point.function, nothing)
        if not point.target
        else (point.target in sets and sets[point.target].prototype_id(point.function)) or nothing
        for point in points
    ]


def _exists(function: str, module: str, context: Context) -> bool:
    """Whether the kernel or a module has a function of that name: by BTF, or by the slower list of all symbols."""
    return _prototype(function, module, context) is not None or _has_code(function, module)


def _has_code(function: str, module: str = "*") -> bool:
    """Whether the kernel has instructions of that name: BTF also describes functions that are inlined everywhere."""
    from insitu.symbols.kallsyms import has_function

    return has_function(function, module="" if module in ("*", "vmlinux") else module)


def _absent(function: str, context: Context, module: str = "*") -> AbsentError:
    if module not in ("*", "vmlinux"):
        what = f"there is no function {function} in a module {module}"
        return AbsentError(what, remedy=f"insitu trace -l 'kprobe:{module}:*' lists those that are loaded")
    if instead := successors(function, context):
        return AbsentError(f"there is no kernel function {function}", remedy=f"use {instead[0]}")
    return missing("kernel function", function, [name for name, _ in context.functions])


def _refused(point: AttachPoint, error: InsituError, context: Context) -> InsituError:
    if point.function in _blacklist():
        return InsituError(f"{point.function} is on the kernel's kprobe blacklist")
    if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.EILSEQ:
        return InsituError(f"{point.name}: no instruction begins {point.offset} bytes into {point.function}")
    traceable = {name for name, _ in context.functions}
    if not _has_code(point.function):
        what = f"{point.function} has no code of its own in this kernel: it is inlined everywhere"
        return AbsentError(what, remedy=instead_of(point.function, context))
    if traceable and point.function not in traceable:
        # kernel/trace/trace_kprobe.c: within_notrace_func()
        what = f"{point.function} is not in the kernel's list of traceable functions"
        return AbsentError(what, remedy=instead_of(point.function, context))
    return InsituError(f"cannot attach to {point.name}: {error.args[0]}", remedy=error.remedy)


def _blacklist() -> set[str]:
    """Functions in which the kernel allows no kprobe, as far as debugfs is mounted."""
    try:
        with open("/sys/kernel/debug/kprobes/blacklist") as file:  # noqa: PTH123
            return {line.split()[-1] for line in file if line.strip()}
    except OSError:
        return set()


PROVIDERS = (Kprobe("kprobe", "k", False), Kprobe("kretprobe", "kr", True))
