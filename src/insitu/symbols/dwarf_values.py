"""What the values of attributes mean in one unit of DWARF 2 to 5: addresses, names, references, and lists."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

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

__all__ = ["At", "Sections", "UnitValues"]

_RNGLISTX, _LOCLISTX = 0x23, 0x22
_MOST_HOPS: Final = 16  # from an entry to those that it is an instance of


class At:
    """DW_AT_*: names of attributes."""

    LOCATION, NAME, SIZE, BIT_OFFSET, BIT_SIZE, LOW, HIGH, CONST_VALUE = 2, 3, 0xB, 0xC, 0xD, 0x11, 0x12, 0x1C
    UPPER_BOUND, ORIGIN, COUNT, MEMBER_LOCATION, LINE, DECLARATION = 0x2F, 0x31, 0x37, 0x38, 0x3B, 0x3C
    ENCODING, FRAME_BASE, SPECIFICATION, TYPE, RANGES, DATA_BIT_OFFSET = 0x3E, 0x40, 0x47, 0x49, 0x55, 0x6B
    STR_BASE, ADDR_BASE, RANGES_BASE, LISTS_BASE = 0x72, 0x73, 0x74, 0x8C


_WANTED: Final = frozenset(number for name, number in vars(At).items() if name.isupper())


class Sections:
    """The sections of one file's DWARF."""

    def __init__(self, elf: Elf) -> None:
        read = elf.section_bytes
        self.info, self.abbreviations = read(".debug_info"), Abbreviations(read(".debug_abbrev"))
        self.strings, self.line_strings = read(".debug_str"), read(".debug_line_str")
        self.string_offsets, self.addresses = read(".debug_str_offsets"), read(".debug_addr")
        self.aranges = read(".debug_aranges")
        self.lists = {
            name: read(name) for name in (".debug_ranges", ".debug_rnglists", ".debug_loc", ".debug_loclists")
        }


class UnitValues:
    """Reads the entries of one unit. Methods raise CorruptDwarfError."""

    def __init__(self, of: Sections, unit: Unit) -> None:
        self.of, self.unit = of, unit
        self.top = self.entry(unit.entries)
        bases = self.top.attributes if self.top else {}
        self._address_base, self._range_base, self._list_base, text_base = (
            bases[name].number if name in bases else default
            for name, default in ((At.ADDR_BASE, 8), (At.RANGES_BASE, 12), (At.LISTS_BASE, 12), (At.STR_BASE, 8))
        )
        self._text = Strings(of.strings, of.line_strings, of.string_offsets, text_base)
        self._base = self.address(bases.get(At.LOW))

    def below(self, offset: int, tags: frozenset[int]) -> Iterator[Entry]:
        """The entry at an offset of the section, and all below it with ``tags`` whose parents have them too."""
        if self.unit.entries <= offset < self.unit.end:
            at = self.unit._replace(entries=offset)
            yield from entries(self.of.info, at, self.of.abbreviations, tags, _WANTED)

    def entry(self, offset: int) -> Entry | None:
        """The entry at an offset of the section, in this unit."""
        return next(self.below(offset, frozenset()), None)

    def referred(self, attribute: Attribute | None) -> Entry | None:
        """The entry that an attribute refers to, in this unit."""
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
            entry = self.referred(entry.attributes.get(At.ORIGIN) or entry.attributes.get(At.SPECIFICATION))
        return None

    def text(self, attribute: Attribute | None) -> str:
        """A string; empty where there is none."""
        return self._text.of(attribute).decode(errors="replace")

    def name(self, entry: Entry) -> str:
        """An entry's name, its own or that of what it is an instance of."""
        return self.text(self.inherited(entry, At.NAME))

    def address(self, attribute: Attribute | None) -> int:
        """An address; 0 where there is none."""
        if attribute is None:
            return 0
        return self._indexed(attribute.number) if attribute.form in ADDRESS_INDEXES else attribute.number

    def extents(self, entry: Entry) -> list[tuple[int, int]] | None:
        """The ranges [first, end) of an entry's code; None if it names none."""
        low, high = entry.attributes.get(At.LOW), entry.attributes.get(At.HIGH)
        if low is not None and high is not None:
            first = self.address(low)
            is_address = high.form == Form.ADDR or high.form in ADDRESS_INDEXES
            return [(first, self.address(high) if is_address else first + high.number)]
        ranges = entry.attributes.get(At.RANGES)
        if ranges is None:
            return None
        listed = self._list(ranges, ".debug_ranges", ".debug_rnglists", _RNGLISTX, self._range_base)
        return [(first, end) for first, end, _ in listed]

    def locations(self, attribute: Attribute) -> Iterator[Listed]:
        """A location list."""
        return self._list(attribute, ".debug_loc", ".debug_loclists", _LOCLISTX, self._list_base)

    def _list(self, attribute: Attribute, old: str, new: str, indexed: int, base: int) -> Iterator[Listed]:
        word, located = self.unit.address_bytes, new == ".debug_loclists"
        if self.unit.version < 5:
            return old_list(self.of.lists[old], attribute.number, self._base, word, located=located)
        data, at = self.of.lists[new], attribute.number
        if attribute.form == indexed:
            at = base + fixed(data, base + 4 * at, 4)[0]
        return new_list(data, at, self._base, word, self._indexed, located=located)

    def _indexed(self, index: int) -> int:
        word = self.unit.address_bytes
        return fixed(self.of.addresses, self._address_base + index * word, word)[0]
