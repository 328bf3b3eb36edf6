"""The blocks that a process has from glibc's malloc: of all arenas, and those that were mapped by themselves.

Blocks in tcache and fast bins look like blocks in use: they are found by the lists that they are in, whose links are
coded by their own addresses since glibc 2.32 (PROTECT_PTR of malloc/malloc.c).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.chunks import MMAPPED, Chunks, Damage, walk
from insitu.inspect.heap.glibc_arenas import STATE_BYTES, Arena, find
from insitu.inspect.heap.memory import WORD, Memory, joined, without
from insitu.inspect.heap.snapshot import Snapshot

__all__ = ["Heap", "read_heap"]

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]

_HEADER: Final = 16
_PAGE: Final = 4096
_MOST_LISTED: Final = 1 << 24  # in all lists of free chunks
_MOST_TCACHES: Final = 256  # pointers of a thread that may be the one to its tcache


class _TcacheLayout(NamedTuple):
    """struct tcache_perthread_struct: 16-bit counters, then lists, of sizes from 32 on, 16 apart."""

    chunk_bytes: int
    bins: int
    entries: int


_TCACHE: Final = (_TcacheLayout(0x290, 64, 0x80),)  # glibc 2.30 to 2.41


class Heap(NamedTuple):
    """``addresses`` and ``sizes`` of the blocks in use, ascending: what malloc() has returned, and what may be used.

    ``ranges`` are the addresses that the heap takes, free chunks and its own structures included.
    """

    addresses: U64
    sizes: U64
    mapped: NDArray[np.bool_]
    """Whether a block has a mapping of its own."""
    arena: NDArray[np.int32]
    """The index of each block's arena; -1 of those with a mapping of their own."""
    arenas: int
    free_bytes: int
    free_blocks: int
    ranges: Sequence[tuple[int, int]]
    damaged: Sequence[Damage]


class _Found(NamedTuple):
    addresses: U64
    sizes: U64
    arena: int


def read_heap(snapshot: Snapshot) -> Heap:
    """The heap of a copied process. Raises InsituError if it is another allocator's."""
    memory = snapshot.memory
    arenas = find(snapshot)
    found: list[_Found] = []
    damaged: list[Damage] = []
    ranges: list[tuple[int, int]] = []
    free_bytes = free_blocks = 0
    for number, arena in enumerate(arenas):
        for region in arena.regions:
            # The rest of the top was never written.
            inside = region.start <= arena.top < region.end
            words = memory.filled(region.start, min(arena.top + _HEADER, region.end) if inside else region.end)
            chunks = walk(words, region.start, arena.top, main=arena.main)
            damaged += chunks.damaged
            free_bytes += int(chunks.sizes[~chunks.in_use].sum())
            free_blocks += int((~chunks.in_use).sum())
            found.append(_Found(chunks.addresses[chunks.in_use], chunks.sizes[chunks.in_use], number))
            ranges += _ranges(region.start, region.end, chunks)
        # Pointers of the allocator lead to headers of chunks, of which one before may use the first word.
        ranges += [*arena.headers, (arena.address, arena.address + STATE_BYTES)]
    if not arena_count(arenas) and not found:
        return _empty()
    kept = _without_free(snapshot, arenas, found)
    free_blocks += sum(len(each.addresses) for each in found) - sum(len(each.addresses) for each in kept)
    free_bytes += sum(int(each.sizes.sum()) for each in found) - sum(int(each.sizes.sum()) for each in kept)
    mapped = _mapped(snapshot, ranges)
    ranges += [(int(start) - prefix, int(start + size)) for start, size, prefix in mapped]
    starts = np.array([start for start, _, _ in mapped], np.uint64)
    own = np.array([size for _, size, _ in mapped], np.uint64)
    addresses = np.concatenate([*(each.addresses for each in kept), starts]) + np.uint64(_HEADER)
    sizes = np.concatenate([*(each.sizes - np.uint64(WORD) for each in kept), own - np.uint64(_HEADER)])
    arena_of = [np.full(len(each.addresses), each.arena, np.int32) for each in kept]
    order = np.argsort(addresses, kind="stable")
    return Heap(
        addresses[order],
        sizes[order],
        np.concatenate([np.zeros(len(addresses) - len(starts), np.bool_), np.ones(len(starts), np.bool_)])[order],
        np.concatenate([*arena_of, np.full(len(starts), -1, np.int32)])[order],
        len(arenas),
        free_bytes,
        free_blocks,
        joined(sorted(ranges)),
        damaged,
    )


def arena_count(arenas: Sequence[Arena]) -> int:
    """How many arenas have taken memory."""
    return sum(1 for arena in arenas if arena.regions)


def _empty() -> Heap:
    none = np.zeros(0, np.uint64)
    return Heap(none, none, np.zeros(0, np.bool_), np.zeros(0, np.int32), 0, 0, 0, [], [])


def _ranges(start: int, end: int, chunks: Chunks) -> Iterator[tuple[int, int]]:
    """A region without the gaps, which are the program's own memory."""
    for low, high in chunks.gaps:
        yield start, low
        start = high
    yield start, end


def _without_free(snapshot: Snapshot, arenas: Sequence[Arena], found: Sequence[_Found]) -> list[_Found]:
    """Leave out chunks in tcache and fast bins, and the caches' own structures."""
    memory = snapshot.memory
    every = np.sort(np.concatenate([each.addresses for each in found]))
    sizes = np.sort(
        np.concatenate([each.addresses[each.sizes == layout.chunk_bytes] for each in found for layout in _TCACHE])
    )
    out: list[int] = []
    seen: set[int] = set()
    for cache, layout in _tcaches(snapshot, sizes, every):
        out.append(cache - _HEADER)
        for index in range(layout.bins):
            first = memory.word(cache + layout.entries + WORD * index)
            out += (block - _HEADER for block in _listed(memory, first, 0, every, seen))
    for arena in arenas:
        for chunk in arena.fast_bins:
            out += _listed(memory, chunk, _HEADER, every, seen)
    leave = np.unique(np.array(out, np.uint64))
    kept = []
    for each in found:
        keep = ~np.isin(each.addresses, leave)
        kept.append(_Found(each.addresses[keep], each.sizes[keep], each.arena))
    return kept


def _listed(memory: Memory, first: int, link: int, every: U64, seen: set[int]) -> Iterator[int]:
    """The chunks of a list of free ones, whose link is ``link`` bytes after what the list points to.

    ``seen``: those of all lists. Lists that meet are damaged, or made up.
    """
    at, coded = first, True
    while at and at - _HEADER + link not in seen and len(seen) < _MOST_LISTED:
        chunk = at - _HEADER + link
        if not _is_among(every, chunk):
            return  # damaged
        seen.add(chunk)
        yield at
        value = memory.word(at + link)
        following = value ^ ((at + link) >> 12)
        coded = coded and (following == 0 or _is_among(every, following - _HEADER + link))
        at = following if coded else value


def _is_among(every: U64, address: int) -> bool:
    if not 0 <= address < 1 << 64:
        return False
    index = int(np.searchsorted(every, np.uint64(address)))
    return index < len(every) and int(every[index]) == address


_TLS_BYTES: Final = 1 << 16  # below the thread pointer, where `tcache` is


def _tcaches(snapshot: Snapshot, candidates: U64, every: U64) -> Iterator[tuple[int, _TcacheLayout]]:
    """Each thread's tcache: its address is in the thread's own variables, and its lists are of chunks."""
    memory = snapshot.memory
    blocks = candidates + np.uint64(_HEADER)
    done: set[int] = set()
    for thread in snapshot.threads:
        low = thread.thread_pointer - _TLS_BYTES
        for _, words in memory.parts(max(low, 0) // WORD * WORD, thread.thread_pointer):
            for block in words[np.isin(words, blocks)][::-1][:_MOST_TCACHES].tolist():
                if block not in done and _is_tcache(memory, block, _TCACHE[0], every):
                    done.add(block)
                    yield block, _TCACHE[0]


def _is_tcache(memory: Memory, block: int, layout: _TcacheLayout, every: U64) -> bool:
    """Whether the counters and lists of a block fit each other."""
    counts = memory.filled(block, block + 2 * layout.bins).view(np.uint16)
    entries = memory.filled(block + layout.entries, block + layout.entries + WORD * layout.bins)
    for count, entry in zip(counts.tolist(), entries.tolist(), strict=True):
        if (count == 0) != (entry == 0) or (entry and not _is_among(every, entry - _HEADER)):
            return False
    return True


def _mapped(snapshot: Snapshot, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """Chunks with a mapping of their own: address, size, and how far into the mapping they begin (memalign)."""
    heaps = joined(sorted(ranges))
    found: list[tuple[int, int, int]] = []
    anonymous = joined([(a.start, a.end) for a in snapshot.areas if a.permissions[:2] == "rw" and not a.path])
    for start, end in (piece for low, high in anonymous for piece in without(low, high, heaps)):
        reached = 0
        for address, words in snapshot.memory.parts(start, end):
            for index in _mapped_headers(address, words):
                chunk = address + WORD * index
                prefix, size = int(words[index]), int(words[index + 1]) & ~7
                if chunk - prefix < start or chunk + size > end:
                    continue
                # The header that memalign() has moved stays where it was, too, with the size of then.
                if prefix and found and found[-1][0] == chunk - prefix:
                    found.pop()
                elif chunk < reached:
                    continue
                found.append((chunk, size, prefix))
                reached = chunk + size
    return found


def _mapped_headers(address: int, words: U64) -> list[int]:
    """Where words look like the header of a chunk with a mapping of its own: pages, from the beginning of one."""
    before, values = words[:-1:2], words[1::2]
    before = before[: len(values)]
    sizes = values & ~np.uint64(7)
    where = np.uint64(address) + np.arange(len(values), dtype=np.uint64) * np.uint64(_HEADER)
    page = np.uint64(_PAGE - 1)
    fits = ((values & np.uint64(7)) == MMAPPED) & (sizes >= np.uint64(2 * _HEADER))
    fits &= (((before + sizes) & page) == 0) & (((where - before) & page) == 0)
    return [int(index) * 2 for index in np.flatnonzero(fits)]
