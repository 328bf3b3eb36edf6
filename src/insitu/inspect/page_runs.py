"""The pages of a part of a process's memory: runs of pages in the same state."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.kernel.physical_pages import (
    EXCLUSIVE,
    FILE,
    GUARD,
    PAGE,
    PRESENT,
    Frames,
    PageMap,
    frame_of,
    is_swapped,
)

__all__ = ["Run", "page_runs", "state_of"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_MOST_RUNS: Final = 1_000_000
# Bits of a page's state, and their words, in the order in which they are shown.
_WORDS: Final = (
    *("guard", "swapped", "page of zeros", "private", "shared", "shared, or the page of zeros"),
    *("anonymous", "file cache", "huge", "dirty in the cache"),
)
_BIT: Final = {name: np.int64(1 << at) for at, name in enumerate(_WORDS)}


class Run(NamedTuple):
    """Pages that follow on each other, in the same state; "": nothing is there yet. Addresses are in bytes."""

    start: int
    end: int
    state: str

    @property
    def pages(self) -> int:
        """How many pages it has."""
        return (self.end - self.start) // PAGE


def page_runs(pid: int, start: int, end: int) -> list[Run]:
    """The runs of pages from ``start`` to ``end``, whole pages, in ascending order and without gaps.

    Without root the page of zeros is not told from pages that others have, too. Raises InsituError: not to be seen,
    or more than a million runs.
    """
    first, last = start // PAGE, -(-end // PAGE)
    found: list[Run] = []
    at = first
    try:
        with PageMap(pid) as pages:
            for low, high, state in _runs(pages, first, last):
                if low > at:
                    found.append(Run(at * PAGE, low * PAGE, ""))
                if found and found[-1].end == low * PAGE and found[-1].state == state:
                    found[-1] = found[-1]._replace(end=high * PAGE)
                else:
                    found.append(Run(low * PAGE, high * PAGE, state))
                if len(found) > _MOST_RUNS:
                    raise InsituError("more than a million runs of pages", remedy="ask for fewer pages")
                at = high
    except FileNotFoundError:
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    except PermissionError:
        raise InsituError(f"the memory of process {pid} is another user's", remedy="sudo insitu ...") from None
    if at < last:
        found.append(Run(at * PAGE, last * PAGE, ""))
    return found


def _runs(pages: PageMap, first: int, last: int) -> Iterator[tuple[int, int, str]]:
    """Page numbers, first and end, and state of the runs that are there."""
    for numbers, words in pages.pages([(first * PAGE, last * PAGE)]):
        states = _states(words, _frames(words))
        ends = np.flatnonzero((np.diff(numbers) != 1) | (np.diff(states) != 0)) + 1
        bounds = [0, *ends.tolist(), len(numbers)]
        for low, high in pairwise(bounds):
            yield int(numbers[low]), int(numbers[high - 1]) + 1, _text(int(states[low]))


def _frames(words: U64) -> Frames | None:
    numbers = frame_of(words[words & PRESENT != 0])
    if not numbers.any():
        return None
    try:
        return Frames.of(numbers)
    except PermissionError:
        return None


def _states(words: U64, frames: Frames | None) -> I64:
    """The state of each page as bits of _BIT; 0 where nothing is there. ``frames``: without root None."""
    there = words & PRESENT != 0
    is_file = words & FILE != 0
    found: I64 = _BIT["guard"] * (~there & (words & GUARD != 0)) + _BIT["swapped"] * (~there & is_swapped(words))
    exclusive = words & EXCLUSIVE != 0
    if frames is None:
        found += _BIT["file cache"] * (there & is_file)
        found += _BIT["private"] * (there & exclusive)
        found += _BIT["shared"] * (there & ~exclusive & is_file)
        found += _BIT["shared, or the page of zeros"] * (there & ~exclusive & ~is_file)
        found += _BIT["anonymous"] * (there & exclusive & ~is_file)
        return found
    at = np.zeros(len(words), np.int64)
    at[there] = frames.rows(frame_of(words[there]))
    zero = there & frames.have("zero_page")[at]
    shared = frames.mapped[at] > 1
    own = there & ~zero
    # The huge page of zeros is not an anonymous page: pagemap reports it as a page of a file.
    found += _BIT["page of zeros"] * zero + _BIT["file cache"] * (own & is_file)
    found += _BIT["private"] * (own & ~shared) + _BIT["shared"] * (own & shared)
    found += _BIT["anonymous"] * (own & ~is_file)
    found += _BIT["huge"] * (there & (frames.have("huge") | frames.have("transparent_huge"))[at])
    # Pages of the pool (hugetlb) have no file on a disk.
    found += _BIT["dirty in the cache"] * (own & is_file & (frames.have("dirty") & ~frames.have("huge"))[at])
    return found


def state_of(words: U64, frames: Frames | None) -> str:
    """The state of one page, as of Run."""
    return _text(int(_states(words, frames)[0]))


def _text(state: int) -> str:
    return ", ".join(name for at, name in enumerate(_WORDS) if state >> at & 1)
