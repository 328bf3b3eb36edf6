"""Types by name and by declaration.

The script's own definitions come first, then those of the binary that is probed (DWARF), then the kernel's (BTF).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from insitu.errors import InsituError, nearest
from insitu.probe import ast
from insitu.probe.bpftrace.literals import FLOATING_TYPES, INTEGER_TYPES
from insitu.probe.source import ScriptError, Source
from insitu.probe.types import (
    VOID,
    Array,
    Field,
    Integer,
    Members,
    Pointer,
    Record,
    Space,
    String,
    Type,
    alignment,
    memory_size,
)

if TYPE_CHECKING:
    from insitu.probe.providers.arguments import Primitive
    from insitu.probe.providers.base import Context
    from insitu.symbols import btf
    from insitu.symbols.dwarf_types import BinaryTypes

__all__ = ["Structures"]

_MAX_BYTES = 1 << 30  # of an array or struct that a script declares
_MAX_DEPTH = 64  # typedefs and qualifiers in a row; corrupt BTF may have a circle of them
# Whether bit fields without a name align their struct: AAPCS64 says so, the psABI of x86-64 does not.
_UNNAMED_BITS_ALIGN = os.uname().machine == "aarch64"
_DECLARATION = re.compile(r"^\s*(?:(struct|union|enum)\s+)?([\w ]*?)\s*(\**)\s*$")


class Structures:
    """Finds types for one script."""

    def __init__(self, source: Source, definitions: list[ast.Structure], context: Context) -> None:
        self._source = source
        self._context = context
        self._defined: dict[tuple[str, str], ast.Structure] = {(d.tag, d.name): d for d in definitions}
        self._constants: dict[str, tuple[int, Type]] = {}
        self._enumerations: dict[int, Integer] = {}  # by the place of their definition
        for definition in definitions:
            for name, value in definition.values:
                self._constants[name] = (value, self._enumeration(definition))
        self._fields: dict[tuple[btf.Type, Space], dict[str, Field]] = {}
        self._records: dict[tuple[str, Space], Record] = {}
        self._open: list[ast.Structure] = []
        self._binary = ""
        self._btf_types: dict[tuple[int, int, Space], Type] = {}

    def look_in(self, binary: str) -> None:
        """From here on, names may mean types of this binary; of none when it is empty."""
        self._binary = binary

    def enumerator(self, name: str) -> tuple[int, Type] | None:
        """Value and type of an enumerator of the script; of other types see described_enumerator()."""
        return self._constants.get(name)

    def described_enumerator(self, name: str) -> tuple[int, Type] | None:
        """Value and type of an enumerator of the types of the binary that is probed, or of the kernel's."""
        if self._binary:
            described = self._binary_types().enumerator(name)
            if described is not None:
                return described[1], self.from_btf(described[0], Space.USER)
        btf_set = self._kernel()
        found = btf_set.enumerator(name) if btf_set else None
        return (found[1], self.from_btf(found[0], Space.KERNEL)) if found else None

    def _kernel(self) -> btf.Btf | None:
        try:
            return self._context.btf
        except InsituError:
            return None

    # By name

    def resolve(self, name: ast.TypeName, space: Space) -> Type:
        """The type that a script names.

        :raises ScriptError: for an unknown type, with the most similar name.
        """
        if name.name == "string" and not name.tag and not name.pointers:
            return String(self._checked(name.array[0], 1, name) if name.array else 1)  # grows with what it is given
        if name.name == "char" and not name.pointers and name.array and name.array[-1]:
            text = String(self._checked(name.array[-1], 1, name))
            return self.around(text, replace(name, array=name.array[:-1]), space)
        return self.around(self._named(name, space), name, space)

    def around(self, base: Type, name: ast.TypeName, space: Space) -> Type:
        """The pointer to, or array of, a type that a name asks for.

        :raises ScriptError: for an array that is too large, or of a negative size.
        """
        for _ in range(name.pointers):
            base = Pointer(base, space)
        return self._array(base, name)

    def _array(self, element: Type, name: ast.TypeName) -> Type:
        for count in reversed(name.array):
            element = Array(element, self._checked(count, element.size, name))
        return element

    def _checked(self, count: int, size: int, name: ast.TypeName) -> int:
        """``count``, which elements of a ``size`` are to have."""
        if count < 0:
            raise ScriptError(f"an array cannot have {count} elements", self._source, name.span)
        if count * max(size, 1) > _MAX_BYTES:
            total = f"{count * size} bytes" if size else f"{count} elements"
            message = f"an array of {total} is too large (limit {_MAX_BYTES} bytes)"
            raise ScriptError(message, self._source, name.span)
        return count

    def _named(self, name: ast.TypeName, space: Space) -> Type:
        found = self.lookup(name.name, name.tag, space)
        if found is None:
            raise ScriptError(
                f"unknown type {name.tag + ' ' if name.tag else ''}{name.name!r}{self._nearest(name)}",
                self._source,
                name.span,
            )
        return found

    def _nearest(self, name: ast.TypeName) -> str:
        own = nearest(name.name, [defined for _, defined in self._defined])
        btf_set = self._kernel()
        if own or not btf_set:
            return own or "; this kernel has no BTF: define the type in the script"
        kinds = self._kinds(name.tag)
        found = btf_set.nearest(name.name, *kinds)
        return f"; did you mean {found[0]!r}?" if found else ""

    @staticmethod
    def _kinds(tag: str) -> list[btf.Kind]:
        from insitu.symbols.btf import Kind

        by_tag = {"struct": [Kind.STRUCT], "union": [Kind.UNION], "enum": [Kind.ENUM, Kind.ENUM64]}
        return by_tag.get(tag, [Kind.STRUCT, Kind.UNION, Kind.TYPEDEF, Kind.ENUM, Kind.ENUM64, Kind.INT])

    def lookup(self, name: str, tag: str, space: Space) -> Type | None:
        """A type by name and tag ("" for any), or None."""
        if not tag and name == "void":
            return VOID
        if not tag and name in INTEGER_TYPES:
            size, signed = INTEGER_TYPES[name]
            return Integer(size, signed, "bool" if name == "bool" else "")
        if not tag and name in FLOATING_TYPES:
            return _floating(name, FLOATING_TYPES[name])
        for tags in [tag] if tag else ["typedef", "struct", "union", "enum"]:
            definition = self._defined.get((tags, name))
            if definition is not None:
                return self._from_definition(definition, space)
        if self._binary:
            described = self._of_binary(name, tag)
            if described is not None:
                return self.from_btf(described, space)
        btf_set = self._kernel()
        found = btf_set.find(name, *self._kinds(tag)) if btf_set else None
        return self.from_btf(found, space) if found else None

    def _binary_types(self) -> BinaryTypes:
        from insitu.probe.providers.support.binary import open_binary

        return self._context.types_of(open_binary(self._binary, self._context)[1])

    def _of_binary(self, name: str, tag: str) -> btf.Type | None:
        """A type of the binary that is probed, by its debug information."""
        types = self._binary_types()
        for each in [tag] if tag else ["", "struct", "union", "enum"]:
            found = types.find(name, each)
            if found is not None:
                return found
        return None

    # The script's definitions

    def _from_definition(self, definition: ast.Structure, space: Space) -> Type:
        if definition.tag == "typedef":
            assert definition.alias is not None
            with self._only_once(definition):
                return self.resolve(definition.alias, space)
        if definition.tag == "enum":
            return self._enumeration(definition)
        key = (f"{definition.tag} {definition.name} {definition.span.start}", space)
        if key not in self._records:
            layout: dict[str, Field] = {}
            with self._only_once(definition):
                size, widest = self._lay_out(definition, layout, space)
            members = Members(lambda: layout)
            self._records[key] = Record(definition.name, definition.tag, size, members, widest)
        return self._records[key]

    def _enumeration(self, definition: ast.Structure) -> Integer:
        start = definition.span.start
        if start not in self._enumerations:
            self._enumerations[start] = _enumeration(definition)
        return self._enumerations[start]

    @contextmanager
    def _only_once(self, definition: ast.Structure) -> Iterator[None]:
        """Refuse a definition that is made of itself."""
        if definition in self._open:
            raise ScriptError(f"this {definition.tag} contains itself", self._source, definition.span)
        self._open.append(definition)
        try:
            yield
        finally:
            self._open.pop()

    def _lay_out(self, definition: ast.Structure, layout: dict[str, Field], space: Space) -> tuple[int, int]:
        """Give every field its offset as C does on LP64: the record's size and alignment."""
        end_bits, widest = 0, max(1, definition.aligned)
        for item in definition.fields:
            if isinstance(item.declared, ast.Structure):
                kind: Type = self._from_definition(item.declared, space)
            elif item.declared.pointers:
                kind = self._array(Pointer(self._pointed(item.declared, space), space), item.declared)
            else:
                kind = self.resolve(item.declared, space)
            packed = definition.packed or item.packed
            align = max(1 if packed else alignment(kind), item.aligned)
            start = 0 if definition.tag == "union" else end_bits
            if item.name or not item.is_bit_field or _UNNAMED_BITS_ALIGN:
                widest = max(widest, align)
            if item.is_bit_field:
                unit = kind.size * 8
                if item.bits > unit:
                    raise ScriptError(f"{kind} has {unit} bits, not {item.bits}", self._source, item.span)
                across = start // unit != (start + item.bits - 1) // unit
                if not item.bits or item.aligned or (across and not packed):
                    step = 8 * item.aligned or unit
                    start = -(-start // step) * step
                if start % 8 + item.bits > unit:
                    message = f"this packed bit field is spread over more than the {kind.size} bytes of its type"
                    raise ScriptError(message, self._source, item.span)
                if item.name:
                    layout[item.name] = Field(item.name, kind, start // 8, item.bits, start % 8)
                end = start + item.bits
            else:
                start = -(-start // (8 * align)) * 8 * align
                if item.name:
                    layout[item.name] = Field(item.name, kind, start // 8)
                elif isinstance(kind, Record):
                    for inner in kind.fields().values():
                        layout[inner.name] = replace(inner, offset=inner.offset + start // 8)
                end = start + 8 * kind.size
            end_bits = max(end_bits, end)
            if end_bits > 8 * _MAX_BYTES:
                message = f"this {definition.tag} is too large (limit {_MAX_BYTES} bytes)"
                raise ScriptError(message, self._source, item.span)
        return -(-end_bits // (8 * widest)) * widest, widest

    def _pointed(self, name: ast.TypeName, space: Space) -> Type:
        """What a field points to; a record not known anywhere is as good as void."""

        def look_up() -> Type:
            return self.lookup(name.name, name.tag, space) or VOID

        plain = not name.tag and (name.name == "void" or name.name in INTEGER_TYPES)
        target = look_up() if plain else _Lazy(lambda: f"{name.tag} {name.name}".strip(), look_up)
        for _ in range(name.pointers - 1):
            target = Pointer(target, space)
        return target

    # BTF

    def from_btf(self, described: btf.Type, space: Space) -> Type:
        """A kernel type as one of ours; pointers in it lead into ``space``."""
        from insitu.symbols.btf import Kind

        kind = described.strip()
        if kind.kind in (Kind.STRUCT, Kind.UNION, Kind.FWD):
            tag = "union" if kind.kind == Kind.UNION else "struct"
            return Record(kind.name, tag, kind.size, Members(lambda: self._btf_fields(kind, space)))
        if kind.kind == Kind.PTR:
            return Pointer(self._target(kind.target, space), space)
        if kind.kind == Kind.ARRAY:
            element = kind.target.strip()
            if element.kind == Kind.INT and element.size == 1 and _is_char(kind.target) and kind.count:
                return String(kind.count)
            return Array(self.from_btf(kind.target, space), kind.count)
        if kind.kind in (Kind.ENUM, Kind.ENUM64):
            names = tuple(kind.enumerators.items())
            return Integer(kind.size or 4, kind.signed, kind.name or "(anonymous)", names)
        if kind.kind == Kind.FLOAT:
            return _floating(kind.name, kind.size)
        if kind.kind == Kind.INT:
            size = kind.size if kind.size in (1, 2, 4, 8) else 8
            return Integer(size, kind.signed, "bool" if kind.boolean else "")
        return VOID

    def _btf_fields(self, record: btf.Type, space: Space) -> dict[str, Field]:
        fields = self._fields.setdefault((record, space), {})
        if not fields:
            for member in record.fields():
                bits = (member.bit_size, member.bit_offset % 8) if member.bit_size else ()
                kind = self._lazy(member.type, space)
                fields.setdefault(member.name, Field(member.name, kind, member.bit_offset // 8, *bits))
        return fields

    def _lazy(self, described: btf.Type, space: Space) -> Type:
        return _Lazy(lambda: str(described.declaration()), lambda: self.from_btf(described, space))

    def _target(self, described: btf.Type, space: Space) -> Type:
        """What a pointer points to: integers and void at once, records later."""
        from insitu.symbols.btf import Kind

        plain = described.strip().kind in (Kind.INT, Kind.VOID, Kind.FUNC_PROTO)
        return self.from_btf(described, space) if plain else self._lazy(described, space)

    def field(self, record: Record, name: str) -> Field | None:
        """A field of a record, its type resolved."""
        found = record.fields().get(name)
        return replace(found, type=found.type.resolve()) if found else None

    def size_or_offset(self, kind: Type, path: tuple[str, ...]) -> int:
        """The bytes of a type, or those in front of a member of it, which has to exist."""
        if not path:
            return memory_size(kind)
        offset = 0
        for name in path:
            found = self.field(kind, name) if isinstance(kind, Record) else None
            assert found is not None
            offset, kind = offset + found.offset, found.type
        return offset

    def kernel_field(self, path: str) -> tuple[int, int]:
        """Offset and size in bytes of a field of a kernel structure: ``dentry.d_name.name`` is in ``struct dentry``.

        :raises InsituError: when this kernel has no such field, or no BTF.
        """
        name, *members = path.split(".")
        found: Type | None = self.lookup(name, "struct", Space.KERNEL)
        offset, size = 0, 8
        for member in members:
            field = self.field(found, member) if isinstance(found, Record) else None
            if field is None:
                raise InsituError(
                    f"this kernel has no type information for {path}", remedy="needs CONFIG_DEBUG_INFO_BTF=y"
                )
            found, offset = field.type, offset + field.offset
            size = found.size if isinstance(found, Integer | Pointer) else 8
        return offset, size

    def per_cpu_offset(self, variable: str) -> int | None:
        """Where a variable that each CPU has lies in a CPU's area, by the kernel's types; None if they do not say."""
        btf_set = self._kernel()
        return btf_set.section_offset(variable) if btf_set else None

    def target(self, pointer: Pointer) -> Type:
        """What a pointer points to, resolved."""
        return pointer.target.resolve()

    # Declarations in C

    def from_primitive(self, described: Primitive, space: Space) -> Type:
        """The type of a tracepoint field or operand from its C declaration; where it is unknown, by its size."""
        match = _DECLARATION.match(re.sub(r"\b(const|volatile|__user|__rcu)\b", " ", described.declaration))
        plain = Integer(described.size if described.size in (1, 2, 4, 8) else 8, described.signed)
        base: Type = plain
        words = ""
        if match:
            tag, words, stars = match.group(1) or "", " ".join(match.group(2).split()), match.group(3)
            if stars:
                target = self.lookup(words, tag, space) or VOID
                for _ in stars:
                    target = Pointer(target, space)
                base = target
            elif tag in ("struct", "union") or tag == "enum":
                base = self.lookup(words, tag, space) or plain
            elif words in ("bool", "_Bool"):
                base = replace(plain, enum="bool")
        if described.count is None:
            return base
        if isinstance(base, Integer) and words == "char":
            return String(described.count)
        return Array(base, described.count)


class _Lazy(Type, frozen=True):
    """A type that is looked up when it is needed: most of the kernel's never are, and some refer to themselves."""

    name: Callable[[], str]
    look_up: Callable[[], Type]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Type) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __str__(self) -> str:
        return self.name()

    def resolve(self) -> Type:
        return self.look_up()


def _floating(name: str, size: int) -> Record:
    """A floating-point number: bytes without a meaning here."""
    contents = Field("bytes", Array(Integer(1, False), size), 0)
    return Record(name, "", size, Members(lambda: {"bytes": contents}))


def _enumeration(definition: ast.Structure) -> Integer:
    """C's int or, for values that it does not hold, a wider type; if packed, the narrowest."""
    values = [value for _, value in definition.values]
    fits = all(-(2**31) <= value < 2**31 for value in values)
    negative = any(value < 0 for value in values)
    size = 4 if fits else 8
    if definition.packed:
        bits = max((value if value >= 0 else ~value).bit_length() for value in values or [0]) + negative
        size = next(each for each in (1, 2, 4, 8) if bits <= 8 * each)
    signed = negative if definition.packed else fits or negative
    return Integer(size, signed, definition.name or "(anonymous)", tuple(definition.values))


def _is_char(described: btf.Type) -> bool:
    """Arrays of char are text; those of unsigned char, u8 and other names for these are numbers."""
    from insitu.symbols.btf import Kind

    while described.kind in (Kind.CONST, Kind.VOLATILE):
        described = described.target
    return described.kind == Kind.INT and described.character
