"""Protocol buffers' wire format (https://protobuf.dev/programming-guides/encoding/), as much as writing needs.

The protobuf library writes the same bytes for pprof, but takes 28 ms to import and 1.3 times as long to encode.
"""

from collections.abc import Iterable

__all__ = ["message", "number", "packed", "varint"]

_VARINT, _LENGTH = 0, 2  # wire types


def varint(value: int) -> bytes:
    """``value`` (negative: its 64-bit two's complement) in groups of seven bits, the lowest first."""
    value &= (1 << 64) - 1
    if value < 0x80:
        return bytes((value,))
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def number(field: int, value: int) -> bytes:
    """A varint field; nothing for 0, which is what an absent field means."""
    return varint(field << 3 | _VARINT) + varint(value) if value else b""


def message(field: int, body: bytes) -> bytes:
    """A field of known length: an embedded message, a string or packed numbers."""
    return varint(field << 3 | _LENGTH) + varint(len(body)) + body


def packed(field: int, values: Iterable[int]) -> bytes:
    """A repeated numeric field."""
    return message(field, b"".join(map(varint, values)))
