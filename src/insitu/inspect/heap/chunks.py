"""Walk the chunks of a heap: each begins with its size, after which the next one begins (malloc/malloc.c).

Large heaps are walked in many places at once, with array operations: each *lane* of memory begins at a guess, and as
chains of sizes that meet stay together, the lanes that the walk from the true beginning enters are right from there.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.memory import WORD

__all__ = ["Chunks", "Damage", "walk"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

IN_USE_BEFORE: Final = 1  # PREV_INUSE: the chunk before this one is in use
MMAPPED: Final = 2
OTHER_ARENA: Final = 4
_FLAGS: Final = 7
_LEAST: Final = 32
_HEADER: Final = 16
_LANE_WORDS: Final = 1 << 13
_LARGE_WORDS: Final = 1 << 19
_MOST_GUESSES: Final = 256  # of a lane: it may be in the middle of a large block
_PROVEN: Final = 16  # chunks that follow each other without contradiction
_MOST_TRIES: Final = 1 << 18  # in all, to find where chunks go on
_MOST_DAMAGED: Final = 100  # after which the rest is taken for one block
_MOST_FENCES: Final = 10_000
_PATIENCE: Final = 1 << 14
"""After a place where chunks end, so many are walked one by one before all of the rest is looked at; twice as many
each time."""
_FENCE: Final = (0, _HEADER)


class Damage(NamedTuple):
    """A chunk whose size cannot be: its address, and what stands in place of the size."""

    address: int
    value: int


class Chunks(NamedTuple):
    """The chunks of one region, ascending: addresses and sizes with the header, and whether each is in use.

    ``gaps`` are ranges that belong to no chunk: memory that the program itself has taken by sbrk().
    """

    addresses: U64
    sizes: U64
    in_use: NDArray[np.bool_]
    gaps: list[tuple[int, int]]
    damaged: list[Damage]
    end: int


def walk(words: U64, start: int, top: int, *, main: bool) -> Chunks:
    """The chunks in ``words``, a region that begins at address ``start``.

    ``top`` is the last chunk of the arena, which is free; 0 if it is not in this region.
    """
    walker = _Walker(words, main=main)
    limit = (top - start) // WORD if start <= top < start + WORD * len(words) else len(words)
    found: list[I64] = []
    gaps: list[tuple[int, int]] = []
    damaged: list[Damage] = []
    at = 0
    while at < limit:
        positions, at = walker.chain(at, limit)
        found.append(positions)
        if at >= limit:
            break
        value = int(words[at + 1]) if at + 1 < len(words) else 0
        fence = value & ~_FLAGS in _FENCE
        if value & ~_FLAGS == 0 and len(positions) and int(words[positions[-1] + 1]) & ~_FLAGS == _LEAST:
            found[-1] = positions[:-1]  # a top that was too small became a part of the fence
        goes_on = len(damaged) < _MOST_DAMAGED and len(gaps) < _MOST_FENCES
        following = walker.resumed(at + 2, limit) if goes_on else -1
        if fence:
            if following < 0:
                break
            gaps.append((start + WORD * at, start + WORD * following))
        else:
            damaged.append(Damage(start + WORD * at, value))
            # What is there is kept as one block, so that what it points to is not taken for lost.
            found.append(np.array([at], np.int64))
            if following < 0:
                following = limit
        at = following
    positions = np.concatenate(found) if found else np.zeros(0, np.int64)
    ends = positions + (words[positions + 1] & ~np.uint64(_FLAGS)).astype(np.int64) // WORD
    for each in damaged:
        index = int(np.searchsorted(positions, (each.address - start) // WORD))
        ends[index] = positions[index + 1] if index + 1 < len(positions) else limit
    header = np.minimum(ends + 1, len(words) - 1)
    in_use = (words[header] & np.uint64(IN_USE_BEFORE)) != 0
    for each in damaged:
        in_use[int(np.searchsorted(positions, (each.address - start) // WORD))] = True
    addresses = positions.astype(np.uint64) * np.uint64(WORD) + np.uint64(start)
    sizes = (ends - positions).astype(np.uint64) * np.uint64(WORD)
    return Chunks(addresses, sizes, in_use, gaps, damaged, start + WORD * at)


class _Walker:
    def __init__(self, words: U64, *, main: bool) -> None:
        self._words = words
        self._view: memoryview[int] = words.data
        # Of another arena than the main one, free chunks lack the flag.
        self._never = MMAPPED | OTHER_ARENA if main else MMAPPED
        self._patience = 0
        self._tries = 0

    def chain(self, at: int, limit: int) -> tuple[I64, int]:
        """The chunks from a position on until there is none, or ``limit``; and where that is."""
        patience, self._patience = self._patience, max(2 * self._patience, _PATIENCE)
        first, at = self._by_one(at, limit, patience)
        if at >= limit or len(first) < patience:
            return first, at
        rest, at = self._by_lanes(at, limit) if limit - at > _LARGE_WORDS else self._by_one(at, limit)
        return np.concatenate([first, rest]), at

    def _next(self, at: int, limit: int) -> int:
        """The position after a chunk; -1 if what is there is none."""
        if at + 1 >= limit:
            return -1
        value: int = self._view[at + 1]
        size = value & ~_FLAGS
        end: int = at + (size >> 3)
        if size < _LEAST or size & 8 or end > limit or value & self._never:
            return -1
        return end

    def _by_one(self, at: int, limit: int, most: int = 1 << 62) -> tuple[I64, int]:
        found: list[int] = []
        while at < limit and len(found) < most and (end := self._next(at, limit)) >= 0:
            found.append(at)
            at = end
        return np.array(found, np.int64), at

    def resumed(self, at: int, limit: int) -> int:
        """The first position from ``at`` on where a chain of chunks begins that goes on; -1 if there is none."""
        for first in range(at + (at & 1), limit, _LANE_WORDS):
            values = self._words[first + 1 : min(first + _LANE_WORDS, limit) : 2]
            sizes = values & ~np.uint64(_FLAGS)
            fits = (sizes >= np.uint64(_LEAST)) & ((sizes & np.uint64(8)) == 0)
            fits &= (values & np.uint64(self._never)) == 0
            for index in np.flatnonzero(fits).tolist():
                if self._is_proven(first + 2 * index, limit):
                    return int(first + 2 * index)
                self._tries += 1
                if self._tries > _MOST_TRIES:
                    return -1
        return -1

    def _is_proven(self, place: int, limit: int) -> bool:
        """Whether chunks follow each other from a position on."""
        for _ in range(_PROVEN):
            if place >= limit:
                break
            place = self._next(place, limit)
            if place < 0:
                return False
        return True

    def _by_lanes(self, at: int, limit: int) -> tuple[I64, int]:
        visited = self._guesses(at, limit)
        lanes = -(-(limit - at) // _LANE_WORDS)
        place, failed = at, False
        seen = visited.data
        for lane in range(lanes):
            bound = min(at + (lane + 1) * _LANE_WORDS, limit)
            low = (at + lane * _LANE_WORDS) // 2
            if failed or place >= bound:
                visited[low : bound // 2] = False
                continue
            own = []
            while place < bound and not seen[place >> 1]:
                end = self._next(place, limit)
                if end < 0:
                    failed = True
                    break
                own.append(place >> 1)
                place = end
            visited[low : min(place, bound) // 2] = False
            if own:
                visited[np.array(own)] = True
            if failed:
                visited[place // 2 : bound // 2] = False
            elif place < bound:
                # From here on the lane's own chain is the true one: to its last chunk.
                last = bound // 2 - 1 - int(np.argmax(visited[place // 2 : bound // 2][::-1]))
                place = self._next(2 * last, limit)
                if place < 0:
                    place, failed = 2 * last, True
                    visited[last] = False
        positions = np.flatnonzero(visited).astype(np.int64) * 2
        return self._verified(positions, place, limit)

    def _verified(self, positions: I64, end: int, limit: int) -> tuple[I64, int]:
        """The positions as far as each is where the one before it ends; from there on one by one."""
        ends = positions + (self._words[positions + 1] & ~np.uint64(_FLAGS)).astype(np.int64) // WORD
        wrong = np.flatnonzero(ends[:-1] != positions[1:])
        if not len(wrong):
            return positions, end
        kept = positions[: int(wrong[0]) + 1]
        rest, end = self._by_one(int(ends[int(wrong[0])]), limit)
        return np.concatenate([kept, rest]), end

    def _guesses(self, at: int, limit: int) -> NDArray[np.bool_]:
        """For each 16 bytes whether a chunk begins there, by chains that begin anew in each lane."""
        words = self._words
        visited = np.zeros((limit + 1) // 2, np.bool_)
        guess = np.arange(at, limit, _LANE_WORDS, dtype=np.int64)
        bound = np.minimum(guess + _LANE_WORDS, limit)
        last_guess = guess + 2 * _MOST_GUESSES
        place = guess.copy()
        while len(place):
            values = words[place + 1]
            sizes = values & ~np.uint64(_FLAGS)
            fits = (sizes >= np.uint64(_LEAST)) & ((sizes & np.uint64(8)) == 0)
            fits &= (values & np.uint64(self._never)) == 0
            fits &= sizes <= ((limit - place) * WORD).astype(np.uint64)
            if fits.all():
                visited[place >> 1] = True
                place = place + (sizes >> np.uint64(3)).astype(np.int64)
            else:
                visited[place[fits] >> 1] = True
                guess = np.where(fits, guess, guess + 2)
                place = np.where(fits, place + (sizes >> np.uint64(3)).astype(np.int64), guess)
            goes_on = (place < bound - 1) & (guess < last_guess)
            if not goes_on.all():
                place, bound = place[goes_on], bound[goes_on]
                guess, last_guess = guess[goes_on], last_guess[goes_on]
        return visited
