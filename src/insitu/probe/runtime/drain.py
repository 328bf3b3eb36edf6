"""Takes records out of a ring: each goes, unpacked, to the handler of its kind.

A record begins with the number of its kind, a u64. Unpacking starts at the ring's header before it, so that one pass
over equal neighbours finds out where they end. Fields of variable size have their length in place, their bytes behind
all fields.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from insitu.kernel.ring_buffer import BUSY, DISCARDED, RingBuffer, record_stride
from insitu.probe.runtime.decode import code, piece_count
from insitu.probe.types import Tuple, Variable

__all__ = ["FIELDS", "Handler", "RecordReader", "finished_bytes", "record_shape"]

# A handler takes all pieces of one record: the header, the number of its kind, and the fields' from FIELDS on. It
# returns whether that may have taken long.
Handler = Callable[[tuple[Any, ...]], bool | None]
Shape = tuple[struct.Struct, tuple[int, ...]]
FIELDS = 2

_HEAD = struct.Struct("<I4xQ")
_HEADER = struct.Struct("<I")


def record_shape(fields: Tuple) -> Shape:
    """How a record with these fields is unpacked, and which pieces are lengths of parts behind them."""
    parts, piece = [], FIELDS
    for kind in fields.elements:
        if isinstance(kind, Variable):
            parts.append(piece)
        piece += piece_count(kind)
    return struct.Struct(f"{_HEAD.format}{code(fields)}"), tuple(parts)


def _with_parts(data: memoryview, at: int, shape: struct.Struct, parts: Sequence[int]) -> tuple[Any, ...]:
    """The pieces of the record at ``at``, with the bytes of its parts in place of their lengths."""
    pieces = list(shape.unpack_from(data, at))
    begin = at + shape.size
    for piece in parts:
        length = pieces[piece]
        pieces[piece] = bytes(data[begin : begin + length])
        begin += -(-length // 8) * 8
    return tuple(pieces)


class RecordReader:
    """Hands on the records of one ring: take() what it holds, then handle() that.

    Handling takes its time, so records are copied first: the kernel has the whole ring meanwhile.
    """

    def __init__(self, ring: RingBuffer, handlers: Mapping[int, tuple[Shape, Handler]]) -> None:
        self._ring = ring
        self._handlers = handlers
        self._taken = memoryview(b"")
        self._at = 0

    @property
    def done(self) -> bool:
        """Whether everything that has been taken has been handled."""
        return self._at == len(self._taken)

    def take(self) -> None:
        """Take every finished record out of the ring, up to the first that is still being written."""
        if self.done:
            waiting = self._ring.waiting()
            self._taken, self._at = memoryview(bytes(waiting[: finished_bytes(waiting)])), 0
            self._ring.advance(len(self._taken))

    def handle(self) -> None:
        """Handle what has been taken, up to the first record that may have taken long."""
        data = self._taken
        while self._at < len(data):
            header, kind = _HEAD.unpack_from(data, self._at)
            if header & DISCARDED:
                self._at += record_stride(header ^ DISCARDED)
                continue
            (shape, parts), handle = self._handlers[kind]
            if parts:
                pieces = _with_parts(data, self._at, shape, parts)
                self._at += record_stride(header)
                if handle(pieces):
                    return
                continue
            end = self._at + (len(data) - self._at) // shape.size * shape.size
            for pieces in shape.iter_unpack(data[self._at : end]):
                if pieces[0] != header or pieces[1] != kind:
                    break
                self._at += shape.size
                if handle(pieces):
                    return


def finished_bytes(waiting: memoryview) -> int:
    """How many bytes the records in front take that are finished."""
    at = 0
    while at < len(waiting):
        (header,) = _HEADER.unpack_from(waiting, at)
        if header & BUSY:
            break
        stride = record_stride(header & ~DISCARDED)
        end = at + (len(waiting) - at) // stride * stride
        for (word,) in _headers(stride).iter_unpack(waiting[at:end]):
            if word != header:
                break
            at += stride
    return at


@cache
def _headers(stride: int) -> struct.Struct:
    """The first word of records that take so many bytes each."""
    return struct.Struct(f"<I{stride - 4}x")
