"""Bounded reading of trace.dat: numbers and texts at a position, sections, compressed chunks."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Final

from insitu.convert.file_bytes import FileBytes
from insitu.errors import InsituError

__all__ = ["MAGIC", "Budget", "Cursor", "Decompress", "chunks", "decompressor", "is_trace_dat", "section"]

MAGIC: Final = b"\x17\x08\x44tracing"

Decompress = Callable[[bytes | memoryview, int], bytes]
"""(data, size) -> the decompressed bytes, ``size`` of them. Raises ValueError."""

_MOST_SECTION_BYTES: Final = 256 << 20
_MOST_CHUNK_BYTES: Final = 256 << 20
_MOST_NAME_BYTES: Final = 4096
_MOST_TIMES: Final = 64  # that a whole file may grow when it is decompressed
_ALWAYS_BYTES: Final = 64 << 20
_COMPRESSED: Final = 1  # a section's flag
_PAIR: Final = struct.Struct("<II")


def is_trace_dat(head: bytes) -> bool:
    """Whether a file that begins with ``head`` claims to be a trace.dat."""
    return head.startswith(MAGIC)


class Budget:
    """What a file may take when it is decompressed: so many times its own size."""

    def __init__(self, file_bytes: int) -> None:
        self._left = _MOST_TIMES * file_bytes + _ALWAYS_BYTES

    def take(self, size: int, at: Cursor) -> None:
        """Count decompressed bytes before they are made. Raises InsituError."""
        self._left -= size
        if self._left < 0:
            raise at.damaged(f"it expands to more than {_MOST_TIMES} times its size")


class Cursor:
    """Reads little-endian values one after the other. Every method raises InsituError at the end of the data."""

    def __init__(self, data: memoryview | FileBytes, name: str, at: int = 0) -> None:
        """``name`` of the file is for messages."""
        self.data, self.name, self.at = data, name, at

    @property
    def left(self) -> int:
        """Bytes up to the end."""
        return max(len(self.data) - self.at, 0)

    def damaged(self, what: str) -> InsituError:
        """The error that says what is wrong here."""
        return InsituError(f"{self.name}: damaged trace.dat: {what}", remedy="record again")

    def take(self, size: int) -> memoryview:
        """The next ``size`` bytes."""
        piece = self.data[self.at : self.at + size] if size <= self.left else memoryview(b"")
        if len(piece) < size:
            raise self.damaged("it ends too early")
        self.at += size
        return piece

    def u8(self) -> int:
        """A byte."""
        return self.take(1)[0]

    def u16(self) -> int:
        """Two bytes."""
        return int.from_bytes(self.take(2), "little")

    def u32(self) -> int:
        """Four bytes."""
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        """Eight bytes."""
        return int.from_bytes(self.take(8), "little")

    def string(self) -> str:
        """A text up to its null byte."""
        piece = bytes(self.data[self.at : self.at + _MOST_NAME_BYTES])
        end = piece.find(b"\0")
        if end < 0:
            raise self.damaged("a text has no end")
        self.at += end + 1
        return piece[:end].decode(errors="replace")

    def sized_text(self, size: int) -> bytes:
        """A text of ``size`` bytes."""
        if size > _MOST_SECTION_BYTES:
            raise self.damaged(f"a text of {size} bytes")
        return bytes(self.take(size))

    def rest_text(self) -> str:
        """The text up to the end of the data, or to its null byte."""
        return bytes(self.take(self.left)).partition(b"\0")[0].decode(errors="replace")


def decompressor(name: str, file: str) -> Decompress | None:
    """What undoes the compression that a file's header names; None for "none". Raises InsituError for others."""
    if name in ("none", ""):
        return None
    if name == "zlib":
        return _zlib
    if name == "zstd":
        return _zstd()
    raise InsituError(
        f"{file}: compressed with {name[:40]!r}, which is not read",
        remedy="trace-cmd convert --compression none makes a file that is",
    )


def _zlib(data: bytes | memoryview, size: int) -> bytes:
    try:
        return zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None


def _zstd() -> Decompress:
    import zstandard

    # trace-cmd before 3.1 wrote frames without their magic number (lib/trace-cmd/trace-compress-zstd.c).
    context = zstandard.ZstdDecompressor(format=zstandard.FORMAT_ZSTD1_MAGICLESS)

    def decompress(data: bytes | memoryview, size: int) -> bytes:
        frame = bytes(data).removeprefix(zstandard.FRAME_HEADER)
        try:
            if zstandard.frame_content_size(zstandard.FRAME_HEADER + frame[:32]) > size:
                raise ValueError("larger than its header says")
            return context.decompress(frame, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(str(error)) from None

    return decompress


def section(data: FileBytes, offset: int, decompress: Decompress | None, name: str, budget: Budget) -> Cursor:
    """The content of the section at ``offset``. Raises InsituError."""
    at = Cursor(data, name, offset)
    at.u16()  # its number, which the option that led here has too
    flags = at.u16()
    at.u32()  # its description, a text elsewhere
    size = at.u64()
    if size > _MOST_SECTION_BYTES:
        raise at.damaged(f"a section of {size} bytes")
    content = at.take(size)
    if flags & _COMPRESSED:
        if decompress is None or len(content) < _PAIR.size:
            raise at.damaged("a compressed section without an algorithm")
        packed, unpacked = _PAIR.unpack_from(content)
        if unpacked > _MOST_SECTION_BYTES:
            raise at.damaged(f"a section of {unpacked} bytes")
        budget.take(unpacked, at)
        content = memoryview(_unpacked(content[_PAIR.size :][:packed], unpacked, decompress, at))
    return Cursor(content, name)


def chunks(
    data: FileBytes, offset: int, size: int, decompress: Decompress, name: str, budget: Budget
) -> Iterator[bytes]:
    """The decompressed chunks of a CPU's pages: a number of chunks, then ``size`` bytes. Raises InsituError."""
    at = Cursor(data.part(offset, offset + 4 + size), name)
    for _ in range(at.u32()):
        packed, unpacked = _PAIR.unpack(at.take(_PAIR.size))
        if unpacked > _MOST_CHUNK_BYTES:
            raise at.damaged(f"a chunk of {unpacked} bytes")
        budget.take(unpacked, at)
        yield _unpacked(at.take(packed), unpacked, decompress, at)


def _unpacked(content: memoryview, size: int, decompress: Decompress, at: Cursor) -> bytes:
    try:
        found = decompress(content, size)
    except ValueError as error:
        raise at.damaged(f"cannot decompress: {error}") from None
    if len(found) != size:
        raise at.damaged(f"{len(found)} bytes decompressed where {size} were expected")
    return found
