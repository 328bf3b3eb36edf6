"""What a function's variables and parameters are at an address, of which type, and where they are, from DWARF."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.dwarf_bytes import CorruptDwarfError
from insitu.symbols.dwarf_c_types import TYPE_ATTRIBUTES, CType, CTypes, Member
from insitu.symbols.dwarf_unit_reader import Sections, UnitReader, units_by_address
from insitu.symbols.dwarf_units import Entry, Unit, units
from insitu.symbols.elf import Elf

__all__ = ["Scope", "Scopes", "Variable"]

# DW_TAG_*
_CLASS, _PARAMETER, _BLOCK, _COMPILE_UNIT, _STRUCT, _UNION = 2, 5, 0xB, 0x11, 0x13, 0x17
_INLINED, _SUBPROGRAM, _VARIABLE, _NAMESPACE = 0x1D, 0x2E, 0x34, 0x39
# DW_AT_*
_LOCATION, _LOW, _CONST_VALUE, _LINE, _DECLARATION, _FRAME_BASE, _TYPE = 2, 0x11, 0x1C, 0x3B, 0x3C, 0x40, 0x49
_WANTED: Final = TYPE_ATTRIBUTES | {_CONST_VALUE, _LINE, _FRAME_BASE}
_CODE: Final = (_SUBPROGRAM, _INLINED, _BLOCK)
_NAMED: Final = (_PARAMETER, _VARIABLE)
_HOLD_FUNCTIONS: Final = frozenset(
    {_COMPILE_UNIT, _NAMESPACE, _CLASS, _STRUCT, _UNION, _SUBPROGRAM, _BLOCK, _INLINED}
)
_IN_FUNCTIONS: Final = frozenset({*_CODE, *_NAMED})
_MOST_ANONYMOUS: Final = 64
_MOST_KEPT: Final = 64  # units, and functions of each: --lines asks for one function's many times
_DW_OP_CONSTS, _DW_OP_STACK_VALUE = 0x11, 0x9F


class Variable(NamedTuple):
    """A variable or parameter; ``location`` is the DWARF expression that holds at the address (None: nowhere)."""

    name: str
    type: CType
    location: bytes | None
    is_parameter: bool


class Scope(NamedTuple):
    """What is visible at an address: the function (with what is inlined there), its start and the line that declares
    it, how its frame base is found, and what it returns; inner variables hide outer ones of the same name."""

    function: str
    start: int
    line: int
    frame_base: bytes
    returns: CType
    variables: tuple[Variable, ...]


class Scopes:
    """The scopes of one file with DWARF. What is corrupt is left out."""

    def __init__(self, elf: Elf) -> None:
        self._sections, self._aranges = Sections.of(elf), elf.section_bytes(".debug_aranges")
        self._readers: dict[int, _Reader] = {}

    def at(self, address: int, depth: int | None = None) -> Scope | None:
        """The scope at a virtual address; None where there is no function with debug information.

        ``depth``: of what is inlined there, only that many functions, from the outermost on.
        """
        for unit in self._units_of(address):
            with contextlib.suppress(CorruptDwarfError):
                found = self._reader(unit).scope(address, depth)
                if found is not None:
                    return found
        return None

    def members(self, of: CType) -> dict[str, Member]:
        """The members of a struct, union or class; those of anonymous members and of base classes too."""
        found: dict[str, Member] = {}
        waiting = [(of, 0)]
        for _ in range(_MOST_ANONYMOUS):
            if not waiting:
                break
            kind, base = waiting.pop()
            index = bisect.bisect_right(self._units, kind.described_at, key=lambda unit: unit.offset) - 1
            if not kind.described_at or index < 0:
                continue
            with contextlib.suppress(CorruptDwarfError):
                for member in self._reader(self._units[index]).types.members(kind.described_at):
                    moved = member._replace(offset=base + member.offset)
                    if member.name:
                        found.setdefault(member.name, moved)
                    else:
                        waiting.append((member.type, moved.offset))
        return found

    def _reader(self, unit: Unit) -> _Reader:
        if unit.offset not in self._readers:
            if len(self._readers) >= _MOST_KEPT:
                self._readers.clear()
            self._readers[unit.offset] = _Reader(self._sections, unit)
        return self._readers[unit.offset]

    @cached_property
    def _units(self) -> list[Unit]:
        return list(units(self._sections.info))

    @cached_property
    def _arranged(self) -> NDArray[np.uint64]:
        """What .debug_aranges says: rows of first address, address after the last, and the offset of the unit."""
        return np.array([*units_by_address(self._aranges)], np.uint64).reshape(-1, 3)

    def _units_of(self, address: int) -> Iterator[Unit]:
        """The units that may have an address: those that .debug_aranges says, else all."""
        first, end, offset = self._arranged.T
        wanted = np.uint64(address)
        listed = set(offset[(first <= wanted) & (wanted < end)].tolist())
        known = [unit for unit in self._units if unit.offset in listed] if listed else []
        yield from known or self._units


class _Reader(UnitReader):
    """Reads the functions of one unit."""

    def __init__(self, of: Sections, unit: Unit) -> None:
        super().__init__(of, unit, _WANTED)
        self.types = CTypes(self)
        self._inside: dict[int, list[Entry]] = {}

    @cached_property
    def _functions(self) -> list[tuple[int, int, Entry]]:
        """First address, end and entry of each range of a function that has code."""
        functions = [entry for entry in self.entries(_HOLD_FUNCTIONS) if entry.tag == _SUBPROGRAM]
        return [(first, end, entry) for entry in functions for first, end in self.extents(entry) or ()]

    def scope(self, address: int, depth: int | None) -> Scope | None:
        """The scope at an address that may be in this unit."""
        if self.top is None or not self.has(self.top, address, unknown=True):
            return None
        # One function inside of another comes after it.
        holding = [entry for first, end, entry in self._functions if first <= address < end]
        return self._scope(holding[-1], address, depth) if holding else None

    def _scope(self, function: Entry, address: int, depth: int | None) -> Scope:
        names = [self.name(function)]
        found: dict[str, Variable] = {}
        outside = 0  # depth of a block that the address is not in
        for entry in self._entries(function):
            if outside and entry.depth > outside:
                continue
            outside = 0
            if entry.tag in _NAMED:
                variable = self._variable(entry, address)
                if variable is not None:
                    found.pop(variable.name, None)
                    found[variable.name] = variable
                continue
            is_deeper = entry.tag == _INLINED and len(names) - 1 == depth
            if entry.tag == _SUBPROGRAM or is_deeper or not self.has(entry, address):
                outside = entry.depth
            elif entry.tag == _INLINED:
                names.append(self.name(entry))
        declared = self.inherited(function, _LINE)
        base = function.attributes.get(_FRAME_BASE)
        return Scope(
            " < ".join(reversed(names)),
            self.address(function.attributes.get(_LOW)),
            declared.number if declared else 0,
            base.value if base is not None and isinstance(base.value, bytes) else b"",
            self.types.type(self.inherited(function, _TYPE)),
            tuple(found.values()),
        )

    def _entries(self, function: Entry) -> list[Entry]:
        """What is inside of a function."""
        if function.offset not in self._inside:
            if len(self._inside) >= _MOST_KEPT:
                self._inside.clear()
            self._inside[function.offset] = list(self.entries(_IN_FUNCTIONS, function.offset))[1:]
        return self._inside[function.offset]

    def _variable(self, entry: Entry, address: int) -> Variable | None:
        name = self.name(entry)
        if not name or _DECLARATION in entry.attributes:
            return None
        kind = self.types.type(self.inherited(entry, _TYPE))
        return Variable(name, kind, self._location(entry, address), entry.tag == _PARAMETER)

    def _location(self, entry: Entry, address: int) -> bytes | None:
        attribute = entry.attributes.get(_LOCATION)
        if attribute is None:
            value = self.inherited(entry, _CONST_VALUE)
            if value is None or not isinstance(value.value, int):
                return None
            return bytes([_DW_OP_CONSTS]) + _sleb(value.value) + bytes([_DW_OP_STACK_VALUE])
        return self.location(attribute, address)


def _sleb(value: int) -> bytes:
    made = bytearray()
    while True:
        byte, value = value & 0x7F, value >> 7
        is_last = value in (0, -1) and bool(byte & 0x40) == (value < 0)
        made.append(byte if is_last else byte | 0x80)
        if is_last:
            return bytes(made)
