"""Reads one unit of DWARF: what attributes of its entries mean, in a program or in a file of split units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.symbols.dwarf_bytes import fixed
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
)
from insitu.symbols.elf import Elf
from insitu.symbols.split_files import SplitUnit

__all__ = ["READER_ATTRIBUTES", "Sections", "UnitReader", "units_by_address"]

# DW_AT_*
_LOCATION, _NAME, _LOW, _HIGH, _ORIGIN, _SPECIFICATION = 2, 3, 0x11, 0x12, 0x31, 0x47
_RANGES, _STR_BASE, _ADDR_BASE, _RANGES_BASE, _LISTS_BASE = 0x55, 0x72, 0x73, 0x74, 0x8C
_GNU_RANGES_BASE, _GNU_ADDR_BASE = 0x2132, 0x2133
READER_ATTRIBUTES: Final = frozenset(
    {
        _LOCATION,
        _NAME,
        _LOW,
        _HIGH,
        _ORIGIN,
        _SPECIFICATION,
        _RANGES,
        _STR_BASE,
        _ADDR_BASE,
        _RANGES_BASE,
        _LISTS_BASE,
    }
    | {_GNU_RANGES_BASE, _GNU_ADDR_BASE}
)
"""Those that a UnitReader reads itself."""
_RNGLISTX, _LOCLISTX = 0x23, 0x22
_LIST_HEADER_BYTES: Final = 12  # of .debug_rnglists and .debug_loclists
_MOST_HOPS: Final = 16


class Sections(NamedTuple):
    """The sections that a unit's entries refer to."""

    info: bytes
    abbreviations: Abbreviations
    addresses: bytes
    strings: bytes
    line_strings: bytes
    string_offsets: bytes
    lists: dict[str, bytes]

    @classmethod
    def of(cls, elf: Elf) -> Sections:
        """Those of a file."""
        read = elf.section_bytes
        lists = {name: read(name) for name in (".debug_ranges", ".debug_rnglists", ".debug_loc", ".debug_loclists")}
        return cls(
            read(".debug_info"),
            Abbreviations(read(".debug_abbrev")),
            read(".debug_addr"),
            read(".debug_str"),
            read(".debug_line_str"),
            read(".debug_str_offsets"),
            lists,
        )

    def split(self, unit: SplitUnit) -> Sections:
        """Those of a split unit of the program whose these are; where variables are is left out."""
        lists = {**self.lists, ".debug_rnglists": unit.rnglists, ".debug_loc": b"", ".debug_loclists": b""}
        abbreviations = Abbreviations(unit.abbrev)
        return Sections(unit.info, abbreviations, self.addresses, unit.strings, b"", unit.str_offsets, lists)


class UnitReader:
    """Reads one unit. What is corrupt raises CorruptDwarfError."""

    def __init__(
        self, sections: Sections, unit: Unit, wanted: frozenset[int], *, skeleton: Entry | None = None
    ) -> None:
        """``wanted`` are attributes that are decoded. A split unit's ``skeleton`` is its entry in the program."""
        self.sections, self.unit, self._wanted = sections, unit, wanted | READER_ATTRIBUTES
        self.top = self.entry(unit.entries)
        top = skeleton or self.top
        bases = top.attributes if top else {}
        is_new_split = skeleton is None or unit.version >= 5

        def base(name: int, default: int) -> int:
            return bases[name].number if name in bases else default

        self._address_base = base(_ADDR_BASE, 8) if is_new_split else base(_GNU_ADDR_BASE, 0)
        # A split unit's lists and strings have a file, or a part of one, to themselves.
        self._range_base = base(_RANGES_BASE, _LIST_HEADER_BYTES) if skeleton is None else _LIST_HEADER_BYTES
        self._list_base = base(_LISTS_BASE, _LIST_HEADER_BYTES)
        self._old_range_base = base(_GNU_RANGES_BASE, 0) if skeleton is not None else 0
        text_base = base(_STR_BASE, 8) if skeleton is None else 8 if unit.version >= 5 else 0
        self.text = Strings(sections.strings, sections.line_strings, sections.string_offsets, text_base)
        self._base = self.address(bases[_LOW]) if _LOW in bases else 0

    def entries(self, tags: frozenset[int], at: int = 0) -> Iterator[Entry]:
        """Entries with one of the tags whose parents have them too: the unit's or, ``at``, one and what it holds."""
        unit = self.unit._replace(entries=at) if at else self.unit
        return entries(self.sections.info, unit, self.sections.abbreviations, tags, self._wanted)

    def entry(self, offset: int) -> Entry | None:
        """The entry at an offset of the section, in this unit."""
        if not self.unit.entries <= offset < self.unit.end:
            return None
        return next(self.entries(frozenset(), offset), None)

    def referred(self, attribute: Attribute | None) -> Entry | None:
        """The entry of this unit that an attribute refers to."""
        if attribute is None:
            return None
        if attribute.form in UNIT_REFERENCES:
            return self.entry(self.unit.offset + attribute.number)
        return self.entry(attribute.number) if attribute.form == Form.REF_ADDR else None

    def inherited(self, entry: Entry | None, name: int) -> Attribute | None:
        """An attribute, which an entry may have from what it is an instance of."""
        for _ in range(_MOST_HOPS):
            if entry is None:
                return None
            if name in entry.attributes:
                return entry.attributes[name]
            entry = self.referred(entry.attributes.get(_ORIGIN) or entry.attributes.get(_SPECIFICATION))
        return None

    def name(self, entry: Entry) -> str:
        """An entry's name; empty where it has none."""
        return self.text.of(self.inherited(entry, _NAME)).decode(errors="replace")

    def address(self, attribute: Attribute | None) -> int:
        """The address that an attribute is, or is the index of."""
        if attribute is None:
            return 0
        return self._indexed(attribute.number) if attribute.form in ADDRESS_INDEXES else attribute.number

    def has(self, entry: Entry, address: int, *, unknown: bool = False) -> bool:
        """Whether an entry's code includes an address; ``unknown``: what to say of one that names no code."""
        found = self.extents(entry)
        return unknown if found is None else any(first <= address < end for first, end in found)

    def extents(self, entry: Entry) -> Iterator[tuple[int, int]] | None:
        """The parts of an entry's code, [first, end); None for one that names none."""
        low, high = entry.attributes.get(_LOW), entry.attributes.get(_HIGH)
        if low is not None and high is not None:
            first = self.address(low)
            is_address = high.form == Form.ADDR or high.form in ADDRESS_INDEXES
            return iter([(first, self.address(high) if is_address else first + high.number)])
        ranges = entry.attributes.get(_RANGES)
        if ranges is None:
            return None
        if self.unit.version < 5:
            ranges = ranges._replace(value=ranges.number + self._old_range_base)
        listed = self._list(ranges, ".debug_ranges", ".debug_rnglists", _RNGLISTX, self._range_base)
        return ((first, end) for first, end, _ in listed)

    def location(self, attribute: Attribute | None, address: int) -> bytes | None:
        """The DWARF expression of a variable's DW_AT_location that holds at an address; None: nowhere."""
        if attribute is None or isinstance(attribute.value, bytes):
            return attribute.value if attribute is not None and isinstance(attribute.value, bytes) else None
        for first, end, block in self._list(attribute, ".debug_loc", ".debug_loclists", _LOCLISTX, self._list_base):
            if first <= address < end:
                return block
        return None

    def _list(self, attribute: Attribute, old: str, new: str, indexed: int, base: int) -> Iterator[Listed]:
        word, located = self.unit.address_bytes, new == ".debug_loclists"
        if self.unit.version < 5:
            return old_list(self.sections.lists[old], attribute.number, self._base, word, located=located)
        data, at = self.sections.lists[new], attribute.number
        if attribute.form == indexed:
            at = base + fixed(data, base + 4 * at, 4)[0]
        return new_list(data, at, self._base, word, self._indexed, located=located)

    def _indexed(self, index: int) -> int:
        word = self.unit.address_bytes
        return fixed(self.sections.addresses, self._address_base + index * word, word)[0]


def units_by_address(aranges: bytes) -> Iterator[tuple[int, int, int]]:
    """What .debug_aranges says: first address, address after the last, and the offset of the unit's header.

    Ends at what is not valid.
    """
    at = 0
    while at + 12 <= len(aranges):
        length = int.from_bytes(aranges[at : at + 4], "little")
        end = at + 4 + length
        offset, word = int.from_bytes(aranges[at + 6 : at + 10], "little"), aranges[at + 10]
        if word not in (4, 8):
            return
        place = at + -(-12 // (2 * word)) * 2 * word
        while place + 2 * word <= min(end, len(aranges)):
            first, place = fixed(aranges, place, word)
            size, place = fixed(aranges, place, word)
            yield first, first + size, offset
        at = max(end, at + 4)
