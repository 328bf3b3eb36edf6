"""Bytes that wait to be read: in memory up to a bound, then in a temporary file that has no name."""

from __future__ import annotations

import os
from collections import deque
from typing import IO, Final

__all__ = ["Spool"]

_IN_MEMORY: Final = 128 << 20


class Spool:
    """First in, first out: chunks go in whole, and come out as they went in."""

    def __init__(self, in_memory: int = _IN_MEMORY) -> None:
        self._room = in_memory
        self._chunks: deque[bytes | tuple[int, int]] = deque()
        self._held = 0
        self.size_bytes = 0
        """Of what waits."""
        self._file: IO[bytes] | None = None
        self._file_end = 0

    def __len__(self) -> int:
        return len(self._chunks)

    def append(self, data: bytes | memoryview) -> None:
        """Keep a copy. Raises OSError when the disk is full."""
        self.size_bytes += len(data)
        if self._held + len(data) <= self._room:
            self._chunks.append(bytes(data))
            self._held += len(data)
            return
        if self._file is None:
            import tempfile

            self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  # lives as long as the spool
        rest, at = memoryview(data), self._file_end
        while rest:
            written = os.pwrite(self._file.fileno(), rest, at)
            rest, at = rest[written:], at + written
        self._chunks.append((self._file_end, len(data)))
        self._file_end = at

    def take(self) -> bytes:
        """Returns the oldest chunk, empty if there is none."""
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        self.size_bytes -= len(chunk) if isinstance(chunk, bytes) else chunk[1]
        if isinstance(chunk, bytes):
            self._held -= len(chunk)
            return chunk
        assert self._file is not None
        data = os.pread(self._file.fileno(), chunk[1], chunk[0])
        if not any(isinstance(each, tuple) for each in self._chunks):
            self._file_end = 0
            os.ftruncate(self._file.fileno(), 0)
        return data

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self._chunks.clear()
        self._held = self.size_bytes = 0
        if self._file is not None:
            self._file.close()
            self._file = None
