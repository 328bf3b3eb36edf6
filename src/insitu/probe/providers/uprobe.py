"""uprobe:BINARY:FUNCTION and uretprobe:BINARY:FUNCTION: instructions of programs and libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.errors import InsituError
from insitu.probe.providers.arguments import Argument
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.binary import (
    Place,
    attach_places,
    binaries,
    each_binary,
    file_offset,
    kernel_path,
    open_binary,
    place_of,
    program_kind,
    sharing,
)
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import has_wildcard, missing, number, select
from insitu.probe.providers.support.signature import entry_arguments, return_argument
from insitu.symbols.instructions import begins_instruction

if TYPE_CHECKING:
    from insitu.symbols.elf import Elf
    from insitu.symbols.function_addresses import FunctionAddresses

__all__ = ["PROVIDERS"]

_LONGEST_INSTRUCTION = 16  # bytes, rounded up
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")  # tells functions apart that are one in the source
_SHELL_VARIABLE = re.compile(r"\$(?:[A-Za-z_]\w*|\d)")
# Libraries that are empty since glibc 2.34 (NEWS of that version): their functions are in libc.
_IN_LIBC = {"libpthread", "libdl", "libutil", "libanl"}


class Uprobe:
    """Functions by symbol, raw or demangled, with an offset, or addresses."""

    def __init__(self, kind: str, aliases: tuple[str, ...], returning: bool) -> None:
        self.names = (kind, *aliases)
        self._returning = returning
        self.traits = Traits(
            of_process=True,
            in_binary=True,
            returning=returning,
            numbered="registers",
            entry=not returning,
            last_first=True,
        )

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        if self._names_source(spec):
            at_line = self._at_line(spec, context)
            if not at_line:
                raise AbsentError(f"no binary has code at {':'.join(spec.parts)}")
            return sharing(at_line)
        path, function = self._split(spec)
        found = each_binary(path, context, spec, lambda file: self._points(file, function, spec, context))
        if not found:
            raise _unknown(path, function, binaries(path, context, spec), context)
        return sharing(found)

    def _points(
        self, file: str, pattern: str, spec: AttachSpec, context: Context, *, aliases: bool = False
    ) -> list[AttachPoint]:
        if number(pattern) is not None:
            return self._at_address(spec, file, pattern, context)
        if (known := self._known_point(file, pattern, context)) is not None:
            return [known]
        elf, path = open_binary(file, context)
        function, plus, distance = pattern.partition("+")
        offset = number(distance) if plus else 0
        if offset is None:
            function, offset = pattern, 0  # "operator+" and its like
        if offset and self._returning:
            raise InsituError(f"{spec}: a return probe cannot have an offset")
        places = _functions_of(elf)
        found = []
        for name, address in _named(places, function, aliases):
            at = file_offset(elf, address + offset)
            if at is None:
                continue
            if offset and not begins_instruction(elf.read(at - offset, offset + _LONGEST_INSTRUCTION), offset):
                raise InsituError(f"{spec}: no instruction begins at {name}+{offset}; a probe there would corrupt it")
            shown = f"{self.names[0]}:{file}:{name}" + (f"+{offset}" if offset else "")
            detail = Place(path, at)
            found.append(AttachPoint(self.names[0], shown, file, name, offset, at, detail=detail, in_binary=True))
        if context.known_places is not None and found and places.address(pattern) is not None:
            context.known_places.add(path, elf.identity, pattern, place_of(found[0]).offset)
        return found

    def _known_point(self, file: str, function: str, context: Context) -> AttachPoint | None:
        """The point at a function of which an earlier run has kept where it begins."""
        path = kernel_path(file, context)
        at = context.known_places.offset(path, function) if context.known_places is not None else None
        if at is None:
            return None
        shown, detail = f"{self.names[0]}:{file}:{function}", Place(path, at)
        return AttachPoint(self.names[0], shown, file, function, 0, at, detail=detail, in_binary=True)

    def _names_source(self, spec: AttachSpec) -> bool:
        """Whether it is ``BINARY@SOURCE:LINE``, and not a binary with an @ in its name."""
        first, *rest = spec.parts or ("",)
        return "@" in first and bool(rest) and rest[0].isdecimal() and not Path(first).exists()

    def _at_line(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        """The points at the code of ``BINARY@SOURCE:LINE``."""
        (first, line, *columns), kind = spec.parts, self.names[0]
        path, _, source = first.rpartition("@")
        if self._returning:
            raise InsituError(f"{spec}: a return probe cannot be at a source line")
        if columns or not path or not source:
            raise InsituError(f"{spec}: expected {kind}:BINARY@SOURCE:LINE; columns are not supported", status=2)

        from insitu.probe.providers.support.source_lines import code_of_line

        def find(file: str) -> list[AttachPoint]:
            elf, opened = open_binary(file, context)
            found = []
            for code in code_of_line(elf, file, source, int(line)):
                at = file_offset(elf, code.address)
                if at is not None:
                    name, offset = f"{kind}:{file}@{source}:{int(line)}", code.address - code.start
                    place = Place(opened, at)
                    found.append(
                        AttachPoint(kind, name, file, code.function, offset, at, detail=place, in_binary=True)
                    )
            return found

        return each_binary(path, context, spec, find)

    def _at_address(self, spec: AttachSpec, file: str, where: str, context: Context) -> list[AttachPoint]:
        """The point at an instruction's address: elsewhere, a breakpoint would change data or other instructions."""
        address = number(where) or 0
        try:
            elf, path = open_binary(file, context)
        except InsituError as error:
            if not context.unsafe:
                raise InsituError(error.message, remedy="--unsafe takes any file, and an offset in it") from None
            return [self._in_flat_file(file, where, address)]
        at = file_offset(elf, address)
        if at is None:
            return []
        found = _functions_of(elf).around(address)
        if found is None and not context.unsafe:
            raise InsituError(f"{spec}: {where} is not in a function", remedy="--unsafe attaches all the same")
        name, start = found or (where, address)
        distance = address - start
        if distance and self._returning:
            raise InsituError(f"{spec}: {where} is not the beginning of a function")
        if not begins_instruction(elf.read(at - distance, distance + _LONGEST_INSTRUCTION), distance):
            raise InsituError(f"{spec}: no instruction begins at {where}; a probe there would corrupt it")
        shown, detail = f"{self.names[0]}:{file}:{where}", Place(path, at)
        return [AttachPoint(self.names[0], shown, file, name, distance, at, detail=detail, in_binary=True)]

    def _in_flat_file(self, file: str, where: str, offset: int) -> AttachPoint:
        """The point at an offset of a file that is not ELF: of whatever a process may have mapped as code."""
        name, place = f"{self.names[0]}:{file}:{where}", Place(file, offset)
        return AttachPoint(self.names[0], name, file, where, 0, offset, detail=place, in_binary=True)

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        """By DWARF, where the binary has it: at the function's entry its parameters, at its return ``retval``."""
        if point.offset:
            return None
        from insitu.symbols.demangle import demangle

        name = _RUST_HASH.sub("", demangle(point.function.encode()).partition("(")[0])
        function = context.types_of(place_of(point).path).function(name)
        if function is None:
            return None
        return return_argument(function) if self._returning else entry_arguments(function)

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return program_kind(point)

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        return attach_places(program_fd, points, context, returning=self._returning)

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        if self._names_source(pattern):
            return self._at_line(pattern, context)
        path, function = self._split(pattern)
        return each_binary(
            path, context, pattern, lambda file: self._points(file, function, pattern, context, aliases=True)
        )

    def _split(self, spec: AttachSpec) -> tuple[str, str]:
        """Path and function; a language between them (``cpp``) only asks for demangled names, which we try anyway."""
        words = list(spec.parts)
        if len(words) > 2 and words[1] in ("cpp", "rust"):
            del words[1]
        if len(words) < 2 or not words[-1]:
            raise InsituError(f"{spec}: expected {self.names[0]}:BINARY:FUNCTION", status=2)
        return words[0], ":".join(words[1:])


def _functions_of(elf: Elf) -> FunctionAddresses:
    """Not imported where all places are known: reading symbols imports numpy."""
    from insitu.symbols.function_addresses import FunctionAddresses

    return FunctionAddresses(elf)


def _named(places: FunctionAddresses, function: str, aliases: bool) -> Iterator[tuple[str, int]]:
    """Functions of that name or pattern with their addresses: raw names first, else as C++ and Rust write them.

    Of the names of one address, a pattern matches the first only, unless ``aliases``.
    """
    if not has_wildcard(function):
        address = places.address(function)
        if address is not None:
            yield function, address
            return
    else:
        names = select(function, sorted(places.by_name))
        seen: set[int] = set()
        for name in names:
            address = places.by_name[name]
            if aliases or address not in seen:  # an alias would fire twice
                seen.add(address)
                yield name, address
        if names:
            return
    wanted = function.replace(" ", "")
    last = re.findall(r"\w+", wanted.partition("(")[0])
    hint = last[-1] if last and not has_wildcard(function) else ""
    for short, full, address in places.readable(hint):
        if select(wanted, [short.replace(" ", "")]) or select(wanted, [full.replace(" ", "")]):
            yield full, address


def _unknown(path: str, function: str, files: list[str], context: Context) -> AbsentError:
    if not files:
        remedy = "" if context.pid else "-p PID looks in the files of a process"
        return AbsentError(f"no program or library that has {function} matches {path}", remedy=remedy)
    known: dict[str, int] = {}
    for file in files:
        with suppress(InsituError):  # of one of many, which each_binary() has reported
            known = known or _functions_of(open_binary(file, context)[0]).by_name
    if not known:
        return AbsentError(f"{path} has no symbols", remedy="install its debug symbols, or name an address")
    if Path(files[0]).name.partition(".")[0] in _IN_LIBC and _libc_has(function, context):
        what = f"there is no function {function} in {path}: glibc 2.34 moved it"
        return AbsentError(what, remedy=f"use uprobe:libc:{function}")
    shell_name = next((name for name in known if "$" in name and _SHELL_VARIABLE.sub("", name) == function), "")
    if shell_name:
        what = f"there is no function {function} in {path}, but {shell_name}"
        return AbsentError(what, remedy="in double quotes a shell replaces $NAME: put the script in single quotes")
    error = missing("function", function, known, f"insitu trace -l 'uprobe:{path}:*' lists them")
    return AbsentError(f"{error.args[0]} in {path}", remedy=error.remedy)


def _libc_has(function: str, context: Context) -> bool:
    try:
        (file,) = binaries("libc", context, AttachSpec("uprobe", ("libc",)))
    except AbsentError:
        return False
    return _functions_of(open_binary(file, context)[0]).address(function) is not None


PROVIDERS = (Uprobe("uprobe", ("u",), False), Uprobe("uretprobe", ("ur",), True))
