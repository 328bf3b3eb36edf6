"""Types as DWARF describes them, as far as showing variables needs: sizes, kinds, members, elements."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, Literal, NamedTuple

from insitu.symbols.dwarf_unit_reader import UnitReader
from insitu.symbols.dwarf_units import Attribute, Entry

__all__ = ["TYPE_ATTRIBUTES", "CType", "CTypes", "Member"]

# DW_TAG_*
_ARRAY, _CLASS, _ENUM, _MEMBER, _POINTER, _REFERENCE, _STRUCT, _TYPEDEF, _UNION = (
    1,
    2,
    4,
    0xD,
    0xF,
    0x10,
    0x13,
    0x16,
    0x17,
)
_INHERITANCE, _SUBRANGE, _BASE, _CONST, _VOLATILE, _RESTRICT, _RVALUE, _ATOMIC = (
    0x1C,
    0x21,
    0x24,
    0x26,
    0x35,
    0x37,
    0x42,
    0x47,
)
# DW_AT_*
_NAME, _SIZE, _BIT_OFFSET, _BIT_SIZE, _UPPER, _COUNT, _MEMBER_LOCATION = 3, 0xB, 0xC, 0xD, 0x2F, 0x37, 0x38
_DECLARATION, _ENCODING, _TYPE, _DATA_BIT_OFFSET = 0x3C, 0x3E, 0x49, 0x6B
TYPE_ATTRIBUTES: Final = frozenset(
    {_NAME, _SIZE, _BIT_OFFSET, _BIT_SIZE, _UPPER, _COUNT, _MEMBER_LOCATION, _DECLARATION, _ENCODING, _TYPE}
    | {_DATA_BIT_OFFSET}
)
"""The attributes that types are read from."""
_QUALIFIERS: Final = {_CONST: "const ", _VOLATILE: "volatile ", _RESTRICT: "", _ATOMIC: "_Atomic "}
_FLOAT, _SIGNED, _SIGNED_CHAR, _UNSIGNED_CHAR, _UTF = 4, 5, 6, 8, 0x10  # DW_ATE_*
_MOST_HOPS: Final = 16  # from a type to the type that it is
_MOST_DIMENSIONS: Final = 8
_MOST_ELEMENTS: Final = 1 << 31

Kind = Literal["signed", "unsigned", "pointer", "float", "aggregate", "array", "unknown"]


class CType(NamedTuple):
    """A type: as C writes it, its bytes and kind; ``is_text``: char, or a pointer to or an array of them.

    ``target`` is what a pointer points to, or the element of an array with ``length`` of them (0: unknown).
    ``described_at`` is where the members of a struct, union or class are described (0: nowhere).
    """

    name: str
    size: int
    kind: Kind
    is_text: bool = False
    target: CType | None = None
    length: int = 0
    described_at: int = 0


class Member(NamedTuple):
    """A member of a struct: its name (empty: anonymous), offset in bytes and type.

    ``bits``: of a bit field, its lowest bit and its width; ``offset`` and ``type.size`` are of what holds it.
    """

    name: str
    offset: int
    type: CType
    bits: tuple[int, int] | None = None


class CTypes:
    """The types of one unit."""

    def __init__(self, reader: UnitReader) -> None:
        """``reader`` decodes TYPE_ATTRIBUTES."""
        self._reader = reader
        self._known: dict[int, CType] = {}

    def type(self, attribute: Attribute | None, hops: int = 0) -> CType:
        """The type that an attribute refers to; "void" without one, "?" where it is not described."""
        if attribute is None:
            return CType("void", 0, "unknown")
        entry = self._reader.referred(attribute)
        if entry is None or hops > _MOST_HOPS:
            return CType("?", 0, "unknown")
        if entry.offset not in self._known:
            self._known[entry.offset] = self._of(entry, hops)
        return self._known[entry.offset]

    def _of(self, entry: Entry, hops: int) -> CType:
        name, size = self._text(entry), entry.number(_SIZE)
        inner = self.type(entry.attributes.get(_TYPE), hops + 1)
        if entry.tag in _QUALIFIERS:
            return inner._replace(name=f"{_QUALIFIERS[entry.tag]}{inner.name}")
        if entry.tag == _TYPEDEF:
            return inner._replace(name=name)
        if entry.tag in (_POINTER, _REFERENCE, _RVALUE):
            blank = "" if inner.name.endswith("*") else " "
            is_text = inner.is_text and inner.kind in ("signed", "unsigned")
            return CType(f"{inner.name}{blank}*", size or self._reader.unit.address_bytes, "pointer", is_text, inner)
        if entry.tag == _BASE:
            encoding = entry.number(_ENCODING)
            kind: Kind = (
                "float" if encoding == _FLOAT else "signed" if encoding in (_SIGNED, _SIGNED_CHAR) else "unsigned"
            )
            return CType(name, size, kind, encoding in (_SIGNED_CHAR, _UNSIGNED_CHAR, _UTF) and size == 1)
        if entry.tag == _ENUM:
            return CType(f"enum {name}", size, "unsigned")
        if entry.tag == _ARRAY:
            return self._array(entry, inner)
        word = {_STRUCT: "struct ", _UNION: "union ", _CLASS: ""}.get(entry.tag)
        if word is None:
            return CType(name, size, "unknown")
        described_at = 0 if _DECLARATION in entry.attributes else entry.offset
        return CType(f"{word}{name or '{...}'}", size, "aggregate", described_at=described_at)

    def _text(self, entry: Entry) -> str:
        return self._reader.text.of(entry.attributes.get(_NAME)).decode(errors="replace")

    def _array(self, entry: Entry, element: CType) -> CType:
        below = self._reader.entries(frozenset({_SUBRANGE}), entry.offset)
        counts = [_elements(each) for each in islice(below, 1, 1 + _MOST_DIMENSIONS)] or [0]
        kind, dimensions = element, ""
        for count in reversed(counts):
            dimensions = f"[{count or ''}]{dimensions}"
            is_text = kind.is_text and kind.kind in ("signed", "unsigned")
            kind = CType(f"{element.name}{dimensions}", count * kind.size, "array", is_text, kind, count)
        return kind

    def members(self, offset: int) -> Iterator[Member]:
        """The members of the struct, union or class whose entry is at an offset, and those that it is made of."""
        for entry in self._reader.entries(frozenset({_MEMBER, _INHERITANCE}), offset):
            place = entry.attributes.get(_MEMBER_LOCATION)
            if entry.tag not in (_MEMBER, _INHERITANCE) or (place is not None and isinstance(place.value, bytes)):
                continue
            kind, at = self.type(entry.attributes.get(_TYPE)), place.number if place else 0
            name = self._text(entry) if entry.tag == _MEMBER else ""
            if _BIT_SIZE not in entry.attributes:
                yield Member(name, at, kind)
            elif (held := _bit_field(entry, at, kind)) and name:
                yield Member(name, held[0], kind._replace(size=held[1]), held[2])


def _elements(entry: Entry) -> int:
    """How many elements a dimension of an array has; 0 where that is unknown, or known only to the program."""
    count, last = entry.attributes.get(_COUNT), entry.attributes.get(_UPPER)
    found = 0
    if count is not None and isinstance(count.value, int):
        found = count.value
    elif last is not None and isinstance(last.value, int):
        found = last.value + 1
    return found if 0 < found < _MOST_ELEMENTS else 0


def _bit_field(entry: Entry, at: int, kind: CType) -> tuple[int, int, tuple[int, int]] | None:
    """Of a bit field: offset and bytes of what holds it, its lowest bit there (little-endian) and its width."""
    width = entry.number(_BIT_SIZE)
    if _BIT_OFFSET in entry.attributes:  # DWARF 3: counted from the highest bit
        first = 8 * (at + (entry.number(_SIZE) or kind.size)) - entry.number(_BIT_OFFSET) - width
    else:
        first = 8 * at + entry.number(_DATA_BIT_OFFSET)
    if width <= 0 or first < 0:
        return None
    low = first % 8
    size = next((each for each in (1, 2, 4, 8) if low + width <= 8 * each), None)
    return (first // 8, size, (low, width)) if size else None
