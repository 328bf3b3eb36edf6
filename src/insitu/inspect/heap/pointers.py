"""Which words of memory point to which blocks, and how: to the beginning, inside, or in a way that compilers do.

Pointers to the inside of a block are told apart as valgrind's memcheck does (``--leak-check-heuristics``): those that
programs keep on purpose count as pointers to the beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.blocks import Heap
from insitu.inspect.heap.memory import WORD, Memory
from insitu.kernel import procfs

__all__ = ["HEURISTICS", "Pointers", "Tables", "pointers"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Flags = NDArray[np.bool_]

HEURISTICS: Final = ("stdstring", "length64", "newarray", "multipleinheritance")
_PART_WORDS: Final = 1 << 22
_STRING_HEADER: Final = 24  # of the std::string that copies on write: length, capacity, count of references
_MALLOC_STEP: Final = 16
_LEAST_ADDRESS: Final = 4096
_TABLE_WORDS: Final = 20  # of a table of virtual functions that are looked at
_LEAST_FUNCTIONS: Final = 2


class Pointers(NamedTuple):
    """Words that point to blocks: where each is, which block (an index), and whether as good as to its beginning."""

    where: U64
    target: I32
    sure: Flags


class Tables:
    """Tells whether addresses are those of tables of virtual functions: file data with pointers to file code."""

    def __init__(self, memory: Memory, areas: Sequence[procfs.Area]) -> None:
        self._memory = memory
        files = [area for area in areas if area.inode]
        self._data = _Ranges([(a.start, a.end) for a in files if "x" not in a.permissions and "r" in a.permissions])
        self._code = _Ranges([(a.start, a.end) for a in files if "x" in a.permissions])

    def are(self, addresses: U64) -> Flags:
        """Whether each address is that of such a table."""
        unique, inverse = np.unique(addresses, return_inverse=True)
        fits = (unique % np.uint64(WORD) == 0) & (unique >= np.uint64(_LEAST_ADDRESS)) & self._data.hold(unique)
        at = np.flatnonzero(fits)
        offsets = np.arange(_TABLE_WORDS, dtype=np.uint64) * np.uint64(WORD)
        entries = self._memory.read((unique[at, np.newaxis] + offsets).ravel())
        functions = self._code.hold(entries).reshape(-1, _TABLE_WORDS).sum(axis=1)
        fits[at] = functions >= _LEAST_FUNCTIONS
        found: Flags = fits[inverse]
        return found


class _Ranges:
    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        self._starts = np.array([start for start, _ in ranges], np.uint64)
        self._ends = np.array([end for _, end in ranges], np.uint64)

    def hold(self, addresses: U64) -> Flags:
        """Whether each address is in one of the ranges."""
        if not len(self._starts):
            return np.zeros(len(addresses), np.bool_)
        index = np.searchsorted(self._starts, addresses, side="right") - 1
        found: Flags = (index >= 0) & (addresses < self._ends[index])
        return found


def pointers(
    memory: Memory,
    heap: Heap,
    tables: Tables,
    ranges: Sequence[tuple[int, int]],
    heuristics: Sequence[str] = HEURISTICS,
) -> Pointers:
    """The pointers to blocks in ranges of addresses."""
    found = [
        _found(memory, heap, tables, address, words, heuristics)
        for start, end in ranges
        for address, whole in memory.parts(start, end)
        for address, words in _cut(address, whole)
    ]
    if not found:
        return Pointers(np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.bool_))
    return Pointers(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _cut(address: int, words: U64) -> Iterator[tuple[int, U64]]:
    for at in range(0, len(words), _PART_WORDS):
        yield address + WORD * at, words[at : at + _PART_WORDS]


def _found(
    memory: Memory, heap: Heap, tables: Tables, address: int, words: U64, heuristics: Sequence[str]
) -> Pointers:
    at = np.flatnonzero(words - heap.addresses[0] < heap.addresses[-1] + heap.sizes[-1] - heap.addresses[0])
    values = words[at]
    target = np.searchsorted(heap.addresses, values, side="right") - 1
    offset = values - heap.addresses[target]
    inside = offset < heap.sizes[target]
    headers = np.flatnonzero(offset == heap.sizes[target] - np.uint64(WORD))
    inside[headers] = ~_are_left(heap, np.uint64(address) + at[headers].astype(np.uint64) * np.uint64(WORD))
    at, target, offset = at[inside], target[inside], offset[inside]
    sure = offset == 0
    inner = np.flatnonzero(~sure)
    sure[inner] = usual(memory, heap, tables, target[inner], offset[inner], heuristics)
    where = np.uint64(address) + at.astype(np.uint64) * np.uint64(WORD)
    return Pointers(where, target.astype(np.int32), sure)


def _are_left(heap: Heap, where: U64) -> Flags:
    """Whether words that point to headers of chunks are what malloc() left of its lists: those in blocks.

    The last word that may be used of a block is the first of the next chunk's header, to which the links of free
    chunks point; they stay in memory that is a part of other blocks later.
    """
    block = np.searchsorted(heap.addresses, where, side="right") - 1
    left: Flags = (block >= 0) & (where - heap.addresses[block] < heap.sizes[block])
    return left


def usual(memory: Memory, heap: Heap, tables: Tables, target: I64, offset: U64, heuristics: Sequence[str]) -> Flags:
    """Whether each pointer to the inside of a block is one that programs keep on purpose."""
    start, size = heap.addresses[target], heap.sizes[target]
    result = np.zeros(len(target), np.bool_)
    second = np.flatnonzero(offset == WORD)
    if len(second):
        count = memory.read(start[second])
        room = size[second] - np.uint64(WORD)
        # What was asked for is up to 15 bytes less than what may be used.
        spare = np.minimum(room, np.uint64(_MALLOC_STEP - 1))
        if "length64" in heuristics:
            result[second] |= (count > 0) & (count <= room) & (room - count <= spare)
        if "newarray" in heuristics:
            result[second] |= (count > 0) & (count <= room) & (room % np.maximum(count, np.uint64(1)) <= spare)
    if "stdstring" in heuristics:
        third = np.flatnonzero((offset == _STRING_HEADER) & ~result)
        length, capacity = memory.read(start[third]), memory.read(start[third] + np.uint64(WORD))
        room = size[third] - np.uint64(_STRING_HEADER + 1)
        result[third] |= (length <= capacity) & (capacity <= room) & (room - capacity < np.uint64(_MALLOC_STEP))
    if "multipleinheritance" in heuristics:
        rest = np.flatnonzero(~result & (offset % np.uint64(WORD) == 0))
        first, inner = memory.read(start[rest]), memory.read(start[rest] + offset[rest])
        possible = np.flatnonzero((first >= np.uint64(_LEAST_ADDRESS)) & (inner >= np.uint64(_LEAST_ADDRESS)))
        result[rest[possible]] |= tables.are(first[possible]) & tables.are(inner[possible])
    return result
