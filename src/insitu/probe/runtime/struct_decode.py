"""From bytes as C lays them out in memory to Python values: structs, unions, arrays and what is in them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from insitu.probe.types import Array, Field, Integer, Pointer, Record, String, Type

__all__ = ["members", "reader"]

# A value's bytes begin at the second argument.
Reader = Callable[[bytes, int], Any]

_CODES = {(1, True): "b", (1, False): "B", (2, True): "h", (2, False): "H", (4, True): "i", (4, False): "I"}
_MAX_DEPTH = 32  # records inside of records; damaged type information may have a circle of them


def reader(kind: Type, depth: int = 0) -> Reader:
    """A function that reads a value of this type.

    Records become dictionaries by member, arrays lists, char arrays text up to their zero; what has no size, or lies
    deeper than any real record does, is None.
    """
    kind = kind.resolve()
    code = _code(kind)
    if code:
        return _scalar(code)
    if isinstance(kind, String):
        return _text(kind.capacity)
    if depth > _MAX_DEPTH:
        return lambda data, at: None
    if isinstance(kind, Array):
        return _array(kind, depth)
    if isinstance(kind, Record):
        parts = [(name, _member(each, depth)) for name, each in members(kind)]
        return lambda data, at: {name: read(data, at) for name, read in parts}
    return lambda data, at: None


def _code(kind: Type) -> str:
    """The struct code of a scalar; empty for anything else."""
    if isinstance(kind, Integer):
        if kind.enum == "bool" and kind.bytes == 1:
            return "?"
        return _CODES.get((kind.bytes, kind.signed), "q" if kind.signed else "Q")
    return "Q" if isinstance(kind, Pointer) else ""


def _scalar(code: str) -> Reader:
    unpack = struct.Struct(f"<{code}").unpack_from
    return lambda data, at: unpack(data, at)[0]


def _text(capacity: int) -> Reader:
    return lambda data, at: data[at : at + capacity].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _array(kind: Array, depth: int) -> Reader:
    element = kind.element.resolve()
    code = _code(element)
    if code:
        unpack = struct.Struct(f"<{kind.count}{code}").unpack_from
        return lambda data, at: list(unpack(data, at))
    read, size, count = reader(element, depth + 1), element.size, kind.count
    return lambda data, at: [read(data, at + index * size) for index in range(count)]


def members(record: Record) -> list[tuple[str, Field]]:
    """The members that lie inside of their record: damaged type information may have others."""
    return [(name, each) for name, each in record.fields().items() if _fits(each, record)]


def _fits(member: Field, record: Record) -> bool:
    size = -(-(member.shift + member.bits) // 8) if member.bits else member.type.resolve().size
    return member.offset >= 0 and member.offset + size <= record.size


def _member(member: Field, depth: int) -> Reader:
    offset = member.offset
    if not member.bits:
        read = reader(member.type, depth + 1)
        return lambda data, at: read(data, at + offset)
    size = -(-(member.shift + member.bits) // 8)
    shift, mask = member.shift, (1 << member.bits) - 1
    kind = member.type.resolve()
    sign = 1 << (member.bits - 1) if isinstance(kind, Integer) and kind.signed else 0

    def bits(data: bytes, at: int) -> int:
        start = at + offset
        value = int.from_bytes(data[start : start + size], "little") >> shift & mask
        return (value ^ sign) - sign

    return bits
