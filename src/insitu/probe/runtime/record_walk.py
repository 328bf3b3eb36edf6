"""Finds records in the bytes of a BPF ring: in its memory while it is drained, or in a file that they went to.

Each record has the ring's header of 8 bytes, a u32 of its length with two flags and a u32 that is the kernel's own,
and is padded to 8 bytes (kernel/bpf/ringbuf.c).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from insitu.kernel.ring_buffer import BUSY, DISCARDED, HEADER_BYTES

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["record_offsets", "whole_bytes"]

# Records of one length in a row are found all at once. That pays from some number on; below it, one by one is faster.
_WORTH_IT = 32
_ONE_BY_ONE = 1 << 15  # words
_ROUND_UP = HEADER_BYTES + 7


def whole_bytes(data: Buffer) -> int:
    """Bytes in front that belong to whole records: up to one that is still being written, or torn."""
    return _walk(np.frombuffer(memoryview(data)[: len(memoryview(data)) & ~7], "<u4"), None)


def record_offsets(data: Buffer) -> tuple[npt.NDArray[np.int64], int]:
    """Where in ``data`` each whole record has its header, without those that the program has discarded; the bytes
    that whole records take."""
    words = np.frombuffer(memoryview(data)[: len(memoryview(data)) & ~7], "<u4")
    parts: list[npt.NDArray[np.int64]] = []
    end = _walk(words, parts)
    offsets = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    discarded = (words[offsets >> 2] & np.uint32(DISCARDED)) != 0
    return (offsets[~discarded] if discarded.any() else offsets), end


def _walk(words: npt.NDArray[np.uint32], parts: list[npt.NDArray[np.int64]] | None) -> int:
    """Where the whole records end, in bytes; ``parts`` gets the offsets of their headers."""
    lengths = words.data  # indexing a memoryview is several times faster than an array
    count = len(words)
    at = 0
    while at < count:
        header = lengths[at]
        step = _stride(header) >> 2
        if header & BUSY or at + step > count:
            break
        run = _run(words, at, step, (count - at) // step)
        if parts is not None:
            parts.append(np.arange(at, at + run * step, step, dtype=np.int64) << 2)
        at += run * step
        if run < _WORTH_IT:
            before, at, whole = at, *_one_by_one(lengths, at, count, parts)
            if not whole or at == before:
                break
    return at << 2


def _run(words: npt.NDArray[np.uint32], at: int, step: int, most: int) -> int:
    """How many records in a row have the same header as the one at ``at``, which is one of ``most`` at best."""
    run, window = 1, _WORTH_IT
    while run < most:
        # A header is right only behind one of the expected length: what follows the first other one is noise.
        heads = words[at + run * step : at + min(run + window, most) * step : step]
        others = np.flatnonzero(heads != words[at])
        if len(others):
            return run + int(others[0])
        run += len(heads)
        window *= 8
    return run


def _one_by_one(
    lengths: memoryview, at: int, count: int, parts: list[npt.NDArray[np.int64]] | None
) -> tuple[int, bool]:
    """Walk some records: where that ends, and whether the next may be whole."""
    found: list[int] = []
    append = found.append
    stop = min(at + _ONE_BY_ONE, count)
    whole = True
    while at < stop:
        header = lengths[at]
        if header >= DISCARDED:
            if header >= BUSY:
                whole = False
                break
            header ^= DISCARDED
        append(at)
        at += (header + _ROUND_UP) >> 3 << 1
    if at > count:
        at, whole = found.pop(), False
    if parts is not None and found:
        parts.append(np.array(found, np.int64) << 2)
    return at, whole


def _stride(header: int) -> int:
    """The bytes that a record takes in the ring, by its header's first word."""
    return (header & ~DISCARDED) + _ROUND_UP & ~7
