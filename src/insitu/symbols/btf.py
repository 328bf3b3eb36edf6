"""Reads BTF, the kernel's description of its own types and functions (Documentation/bpf/btf.rst)."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from insitu.errors import InsituError

__all__ = ["Btf", "Kind", "Member", "Parameter", "Type"]


class Kind(IntEnum):
    """BTF_KIND_* of include/uapi/linux/btf.h."""

    VOID = 0
    INT = 1
    PTR = 2
    ARRAY = 3
    STRUCT = 4
    UNION = 5
    ENUM = 6
    FWD = 7
    TYPEDEF = 8
    VOLATILE = 9
    CONST = 10
    RESTRICT = 11
    FUNC = 12
    FUNC_PROTO = 13
    VAR = 14
    DATASEC = 15
    FLOAT = 16
    DECL_TAG = 17
    TYPE_TAG = 18
    ENUM64 = 19


_HEADER = struct.Struct(
    "<HBBIIIII"
)  # struct btf_header: magic version flags hdr_len type_off type_len str_off str_len
_MAGIC: Final = 0xEB9F
_TYPE_WORDS = 3  # struct btf_type: name_off, info, size or type
# What follows struct btf_type, in u32s: always, and for each of the vlen entries.
_MORE_WORDS = {Kind.INT: 1, Kind.ARRAY: 3, Kind.VAR: 1, Kind.DECL_TAG: 1}
_ENTRY_WORDS = {
    Kind.STRUCT: 3,
    Kind.UNION: 3,
    Kind.ENUM: 2,
    Kind.FUNC_PROTO: 2,
    Kind.DATASEC: 3,
    Kind.ENUM64: 3,
}
_KINDS = tuple(Kind)
_FIXED = [_TYPE_WORDS + _MORE_WORDS.get(kind, 0) for kind in Kind]
_PER_ENTRY = [_ENTRY_WORDS.get(kind, 0) for kind in Kind]

_MODIFIERS = frozenset({Kind.TYPEDEF, Kind.VOLATILE, Kind.CONST, Kind.RESTRICT, Kind.TYPE_TAG})
_AGGREGATES = frozenset({Kind.STRUCT, Kind.UNION})
_ENUMS = frozenset({Kind.ENUM, Kind.ENUM64})
_REFERENCES = _MODIFIERS | {Kind.PTR, Kind.FUNC, Kind.FUNC_PROTO, Kind.VAR}

# Damaged BTF may refer to itself.
_MAX_DEPTH = 64  # of a chain of typedefs, arrays or anonymous members; the kernel's own bound is 32
_MAX_FIELDS = 1 << 17
_POINTER_BYTES = 8
_MAX_SEARCHES = 40  # of names in the bytes: they take as long as an index of all names
_INT_SIGNED, _INT_BOOL = 1, 4  # BTF_INT_SIGNED, BTF_INT_BOOL


class Member(NamedTuple):
    """A member of a struct or union. ``bit_offset`` counts from the start of the type that was asked.

    ``bit_size`` is 0 unless it is a bit field.
    """

    name: str
    type: Type
    bit_offset: int
    bit_size: int = 0


class Parameter(NamedTuple):
    """A parameter of a function; the name is empty where the source gave none."""

    name: str
    type: Type


class Btf:
    """One set of types. A module's builds on its kernel's: ids and string offsets go on where ``base`` ends."""

    def __init__(self, data: bytes, name: str = "BTF", base: Btf | None = None) -> None:
        """Take the raw contents of a BTF file or section. :raises InsituError: naming the offset that is wrong."""
        self.name, self.base = name, base
        if len(data) < _HEADER.size:
            raise InsituError(f"{name}: not BTF: {len(data)} bytes are less than its header")
        magic, version, _, header_bytes, type_off, type_len, str_off, str_len = _HEADER.unpack_from(data)
        if magic != _MAGIC or version != 1:
            raise InsituError(f"{name}: not BTF of version 1 in this machine's byte order")
        types, strings = header_bytes + type_off, header_bytes + str_off
        if types % 4 or type_len % 4 or types + type_len > len(data) or strings + str_len > len(data):
            raise InsituError(f"{name}: BTF is cut short: {len(data)} bytes hold less than its header says")
        self._data, self._types_at = data, types
        self._words = memoryview(data)[types : types + type_len].cast("I")
        self._strings = data[strings : strings + str_len]
        if self._strings[-1:] != b"\0" or (base is None and self._strings[0]):
            raise InsituError(f"{name}: BTF strings at offset {strings} do not begin and end with a zero")
        self.first_id: int = base.first_id + base.count if base else 1
        self._first_string: int = base._first_string + len(base._strings) if base else 0
        self._at = self._index()
        self._types: dict[int, Type] = {}
        self._names: dict[tuple[Kind, ...], dict[str, int]] = {}
        self._searches = 0
        self.parameter_names: dict[int, str] = {}  # strings by offset: functions' parameters share a few thousand

    def _index(self) -> array[int]:
        """Word offset of every type. Each one's length is in itself, so this is the one walk from first to last.

        A kernel has 100,000 types and few distinct info words: their lengths are worked out once each.
        """
        view, end = self._words, len(self._words)
        found: list[int] = []
        lengths: dict[int, int] = {}
        at = 0
        try:
            while at < end:
                found.append(at)
                info = view[at + 1]
                length = lengths.get(info)
                if length is None:
                    length = lengths[info] = _FIXED[info >> 24 & 0x1F] + _PER_ENTRY[info >> 24 & 0x1F] * (
                        info & 0xFFFF
                    )
                at += length
        except IndexError:
            at = end + 1
        if at != end:
            where = self._types_at + 4 * found[-1]
            raise InsituError(f"{self.name}: BTF type {self.first_id + len(found) - 1} at offset {where} is broken")
        return array("I", found)

    @property
    def count(self) -> int:
        """How many types there are, those of ``base`` not counted."""
        return len(self._at)

    def string(self, offset: int) -> str:
        """The string at ``offset`` (counted over base and this)."""
        if offset < self._first_string and self.base:
            return self.base.string(offset)
        begin = offset - self._first_string
        end = self._strings.find(b"\0", begin) if begin >= 0 else -1
        if end < 0:
            raise InsituError(f"{self.name}: BTF string offset {offset} is beyond its strings")
        return self._strings[begin:end].decode(errors="replace")

    def type(self, type_id: int) -> Type:
        """The type with that number; 0 is void. :raises InsituError: when there is none."""
        if 0 < type_id < self.first_id and self.base:
            return self.base.type(type_id)
        found = self._types.get(type_id)
        if found is None:
            if type_id >= self.first_id + self.count or type_id < 0:
                raise InsituError(f"{self.name}: there is no BTF type {type_id}")
            found = self._types[type_id] = Type(self, type_id)
        return found

    def words(self, type_id: int) -> Sequence[int]:
        """The u32s of one type, its entries included."""
        at = self._at[type_id - self.first_id]
        info = self._words[at + 1]
        kind = info >> 24 & 0x1F
        return self._words[at : at + _FIXED[kind] + _PER_ENTRY[kind] * (info & 0xFFFF)].tolist()

    def find(self, name: str, *kinds: Kind) -> Type | None:
        """The first type of that name and one of the kinds (any kind when none is given); base is asked last."""
        known = self._names.get(kinds)
        if known is None and kinds:
            self._searches += 1
            if self._searches > _MAX_SEARCHES:
                known = self.names(*kinds)
        if known is not None:
            number = known.get(name)
            return self.type(number) if number else self.base.find(name, *kinds) if self.base else None
        for string in self._string_offsets(name):
            for word in self._occurrences(string):
                index = bisect_left(self._at, word)
                if index < self.count and self._at[index] == word and (not kinds or self._kind_at(word) in kinds):
                    return Type(self, self.first_id + index)
        return self.base.find(name, *kinds) if self.base else None

    def prototype(self, function: str) -> Type | None:
        """The FUNC_PROTO of the function of that name: several functions may share one."""
        known = self._names.get((Kind.FUNC,))
        if known is None:
            found = self.find(function, Kind.FUNC)
            return found.target if found else None
        number = known.get(function)
        if number is None:
            return self.base.prototype(function) if self.base else None
        return self.type(self._words[self._at[number - self.first_id] + 2])

    def _occurrences(self, value: int) -> Iterator[int]:
        """Where, in words, the types hold this word: as one's name, an entry's name, or anything else."""
        wanted, end = value.to_bytes(4, "little"), self._types_at + 4 * len(self._words)
        at = self._data.find(wanted, self._types_at, end)
        while at >= 0:
            if at % 4 == 0:
                yield (at - self._types_at) // 4
            at = self._data.find(wanted, at + 1, end)

    def _kind_at(self, word: int) -> int:
        return self._words[word + 1] >> 24 & 0x1F

    def _string_offsets(self, name: str) -> list[int]:
        """Where a string lies: a module's types may name one of its own strings or of its kernel's."""
        if not name or "\0" in name:
            return []
        found = self.base._string_offsets(name) if self.base else []
        own = self._strings.find(b"\0" + name.encode() + b"\0")
        # A module's strings begin without a zero of their own.
        if own < 0 and self._strings.startswith(name.encode() + b"\0"):
            own = -1
        elif own < 0:
            return found
        return [*found, self._first_string + own + 1]

    def names(self, *kinds: Kind) -> dict[str, int]:
        """Names of this set's own types of the kinds, in order, with their (first) type's number."""
        found = self._names.get(kinds)
        if found is None:
            found = self._names[kinds] = {}
            words, wanted = self._words, {int(kind) for kind in kinds}
            for number, at in enumerate(self._at, self.first_id):
                if words[at + 1] >> 24 & 0x1F in wanted and words[at]:
                    found.setdefault(self.string(words[at]), number)
        return found

    def matching(self, pattern: str, *kinds: Kind) -> Iterator[Type]:
        """This set's own types of the kinds whose name matches a shell pattern, in order of their names."""
        import fnmatch

        names = self.names(*kinds)
        for name in sorted(fnmatch.filter(names, pattern)):
            yield Type(self, names[name])

    def nearest(self, name: str, *kinds: Kind) -> list[str]:
        """Up to three names of the kinds that look like ``name``, the closest first."""
        import difflib

        return difflib.get_close_matches(name, self.names(*kinds), 3, 0.7)

    def enumerator(self, name: str) -> tuple[Type, int] | None:
        """The enum that has an enumerator of that name, and its value."""
        for string in self._string_offsets(name):
            for word in self._occurrences(string):
                index = bisect_right(self._at, word) - 1
                start = self._at[index]
                kind = self._kind_at(start)
                entry = word - start - _TYPE_WORDS
                if kind in _ENUMS and entry >= 0 and entry % _PER_ENTRY[kind] == 0:
                    owner = Type(self, self.first_id + index)
                    return owner, owner.enumerators[name]
        return self.base.enumerator(name) if self.base else None


class Type:
    """One type of a :class:`Btf`; made on demand, compared by BTF object and id."""

    __slots__ = ("_bare", "_size", "_words", "btf", "id", "kind")

    def __init__(self, btf: Btf, type_id: int) -> None:
        self.btf, self.id = btf, type_id
        self._words: Sequence[int] = btf.words(type_id) if type_id else (0, 0, 0)
        self.kind = _KINDS[self._words[1] >> 24 & 0x1F]
        """What it is; Kind.VOID for number 0."""
        self._bare: Type | None = None
        self._size = -1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self.id == other.id and (self.btf is other.btf or self.id == 0)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<BTF type {self.id} {self.declaration()!r}>"

    @property
    def name(self) -> str:
        """Its name; empty for anonymous and for derived types."""
        return self.btf.string(self._words[0]) if self._words[0] else ""

    @property
    def flag(self) -> bool:
        """BTF's kind_flag: bit fields in a struct, a signed enum, a declaration of a union."""
        return bool(self._words[1] >> 31)

    def strip(self) -> Type:
        """The type under typedefs, const, volatile, restrict and type tags."""
        if self._bare is None:
            type_, depth = self, 0
            while type_.kind in _MODIFIERS:
                type_, depth = type_.target, depth + 1
                if depth > _MAX_DEPTH:
                    raise InsituError(f"{self.btf.name}: BTF type {self.id} is a chain without an end")
            self._bare = type_
        return self._bare

    @property
    def target(self) -> Type:
        """What a pointer, typedef, qualifier, function (its prototype), variable or array (its element) refers to.

        For a prototype, the type returned.
        """
        if self.kind == Kind.ARRAY:
            return self.btf.type(self._words[3])
        if self.kind not in _REFERENCES:
            raise InsituError(f"{self.declaration()} does not refer to another type")
        return self.btf.type(self._words[2])

    @property
    def count(self) -> int:
        """Elements of an array."""
        return self._words[5] if self.kind == Kind.ARRAY else 0

    @property
    def size(self) -> int:
        """Bytes; 0 for void, functions and declarations without a definition."""
        if self._size < 0:
            self._size = self._measured()
        return self._size

    def _measured(self) -> int:
        type_, elements = self.strip(), 1
        for _ in range(_MAX_DEPTH):
            if type_.kind != Kind.ARRAY:
                break
            elements *= type_.count
            type_ = type_.target.strip()
        else:
            raise InsituError(f"{self.btf.name}: BTF type {self.id} is an array without an end")
        if type_.kind == Kind.PTR:
            return elements * _POINTER_BYTES
        if type_.kind in (Kind.INT, Kind.FLOAT, Kind.DATASEC) or type_.kind in _AGGREGATES or type_.kind in _ENUMS:
            return elements * type_._words[2]
        return 0

    @property
    def signed(self) -> bool:
        """Whether an integer or an enum is signed."""
        type_ = self.strip()
        if type_.kind == Kind.INT:
            return bool(type_._words[3] >> 24 & _INT_SIGNED)
        return type_.kind in _ENUMS and type_.flag

    @property
    def boolean(self) -> bool:
        """Whether it is _Bool."""
        type_ = self.strip()
        return type_.kind == Kind.INT and bool(type_._words[3] >> 24 & _INT_BOOL)

    @property
    def character(self) -> bool:
        """Whether it is C's char, the type of text: no compiler encodes this in BTF, so the name decides."""
        type_ = self.strip()
        return type_.kind == Kind.INT and type_._words[2] == 1 and type_.name == "char"

    @property
    def members(self) -> list[Member]:
        """Members of a struct or union in their order, anonymous ones with an empty name."""
        type_ = self.strip()
        if type_.kind not in _AGGREGATES:
            return []
        words, found = type_._words, []
        for at in range(_TYPE_WORDS, len(words), 3):
            name, member, offset = words[at : at + 3]
            bits = 0
            if type_.flag:
                offset, bits = offset & 0xFFFFFF, offset >> 24
            of = type_.btf.type(member)
            if not bits and (bare := of.strip()).kind == Kind.INT:
                # Without the flag, a bit field is an integer type of fewer bits, at an offset within it.
                shift, width = bare._words[3] >> 16 & 0xFF, bare._words[3] & 0xFF
                if width != 8 * bare._words[2] or shift:
                    offset, bits = offset + shift, width
            found.append(Member(type_.btf.string(name) if name else "", of, offset, bits))
        return found

    def fields(self) -> Iterator[Member]:
        """Members by the names a C programmer may use: those of anonymous structs and unions as if they were ours."""
        waiting = [self.members[::-1]]
        for _ in range(_MAX_FIELDS):
            while waiting and not waiting[-1]:
                waiting.pop()
            if not waiting:
                return
            member = waiting[-1].pop()
            if member.name:
                yield member
            elif len(waiting) < _MAX_DEPTH:
                inner = reversed(member.type.members)
                waiting.append([m._replace(bit_offset=m.bit_offset + member.bit_offset) for m in inner])
        raise InsituError(f"{self.btf.name}: BTF type {self.id} has members without an end")

    def member(self, name: str) -> Member | None:
        """The member of that name, anonymous structs and unions searched too."""
        return next((member for member in self.fields() if member.name == name), None)

    @property
    def enumerators(self) -> dict[str, int]:
        """Names and values of an enum."""
        type_ = self.strip()
        words, string = type_._words, type_.btf.string
        if type_.kind == Kind.ENUM:
            pairs = zip(words[3::2], words[4::2], strict=True)
            return {string(name): value - (value >> 31 << 32) * type_.flag for name, value in pairs}
        if type_.kind == Kind.ENUM64:
            triples = zip(words[3::3], words[4::3], words[5::3], strict=True)
            return {string(n): (high << 32 | low) - (high >> 31 << 64) * type_.flag for n, low, high in triples}
        return {}

    @property
    def parameters(self) -> list[Parameter]:
        """Parameters of a function or prototype. A last one of type void is "..."."""
        prototype = self.target if self.kind == Kind.FUNC else self
        if prototype.kind != Kind.FUNC_PROTO:
            return []
        btf, words = prototype.btf, prototype._words
        known, types = btf.parameter_names, btf.type
        found = []
        for name, type_id in zip(words[3::2], words[4::2], strict=True):
            text = known.get(name)
            if text is None:
                text = known[name] = btf.string(name) if name else ""
            found.append(Parameter(text, types(type_id)))
        return found

    @property
    def returns(self) -> Type:
        """What a function or prototype returns."""
        return (self.target if self.kind == Kind.FUNC else self).target

    def declaration(self, name: str = "") -> str:
        """The type in C, as a declaration of ``name``: ``char *argv[4]``."""
        from insitu.symbols import btf_c

        return btf_c.declaration(self, name)

    def definition(self) -> str:
        """A struct, union or enum in C with what it contains; for others, the declaration."""
        from insitu.symbols import btf_c

        return btf_c.definition(self)
