"""A copy of a process's memory: one array of words, cut into segments of ascending addresses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["WORD", "Memory", "joined", "without"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

WORD: Final = 8
NOWHERE: Final = -1


class Memory:
    """Segments of memory. ``words`` holds all of them, one after the other; ``starts`` are their addresses.

    Addresses and sizes are multiples of WORD. Memory that was not copied (never written, or not asked for) reads as
    zeros.
    """

    def __init__(self, words: U64, starts: U64, sizes: U64) -> None:
        self.words = words
        self.starts = starts
        self.ends = starts + sizes
        self.first = np.concatenate([np.zeros(1, np.int64), np.cumsum((sizes // WORD).astype(np.int64))])

    @property
    def size(self) -> int:
        """Bytes in all segments."""
        return int(self.first[-1]) * WORD

    def places(self, addresses: U64) -> I64:
        """The index into ``words`` of each address (rounded down to a word), -1 where it was not copied."""
        if not len(self.starts):
            return np.full(len(addresses), NOWHERE, np.int64)
        segment = np.searchsorted(self.starts, addresses, side="right") - 1
        inside = (segment >= 0) & (addresses < self.ends[segment])
        segment[~inside] = 0
        place = self.first[segment] + ((addresses - self.starts[segment]) // np.uint64(WORD)).astype(np.int64)
        place[~inside] = NOWHERE
        return place

    def read(self, addresses: U64) -> U64:
        """The word at each address, 0 where nothing was copied."""
        place = self.places(addresses)
        found: U64 = (
            np.where(place >= 0, self.words[np.maximum(place, 0)], np.uint64(0)) if self.size else addresses * 0
        )
        return found

    def word(self, address: int) -> int:
        """The word at one address, 0 where nothing was copied."""
        index = int(np.searchsorted(self.starts, np.uint64(address), side="right")) - 1
        if index < 0 or address >= int(self.ends[index]):
            return 0
        return int(self.words[int(self.first[index]) + (address - int(self.starts[index])) // WORD])

    def bytes(self, address: int, size: int) -> bytes:
        """``size`` bytes from one address on; zeros where nothing was copied."""
        begin = address // WORD * WORD
        whole = np.arange(begin, address + size, WORD, dtype=np.uint64)
        return self.read(whole).tobytes()[address - begin : address - begin + size]

    def parts(self, start: int, end: int) -> Iterator[tuple[int, U64]]:
        """What was copied of the addresses from ``start`` to ``end``: (address, words), a view each."""
        index = max(int(np.searchsorted(self.starts, np.uint64(start), side="right")) - 1, 0)
        while index < len(self.starts) and int(self.starts[index]) < end:
            low, high = max(start, int(self.starts[index])), min(end, int(self.ends[index]))
            if low < high:
                begin = int(self.first[index]) + (low - int(self.starts[index])) // WORD
                yield low, self.words[begin : begin + (high - low) // WORD]
            index += 1

    def filled(self, start: int, end: int) -> U64:
        """The words from ``start`` to ``end`` as one array: a view where they were copied whole, else with zeros."""
        parts = list(self.parts(start, end))
        if len(parts) == 1 and len(parts[0][1]) * WORD == end - start:
            return parts[0][1]
        words = np.zeros((end - start) // WORD, np.uint64)
        for address, found in parts:
            at = (address - start) // WORD
            words[at : at + len(found)] = found
        return words


def joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ascending ranges with those that touch or overlap made one."""
    result: list[tuple[int, int]] = []
    for start, end in ranges:
        if result and start <= result[-1][1]:
            result[-1] = result[-1][0], max(end, result[-1][1])
        else:
            result.append((start, end))
    return result


def without(start: int, end: int, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """What is left of a range without others, which are ascending."""
    for low, high in ranges:
        if high <= start or low >= end:
            continue
        if start < low:
            yield start, low
        start = max(start, high)
    if start < end:
        yield start, end
