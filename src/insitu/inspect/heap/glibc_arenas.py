"""Find the arenas of glibc's malloc in a copy of memory, without symbols: by what their structure must look like.

An arena (struct malloc_state of malloc/malloc.c) has 127 bins: lists that lead back to their heads. All arenas form
a ring by their ``next``. Other arenas than the first are in heaps of their own, at multiples of 64 MiB, each of which
begins with a struct heap_info (malloc/arena.c).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.inspect.heap.memory import Memory
from insitu.inspect.heap.snapshot import Snapshot
from insitu.kernel import procfs

__all__ = ["STATE_BYTES", "Arena", "Region", "find"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

# struct malloc_state on 64-bit machines, glibc 2.26 to 2.41
_FAST: Final = 0x10
_FAST_BINS: Final = 10
_TOP: Final = 0x60
_BINS: Final = 0x70
_BIN_COUNT: Final = 127
_NEXT: Final = 0x870
_SYSTEM_MEM, _MAX_SYSTEM_MEM = 0x888, 0x890
STATE_BYTES: Final = 0x898
_LEAST_SOUND: Final = 100
"""Of the bins: others may be damaged."""
_LINKS: Final = 16
"""Where the two links of a free chunk, and so of a bin, are."""

_HEAP_ALIGN: Final = 1 << 26  # HEAP_MAX_SIZE
_HEAP_INFO_BYTES: Final = (0x20, 0x30)  # until glibc 2.34, and since then, with the page size
_MOST_ARENAS: Final = 1 << 12  # glibc makes 8 for each CPU
_MOST_HEAPS: Final = 1 << 20
_CHUNK_ALIGN: Final = 16


class Region(NamedTuple):
    """Addresses in which one chunk follows the other, from ``start`` on; ``main``: made by sbrk()."""

    start: int
    end: int
    main: bool


class Arena(NamedTuple):
    """One arena; ``regions`` are what it cuts chunks from."""

    address: int
    main: bool
    top: int
    fast_bins: Sequence[int]
    """The first chunk in each."""
    system_bytes: int
    regions: Sequence[Region]
    headers: Sequence[tuple[int, int]]
    """What is before the first chunk of each heap."""


def find(snapshot: Snapshot) -> list[Arena]:
    """The arenas, the main one first; none if the process has not called malloc().

    Raises InsituError if there is no glibc's heap, but another allocator.
    """
    memory = snapshot.memory
    main = next((address for address in _candidates(snapshot) if _is_arena(memory, address)), 0)
    if not main:
        _refuse_others(snapshot.areas)
        return []
    arenas = []
    for address in _ring(memory, main):
        top = memory.word(address + _TOP)
        if address == main:
            regions = _main_regions(snapshot, top)
        else:
            regions = _heaps(memory, address, top)
        fast = [memory.word(address + _FAST + 8 * index) for index in range(_FAST_BINS)]
        system = memory.word(address + _SYSTEM_MEM)
        headers = [(each.start - each.start % _HEAP_ALIGN, each.start) for each in regions if not each.main]
        arenas.append(Arena(address, address == main, top, fast, system, regions, headers))
    return arenas


def _candidates(snapshot: Snapshot) -> Iterator[int]:
    """Where the main arena may be: a bin is the head of a list whose links lead back to it, or to itself."""
    memory = snapshot.memory
    for start, end in _data_ranges(snapshot.areas):
        for address, words in memory.parts(start, end):
            heads = np.arange(address, address + 8 * len(words), 8, dtype=np.uint64)[:-1] - np.uint64(_LINKS)
            after, before = words[:-1], words[1:]
            linked = np.flatnonzero((after != 0) & (before != 0) & ((after | before) & np.uint64(7) == 0))
            heads, after, before = heads[linked], after[linked], before[linked]
            returns = memory.read(after + np.uint64(_LINKS + 8)) == heads
            returns &= memory.read(before + np.uint64(_LINKS)) == heads
            yield from _bases(heads[returns].astype(np.int64) + _LINKS)


def _bases(bins: I64) -> list[int]:
    """The beginnings of arenas of which some addresses may be those of bins, the likeliest first."""
    bases, counts = np.unique(bins[:, np.newaxis] - 16 * np.arange(_BIN_COUNT), return_counts=True)
    likely = np.flatnonzero(counts >= _LEAST_SOUND)
    order = likely[np.argsort(-counts[likely], kind="stable")]
    return [int(base) - _BINS for base in bases[order].tolist()]


def _is_arena(memory: Memory, address: int) -> bool:
    """Whether the rest of the structure is there: a ring of arenas, and sizes that fit each other."""
    system, most = memory.word(address + _SYSTEM_MEM), memory.word(address + _MAX_SYSTEM_MEM)
    if not system <= most < 1 << 47 or not _ring(memory, address):
        return False
    top = memory.word(address + _TOP)
    # Before its first block, the top of an arena is its first bin.
    return memory.word(top + 8) > 0 if system else top == address + _BINS - 16


def _ring(memory: Memory, first: int) -> list[int]:
    """The arenas of a ring, from one on; none if it is no ring."""
    found: dict[int, None] = {}
    address = first
    while address not in found:
        if not address or address % 8 or len(found) > _MOST_ARENAS:
            return []
        found[address] = None
        address = memory.word(address + _NEXT)
    return list(found) if address == first else []


def _data_ranges(areas: Sequence[procfs.Area]) -> list[tuple[int, int]]:
    """Writable data of files, with the memory without a name that follows it (bss); the C library's first."""
    found: list[tuple[bool, int, int]] = []
    last: procfs.Area | None = None
    for area in areas:
        if "w" in area.permissions and area.inode:
            found.append((b"libc" not in area.path, area.start, area.end))
        elif "w" in area.permissions and not area.path and last and last.inode and last.end == area.start and found:
            found[-1] = found[-1][0], found[-1][1], area.end
        last = area
    return [(start, end) for _, start, end in sorted(found)]


def _main_regions(snapshot: Snapshot, top: int) -> list[Region]:
    """What the main arena cuts chunks from: the area that its top is in."""
    areas = [area for area in snapshot.areas if area.path == b"[heap]"]
    areas += [area for area in snapshot.areas if area.start <= top < area.end and area not in areas]
    end = top + (snapshot.memory.word(top + 8) & ~7)
    found = []
    for area in areas:
        high = min(area.end, end) if area.start <= top < area.end else area.end
        found.append(Region(-(-area.start // _CHUNK_ALIGN) * _CHUNK_ALIGN, high, True))
    return found


def _heaps(memory: Memory, arena: int, top: int) -> list[Region]:
    """The heaps of another arena, from the newest on."""
    own = arena - arena % _HEAP_ALIGN
    head = arena - own
    found: list[Region] = []
    heap = top - top % _HEAP_ALIGN
    while heap and len(found) < _MOST_HEAPS and memory.word(heap) == arena:
        first = heap + head
        if heap == own:
            first = (arena + STATE_BYTES + _CHUNK_ALIGN - 1) // _CHUNK_ALIGN * _CHUNK_ALIGN
        size = memory.word(heap + 16)
        if head not in _HEAP_INFO_BYTES or not 0 < size <= _HEAP_ALIGN:
            break
        found.append(Region(first, heap + size, False))
        heap = memory.word(heap + 8)
    return found


# What the files of other allocators are called, and what to say of them.
_OTHERS: Final = (
    (b"ld-musl", "musl"),
    (b"libjemalloc", "jemalloc"),
    (b"libtcmalloc", "tcmalloc"),
    (b"libmimalloc", "mimalloc"),
    (b"libasan", "AddressSanitizer"),
    (b"vgpreload_memcheck", "valgrind"),
)


def other_allocator(areas: Sequence[procfs.Area]) -> str:
    """The name of another allocator than glibc's whose file is mapped; "" if none is."""
    return next((name for word, name in _OTHERS for area in areas if word in area.path.rpartition(b"/")[2]), "")


def _refuse_others(areas: Sequence[procfs.Area]) -> None:
    if name := other_allocator(areas):
        raise InsituError(f"the heap is {name}'s", remedy="insitu leaks knows glibc's, 2.31 and newer")
    if any(area.path == b"[heap]" for area in areas):
        raise InsituError(
            "the heap's main arena was not found: it is damaged, or the C library is not glibc 2.31 to 2.41"
        )
    if not any(b"libc.so.6" in area.path or b"libc-2." in area.path for area in areas):
        raise InsituError(
            "no heap of glibc was found: the program is static or uses another allocator (Go, musl)",
            remedy="insitu leaks knows glibc's heap, 2.31 and newer",
        )
