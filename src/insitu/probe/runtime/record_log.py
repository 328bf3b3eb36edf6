"""Where drained records go: appended to a file as they are, or kept in memory. Nothing is decoded here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Final

from insitu.kernel.ring_buffer import RingBuffer
from insitu.probe.runtime.drain import finished_bytes

__all__ = ["MemoryLog", "RecordLog", "drain_into"]

_FEW_BYTES: Final = 1 << 16
"""What is walked without numpy, which takes longer to import than a short program runs."""


def drain_into(ring: RingBuffer, take: Callable[[memoryview], object]) -> int:
    """Hand the finished records in a ring, whole and in order, to ``take``; then give their space back: bytes.

    A record that a program is still writing, and all after it, stay for the next call. ``take`` must not keep
    the memory that it is given.
    """
    waiting = ring.waiting()
    if len(waiting) < _FEW_BYTES:
        size = finished_bytes(waiting)
    else:
        from insitu.probe.runtime.record_walk import whole_bytes

        size = whole_bytes(waiting)
    if size:
        take(waiting[:size])
        ring.advance(size)
    return size


class RecordLog:
    """Appends records to an open file descriptor. A recorder that is killed leaves at most the last record torn."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.bytes_written = 0

    def append(self, records: memoryview | bytes) -> None:
        """Write whole records. Raises OSError when that fails, after cutting off what was written of them."""
        rest = memoryview(records)
        written = 0
        try:
            while written < len(rest):
                written += os.write(self.fd, rest[written:])
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, os.fstat(self.fd).st_size - written)
                os.lseek(self.fd, 0, os.SEEK_END)
            raise
        self.bytes_written += written


class MemoryLog:
    """Keeps records in memory until they are taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.bytes_written = 0

    def append(self, records: memoryview | bytes) -> None:
        """Keep a copy of whole records."""
        self._parts.append(bytes(records))
        self.bytes_written += len(records)

    def take(self) -> bytes:
        """All records since the last call; they are forgotten here."""
        found = b"".join(self._parts)
        self._parts.clear()
        return found

    def content(self) -> bytes:
        """All records, which are kept."""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        return self._parts[0] if self._parts else b""
