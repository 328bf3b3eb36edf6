"""usdt:BINARY:PROVIDER:NAME: static probes of programs, with their operands as ``args`` arg0, arg1, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.kernel.calling_convention import MACHINE, Part
from insitu.probe.providers.arguments import MAX_OPERANDS, Argument, Operand, Primitive
from insitu.probe.providers.base import AbsentError, AttachPoint, AttachSpec, Context, ProgramKind, Traits
from insitu.probe.providers.support.binary import (
    Place,
    attach_places,
    each_binary,
    file_offset,
    open_binary,
    place_of,
    program_kind,
    sharing,
)
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import missing, select
from insitu.symbols.usdt_notes import usdt_probes

__all__ = ["PROVIDERS", "parse_operands"]

_MAX_SEMAPHORE = 1 << 32  # what the uprobe PMU's config has room for

# One operand: size (negative: signed), "@", then a constant, a register, or memory, in the assembler's spelling.
_OPERAND = re.compile(r"(?P<size>-?\d+)f?@(?P<place>[^@]*?)(?=\s+-?\d+f?@|\s*$)")
_NUMBER = r"-?(?:0x[0-9a-fA-F]+|\d+)"
_CONSTANT = re.compile(rf"[$#]?(?P<number>{_NUMBER})")
_REGISTER = re.compile(r"%?(?P<name>[a-z]\w*)")
_X86_MEMORY = re.compile(
    rf"(?P<displacement>{_NUMBER})?(?P<symbol>[A-Za-z_.][\w.]*)?(?P<more>[+-]\d+)?"
    r"\((?:%(?P<base>\w+))?(?:,\s*%(?P<index>\w+)(?:,\s*(?P<scale>[1248]))?)?\)"
)
_ARM_MEMORY = re.compile(
    rf"\[\s*(?P<base>\w+)\s*(?:,\s*#?(?P<displacement>{_NUMBER})\s*)?(?:,\s*(?P<index>\w+)\s*)?\]"
)


class Usdt:
    """Static probes, by the notes of the binary; their semaphores are raised by the kernel while attached."""

    names = ("usdt", "U")
    traits = Traits(of_process=True, in_binary=True, numbered="operands", last_first=True)

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        found = self._points(spec, context)
        if not found:
            raise self._unknown(spec, context)
        return sharing(found)

    def _points(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        path, provider, name = _split(spec, context)
        return _matching(path, provider, name, spec, context)

    def _unknown(self, spec: AttachSpec, context: Context) -> AbsentError:
        path, provider, name = _split(spec, context)
        known = [point.function for point in _matching(path, provider, "*", spec, context)]
        if not known:
            where = path if spec.parts[0] else f"process {context.pid}"
            what = "USDT probes" if provider == "*" else f"USDT probes of provider {provider}"
            return AbsentError(f"{where} has no {what}", remedy="build it with an option such as --with-dtrace")
        return missing("USDT probe", name, known, f"insitu trace -l 'usdt:{path}:*' lists them")

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        return [
            Argument(f"arg{index}", Primitive(_integer(operand), operand.size, operand.signed), operand)
            for index, operand in enumerate(parse_operands(place_of(point).operands))
        ]

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return program_kind(point)

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        return attach_places(program_fd, points, context)

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        return self._points(pattern, context)


def _matching(path: str, provider: str, name: str, spec: AttachSpec, context: Context) -> list[AttachPoint]:
    """The static probes of these patterns, in the binaries that a path or pattern names."""

    def find(file: str) -> list[AttachPoint]:
        elf, place = open_binary(file, context)
        found = []
        for probe in usdt_probes(elf):
            if not (select(provider, [probe.provider]) and select(name, [probe.name])):
                continue
            at = file_offset(elf, probe.address)
            semaphore = file_offset(elf, probe.semaphore) if probe.semaphore else 0
            if at is None or semaphore is None or semaphore >= _MAX_SEMAPHORE:
                continue
            detail = Place(place, at, semaphore, operands=probe.operands)
            shown = f"usdt:{file}:{probe.provider}:{probe.name}"
            found.append(AttachPoint("usdt", shown, file, probe.name, address=at, detail=detail, in_binary=True))
        return found

    return each_binary(path, context, spec, find)


def _split(spec: AttachSpec, context: Context) -> tuple[str, str, str]:
    """Path, provider and name; the latter two are patterns. Without a provider, that of any; without a name, all.

    Of a process that is given, no path means all files of which it has mapped code.
    """
    if not 1 <= len(spec.parts) <= 3:
        raise InsituError(f"{spec}: expected usdt:BINARY:PROVIDER:NAME or usdt:BINARY:NAME", status=2)
    path, *names = spec.parts
    if not path and context.pid is None:
        raise InsituError(f"{spec}: expected a binary", remedy="name one, or give a process with -p", status=2)
    provider = names[0] if len(names) == 2 else ""
    return path or "*", provider or "*", names[-1] if names else "*"


def _integer(operand: Operand) -> str:
    return f"{'' if operand.signed else 'u'}int{8 * operand.size}_t"


def parse_operands(text: str) -> list[Operand]:
    """The operands of a probe: ``-4@%edi 8@-16(%rbp) 4@$7``. :raises InsituError: for one that cannot be read."""
    matches = list(_OPERAND.finditer(text))
    read = "".join(match[0] for match in matches)
    if len(matches) > MAX_OPERANDS or read.replace(" ", "") != text.replace(" ", ""):
        raise InsituError(f"cannot read the operands {text[:80]!r} of a USDT probe")
    return [_operand(int(match["size"]), match["place"].strip()) for match in matches]


def _operand(size: int, place: str) -> Operand:
    width, signed = abs(size), size < 0
    if width not in (1, 2, 4, 8):
        raise InsituError(f"cannot read a USDT operand of {width} bytes ({place[:40]})")
    if match := _CONSTANT.fullmatch(place):
        return Operand(width, signed, constant=_cut(int(match["number"], 0), width, signed))
    if (match := _REGISTER.fullmatch(place)) and (part := MACHINE.registers.get(match["name"])):
        return Operand(width, signed, register=part.offset, shift=part.shift)
    if match := _X86_MEMORY.fullmatch(place) or _ARM_MEMORY.fullmatch(place):
        groups = match.groupdict()
        if groups.get("symbol"):
            raise InsituError(f"a USDT operand at a symbol ({place[:40]}) is not supported")
        return Operand(
            width,
            signed,
            register=_address_register(groups["base"]),
            memory=True,
            index=_address_register(groups["index"]),
            scale=int(groups.get("scale") or 1),
            displacement=int(groups["displacement"] or "0", 0),
        )
    raise InsituError(f"cannot read the operand {place[:40]!r} of a USDT probe")


def _cut(value: int, width: int, signed: bool) -> int:
    """A number as ``width`` bytes hold it."""
    return int.from_bytes((value & (1 << 8 * width) - 1).to_bytes(width, "little"), "little", signed=signed)


def _address_register(name: str | None) -> int | None:
    if not name:
        return None
    part: Part | None = MACHINE.registers.get(name)
    if part is None:
        raise InsituError(f"a USDT operand uses register {name}, which probes cannot read")
    return part.offset


PROVIDERS = (Usdt(),)
