"""Prototypes of functions by their addresses, from DWARF: in the program, its debug file or split units.

By the address and not by name: functions of one name (static, overloaded, of a template) are told apart.
"""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from insitu.symbols.debug_files import find_debug_file
from insitu.symbols.dwarf_bytes import CorruptDwarfError
from insitu.symbols.dwarf_places import places_of
from insitu.symbols.dwarf_shapes import SHAPE_ATTRIBUTES, shape_of
from insitu.symbols.dwarf_unit_reader import Sections, UnitReader, units_by_address
from insitu.symbols.dwarf_units import UNIT_REFERENCES, Attribute, Entry, Form, Strings, Unit, units
from insitu.symbols.elf import Elf
from insitu.symbols.prototypes import Prototype, prototype
from insitu.symbols.split_files import Skeleton, SplitUnit, find_split_units, skeletons
from insitu.symbols.value_shape import VARIABLE, Shape

__all__ = ["TypeReader", "prototypes_at"]

# DW_TAG_*
_CLASS, _PARAMETER, _COMPILE_UNIT, _STRUCT, _VARIABLE_PARAMETERS, _MODULE = 2, 5, 0x11, 0x13, 0x18, 0x1E
_SUBPROGRAM, _NAMESPACE = 0x2E, 0x39
_FUNCTIONS: Final = frozenset(
    {_CLASS, _COMPILE_UNIT, _STRUCT, _MODULE, _SUBPROGRAM, _NAMESPACE, _PARAMETER, _VARIABLE_PARAMETERS}
)
# DW_AT_*
_LOCATION, _LOW, _LANGUAGE, _CONST_VALUE, _PRODUCER, _ORIGIN = 2, 0x11, 0x13, 0x1C, 0x25, 0x31
_EXTERNAL, _SPECIFICATION, _TYPE, _RANGES = 0x3F, 0x47, 0x49, 0x55
_WANTED: Final = SHAPE_ATTRIBUTES | {_LANGUAGE, _PRODUCER}
_RUST: Final = 0x1C  # DW_LANG_Rust
_STRING_OFFSETS_HEADER: Final = 8
_MOST_PARAMETERS: Final = 64
_MOST_HOPS: Final = 8
_CLONED: Final = (".isra", ".constprop", ".part")


def prototypes_at(elf: Elf, names: Mapping[int, str], until_s: float) -> dict[int, Prototype]:
    """Prototypes of the functions that begin at these addresses, by address; ``names`` are their raw names.

    Those without debug information are left out, and those that were not found by ``until_s`` (time.monotonic()).
    """
    found: dict[int, Prototype] = {}
    files = (elf, find_debug_file(elf, elf.path, elf.root)) if names else ()
    for file in files:
        if file is not None and file.section(".debug_info") is not None:
            for reader in _Program(file, elf).readers(names, until_s):
                try:
                    found.update(reader.prototypes(names, until_s))
                except CorruptDwarfError:
                    continue
                if len(found) == len(names) or time.monotonic() > until_s:
                    return found
    return found


class TypeReader(UnitReader):
    """Reads types and functions of one unit."""

    def __init__(
        self, sections: Sections, unit: Unit, program: _Program | None, skeleton: Entry | None = None
    ) -> None:
        """``program`` finds what is in other units."""
        super().__init__(sections, unit, _WANTED, skeleton=skeleton)
        self._program = program
        self.shapes: dict[int, Shape] = {}
        """By the offsets of types' entries."""
        self.is_rust = self.top is not None and self.top.number(_LANGUAGE) == _RUST
        producer = self.top.attributes.get(_PRODUCER) if self.top is not None else None
        self._is_llvm = any(each in self.text.of(producer) for each in (b"LLVM", b"clang"))

    def place(self, attribute: Attribute | None) -> tuple[TypeReader, Entry] | None:
        """The entry that an attribute refers to, in this unit or another, and its reader."""
        if attribute is None or attribute.form in UNIT_REFERENCES:
            entry = self.referred(attribute)
            return None if entry is None else (self, entry)
        if attribute.form != Form.REF_ADDR:
            return None
        reader = self if self.unit.offset <= attribute.number < self.unit.end else None
        if reader is None and self._program is not None:
            reader = self._program.reader(attribute.number)
        entry = reader.entry(attribute.number) if reader is not None else None
        return None if reader is None or entry is None else (reader, entry)

    def may_have(self, ordered: Sequence[int]) -> bool:
        """Whether code of the unit is at any of these addresses, which ascend."""
        extents = self.extents(self.top) if self.top is not None else None
        return extents is not None and any(_has_any(ordered, first, end) for first, end in extents)

    def prototypes(self, names: Mapping[int, str], until_s: float) -> Iterator[tuple[int, Prototype]]:
        """Addresses and prototypes of the unit's functions that begin at one of the addresses."""
        function: Entry | None = None
        address, parameters = 0, list[Entry]()
        for entry in self.entries(_FUNCTIONS):
            if entry.tag in (_PARAMETER, _VARIABLE_PARAMETERS):
                if function is not None and entry.depth == function.depth + 1 and len(parameters) < _MOST_PARAMETERS:
                    parameters.append(entry)
                continue
            if time.monotonic() > until_s:
                return
            if function is not None:
                yield address, self._prototype(function, parameters, address, names[address])
                function = None
            if entry.tag == _SUBPROGRAM and (_LOW in entry.attributes or _RANGES in entry.attributes):
                address = self._begin(entry)
                if address in names:
                    function, parameters = entry, []
        if function is not None:
            yield address, self._prototype(function, parameters, address, names[address])

    def _begin(self, entry: Entry) -> int:
        if _LOW in entry.attributes:
            return self.address(entry.attributes[_LOW])
        extents = self.extents(entry)
        return next(extents, (0, 0))[0] if extents is not None else 0

    def _prototype(self, function: Entry, parameters: list[Entry], address: int, name: str) -> Prototype:
        parameters = self._in_order(function, parameters)
        shapes = [
            VARIABLE if each.tag == _VARIABLE_PARAMETERS else shape_of(*self._inherited_type(each))
            for each in parameters
        ]
        found = prototype(shapes, shape_of(*self._inherited_type(function)), rust=self.is_rust)
        if not self._is_changed(function, name):
            return found
        placed = [
            place._replace(places=self._places(each, address, place.places))
            for place, each in zip(found.parameters, parameters, strict=True)
        ]
        # Where the result's address is passed, Rust's functions need not return it.
        is_lost = self.is_rust and found.result.places[:1] == ("@r0",)
        return Prototype(tuple(placed), found.result._replace(places=("?",)) if is_lost else found.result)

    def _in_order(self, function: Entry, parameters: list[Entry]) -> list[Entry]:
        """The parameters as the source has them: instances of a function may have them in another order, or lack
        some, for which those of the source stand here."""
        found = self.place(function.attributes.get(_ORIGIN)) if _ORIGIN in function.attributes else None
        if found is None or found[0] is not self:
            return parameters
        ours = {}
        for each in parameters:
            if each.tag == _VARIABLE_PARAMETERS:
                continue
            origin = self.referred(each.attributes.get(_ORIGIN))
            if origin is None:
                return parameters
            ours[origin.offset] = each
        inside = self.entries(frozenset({_PARAMETER, _VARIABLE_PARAMETERS}), found[1].offset)
        listed = [each for each in inside if each.depth == 1][:_MOST_PARAMETERS]
        return [ours.get(each.offset, each) for each in listed]

    def _is_changed(self, function: Entry, name: str) -> bool:
        """Whether the compiler may have changed a function's parameters: clones of gcc's have names of their own,
        LLVM changes all that are not called from elsewhere, and of Rust's that is not known."""
        if self._is_llvm and (self.is_rust or self.inherited(function, _EXTERNAL) is None):
            return True
        return any(each in name for each in _CLONED)

    def _places(self, entry: Entry, address: int, by_convention: tuple[str, ...]) -> tuple[str, ...]:
        """Where a parameter of such a function is at its entry."""
        if _CONST_VALUE in entry.attributes:
            value = entry.attributes[_CONST_VALUE].value
            return (f"={value}",) if isinstance(value, int) else ("?",)
        location = self.location(entry.attributes.get(_LOCATION), address)
        found = places_of(location) if location is not None else ("?",)
        return by_convention if found is None else found

    def _inherited_type(self, entry: Entry) -> tuple[TypeReader, Attribute | None]:
        """An entry's type, or that of what it is an instance of, with the reader of that."""
        reader: TypeReader = self
        for _ in range(_MOST_HOPS):
            if _TYPE in entry.attributes:
                return reader, entry.attributes[_TYPE]
            found = reader.place(entry.attributes.get(_ORIGIN) or entry.attributes.get(_SPECIFICATION))
            if found is None:
                break
            reader, entry = found
        return reader, None


class _Program:
    """The units of a file with debug information."""

    def __init__(self, file: Elf, elf: Elf) -> None:
        self._file, self._elf = file, elf
        self._sections = Sections.of(file)
        self._units = list(units(self._sections.info))
        self._begins = [each.offset for each in self._units]
        self._readers: dict[int, TypeReader] = {}

    def reader(self, offset: int) -> TypeReader | None:
        """Of the unit that has an offset of .debug_info."""
        number = bisect_right(self._begins, offset) - 1
        if number < 0 or offset >= self._units[number].end:
            return None
        if number not in self._readers:
            self._readers[number] = TypeReader(self._sections, self._units[number], self)
        return self._readers[number]

    def readers(self, addresses: Collection[int], until_s: float) -> Iterator[TypeReader]:
        """Of the units that may have functions at these addresses, until then; of split units too."""
        ordered = sorted(addresses)
        skip = self._without(ordered)
        wanted = [each for each in self._skeletons() if each.unit.offset not in skip]
        split = {each.unit.offset for each in wanted}
        for unit in self._units:
            if time.monotonic() > until_s:
                return
            if unit.offset not in skip and unit.offset not in split:
                with contextlib.suppress(CorruptDwarfError):
                    reader = self.reader(unit.offset)
                    if reader is not None and reader.may_have(ordered):
                        yield reader
        beside = list(dict.fromkeys((each.path, each.root) for each in (self._elf, self._file) if each.path.name))
        for skeleton, found in find_split_units(beside, wanted, self._elf.root):
            yield from self._split(skeleton.entry, found)

    def _split(self, skeleton: Entry, found: SplitUnit) -> Iterator[TypeReader]:
        try:
            yield TypeReader(self._sections.split(found), found.unit, None, skeleton)
        except CorruptDwarfError:
            return

    def _skeletons(self) -> list[Skeleton]:
        of = self._sections
        if not of.addresses:  # which split units need
            return []
        texts = Strings(of.strings, of.line_strings, of.string_offsets, _STRING_OFFSETS_HEADER)
        return list(skeletons(of.info, of.abbreviations, texts))

    def _without(self, ordered: Sequence[int]) -> set[int]:
        """The offsets of units that .debug_aranges says have none of the addresses."""
        listed, wanted = set(), set()
        for first, end, offset in units_by_address(self._file.section_bytes(".debug_aranges")):
            listed.add(offset)
            if _has_any(ordered, first, end):
                wanted.add(offset)
        return listed - wanted


def _has_any(ordered: Sequence[int], first: int, end: int) -> bool:
    place = bisect_left(ordered, first)
    return place < len(ordered) and ordered[place] < end
