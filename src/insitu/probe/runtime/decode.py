"""From stored forms to Python values: what struct codes a type takes, and how its pieces become a value."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from insitu.probe.runtime.struct_decode import reader
from insitu.probe.types import (
    Array,
    Buffer,
    Inet,
    Integer,
    Record,
    Stack,
    String,
    Timestamp,
    Tuple,
    Type,
    UserSymbol,
    Variable,
    stored_size,
)

__all__ = ["Pieces", "code", "decoder", "piece_count"]

# What struct.unpack returns.
Pieces = Sequence[Any]


def code(kind: Type) -> str:
    """The struct codes of a type's stored form."""
    if isinstance(kind, Integer):
        return "q" if kind.signed else "Q"
    if isinstance(kind, String | Record | Array):
        return f"{stored_size(kind)}s"
    if isinstance(kind, Tuple):
        return "".join(map(code, kind.elements))
    if isinstance(kind, Buffer):
        return f"q{stored_size(kind) - 8}s"
    if isinstance(kind, Inet):
        return "q16s"
    if isinstance(kind, Stack):
        return "qq"
    if isinstance(kind, UserSymbol | Timestamp):
        return "QQ"
    return "Q"


def piece_count(kind: Type) -> int:
    """How many values the codes of a type unpack to."""
    return len(struct.unpack(f"<{code(kind)}", bytes(stored_size(kind)))) if stored_size(kind) else 0


def decoder(kind: Type, start: int = 0) -> Callable[[Pieces], Any]:
    """A function from all pieces of a record to the value of this type, whose pieces begin at ``start``.

    The piece of a part that follows the fields is its bytes (drain.py).

    Numbers stay numbers, also those that stand for a symbol, a stack or an address: text is made by formatting.
    """
    if isinstance(kind, Variable):
        assert isinstance(kind.element, String)
        return lambda pieces: pieces[start].decode("utf-8", "surrogateescape")
    if isinstance(kind, String):
        return lambda pieces: pieces[start].split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
    if isinstance(kind, Buffer):
        return lambda pieces: pieces[start + 1][: pieces[start]]
    if isinstance(kind, Tuple):
        parts = []
        for element in kind.elements:
            parts.append(decoder(element, start))
            start += piece_count(element)
        return lambda pieces: tuple(part(pieces) for part in parts)
    if isinstance(kind, Array | Record):
        inner = reader(kind)
        return lambda pieces: inner(pieces[start], 0)
    if isinstance(kind, Inet | Stack | UserSymbol | Timestamp):
        return lambda pieces: (pieces[start], pieces[start + 1])
    return lambda pieces: pieces[start]
