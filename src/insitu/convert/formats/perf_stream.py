"""Finds the records of a perf stream (kernel rings, perf.data files), header by header.

Record types: include/uapi/linux/perf_event.h and, from 64 on, tools/perf/Documentation/perf.data-file-format.txt.
"""

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.file_bytes import FileBytes
from insitu.kernel.perf_records import HEADER
from insitu.session.distinct import offsets_of

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["WINDOW_BYTES", "Stream", "ToolRecord", "walk", "walk_chunks", "walk_windows"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

WINDOW_BYTES: Final = 64 << 20
_LONGEST: Final = 1 << 16  # bytes of a record: its size is a u16


class ToolRecord(IntEnum):
    """Record types that perf itself writes, never the kernel (tools/lib/perf/include/perf/event.h)."""

    HEADER_ATTR = 64
    HEADER_TRACING_DATA = 66
    HEADER_BUILD_ID = 67
    AUXTRACE = 71
    HEADER_FEATURE = 80
    COMPRESSED = 81
    COMPRESSED2 = 83


class Stream(NamedTuple):
    """Consecutive records in memory: the bytes as words, and the index of each record.

    ``words`` (u64) covers the records; ``at`` (i64) is the word index of each record's header;
    ``type``, ``misc`` and ``size`` (bytes) are the header's fields. ``torn`` bytes at the end were dropped.
    """

    words: U64
    at: I64
    type: NDArray[np.uint32]
    misc: NDArray[np.uint16]
    size: NDArray[np.uint16]
    torn: int = 0


def walk(data: "Buffer") -> Stream:
    """Find the records of a buffer that starts at a record's header.

    A record of invalid size, or one that is cut off, ends the walk; the bytes from there on count as torn.
    The kernel's records are multiples of 8 bytes (perf_output_begin aligns them) and are not copied. perf's own can
    have any size (``perf inject -b`` writes such): then all records are copied, each aligned at 8 bytes.
    """
    view = memoryview(data).cast("B")
    stream, end = _walk(view)
    return stream._replace(torn=len(view) - end)


def walk_windows(data: "Buffer | FileBytes", window_bytes: int = WINDOW_BYTES) -> Iterator[Stream]:
    """The records of a buffer or file in streams of at most ``window_bytes`` (at least 64 KiB) each, in order.

    The last stream counts the torn bytes, also those that a file has lost since it was opened. Only one window's
    records are in memory if the caller keeps no more.
    """
    view = data if isinstance(data, FileBytes) else memoryview(data).cast("B")
    window_bytes = max(window_bytes, _LONGEST)
    start = 0
    while start < len(view):
        part = view[start : start + window_bytes]
        is_last = start + window_bytes >= len(view) or len(part) < window_bytes
        stream, end = _walk(part)
        start += end
        if is_last or _is_damaged(part[end:]):
            yield stream._replace(torn=len(view) - start)
            return
        yield stream


def walk_chunks(chunks: Iterable[bytes]) -> Iterator[Stream]:
    """The records of bytes that come in pieces, cut anywhere: a stream for each, the last one counts torn bytes."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        stream, end = _walk(memoryview(data))
        rest = data[end:]
        if _is_damaged(memoryview(rest)):
            break
        yield stream
    else:
        stream = walk(b"")
    if len(stream.at) or rest:
        yield stream._replace(torn=len(rest))


def _is_damaged(rest: memoryview) -> bool:
    """Whether ``rest`` begins with a record of invalid size."""
    return len(rest) >= HEADER.size and HEADER.unpack_from(rest)[2] < HEADER.size


def _walk(view: memoryview) -> tuple[Stream, int]:
    """The complete records of ``view``, and the offset after the last."""
    words = np.frombuffer(view[: len(view) & ~7], dtype="<u8")
    if not words.flags.aligned:
        words = words.copy()
    sizes = words.view("<u2")[3::4].data  # the last field of each record's header
    at: list[int] = []
    append = at.append
    position, count = 0, len(words)
    while position < count:
        size = sizes[position]
        step = size >> 3
        if size & 7 or not step or position + step > count:
            break
        append(position)
        position += step
    if position < count and (size := sizes[position]) & 7 and 8 <= size <= len(view) - position * 8:
        return _walk_bytes(view)
    return _stream(words, np.array(at, np.int64)), position * 8


def _walk_bytes(view: memoryview) -> tuple[Stream, int]:
    """_walk for records of any size, which are copied to be aligned at 8 bytes."""
    starts: list[int] = []
    position, last = 0, len(view) - HEADER.size
    unpack = struct.Struct("<H").unpack_from
    while position <= last:
        (size,) = unpack(view, position + 6)
        if size < HEADER.size or position + size > len(view):
            break
        starts.append(position)
        position += size
    bounds = np.array([*starts, position], np.int64)
    sizes = np.diff(bounds)
    targets = offsets_of((sizes + 7) & ~7)
    copied = np.zeros(int(targets[-1]), np.uint8)
    source = np.frombuffer(view, np.uint8)
    # Records move together up to the next one of an odd size.
    ends = np.append(np.flatnonzero(sizes & 7) + 1, len(sizes))
    first = 0
    for end in ends.tolist():
        low, high = int(bounds[first]), int(bounds[end])
        to = int(targets[first])
        copied[to : to + high - low] = source[low:high]
        first = end
    return _stream(copied.view("<u8"), targets[:-1] >> 3), position


def _stream(words: U64, at: I64) -> Stream:
    head = words[at]
    return Stream(
        words,
        at,
        (head & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        ((head >> np.uint64(32)) & np.uint64(0xFFFF)).astype(np.uint16),
        (head >> np.uint64(48)).astype(np.uint16),
    )
