"""Thrift's compact protocol, as far as a parquet file's metadata need it: a struct is a sequence of ``Field``.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["Field", "binary", "i32", "i64", "listed", "nested", "struct", "varint"]

_I32: Final = 5
_I64: Final = 6
_BINARY: Final = 8
_LIST: Final = 9
_STRUCT: Final = 12


class Field(NamedTuple):
    """A field of a struct: its number, its type, and its value as bytes."""

    number: int
    type: int
    data: bytes


def varint(value: int) -> bytes:
    """A number of 0 or more, seven bits a byte, the lowest first."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def i32(number: int, value: int) -> Field:
    """A 32-bit number, or a value of an enumeration."""
    return Field(number, _I32, _zigzag(value))


def i64(number: int, value: int) -> Field:
    """A 64-bit number."""
    return Field(number, _I64, _zigzag(value))


def binary(number: int, value: bytes) -> Field:
    """Bytes, or a text in UTF-8."""
    return Field(number, _BINARY, varint(len(value)) + value)


def nested(number: int, fields: Sequence[Field]) -> Field:
    """A struct in a struct."""
    return Field(number, _STRUCT, struct(fields))


def listed(number: int, items: Sequence[Field] | Sequence[Sequence[Field]]) -> Field:
    """A list: of structs, or of fields of one type, whose own numbers say nothing."""
    parts = [item.data if isinstance(item, Field) else struct(item) for item in items]
    kind = items[0].type if items and isinstance(items[0], Field) else _STRUCT
    head = bytes([len(parts) << 4 | kind]) if len(parts) < 15 else bytes([0xF0 | kind]) + varint(len(parts))
    return Field(number, _LIST, head + b"".join(parts))


def struct(fields: Sequence[Field]) -> bytes:
    """A struct, of fields whose numbers ascend by 15 at most."""
    found, last = bytearray(), 0
    for field in fields:
        found.append(field.number - last << 4 | field.type)
        found += field.data
        last = field.number
    found.append(0)
    return bytes(found)
