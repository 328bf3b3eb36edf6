"""Takes records out of a ring: each goes, unpacked, to the handler of its kind.

A record begins with the number of its kind, a u64. Unpacking starts at the ring's header before it, so that one pass
over equal neighbours finds out where they end.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any

from insitu.kernel.ring_buffer import BUSY, DISCARDED, RingBuffer, record_stride

__all__ = ["FIELDS", "Handler", "drain_records", "record_shape"]

# A handler takes all pieces of one record: the header, the number of its kind, and the fields' from FIELDS on.
Handler = Callable[[tuple[Any, ...]], None]
FIELDS = 2

_HEAD = struct.Struct("<I4xQ")
_RELEASED_BYTES = 1 << 16  # handling takes time: what it has passed is room for the kernel meanwhile


def record_shape(codes: str) -> struct.Struct:
    """How a record whose fields have these struct codes is unpacked."""
    return struct.Struct(f"{_HEAD.format}{codes}")


def drain_records(ring: RingBuffer, handlers: Mapping[int, tuple[struct.Struct, Handler]]) -> None:
    """Hand on every finished record that the ring holds, up to the first that is still being written."""
    while waiting := ring.waiting():
        at, limit = 0, len(waiting)
        while at < min(limit, _RELEASED_BYTES):
            header, kind = _HEAD.unpack_from(waiting, at)
            if header & BUSY:
                ring.advance(at)
                return
            if header & DISCARDED:
                at += record_stride(header ^ DISCARDED)
                continue
            shape, handle = handlers[kind]
            count = min(limit - at, _RELEASED_BYTES + shape.size) // shape.size
            for pieces in shape.iter_unpack(waiting[at : at + count * shape.size]):
                if pieces[0] != header or pieces[1] != kind:
                    break
                handle(pieces)
                at += shape.size
        ring.advance(at)
