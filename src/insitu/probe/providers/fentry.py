"""fentry:FUNCTION and fexit:FUNCTION: kernel functions with their typed arguments, by BPF trampolines."""

from __future__ import annotations

from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import AttachType, ProgramType
from insitu.probe.providers.arguments import Argument, ContextSlot
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.alternatives import can_trace_functions, instead_of
from insitu.probe.providers.support.bpf_functions import BpfFunction, bpf_functions
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import has_wildcard, missing, parts, select
from insitu.symbols.btf import Btf, Kind, Type

__all__ = ["PROVIDERS"]

_SLOT_BYTES = 8
_BPF = "bpf"  # in the place of a module: functions of BPF programs


class Trampoline:
    """Entry or exit of functions that BTF describes, the kernel's and its modules'."""

    def __init__(self, *names: str, returning: bool) -> None:
        self.names = names
        self.traits = Traits(of_process=True, trusted=True, entry=not returning, last_first=True)
        self._returning = returning
        self.takes_parameters, self.takes_result = True, returning
        self._arguments: dict[Type, list[Argument]] = {}  # by prototype: half of all functions share one

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        if spec.parts[:1] == (_BPF,):
            found = self.listing(spec, context)
            if not found:
                raise AbsentError(
                    f"{spec}: no loaded BPF program has such a function",
                    remedy=f"insitu trace -l '{self.names[0]}:bpf:*' lists those with type information (BTF)",
                )
            return found
        module, function = self._split(spec)
        self._check(spec, function, context)
        if not has_wildcard(function):
            for owner in select(module, context.btf_owners):
                if context.btf_of(owner).find(function, Kind.FUNC):
                    return [self._point(owner, function)]
        found = self.listing(spec, context)
        if not found:
            raise missing("kernel function", function, context.btf.names(Kind.FUNC))
        return found

    def _check(self, spec: AttachSpec, function: str, context: Context) -> None:
        if not can_trace_functions(context):
            raise InsituError(
                f"{spec}: this kernel does not support {self.names[0]} programs", remedy=instead_of(function, context)
            )

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        if isinstance(point.detail, BpfFunction):
            return None
        prototype = context.btf_of(point.target).prototype(point.function)
        if prototype is None:
            raise _unknown(point)
        found = self._arguments.get(prototype)
        if found is None:
            found = self._arguments[prototype] = self._arguments_by(prototype)
        return found

    def prototypes(self, points: Sequence[AttachPoint], context: Context) -> list[tuple[Btf, int] | None]:
        return [
            None
            if isinstance(point.detail, BpfFunction)
            else context.btf_of(point.target).prototype_id(point.function)
            for point in points
        ]

    def is_argument(self, parameter: Type) -> bool:
        return parameter.kind != Kind.VOID

    def is_result(self, returned: Type) -> bool:
        return returned.strip().kind != Kind.VOID

    def _arguments_by(self, prototype: Type) -> list[Argument]:
        found, slot = [], 0
        for index, parameter in enumerate(prototype.parameters):
            if not self.is_argument(parameter.type):
                break  # "...": only the named ones are passed on
            found.append(Argument(parameter.name or f"arg{index}", parameter.type, ContextSlot(slot)))
            slot += max(1, -(-parameter.type.size // _SLOT_BYTES))
        if self._returning and self.is_result(prototype.returns):
            found.append(Argument("retval", prototype.returns, ContextSlot(slot)))
        return found

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        if isinstance(point.detail, BpfFunction):
            # include/uapi/linux/bpf.h: attach_prog_fd shares its place with attach_btf_obj_fd.
            type_id, holder = point.detail.type_id, context.program_fd(point.detail.program)
        else:
            type_id = _function(context.btf_of(point.target), point).id
            holder = context.btf_fd(point.target)
        return ProgramKind(
            ProgramType.TRACING,
            "arguments",
            attach_type=AttachType.TRACE_FEXIT if self._returning else AttachType.TRACE_FENTRY,
            attach_btf_id=type_id,
            attach_btf_fd=holder,
        )

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        try:
            # The load named the function: there is exactly one.
            return Descriptors([bpf.raw_tracepoint_open(program_fd, None)])
        except bpf.BpfError as error:
            raise bpf.BpfError(
                f"cannot attach to {points[0].name}: this kernel cannot trace that function ({error.args[0]})",
                error.errno,
                remedy=instead_of(points[0].function, context),
            ) from None

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        if pattern.parts[:1] == (_BPF,):
            return self._of_programs(pattern, context)
        module, function = self._split(pattern)
        self._check(pattern, function, context)
        traceable = {name for name, _ in context.functions}
        found = []
        for owner in select(module, context.btf_owners):
            names = select(function, sorted(context.btf_of(owner).prototypes))
            found += [self._point(owner, name) for name in names if name in traceable or not traceable]
        return found

    def _of_programs(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        """The points of ``bpf:FUNCTION`` and ``bpf:PROGRAM:FUNCTION``: functions of loaded BPF programs."""
        self._check(spec, "", context)
        kind = self.names[0]
        _, first, second = parts(spec, f"{kind}:bpf:FUNCTION or {kind}:bpf:ID:FUNCTION", 1, 3)
        program, pattern = (first, second) if second else ("*", first or "*")
        return [
            AttachPoint(
                kind,
                f"{kind}:{_BPF}:{each.program}:{each.name}",
                target=_BPF,
                function=each.name,
                detail=each,
            )
            for each in bpf_functions()
            if select(program, [str(each.program)]) and select(pattern, [each.name])
        ]

    def _split(self, spec: AttachSpec) -> tuple[str, str]:
        """Module and function; both are patterns."""
        kind = self.names[0]
        first, second = parts(spec, f"{kind}:FUNCTION or {kind}:MODULE:FUNCTION", 0, 2)
        return (first, second) if second else ("*", first or "*")

    def _point(self, module: str, function: str) -> AttachPoint:
        return AttachPoint(self.names[0], f"{self.names[0]}:{module}:{function}", target=module, function=function)


def _function(btf: Btf, point: AttachPoint) -> Type:
    found = btf.find(point.function, Kind.FUNC)
    if found is None:
        raise _unknown(point)
    return found


def _unknown(point: AttachPoint) -> InsituError:
    return InsituError(f"{point.target} has no function {point.function}")


PROVIDERS = (
    Trampoline("fentry", "f", "kfunc", returning=False),
    Trampoline("fexit", "fr", "kretfunc", returning=True),
)
