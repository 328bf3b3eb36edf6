"""Takes records out of a ring: each goes, unpacked, to the handler of its kind.

A record begins with the number of its kind, a u64. Unpacking starts at the ring's header before it, so that one pass
over equal neighbours finds out where they end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from insitu.kernel.ring_buffer import BUSY, DISCARDED, RingBuffer, record_stride

__all__ = ["FIELDS", "Handler", "drain_records", "record_shape"]

# A handler takes all pieces of one record: the header, the number of its kind, and the fields' from FIELDS on.
Handler = Callable[[tuple[Any, ...]], None]
FIELDS = 2

_HEAD = struct.Struct("<I4xQ")
_HEADER = struct.Struct("<I")


def record_shape(codes: str) -> struct.Struct:
    """How a record whose fields have these struct codes is unpacked."""
    return struct.Struct(f"{_HEAD.format}{codes}")


def drain_records(ring: RingBuffer, handlers: Mapping[int, tuple[struct.Struct, Handler]]) -> None:
    """Hand on every finished record that the ring holds, up to the first that is still being written.

    Handling takes its time, so they are copied first: the kernel has the whole ring meanwhile.
    """
    while data := _finished(ring.waiting()):
        ring.advance(len(data))
        at = 0
        while at < len(data):
            header, kind = _HEAD.unpack_from(data, at)
            if header & DISCARDED:
                at += record_stride(header ^ DISCARDED)
                continue
            shape, handle = handlers[kind]
            end = at + (len(data) - at) // shape.size * shape.size
            for pieces in shape.iter_unpack(data[at:end]):
                if pieces[0] != header or pieces[1] != kind:
                    break
                handle(pieces)
                at += shape.size


def _finished(waiting: memoryview) -> memoryview:
    """A copy of the records in front that are finished."""
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
    return memoryview(bytes(waiting[:at]))


@cache
def _headers(stride: int) -> struct.Struct:
    """The first word of records that take so many bytes each."""
    return struct.Struct(f"<I{stride - 4}x")
