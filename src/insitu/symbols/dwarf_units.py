"""Reads the debugging information entries of units of DWARF 2 to 5 (DWARF 5, 7.5), as far as joining units needs."""

from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, sleb128, uleb128

__all__ = [
    "ADDRESS_INDEXES",
    "STRING_INDEXES",
    "UNIT_REFERENCES",
    "Abbreviations",
    "Attribute",
    "Entry",
    "Form",
    "Strings",
    "Unit",
    "entries",
    "unit_at",
    "units",
]

_WITH_DWO_ID: Final = (4, 5)  # DW_UT_skeleton, DW_UT_split_compile: a dwo_id ends their header
_UT_COMPILE, _UT_PARTIAL = 1, 3
_MAX_UNITS: Final = 1 << 20
_MAX_DEPTH: Final = 1 << 12
_MORE: Final = 0x80  # in bytes of LEB128 numbers: another follows

_SIBLING: Final = 0x01  # DW_AT_sibling


class Form:
    """DW_FORM_*: how an attribute's value is written."""

    ADDR, BLOCK2, BLOCK4, STRING, BLOCK, BLOCK1 = 0x01, 0x03, 0x04, 0x08, 0x09, 0x0A
    SDATA, STRP, UDATA, REF_ADDR, INDIRECT, SEC_OFFSET, EXPRLOC = 0x0D, 0x0E, 0x0F, 0x10, 0x16, 0x17, 0x18
    FLAG_PRESENT, STRX, ADDRX, LINE_STRP, IMPLICIT_CONST, RNGLISTX = 0x19, 0x1A, 0x1B, 0x1F, 0x21, 0x23
    GNU_ADDR_INDEX, GNU_STR_INDEX = 0x1F01, 0x1F02


_FORMS_OF_SIZE: Final = {
    0: (0x19, 0x21),
    1: (0x0B, 0x0C, 0x11, 0x25, 0x29),
    2: (0x05, 0x12, 0x26, 0x2A),
    3: (0x27, 0x2B),
    4: (0x06, 0x0E, 0x10, 0x13, 0x17, 0x1C, 0x1D, 0x1F, 0x28, 0x2C, 0x1F20, 0x1F21),
    8: (0x07, 0x14, 0x20, 0x24),
    16: (0x1E,),
}
_FIXED: Final = {form: size for size, forms in _FORMS_OF_SIZE.items() for form in forms}
_LEB128: Final = {0x0F, 0x15, 0x1A, 0x1B, 0x22, 0x23, 0x1F01, 0x1F02}
STRING_INDEXES: Final = {0x1A, 0x25, 0x26, 0x27, 0x28, 0x1F02}
ADDRESS_INDEXES: Final = {0x1B, 0x29, 0x2A, 0x2B, 0x2C, 0x1F01}
UNIT_REFERENCES: Final = {0x11, 0x12, 0x13, 0x14, 0x15}

Value = int | bytes


class Attribute(NamedTuple):
    """The form and value of an attribute; of a block its bytes."""

    form: int
    value: Value

    @property
    def number(self) -> int:
        """The value as a number; 0 if it is not a number."""
        return self.value if isinstance(self.value, int) else 0


class Unit(NamedTuple):
    """A unit's header. Offsets are from the section's start; ``end`` is where the next unit begins."""

    offset: int
    end: int
    version: int
    abbreviations: int
    address_bytes: int
    dwo_id: int  # 0 if the header has none
    entries: int  # offset of the first entry


class Entry(NamedTuple):
    """A debugging information entry: its offset, tag, depth in the tree and attributes."""

    offset: int
    tag: int
    depth: int
    attributes: dict[int, Attribute]

    def number(self, name: int, default: int = 0) -> int:
        """An attribute's value as a number."""
        return self.attributes[name].number if name in self.attributes else default


class _Abbreviation(NamedTuple):
    tag: int
    has_children: bool
    fields: tuple[tuple[int, int, int], ...]  # attribute, form, implicit constant
    size: int  # of all values; -1 if it varies


class Strings:
    """The strings that attributes of units refer to."""

    def __init__(self, strings: bytes, line_strings: bytes = b"", offsets: bytes = b"", base: int = 0) -> None:
        """``offsets`` is .debug_str_offsets, in which indices count from byte ``base`` on."""
        self._strings, self._line_strings, self._offsets, self._base = strings, line_strings, offsets, base

    def of(self, attribute: Attribute | None) -> bytes:
        """An attribute's string; empty if it has none."""
        if attribute is None:
            return b""
        return attribute.value if isinstance(attribute.value, bytes) else self.at(attribute.form, attribute.value)

    def at(self, form: int, value: int) -> bytes:
        """The string that a form and its value refer to; empty if it is not a string."""
        if form in STRING_INDEXES:
            place = self._base + 4 * value
            data, value = self._strings, int.from_bytes(self._offsets[place : place + 4], "little")
            if place + 4 > len(self._offsets):
                return b""
        elif form in (Form.STRP, Form.LINE_STRP):
            data = self._strings if form == Form.STRP else self._line_strings
        else:
            return b""
        return data[value : max(data.find(b"\0", value), value)]


def units(info: bytes) -> Iterator[Unit]:
    """The units of a .debug_info section, up to the first that is not of DWARF 2 to 5 in the 32-bit format."""
    offset = 0
    for _ in range(_MAX_UNITS):
        if offset + 11 > len(info):
            return
        unit = unit_at(info, offset)
        if unit is None:
            return
        yield unit
        offset = unit.end


def unit_at(info: bytes, offset: int) -> Unit | None:
    """The unit whose header is at ``offset``."""
    length = int.from_bytes(info[offset : offset + 4], "little")
    end = offset + 4 + length
    version = int.from_bytes(info[offset + 4 : offset + 6], "little")
    if not 7 <= length < 0xFFFF_FFF0 or end > len(info):
        return None
    if version in (2, 3, 4):
        abbreviations = int.from_bytes(info[offset + 6 : offset + 10], "little")
        return Unit(offset, end, version, abbreviations, info[offset + 10], 0, offset + 11)
    if version != 5 or length < 8:
        return None
    kind, address_bytes = info[offset + 6], info[offset + 7]
    abbreviations = int.from_bytes(info[offset + 8 : offset + 12], "little")
    dwo_id, first = 0, offset + 12
    if kind in _WITH_DWO_ID:
        dwo_id, first = int.from_bytes(info[first : first + 8], "little"), first + 8
    elif kind not in (_UT_COMPILE, _UT_PARTIAL):
        first = end  # type units: nothing of theirs is needed
    return Unit(offset, end, version, abbreviations, address_bytes, dwo_id, first)


class Abbreviations:
    """The tables of a .debug_abbrev section; each is read on first use."""

    def __init__(self, section: bytes) -> None:
        self._section = section
        self._tables: dict[tuple[int, int], dict[int, _Abbreviation]] = {}

    def table(self, offset: int, address_bytes: int) -> dict[int, _Abbreviation]:
        """The abbreviations at ``offset``, by code. Raises CorruptDwarfError."""
        key = (offset, address_bytes)
        if key not in self._tables:
            self._tables[key] = self._read(offset, address_bytes)
        return self._tables[key]

    def _read(self, at: int, address_bytes: int) -> dict[int, _Abbreviation]:
        try:
            return self._table(at, address_bytes)
        except IndexError:
            raise CorruptDwarfError("abbreviations beyond the end") from None

    def _table(self, at: int, address_bytes: int) -> dict[int, _Abbreviation]:
        data = self._section
        table: dict[int, _Abbreviation] = {}
        while True:
            code, at = uleb128(data, at)
            if not code:
                return table
            tag, at = uleb128(data, at)
            has_children, at = fixed(data, at, 1)
            fields = []
            size = 0
            while True:
                # Nearly all of these numbers have one byte, and programs have hundreds of thousands.
                name, form = data[at], data[at + 1]
                at += 2
                if name >= _MORE or form >= _MORE:
                    name, at = uleb128(data, at - 2)
                    form, at = uleb128(data, at)
                constant = 0
                if form == Form.IMPLICIT_CONST:
                    constant, at = sleb128(data, at)
                if not name and not form:
                    break
                fields.append((name, form, constant))
                width = address_bytes if form == Form.ADDR else _FIXED.get(form, -1)
                size = size + width if size >= 0 and width >= 0 else -1
            table[code] = _Abbreviation(tag, bool(has_children), tuple(fields), size)


def entries(
    info: bytes, unit: Unit, abbreviations: Abbreviations, tags: frozenset[int], names: frozenset[int]
) -> Iterator[Entry]:
    """The unit's first entry, and all below it with one of ``tags`` whose parents have them too.

    Only attributes in ``names`` are decoded. Raises CorruptDwarfError.
    """
    table = abbreviations.table(unit.abbreviations, unit.address_bytes)
    at, depth, hidden = unit.entries, 0, 0  # hidden: depth below which nothing is wanted, 0 if all is
    size, end = unit.address_bytes, unit.end
    first = True
    while at < end:
        offset = at
        code, at = uleb128(info, at)
        if not code:
            depth -= 1
            if depth <= 0:
                return
            if hidden and depth <= hidden:
                hidden = 0
            continue
        abbreviation = table.get(code)
        if abbreviation is None or depth > _MAX_DEPTH:
            raise CorruptDwarfError(f"abbreviation {code}")
        wanted = first or (not hidden and abbreviation.tag in tags)
        if wanted:
            attributes, at = _attributes(info, at, abbreviation, size, names)
            yield Entry(offset, abbreviation.tag, depth, attributes)
        else:
            sibling, at = _skip(info, at, abbreviation, size)
            if sibling and abbreviation.has_children and at < unit.offset + sibling <= end:
                at = unit.offset + sibling
                continue
        if abbreviation.has_children:
            if not wanted and not hidden:
                hidden = depth or 1
            depth += 1
        elif first:
            return
        first = False


def _attributes(
    data: bytes, at: int, abbreviation: _Abbreviation, address_bytes: int, names: frozenset[int]
) -> tuple[dict[int, Attribute], int]:
    found = {}
    for name, form, constant in abbreviation.fields:
        used = form
        if form == Form.INDIRECT:
            used, at = uleb128(data, at)
        value, at = _value(data, at, used, address_bytes)
        if name in names:
            found[name] = Attribute(used, constant if used == Form.IMPLICIT_CONST else value)
    return found, at


def _skip(data: bytes, at: int, abbreviation: _Abbreviation, address_bytes: int) -> tuple[int, int]:
    """What DW_AT_sibling says (0 if there is none), and the offset after the entry's values."""
    if abbreviation.size >= 0 and not abbreviation.has_children:
        return 0, at + abbreviation.size
    sibling = 0
    for name, form, _ in abbreviation.fields:
        used = form
        if form == Form.INDIRECT:
            used, at = uleb128(data, at)
        value, at = _value(data, at, used, address_bytes)
        if name == _SIBLING and used in UNIT_REFERENCES and isinstance(value, int):
            sibling = value
    return sibling, at


def _value(data: bytes, at: int, form: int, address_bytes: int) -> tuple[Value, int]:
    if form in _FIXED:
        size = _FIXED[form]
        return fixed(data, at, size) if size else (1, at)
    if form in _LEB128:
        return uleb128(data, at)
    if form == Form.ADDR:
        return fixed(data, at, address_bytes)
    if form == Form.SDATA:
        return sleb128(data, at)
    if form == Form.STRING:
        end = data.find(b"\0", at)
        if end < 0:
            raise CorruptDwarfError("string without an end")
        return data[at:end], end + 1
    if form in _BLOCK_LENGTHS:
        size, at = fixed(data, at, _BLOCK_LENGTHS[form])
    elif form in (Form.BLOCK, Form.EXPRLOC):
        size, at = uleb128(data, at)
    else:
        raise CorruptDwarfError(f"form {form:#x}")
    if at + size > len(data):
        raise CorruptDwarfError("block beyond the end")
    return data[at : at + size], at + size


_BLOCK_LENGTHS: Final = {Form.BLOCK1: 1, Form.BLOCK2: 2, Form.BLOCK4: 4}
