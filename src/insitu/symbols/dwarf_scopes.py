"""What a function's variables and parameters are at an address, of which type, and where they are, from DWARF."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed
from insitu.symbols.dwarf_lists import Listed, new_list, old_list
from insitu.symbols.dwarf_units import (
    ADDRESS_INDEXES,
    UNIT_REFERENCES,
    Abbreviations,
    Attribute,
    Entry,
    Form,
    Strings,
    Unit,
    entries,
    unit_at,
    units,
)
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
_LOCATION, _NAME, _SIZE, _LOW, _HIGH, _CONST_VALUE, _ORIGIN, _ENCODING = 2, 3, 0xB, 0x11, 0x12, 0x1C, 0x31, 0x3E
_FRAME_BASE, _SPECIFICATION, _TYPE, _RANGES, _STR_BASE, _ADDR_BASE = 0x40, 0x47, 0x49, 0x55, 0x72, 0x73
_RANGES_BASE, _LISTS_BASE, _ARTIFICIAL, _LINE = 0x74, 0x8C, 0x34, 0x3B
_WANTED: Final = frozenset(
    {_LOCATION, _NAME, _SIZE, _LOW, _HIGH, _CONST_VALUE, _ORIGIN, _ENCODING, _FRAME_BASE, _SPECIFICATION, _TYPE}
    | {_RANGES, _STR_BASE, _ADDR_BASE, _RANGES_BASE, _LISTS_BASE, _LINE}
)
_RNGLISTX, _LOCLISTX = 0x23, 0x22
_FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED_CHAR, _UTF = 4, 5, 6, 8, 0x10  # DW_ATE_*
_MEMBER, _MEMBER_LOCATION, _BIT_SIZE = 0xD, 0x38, 0xD
_MEMBER_WANTED: Final = frozenset({_NAME, _TYPE, _MEMBER_LOCATION, _BIT_SIZE})
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
        read = elf.section_bytes
        self._info, self._abbreviations = read(".debug_info"), Abbreviations(read(".debug_abbrev"))
        self._addresses, self._strings, self._line_strings = (
            read(name) for name in (".debug_addr", ".debug_str", ".debug_line_str")
        )
        self._string_offsets, self._aranges = read(".debug_str_offsets"), read(".debug_aranges")
        self._lists = {
            name: read(name) for name in (".debug_ranges", ".debug_rnglists", ".debug_loc", ".debug_loclists")
        }

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
            unit = next((each for each in units(self._info) if each.entries <= kind.members_at < each.end), None)
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
        at, listed = 0, []
        data = self._aranges
        with contextlib.suppress(CorruptDwarfError):
            while at + 12 <= len(data):
                length, begin = fixed(data, at, 4)
                offset, word = int.from_bytes(data[at + 6 : at + 10], "little"), data[at + 10]
                end = begin + length
                if word not in (4, 8):
                    break
                place = at + -(-12 // (2 * word)) * 2 * word
                while place + 2 * word <= min(end, len(data)):
                    first, place = fixed(data, place, word)
                    size, place = fixed(data, place, word)
                    if first <= address < first + size:
                        listed.append(offset)
                at = max(end, at + 4)
        for offset in listed:
            unit = unit_at(self._info, offset)
            if unit is not None:
                yield unit
        if not listed:
            yield from units(self._info)


class _Reader:
    """Reads one unit."""

    def __init__(self, of: Scopes, unit: Unit) -> None:
        self._of, self._unit = of, unit
        self._info = of._info
        self._top = self._entry(unit.entries)
        bases = self._top.attributes if self._top else {}
        self._address_base = bases[_ADDR_BASE].number if _ADDR_BASE in bases else 8
        self._range_base = bases[_RANGES_BASE].number if _RANGES_BASE in bases else 12
        self._list_base = bases[_LISTS_BASE].number if _LISTS_BASE in bases else 12
        text_base = bases[_STR_BASE].number if _STR_BASE in bases else 8
        self._text = Strings(of._strings, of._line_strings, of._string_offsets, text_base)
        self._base = self._address(bases[_LOW]) if _LOW in bases else 0
        self._types: dict[int, CType] = {}

    def scope(self, address: int) -> Scope | None:
        """The scope at an address that may be in this unit."""
        if self._top is None or not self._has(self._top, address, unknown=True):
            return None
        levels: list[_Level] = []
        functions: list[str] = []
        start, line, base, returns = 0, 0, b"", CType("void", 0, "unknown")
        found: dict[str, Variable] = {}
        for entry in entries(self._info, self._unit, self._of._abbreviations, _TAGS, _WANTED):
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
                inside = inside and self._has(entry, address)
                if inside and entry.tag == _SUBPROGRAM:
                    start, functions = self._address(entry.attributes.get(_LOW)), [self._name(entry)]
                    declared = self._inherited(entry, _LINE)
                    line = declared.number if declared else 0
                    base = self._block(entry.attributes.get(_FRAME_BASE)) or b""
                    returns, found = self._type(self._inherited(entry, _TYPE)), {}
                elif inside and entry.tag == _INLINED:
                    functions.append(self._name(entry))
            levels.append(_Level(entry.depth, inside, entry.tag in _CODE))
        if not functions:
            return None
        return Scope(" < ".join(reversed(functions)), start, line, base, returns, tuple(found.values()))

    def _variable(self, entry: Entry, address: int) -> Variable | None:
        name = self._name(entry)
        if not name:
            return None
        location = self._location(entry, address)
        return Variable(name, self._type(self._inherited(entry, _TYPE)), location, entry.tag == _PARAMETER)

    def _location(self, entry: Entry, address: int) -> bytes | None:
        attribute = entry.attributes.get(_LOCATION)
        if attribute is None:
            value = self._inherited(entry, _CONST_VALUE)
            if value is None or not isinstance(value.value, int):
                return None
            return bytes([_DW_OP_CONSTS]) + _sleb(value.value) + bytes([_DW_OP_STACK_VALUE])
        if isinstance(attribute.value, bytes):
            return attribute.value
        for first, end, block in self._list(attribute, ".debug_loc", ".debug_loclists", _LOCLISTX, self._list_base):
            if first <= address < end:
                return block
        return None

    def _has(self, entry: Entry, address: int, *, unknown: bool = False) -> bool:
        """Whether an entry's code includes an address; ``unknown``: what to say of one that names no code."""
        low, high = entry.attributes.get(_LOW), entry.attributes.get(_HIGH)
        if low is not None and high is not None:
            first = self._address(low)
            is_address = high.form == Form.ADDR or high.form in ADDRESS_INDEXES
            return first <= address < (self._address(high) if is_address else first + high.number)
        ranges = entry.attributes.get(_RANGES)
        if ranges is None:
            return unknown
        listed = self._list(ranges, ".debug_ranges", ".debug_rnglists", _RNGLISTX, self._range_base)
        return any(first <= address < end for first, end, _ in listed)

    def _list(self, attribute: Attribute, old: str, new: str, indexed: int, base: int) -> Iterator[Listed]:
        word, located = self._unit.address_bytes, new == ".debug_loclists"
        if self._unit.version < 5:
            return old_list(self._of._lists[old], attribute.number, self._base, word, located=located)
        data, at = self._of._lists[new], attribute.number
        if attribute.form == indexed:
            at = base + fixed(data, base + 4 * at, 4)[0]
        return new_list(data, at, self._base, word, self._indexed, located=located)

    def _indexed(self, index: int) -> int:
        return fixed(
            self._of._addresses, self._address_base + index * self._unit.address_bytes, self._unit.address_bytes
        )[0]

    def _address(self, attribute: Attribute | None) -> int:
        if attribute is None:
            return 0
        return self._indexed(attribute.number) if attribute.form in ADDRESS_INDEXES else attribute.number

    def _block(self, attribute: Attribute | None) -> bytes | None:
        return attribute.value if attribute is not None and isinstance(attribute.value, bytes) else None

    def _entry(self, offset: int) -> Entry | None:
        """The entry at an offset of the section, in this unit."""
        if not self._unit.entries <= offset < self._unit.end:
            return None
        at = self._unit._replace(entries=offset)
        return next(entries(self._info, at, self._of._abbreviations, frozenset(), _WANTED), None)

    def _referred(self, attribute: Attribute | None) -> Entry | None:
        if attribute is None:
            return None
        if attribute.form in UNIT_REFERENCES:
            return self._entry(self._unit.offset + attribute.number)
        return self._entry(attribute.number) if attribute.form == Form.REF_ADDR else None

    def _inherited(self, entry: Entry | None, name: int) -> Attribute | None:
        """An attribute, which an entry may have from what it is an instance of."""
        for _ in range(_MOST_HOPS):
            if entry is None:
                return None
            if name in entry.attributes:
                return entry.attributes[name]
            entry = self._referred(entry.attributes.get(_ORIGIN) or entry.attributes.get(_SPECIFICATION))
        return None

    def _name(self, entry: Entry) -> str:
        return self._text.of(self._inherited(entry, _NAME)).decode(errors="replace")

    def _type(self, attribute: Attribute | None, hops: int = 0) -> CType:
        entry = self._referred(attribute)
        if attribute is None:
            return CType("void", 0, "unknown")
        if entry is None or hops > _MOST_HOPS:
            return CType("?", 0, "unknown")
        if entry.offset not in self._types:
            self._types[entry.offset] = self._type_of(entry, hops)
        return self._types[entry.offset]

    def _type_of(self, entry: Entry, hops: int) -> CType:
        name, size = self._text.of(entry.attributes.get(_NAME)).decode(errors="replace"), entry.number(_SIZE)
        inner = self._type(entry.attributes.get(_TYPE), hops + 1)
        if entry.tag in _QUALIFIERS:
            return inner._replace(name=f"{_QUALIFIERS[entry.tag]}{inner.name}")
        if entry.tag == _TYPEDEF:
            return inner._replace(name=name)
        if entry.tag in (_POINTER, _REFERENCE, _RVALUE):
            blank = "" if inner.name.endswith("*") else " "
            is_text = inner.is_text and inner.kind in ("signed", "unsigned")
            members = inner.members_at if inner.kind == "aggregate" else 0
            return CType(f"{inner.name}{blank}*", size or self._unit.address_bytes, "pointer", is_text, members)
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
        at = self._unit._replace(entries=offset)
        for entry in entries(self._info, at, self._of._abbreviations, frozenset({_MEMBER}), _MEMBER_WANTED):
            if entry.tag == _MEMBER and _BIT_SIZE not in entry.attributes:
                place = entry.attributes.get(_MEMBER_LOCATION)
                if place is None or isinstance(place.value, int):
                    name = self._text.of(entry.attributes.get(_NAME)).decode(errors="replace")
                    yield Member(name, place.number if place else 0, self._type(entry.attributes.get(_TYPE)))


def _sleb(value: int) -> bytes:
    made = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        is_last = value in (0, -1) and bool(byte & 0x40) == (value < 0)
        made.append(byte if is_last else byte | 0x80)
        if is_last:
            return bytes(made)
