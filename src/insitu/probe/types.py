"""Types of the language, and how many bytes each takes where the language stores values.

In maps, tuples and records every scalar takes 8 bytes and everything else a multiple of 8, in the order written.
Such a *stored* form is what user space decodes; a :class:`Record` keeps C's layout.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from insitu.probe.aggregations import AnyAggregation
from insitu.probe.base_type import Type

__all__ = [
    "BOOL",
    "FUNCTION_MARK",
    "INT64",
    "UINT64",
    "UNKNOWN",
    "VOID",
    "AnyType",
    "Array",
    "Buffer",
    "Field",
    "Inet",
    "Integer",
    "MacAddress",
    "Members",
    "NamedNumber",
    "Pointer",
    "Record",
    "Space",
    "Stack",
    "String",
    "Timestamp",
    "Tuple",
    "Type",
    "Unknown",
    "UserSymbol",
    "Variable",
    "Void",
    "alignment",
    "is_bool",
    "is_scalar",
    "is_signed",
    "memory_size",
    "promoted",
    "stored_size",
]

POINTER_BYTES = 8
# Set in the numbers of functions: in no address of the kernel or of a process are bit 63 clear and this one set.
FUNCTION_MARK = 1 << 62


class Space(Enum):
    """Whose memory an address is in; ANY when unknown."""

    KERNEL = "kernel"
    USER = "user"
    ANY = "any"


class Unknown(Type, frozen=True):
    """Not known yet: a map read above the line that assigns it."""


class Void(Type, frozen=True):
    """No value."""

    @property
    def size(self) -> int:
        return 0


class Integer(Type, frozen=True):
    """``bytes`` 1, 2, 4 or 8. ``enum`` names its enumeration, "bool" a truth value."""

    bytes: int = 8
    signed: bool = True
    enum: str = ""
    enumerators: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        if self.enum:
            return self.enum if self.enum == "bool" else f"enum {self.enum}"
        return f"{'' if self.signed else 'u'}int{8 * self.bytes}"

    @property
    def size(self) -> int:
        return self.bytes


class Pointer(Type, frozen=True):
    """An address in ``space``; ``target`` Void for void*."""

    target: AnyType
    space: Space = Space.ANY

    def __str__(self) -> str:
        return f"{self.target} *"


class String(Type, frozen=True):
    """Bytes up to the first zero, in a buffer of ``capacity`` that is zero after them."""

    capacity: int = 64

    def __str__(self) -> str:
        return f"string[{self.capacity}]"

    @property
    def size(self) -> int:
        return self.capacity


class Buffer(Type, frozen=True):
    """A length and up to ``capacity`` bytes."""

    capacity: int

    def __str__(self) -> str:
        return f"buffer[{self.capacity}]"

    @property
    def size(self) -> int:
        return self.capacity


class Array(Type, frozen=True):
    element: AnyType
    count: int

    def __str__(self) -> str:
        return f"{self.element}[{self.count}]"

    @property
    def size(self) -> int:
        return self.element.size * self.count


class Field(Struct, frozen=True):
    """A member of a record: ``offset`` in bytes of what is loaded; of a bit field, ``shift`` and ``bits`` in it."""

    name: str
    type: AnyType
    offset: int
    bits: int = 0
    shift: int = 0


class Members:
    """The fields of a record, returned by ``by_name()``. They do not count when records are compared."""

    __slots__ = ("by_name",)

    def __init__(self, by_name: Callable[[], dict[str, Field]]) -> None:
        self.by_name = by_name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Members)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "..."


class Record(Type, frozen=True):
    """A struct or union. Its fields are looked up when asked for: kernel types refer to each other in circles.

    ``alignment`` is that of its definition in the script; 0 where its fields say it.
    """

    name: str
    tag: str
    bytes: int
    members: Members
    alignment: int = 0

    def fields(self) -> dict[str, Field]:
        """The members by name."""
        return self.members.by_name()

    def __str__(self) -> str:
        return f"{self.tag} {self.name or '(anonymous)'}".strip()

    @property
    def size(self) -> int:
        return self.bytes


class Tuple(Type, frozen=True):
    """Its ``size`` and ``offset()`` are those of the stored form; memory_size() has what C's sizeof counts."""

    elements: tuple[AnyType, ...]
    names: tuple[str, ...] | None = None

    def __str__(self) -> str:
        if self.names:
            return f"({', '.join(f'{name}={each}' for name, each in zip(self.names, self.elements, strict=True))})"
        return f"({', '.join(map(str, self.elements))})"

    @property
    def size(self) -> int:
        return sum(map(stored_size, self.elements))

    def offset(self, index: int) -> int:
        """Bytes in front of an element."""
        return sum(map(stored_size, self.elements[:index]))

    def memory_offset(self, index: int) -> int:
        """Bytes in front of an element in memory, as C lays out a struct of such members."""
        at = 0
        for kind in self.elements[:index]:
            at = -(-at // alignment(kind)) * alignment(kind) + memory_size(kind)
        return -(-at // alignment(self.elements[index])) * alignment(self.elements[index])

    def order_of(self, other: Tuple) -> list[int]:
        """Which of our elements corresponds to each of another tuple's: by name, or by position."""
        if self.names and other.names and set(self.names) == set(other.names):
            return [self.names.index(name) for name in other.names]
        return list(range(len(other.elements)))


class NamedNumber(Type, frozen=True):
    """A number that user space turns into text: kinds are ksym, username, cgroup_path, probe, func, errno.

    ``func`` is the number of an attach point with FUNCTION_MARK, so that a ``ksym`` may also be one.
    """

    kind: str
    room: int = 0  # bytes of the longest text that programs make of it

    @property
    def is_text(self) -> bool:
        """Whether programs can turn the number into text, too: what the names of attach points are."""
        return self.room > 0

    def __str__(self) -> str:
        return self.kind


class UserSymbol(Type, frozen=True):
    """An address of a process: address, pid."""

    @property
    def size(self) -> int:
        return 16


class Stack(Type, frozen=True):
    """A stack id of the stack map, and the pid (user stacks).

    ``mode`` is bpftrace, perf or raw; build_id, whose stack map has build ids and offsets in files instead of
    addresses; or dwarf, in events only, where ``limit`` counts bytes of the stack's copy.
    """

    user: bool
    limit: int = 127
    mode: str = "bpftrace"

    def __str__(self) -> str:
        return "ustack" if self.user else "kstack"

    @property
    def map(self) -> str:
        """The name of the map that the id refers to."""
        return f"{self}{self.limit}{' build ids' if self.mode == 'build_id' else ''}"

    @property
    def size(self) -> int:
        return 16


class Variable(Type, frozen=True):
    """A field of a record whose bytes follow the fields of fixed size: what is stored is how many bytes they are.

    A string's without its zero; a buffer's; a stack's addresses, or in mode dwarf its registers and copy.
    """

    element: AnyType

    def __str__(self) -> str:
        return str(self.element)


class Timestamp(Type, frozen=True):
    """The result of strftime(): index of the format, nanoseconds since boot or the epoch (``clock``)."""

    @property
    def size(self) -> int:
        return 16


class Inet(Type, frozen=True):
    """An address family and 16 bytes of address."""

    @property
    def size(self) -> int:
        return 24


class MacAddress(Type, frozen=True):
    pass


# The cache's decoder finds out by these which class a value is of; to the type checker they are the base classes.
if TYPE_CHECKING:
    AnyType = Type
else:
    AnyType = (
        Unknown
        | Void
        | Integer
        | Pointer
        | String
        | Buffer
        | Array
        | Record
        | Tuple
        | NamedNumber
        | UserSymbol
        | Stack
        | Variable
        | Timestamp
        | Inet
        | MacAddress
        | AnyAggregation
    )

BOOL = Integer(1, False, "bool")
INT64 = Integer(8, True)
UINT64 = Integer(8, False)
UNKNOWN = Unknown()
VOID = Void()


def is_scalar(type_: Type) -> bool:
    """Whether a value fits in a register."""
    return isinstance(type_, Integer | Pointer | NamedNumber | MacAddress | Unknown)


def is_bool(type_: Type) -> bool:
    """Whether a value is a truth value."""
    return isinstance(type_, Integer) and type_.enum == "bool"


def is_signed(type_: Type) -> bool:
    """Whether a number has a sign in arithmetic; a truth value is an int there, as in C."""
    return isinstance(type_, Integer) and (type_.signed or is_bool(type_))


def stored_size(type_: Type) -> int:
    """Bytes of the stored form, a multiple of 8."""
    if is_scalar(type_):
        return 8
    if isinstance(type_, Buffer):
        return 8 + -(-type_.capacity // 8) * 8
    return -(-type_.size // 8) * 8


def memory_size(type_: Type) -> int:
    """Bytes of a value in memory, where pointers lead, as C's sizeof counts."""
    if isinstance(type_, Tuple):
        if not type_.elements:
            return 0
        last = len(type_.elements) - 1
        end = type_.memory_offset(last) + memory_size(type_.elements[last])
        return -(-end // alignment(type_)) * alignment(type_)
    return stored_size(type_) if isinstance(type_, Buffer) else type_.size


def alignment(type_: Type) -> int:
    """What the address of a value in memory is a multiple of, in C on LP64."""
    type_ = type_.resolve()
    if isinstance(type_, Tuple):
        return max(map(alignment, type_.elements), default=1)
    if isinstance(type_, Array):
        return alignment(type_.element)
    if isinstance(type_, Record) and not type_.tag:  # a floating-point number
        return type_.size
    if isinstance(type_, Record):
        return type_.alignment or max((alignment(field.type) for field in type_.fields().values()), default=1)
    if isinstance(type_, String):
        return 1
    return max(1, min(type_.size, 8))


def promoted(left: Type, right: Type) -> Integer:
    """The type of an arithmetic result: 64 bits, unsigned if C would make it so."""
    unsigned = any(
        isinstance(side, Pointer) or (isinstance(side, Integer) and not side.signed and side.bytes == POINTER_BYTES)
        for side in (left, right)
    )
    return replace(INT64, signed=not unsigned)
