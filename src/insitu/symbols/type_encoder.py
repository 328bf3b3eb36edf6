"""A program's types as drgn finds them, encoded as BTF.

So whoever understands the kernel's types understands a program's too, and only what was asked for is converted.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING, Any

from insitu.symbols.btf import Kind

if TYPE_CHECKING:
    import drgn

__all__ = ["encoded"]

# Beyond so many types, structs become declarations: a large C++ program reaches all its types from any.
_MAX_TYPES = 20_000
_MAX_ENTRIES = 0xFFFF  # BTF_MAX_VLEN
# What drgn says of types that C does not have, with the tag of DWARF. References are passed as pointers.
_UNKNOWN_TYPE = "unknown DWARF type tag "
_REFERENCES = ("0x10", "0x42")  # DW_TAG_reference_type, DW_TAG_rvalue_reference_type
_QUALIFIERS = ((1, Kind.CONST), (2, Kind.VOLATILE), (4, Kind.RESTRICT))


def encoded(type_: drgn.Type, function: str = "") -> tuple[int, bytes]:
    """One type with all that it refers to: its number, and BTF. With a name: the function that has this prototype."""
    return _Encoder().encode(type_, function)


class _Encoder:
    """One set of BTF, breadth first from one type."""

    def __init__(self) -> None:
        self._ids: dict[tuple[object, int], int] = {}
        self._waiting: deque[tuple[int, Any, int]] = deque()
        self._types: dict[int, bytes] = {}
        self._strings = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}

    def encode(self, type_: drgn.Type, function: str) -> tuple[int, bytes]:
        root = self._id(type_)
        while self._waiting:
            number, waiting, qualifiers = self._waiting.popleft()
            try:
                self._types[number] = self._described(waiting, qualifiers)
            except (
                LookupError,
                ValueError,
                OverflowError,
            ):  # damaged or unusual DWARF: keep the name, drop the contents
                self._types[number] = self._head(_name(waiting), Kind.FWD, 0, 0)
        if function:
            number = len(self._types) + 1
            self._types[number] = self._head(function, Kind.FUNC, 0, root)
            root = number
        body = b"".join(self._types[number] for number in sorted(self._types))
        header = struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(self._strings))
        return root, header + body + bytes(self._strings)

    def _id(self, type_: drgn.Type, qualifiers: int | None = None) -> int:
        """The number of a type, which is described when its turn comes; 0 is void."""
        import drgn

        qualifiers = type_.qualifiers.value & 7 if qualifiers is None else qualifiers
        if type_.kind == drgn.TypeKind.VOID and not qualifiers:
            return 0
        # drgn makes a new Python object for the same type each time; what it wraps stays where it is.
        key = (type_._ptr, qualifiers)
        if key not in self._ids:
            self._ids[key] = len(self._ids) + 1
            self._waiting.append((self._ids[key], type_.unqualified(), qualifiers))
        return self._ids[key]

    def _id_of_type(self, holder: drgn.TypeMember | drgn.TypeParameter | drgn.Type) -> int:
        """The number of the type of a member or parameter, or of what a type refers to.

        A reference is a pointer to anything; another type of C++ that drgn does not know, one of unknown size.
        """
        import drgn

        try:
            return self._id(holder.type)
        except drgn.BadDataError as error:
            tag = _unknown_tag(error)
        return self._other(Kind.PTR if tag in _REFERENCES else Kind.FWD)

    def _other(self, kind: Kind) -> int:
        """The number of a pointer to anything, or of a type of which nothing is known."""
        key = (kind, 0)
        if key not in self._ids:
            self._ids[key] = len(self._ids) + 1
            self._types[self._ids[key]] = self._head("", kind, 0, 0)
        return self._ids[key]

    def _string(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self._strings)
            self._strings += text.encode() + b"\0"
        return self._offsets[text]

    def _head(self, name: str, kind: Kind, entries: int, size: int, flag: bool = False) -> bytes:
        return struct.pack("<III", self._string(name), flag << 31 | kind << 24 | entries, size & 0xFFFFFFFF)

    def _described(self, type_: drgn.Type, qualifiers: int) -> bytes:
        import drgn

        for bit, kind in _QUALIFIERS:
            if qualifiers & bit:
                return self._head("", kind, 0, self._id(type_, qualifiers & ~bit))
        kinds = drgn.TypeKind
        if type_.kind in (kinds.INT, kinds.BOOL):
            encoding = 4 if type_.kind == kinds.BOOL else int(type_.is_signed)
            return self._head(type_.name, Kind.INT, 0, type_.size) + struct.pack(
                "<I", encoding << 24 | 8 * type_.size
            )
        if type_.kind == kinds.FLOAT:
            return self._head(type_.name, Kind.FLOAT, 0, type_.size)
        if type_.kind == kinds.TYPEDEF:
            return self._head(type_.name, Kind.TYPEDEF, 0, self._id_of_type(type_))
        if type_.kind == kinds.POINTER:
            return self._head("", Kind.PTR, 0, self._id_of_type(type_))
        if type_.kind == kinds.ARRAY:
            element = self._id_of_type(type_)
            return self._head("", Kind.ARRAY, 0, 0) + struct.pack("<III", element, element, type_.length or 0)
        if type_.kind == kinds.FUNCTION:
            return self._prototype(type_)
        if type_.kind == kinds.ENUM:
            return self._enum(type_)
        return self._aggregate(type_)

    def _prototype(self, type_: drgn.Type) -> bytes:
        entries = [
            (self._string(each.name or ""), self._id_of_type(each)) for each in type_.parameters[:_MAX_ENTRIES]
        ]
        entries += [(0, 0)] * type_.is_variadic
        head = self._head("", Kind.FUNC_PROTO, len(entries), self._id_of_type(type_))
        return head + b"".join(struct.pack("<II", *entry) for entry in entries)

    def _enum(self, type_: drgn.Type) -> bytes:
        import drgn

        values = (type_.enumerators or ())[:_MAX_ENTRIES]
        underlying = type_.type if type_.is_complete() else None
        size = underlying.size if underlying is not None and underlying.kind != drgn.TypeKind.VOID else 4
        signed = any(each.value < 0 for each in values)
        wide = any(not -(1 << 31) <= each.value < 1 << 32 for each in values)
        head = self._head(type_.tag or "", Kind.ENUM64 if wide else Kind.ENUM, len(values), size or 4, signed)
        if wide:
            pieces = ((self._string(e.name), e.value & 0xFFFFFFFF, e.value >> 32 & 0xFFFFFFFF) for e in values)
            return head + b"".join(struct.pack("<III", *piece) for piece in pieces)
        return head + b"".join(struct.pack("<II", self._string(e.name), e.value & 0xFFFFFFFF) for e in values)

    def _aggregate(self, type_: drgn.Type) -> bytes:
        import drgn

        union = type_.kind == drgn.TypeKind.UNION
        if not type_.is_complete() or len(self._ids) > _MAX_TYPES:
            return self._head(type_.tag or "", Kind.FWD, 0, 0, flag=union)
        members = (type_.members or ())[:_MAX_ENTRIES]
        flag = any(map(_bit_field_size, members))
        entries = []
        for member in members:
            offset = member.bit_offset | _bit_field_size(member) << 24 if flag else member.bit_offset
            if offset >> 32:
                raise ValueError("the offset of a member is too large for BTF")
            entries.append(struct.pack("<III", self._string(member.name or ""), self._id_of_type(member), offset))
        kind = Kind.UNION if union else Kind.STRUCT
        return self._head(type_.tag or "", kind, len(entries), type_.size, flag) + b"".join(entries)


def _bit_field_size(member: drgn.TypeMember) -> int:
    """Bits of a bit field; 0 for any other member."""
    import drgn

    try:
        return member.bit_field_size or 0
    except drgn.BadDataError as error:
        _unknown_tag(error)  # a reference is none
        return 0


def _unknown_tag(error: drgn.BadDataError) -> str:
    """The tag of a type that drgn does not know. Raises any other error again."""
    _, unknown, tag = str(error).partition(_UNKNOWN_TYPE)
    if not unknown:
        raise error
    return tag


def _name(type_: drgn.Type) -> str:
    """The name or tag of a type of any kind; empty when it has none, or one that drgn cannot decode."""
    try:
        return str(getattr(type_, "tag", "") or getattr(type_, "name", "") or "")
    except UnicodeDecodeError:
        return ""
