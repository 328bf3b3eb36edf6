"""What a function's variables and parameters are at an address, of which type, and where they are, from DWARF."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError
from insitu.symbols.dwarf_unit_reader import Sections, UnitReader, units_by_address
from insitu.symbols.dwarf_units import Attribute, Entry, Unit, unit_at, units
from insitu.symbols.elf import Elf

__all__ = ["CType", "Member", "Scope", "Scopes", "Variable"]

# DW_TAG_*
_ARRAY, _CLASS, _ENUM, _PARAMETER, _BLOCK, _POINTER, _REFERENCE, _STRUCT = 1, 2, 4, 5, 0xB, 0xF, 0x10, 0x13
_TYPEDEF, _UNION, _INLINED, _BASE, _CONST, _SUBPROGRAM = 0x16, 0x17, 0x1D, 0x24, 0x26, 0x2E
_VARIABLE, _VOLATILE, _RESTRICT, _NAMESPACE, _COMPILE_UNIT, _RVALUE, _ATOMIC = (
    0x34,
    0x35,
    0x37,
    0x39,
    0x11,
    0x42,
    0x47,
)
_CODE: Final = (_SUBPROGRAM, _INLINED, _BLOCK)
_NAMED: Final = (_PARAMETER, _VARIABLE)
_TAGS: Final = frozenset({_COMPILE_UNIT, _NAMESPACE, _CLASS, _STRUCT, *_CODE, *_NAMED})
_QUALIFIERS: Final = {_CONST: "const ", _VOLATILE: "volatile ", _RESTRICT: "", _ATOMIC: "_Atomic "}
# DW_AT_*
_LOCATION, _NAME, _SIZE, _BIT_SIZE, _LOW, _CONST_VALUE, _MEMBER_LOCATION = 2, 3, 0xB, 0xD, 0x11, 0x1C, 0x38
_LINE, _ENCODING, _FRAME_BASE, _TYPE = 0x3B, 0x3E, 0x40, 0x49
_WANTED: Final = frozenset({_SIZE, _BIT_SIZE, _CONST_VALUE, _MEMBER_LOCATION, _LINE, _ENCODING, _FRAME_BASE, _TYPE})
_FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED_CHAR, _UTF = 4, 5, 6, 8, 0x10  # DW_ATE_*
_MEMBER: Final = 0xD
_MOST_ANONYMOUS: Final = 64
_MOST_HOPS: Final = 16  # from a type to the type that it is
_DW_OP_CONSTS, _DW_OP_STACK_VALUE = 0x11, 0x9F

Kind = Literal["signed", "unsigned", "pointer", "float", "aggregate", "array", "unknown"]


class CType(NamedTuple):
    """A type: as C writes it, its bytes and kind; ``is_text``: char, or a pointer to or an array of them.

    ``members_at`` is where the members of it, or of what it points to, are described (0: nowhere).
    """

    name: str
    size: int
    kind: Kind
    is_text: bool = False
    members_at: int = 0


class Variable(NamedTuple):
    """A variable or parameter; ``location`` is the DWARF expression that holds at the address (None: nowhere)."""

    name: str
    type: CType
    location: bytes | None
    is_parameter: bool


class Member(NamedTuple):
    """A member of a struct: its name (empty: anonymous), offset in bytes and type."""

    name: str
    offset: int
    type: CType


class Scope(NamedTuple):
    """What is visible at an address: the function (with what is inlined there), its start and the line that declares
    it, how its frame base is found, and what it returns; inner variables hide outer ones of the same name."""

    function: str
    start: int
    line: int
    frame_base: bytes
    returns: CType
    variables: tuple[Variable, ...]


class _Level(NamedTuple):
    depth: int
    is_inside: bool
    is_code: bool


class Scopes:
    """The scopes of one file with DWARF. What is corrupt is left out."""

    def __init__(self, elf: Elf) -> None:
        self._sections, self._aranges = Sections.of(elf), elf.section_bytes(".debug_aranges")

    def at(self, address: int) -> Scope | None:
        """The scope at a virtual address; None where there is no function with debug information."""
        with contextlib.suppress(CorruptDwarfError):
            for unit in self._units_of(address):
                found = _Reader(self, unit).scope(address)
                if found is not None:
                    return found
        return None

    def members(self, of: CType) -> dict[str, Member]:
        """The members of a struct, or of what a pointer points to; those of anonymous members too."""
        found: dict[str, Member] = {}
        waiting = [(of, 0)]
        for _ in range(_MOST_ANONYMOUS):
            if not waiting:
                break
            kind, base = waiting.pop()
            unit = next(
                (each for each in units(self._sections.info) if each.entries <= kind.members_at < each.end), None
            )
            if not kind.members_at or unit is None:
                continue
            with contextlib.suppress(CorruptDwarfError):
                for member in _Reader(self, unit).members(kind.members_at):
                    moved = member._replace(offset=base + member.offset)
                    if member.name:
                        found.setdefault(member.name, moved)
                    else:
                        waiting.append((member.type, moved.offset))
        return found

    def _units_of(self, address: int) -> Iterator[Unit]:
        """The units that may have an address: those that .debug_aranges says, else all."""
        listed = [offset for first, end, offset in units_by_address(self._aranges) if first <= address < end]
        for offset in listed:
            unit = unit_at(self._sections.info, offset)
            if unit is not None:
                yield unit
        if not listed:
            yield from units(self._sections.info)


class _Reader(UnitReader):
    """Reads one unit."""

    def __init__(self, of: Scopes, unit: Unit) -> None:
        super().__init__(of._sections, unit, _WANTED)
        self._types: dict[int, CType] = {}

    def scope(self, address: int) -> Scope | None:
        """The scope at an address that may be in this unit."""
        if self.top is None or not self.has(self.top, address, unknown=True):
            return None
        levels: list[_Level] = []
        functions: list[str] = []
        start, line, base, returns = 0, 0, b"", CType("void", 0, "unknown")
        found: dict[str, Variable] = {}
        for entry in self.entries(_TAGS):
            while levels and levels[-1].depth >= entry.depth:
                levels.pop()
            outer = levels[-1] if levels else _Level(-1, True, False)
            if entry.tag in _NAMED:
                if outer.is_inside and outer.is_code:
                    variable = self._variable(entry, address)
                    if variable is not None:
                        found.pop(variable.name, None)
                        found[variable.name] = variable
                continue
            inside = outer.is_inside
            if entry.tag in _CODE:
                inside = inside and self.has(entry, address)
                if inside and entry.tag == _SUBPROGRAM:
                    start, functions = self.address(entry.attributes.get(_LOW)), [self.name(entry)]
                    declared = self.inherited(entry, _LINE)
                    line = declared.number if declared else 0
                    frame = entry.attributes.get(_FRAME_BASE)
                    base = frame.value if frame is not None and isinstance(frame.value, bytes) else b""
                    returns, found = self._type(self.inherited(entry, _TYPE)), {}
                elif inside and entry.tag == _INLINED:
                    functions.append(self.name(entry))
            levels.append(_Level(entry.depth, inside, entry.tag in _CODE))
        if not functions:
            return None
        return Scope(" < ".join(reversed(functions)), start, line, base, returns, tuple(found.values()))

    def _variable(self, entry: Entry, address: int) -> Variable | None:
        name = self.name(entry)
        if not name:
            return None
        location = self._location(entry, address)
        return Variable(name, self._type(self.inherited(entry, _TYPE)), location, entry.tag == _PARAMETER)

    def _location(self, entry: Entry, address: int) -> bytes | None:
        attribute = entry.attributes.get(_LOCATION)
        if attribute is None:
            value = self.inherited(entry, _CONST_VALUE)
            if value is None or not isinstance(value.value, int):
                return None
            return bytes([_DW_OP_CONSTS]) + _sleb(value.value) + bytes([_DW_OP_STACK_VALUE])
        return self.location(attribute, address)

    def _type(self, attribute: Attribute | None, hops: int = 0) -> CType:
        entry = self.referred(attribute)
        if attribute is None:
            return CType("void", 0, "unknown")
        if entry is None or hops > _MOST_HOPS:
            return CType("?", 0, "unknown")
        if entry.offset not in self._types:
            self._types[entry.offset] = self._type_of(entry, hops)
        return self._types[entry.offset]

    def _type_of(self, entry: Entry, hops: int) -> CType:
        name, size = self.text.of(entry.attributes.get(_NAME)).decode(errors="replace"), entry.number(_SIZE)
        inner = self._type(entry.attributes.get(_TYPE), hops + 1)
        if entry.tag in _QUALIFIERS:
            return inner._replace(name=f"{_QUALIFIERS[entry.tag]}{inner.name}")
        if entry.tag == _TYPEDEF:
            return inner._replace(name=name)
        if entry.tag in (_POINTER, _REFERENCE, _RVALUE):
            blank = "" if inner.name.endswith("*") else " "
            is_text = inner.is_text and inner.kind in ("signed", "unsigned")
            members = inner.members_at if inner.kind == "aggregate" else 0
            return CType(f"{inner.name}{blank}*", size or self.unit.address_bytes, "pointer", is_text, members)
        if entry.tag == _BASE:
            encoding = entry.number(_ENCODING)
            kind: Kind = (
                "float" if encoding == _FLOAT else "signed" if encoding in (_SIGNED, _SIGNED_CHAR) else "unsigned"
            )
            return CType(name, size, kind, encoding in (_SIGNED_CHAR, _UNSIGNED_CHAR, _UTF) and size == 1)
        if entry.tag == _ENUM:
            return CType(f"enum {name}", size, "unsigned")
        if entry.tag == _ARRAY:
            return CType(f"{inner.name}[]", size, "array", inner.is_text)
        word = {_STRUCT: "struct ", _UNION: "union ", _CLASS: ""}.get(entry.tag)
        if word is None:
            return CType(name, size, "unknown")
        return CType(f"{word}{name}", size, "aggregate", False, entry.offset)

    def members(self, offset: int) -> Iterator[Member]:
        """The members of the struct, union or class whose entry is at an offset; a bit field is not one."""
        for entry in self.entries(frozenset({_MEMBER}), offset):
            if entry.tag == _MEMBER and _BIT_SIZE not in entry.attributes:
                place = entry.attributes.get(_MEMBER_LOCATION)
                if place is None or isinstance(place.value, int):
                    name = self.text.of(entry.attributes.get(_NAME)).decode(errors="replace")
                    yield Member(name, place.number if place else 0, self._type(entry.attributes.get(_TYPE)))


def _sleb(value: int) -> bytes:
    made = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        is_last = value in (0, -1) and bool(byte & 0x40) == (value < 0)
        made.append(byte if is_last else byte | 0x80)
        if is_last:
            return bytes(made)
