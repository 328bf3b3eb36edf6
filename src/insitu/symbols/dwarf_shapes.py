"""The shapes of types that DWARF describes: C's, C++'s (with libstdc++'s strings and vectors) and Rust's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from insitu.symbols.dwarf_units import Attribute, Entry
from insitu.symbols.value_shape import UNKNOWN, VOID, Part, Shape, leaves

if TYPE_CHECKING:
    from insitu.symbols.dwarf_prototypes import TypeReader

__all__ = ["SHAPE_ATTRIBUTES", "shape_of"]

# DW_TAG_*
_ARRAY, _CLASS, _ENUM, _MEMBER, _POINTER, _REFERENCE, _STRUCT, _SUBROUTINE = 1, 2, 4, 0xD, 0xF, 0x10, 0x13, 0x15
_TYPEDEF, _UNION, _INHERITANCE, _TO_MEMBER, _SUBRANGE, _BASE, _CONST = 0x16, 0x17, 0x1C, 0x1F, 0x21, 0x24, 0x26
_ENUMERATOR, _SUBPROGRAM, _TYPE_PARAMETER, _VARIANTS, _VOLATILE, _RESTRICT = 0x28, 0x2E, 0x2F, 0x33, 0x35, 0x37
_RVALUE, _ATOMIC, _UNSPECIFIED = 0x42, 0x47, 0x3B
_SAME: Final = frozenset({_TYPEDEF, _CONST, _VOLATILE, _RESTRICT, _ATOMIC})
_AGGREGATES: Final = frozenset({_STRUCT, _CLASS, _UNION})
_INSIDE: Final = frozenset({_MEMBER, _INHERITANCE, _SUBPROGRAM, _TYPE_PARAMETER, _VARIANTS, _ENUMERATOR, _SUBRANGE})
# DW_AT_*
_NAME, _SIZE, _BIT_OFFSET, _BIT_SIZE, _CONST_VALUE, _UPPER, _ARTIFICIAL = 3, 0xB, 0xC, 0xD, 0x1C, 0x2F, 0x34
_CONVENTION, _COUNT, _MEMBER_LOCATION, _DECLARATION, _ENCODING, _EXTERNAL = 0x36, 0x37, 0x38, 0x3C, 0x3E, 0x3F
_TYPE, _DATA_BIT_OFFSET, _DEFAULTED, _VECTOR, _VIRTUALITY = 0x49, 0x6B, 0x8B, 0x2107, 0x4C
SHAPE_ATTRIBUTES: Final = frozenset(
    {_NAME, _SIZE, _BIT_OFFSET, _BIT_SIZE, _CONST_VALUE, _UPPER, _ARTIFICIAL, _CONVENTION, _COUNT, _MEMBER_LOCATION}
    | {_DECLARATION, _ENCODING, _EXTERNAL, _TYPE, _DATA_BIT_OFFSET, _DEFAULTED, _VECTOR, _VIRTUALITY}
)
"""The attributes that types are read from."""
_BY_REFERENCE, _BY_VALUE = 4, 5  # DW_CC_pass_by_*
_BOOLEAN, _COMPLEX, _FLOAT, _SIGNED, _SIGNED_CHARACTER, _UTF = 2, 3, 4, 5, 6, 0x10  # DW_ATE_*
_MOST_HOPS: Final = 24
_MOST_MEMBERS: Final = 512
_MOST_ENUMERATORS: Final = 64
_MOST_ELEMENTS: Final = 1 << 16
_POINTER_BYTES: Final = 8
_REFERENCES: Final = frozenset({_REFERENCE, _RVALUE})
_SMART_POINTERS: Final = ("unique_ptr<", "shared_ptr<", "weak_ptr<", "__shared_ptr<")
_WORD_SHAPE: Final = Shape("u8", _POINTER_BYTES)
_POINTER_SHAPE: Final = Shape("p", _POINTER_BYTES)
# Of texts and of vectors: whether they are Rust's, their names, and the members, however deep, that point to the
# first element, and that end or count them.
_HOLDERS: Final = (
    (
        "T",
        False,
        ("basic_string<char,", "basic_string_view<char,"),
        ("_M_p", "_M_str"),
        ("_M_string_length", "_M_len"),
    ),
    ("V", False, ("vector<", "span<"), ("_M_start", "_M_ptr"), ("_M_finish", "_M_extent_value")),
    ("T", True, ("&str", "&mut str", "String"), ("data_ptr", "data"), ("length",)),
    ("V", True, ("&[", "&mut [", "Vec<"), ("data_ptr", "pointer"), ("length", "len")),
)


def shape_of(reader: TypeReader, attribute: Attribute | None, hops: int = 0) -> Shape:
    """The shape of the type that a DW_AT_type refers to; without one, of void."""
    if attribute is None:
        return VOID
    found = reader.place(attribute)
    if found is None or hops > _MOST_HOPS:
        return UNKNOWN
    reader, entry = found
    shape = reader.shapes.get(entry.offset)
    if shape is None:
        reader.shapes[entry.offset] = UNKNOWN  # what a damaged type that contains itself finds
        shape = reader.shapes[entry.offset] = _shape(reader, entry, hops + 1).bounded()
    return shape


def _shape(reader: TypeReader, entry: Entry, hops: int) -> Shape:
    tag, size = entry.tag, entry.number(_SIZE)
    if tag in _SAME:
        return shape_of(reader, entry.attributes.get(_TYPE), hops)
    if tag in (_POINTER, *_REFERENCES):
        return _pointer(reader, entry, hops)
    if tag == _BASE:
        return _base(reader, entry, size)
    if tag == _ENUM:
        return _enum(reader, entry, size, hops)
    if tag == _ARRAY:
        return _array(reader, entry, hops)
    if tag in _AGGREGATES:
        return _aggregate(reader, entry, size, hops)
    if tag == _UNSPECIFIED:  # decltype(nullptr)
        return _POINTER_SHAPE
    if tag == _TO_MEMBER:
        target = reader.place(entry.attributes.get(_TYPE))
        if target is not None and target[1].tag == _SUBROUTINE:  # an address and an offset of this
            return Shape("{", 16, (Part("", 0, 0, Shape("x", 8)), Part("", 64, 0, Shape("i8", 8))))
        return Shape("i8", _POINTER_BYTES)
    return UNKNOWN._replace(size=size)


def _pointer(reader: TypeReader, entry: Entry, hops: int) -> Shape:
    attribute = entry.attributes.get(_TYPE)
    target = _stripped(reader, attribute)
    if entry.tag in _REFERENCES:
        inner = shape_of(reader, attribute, hops)
        return Shape("&", _POINTER_BYTES, (Part("element", 0, 0, inner),))
    if target is None:
        # Rust's &str is a struct, but its text has a pointer to u8: only C's and C++'s are text.
        return _POINTER_SHAPE
    reader_, bare = target
    if bare.tag == _SUBROUTINE:
        return Shape("x", _POINTER_BYTES)
    is_text = bare.tag == _BASE and _is_char(reader_, bare)
    return Shape("s", _POINTER_BYTES) if is_text else _POINTER_SHAPE


def _stripped(reader: TypeReader, attribute: Attribute | None) -> tuple[TypeReader, Entry] | None:
    for _ in range(_MOST_HOPS):
        found = reader.place(attribute)
        if found is None or found[1].tag not in _SAME:
            return found
        reader, entry = found
        attribute = entry.attributes.get(_TYPE)
    return None


def _is_char(reader: TypeReader, entry: Entry) -> bool:
    return entry.number(_SIZE) == 1 and reader.name(entry) == "char" and entry.number(_ENCODING) != _UTF


def _base(reader: TypeReader, entry: Entry, size: int) -> Shape:
    encoding = entry.number(_ENCODING)
    if _is_char(reader, entry):
        return Shape("c", 1)
    if encoding == _UTF and size == 4:
        return Shape("C", size)
    if encoding == _FLOAT:
        return Shape(f"f{size}", size) if size in (4, 8, 16) else UNKNOWN._replace(size=size)
    if encoding == _COMPLEX:
        half = Shape(f"f{size // 2}", size // 2)
        return Shape("{", size, (Part("", 0, 0, half), Part("i", 4 * size, 0, half)))
    if encoding == _BOOLEAN:
        return Shape("b", size)
    if size not in (1, 2, 4, 8, 16):
        return Shape("{", 0) if not size else UNKNOWN._replace(size=size)  # Rust's ()
    return Shape(f"{'i' if encoding in (_SIGNED, _SIGNED_CHARACTER) else 'u'}{size}", size)


def _enum(reader: TypeReader, entry: Entry, size: int, hops: int) -> Shape:
    values: dict[int, str] = {}
    under = shape_of(reader, entry.attributes.get(_TYPE), hops)
    size = size or under.size
    if size not in (1, 2, 4, 8):
        return UNKNOWN
    for each in reader.entries(_INSIDE, entry.offset):
        if each.tag == _ENUMERATOR and each.depth == 1 and len(values) <= _MOST_ENUMERATORS:
            value = each.number(_CONST_VALUE)
            if under.kind[:1] != "i" and under.size:
                value &= (1 << 8 * size) - 1
            values.setdefault(value, reader.name(each))
    if not 0 < len(values) <= _MOST_ENUMERATORS:
        return Shape(f"{'i' if under.kind[:1] == 'i' else 'u'}{size}", size)
    return Shape(f"e{size}:" + ",".join(f"{value}={name}" for value, name in values.items()), size)


def _array(reader: TypeReader, entry: Entry, hops: int) -> Shape:
    element = shape_of(reader, entry.attributes.get(_TYPE), hops)
    counts = []
    for each in reader.entries(_INSIDE, entry.offset):
        if each.tag == _SUBRANGE and each.depth == 1:
            known = _COUNT in each.attributes or _UPPER in each.attributes
            counts.append(each.number(_COUNT, each.number(_UPPER, -1) + 1) if known else 0)
    shape = element
    for count in reversed(counts[:4]):
        count = max(0, min(count, _MOST_ELEMENTS))
        shape = Shape("[", shape.size * count, (Part("element", 0, 0, shape),), count)
    return Shape(f"w{shape.size}", shape.size) if _VECTOR in entry.attributes else shape


def _aggregate(reader: TypeReader, entry: Entry, size: int, hops: int) -> Shape:
    if _DECLARATION in entry.attributes or _SIZE not in entry.attributes:  # as where it is in a type unit
        return UNKNOWN
    name, element = reader.name(entry), UNKNOWN
    parts: list[Part] = []
    convention = entry.number(_CONVENTION)
    indirect = convention == _BY_REFERENCE
    has_elements = any(_is_named(name, names) for kind, _, names, _, _ in _HOLDERS if kind == "V")
    for each in reader.entries(_INSIDE, entry.offset):
        if each.depth != 1 or len(parts) >= _MOST_MEMBERS:
            continue
        if each.tag == _VARIANTS:  # an enum of Rust's with values: not known which
            return UNKNOWN._replace(size=size)
        if each.tag == _TYPE_PARAMETER:
            if has_elements and element is UNKNOWN:
                element = shape_of(reader, each.attributes.get(_TYPE), hops)
        elif each.tag == _SUBPROGRAM:
            indirect |= not convention and _makes_copies_by_code(reader, each, name)
        elif each.tag in (_MEMBER, _INHERITANCE) and _EXTERNAL not in each.attributes:
            if _VIRTUALITY in each.attributes and each.tag == _INHERITANCE:
                return UNKNOWN._replace(size=size, indirect=True)
            part = _member(reader, each, hops)
            is_table = _ARTIFICIAL in each.attributes and part.name.startswith("_vptr")
            indirect |= not convention and (part.shape.indirect or is_table)
            if not is_table:
                parts.append(part)
            if has_elements and part.name == "data_ptr" and (target := reader.place(each.attributes.get(_TYPE))):
                element = shape_of(target[0], target[1].attributes.get(_TYPE), hops)
    shape = Shape("{", size, tuple(parts), indirect=indirect)
    return _known_class(shape, name, rust=reader.is_rust, element=element)


def _makes_copies_by_code(reader: TypeReader, entry: Entry, name: str) -> bool:
    """Whether a member function is a destructor that the source defines: nearly all such classes have one (DWARF 4
    does not say which are passed by address)."""
    defaulted = entry.number(_DEFAULTED) == 1 or _ARTIFICIAL in entry.attributes
    return not defaulted and reader.name(entry) == f"~{name.partition('<')[0]}"


def _member(reader: TypeReader, entry: Entry, hops: int) -> Part:
    shape = shape_of(reader, entry.attributes.get(_TYPE), hops)
    if entry.tag == _INHERITANCE and not shape.parts:
        shape = shape._replace(size=shape.size if shape.size > 1 else 0)  # an empty base class takes no room
    bits = entry.number(_BIT_SIZE)
    if _DATA_BIT_OFFSET in entry.attributes:
        at = entry.number(_DATA_BIT_OFFSET)
    else:
        at = 8 * entry.number(_MEMBER_LOCATION)
        if bits and _BIT_OFFSET in entry.attributes:  # of DWARF 2 and 3: from the storage unit's most significant bit
            at += 8 * (entry.number(_SIZE) or shape.size) - entry.number(_BIT_OFFSET) - bits
    name = reader.name(entry) if entry.tag == _MEMBER else ""
    return Part(name, at, bits, shape)


def _known_class(shape: Shape, name: str, *, rust: bool, element: Shape) -> Shape:
    """Of a library's strings, vectors and smart pointers what shows their content; else the shape itself."""
    if name.startswith(_SMART_POINTERS) and not rust:
        return Shape("p", shape.size, indirect=shape.indirect)
    for kind, is_rust, names, begins, ends in _HOLDERS:
        if is_rust != rust or not _is_named(name, names):
            continue
        found = {each.name: each for each in leaves(shape)}
        begin = next((found[each] for each in begins if each in found), None)
        end = next((found[each] for each in ends if each in found), None)
        if begin is None or end is None or begin.shape.size != _POINTER_BYTES or end.shape.size != _POINTER_BYTES:
            continue
        last = Part("end" if end.name == "_M_finish" else "length", end.bit_offset, 0, _WORD_SHAPE)
        parts = (Part("data", begin.bit_offset, 0, _POINTER_SHAPE), last)
        return shape._replace(kind=kind, parts=(*parts, Part("element", 0, 0, element)) if kind == "V" else parts)
    return shape


def _is_named(name: str, names: Sequence[str]) -> bool:
    """Whether a class has one of these names, or is made of a template that one ends with the bracket of."""
    return any(name.startswith(each) if each[-1] in "<,[" else name == each for each in names)
