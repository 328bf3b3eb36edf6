"""One type of BTF: what it refers to, its size, members, enumerators and parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from insitu.errors import InsituError
from insitu.symbols.btf_format import AGGREGATES, ENUMS, MODIFIERS, TYPE_WORDS, Kind

if TYPE_CHECKING:
    from insitu.symbols.btf import Btf

__all__ = ["Member", "Parameter", "Type"]

_KINDS = tuple(Kind)
_ARRAY = Kind.ARRAY
_VOID = (0, 0, 0)
_REFERENCES = MODIFIERS | {Kind.PTR, Kind.FUNC, Kind.FUNC_PROTO, Kind.VAR}

# Damaged BTF may refer to itself.
_MAX_DEPTH = 64  # of a chain of typedefs, arrays or anonymous members; the kernel's own bound is 32
_MAX_FIELDS = 1 << 17
_POINTER_BYTES = 8
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


class Type:
    """One type of a :class:`Btf`; made on demand, compared by BTF object and id."""

    __slots__ = ("_bare", "_info", "_name", "_size", "_value", "btf", "id", "kind")

    def __init__(self, btf: Btf, type_id: int) -> None:
        self.btf, self.id = btf, type_id
        self._name, self._info, self._value = btf.head(type_id) if type_id else _VOID
        self.kind = _KINDS[self._info >> 24 & 0x1F]
        """What it is; Kind.VOID for number 0."""
        self._bare: Type | None = None
        self._size = -1

    @property
    def _words(self) -> Sequence[int]:
        return self.btf.words(self.id) if self.id else _VOID

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and self.id == other.id and (self.btf is other.btf or self.id == 0)

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<BTF type {self.id} {self.declaration()!r}>"

    @property
    def name(self) -> str:
        """Its name; empty for anonymous and for derived types."""
        return self.btf.string(self._name) if self._name else ""

    @property
    def flag(self) -> bool:
        """BTF's kind_flag: bit fields in a struct, a signed enum, a declaration of a union."""
        return bool(self._info >> 31)

    def strip(self) -> Type:
        """The type under typedefs, const, volatile, restrict and type tags."""
        if self._bare is None:
            type_, depth = self, 0
            while type_.kind in MODIFIERS:
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
        if self.kind == _ARRAY:
            return self.btf.type(self._words[3])
        if self.kind not in _REFERENCES:
            raise InsituError(f"{self.declaration()} does not refer to another type")
        return self.btf.type(self._value)

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
        if type_.kind in (Kind.INT, Kind.FLOAT, Kind.DATASEC) or type_.kind in AGGREGATES or type_.kind in ENUMS:
            return elements * type_._value
        return 0

    @property
    def signed(self) -> bool:
        """Whether an integer or an enum is signed."""
        type_ = self.strip()
        if type_.kind == Kind.INT:
            return bool(type_._words[3] >> 24 & _INT_SIGNED)
        return type_.kind in ENUMS and type_.flag

    @property
    def boolean(self) -> bool:
        """Whether it is _Bool."""
        type_ = self.strip()
        return type_.kind == Kind.INT and bool(type_._words[3] >> 24 & _INT_BOOL)

    @property
    def character(self) -> bool:
        """Whether it is C's char, the type of text: no compiler encodes this in BTF, so the name decides."""
        type_ = self.strip()
        return type_.kind == Kind.INT and type_._value == 1 and type_.name == "char"

    @property
    def members(self) -> list[Member]:
        """Members of a struct or union in their order, anonymous ones with an empty name."""
        type_ = self.strip()
        if type_.kind not in AGGREGATES:
            return []
        words, found = type_._words, []
        for at in range(TYPE_WORDS, len(words), 3):
            name, member, offset = words[at : at + 3]
            bits = 0
            if type_.flag:
                offset, bits = offset & 0xFFFFFF, offset >> 24
            of = type_.btf.type(member)
            if not bits and (bare := of.strip()).kind == Kind.INT:
                # Without the flag, a bit field is an integer type of fewer bits, at an offset within it.
                encoding = bare._words[3]
                shift, width = encoding >> 16 & 0xFF, encoding & 0xFF
                if width != 8 * bare._value or shift:
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
