"""Distinct values of a column, quickly where they lie close together, as thread and stack ids do."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct"]

_SMALL_TABLE = 1 << 22  # entries; the largest pid_max a 64-bit kernel allows (PID_MAX_LIMIT, include/linux/threads.h)


_SLOT_BITS = 20
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing


def distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct values of an integer array, ascending, and for each element the index of its value there.

    The same as ``np.unique(values, return_inverse=True)``, by a table instead of a sort: one entry for each possible
    value where the range is small, else a hash table, which pays where values repeat.
    """
    if not len(values):
        return values, np.zeros(0, np.int64)
    low, high = int(values.min()), int(values.max())
    if high - low >= max(_SMALL_TABLE, 4 * len(values)):
        return _hashed(values)
    offset = values.astype(np.int64) - low
    seen = np.zeros(high - low + 1, np.bool_)
    seen[offset] = True
    at = np.flatnonzero(seen)
    index = np.zeros(len(seen), np.int64)
    index[at] = np.arange(len(at))
    return (at + low).astype(values.dtype), index[offset]


def _hashed(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Each value claims a slot, the last one wins; those that find another value in theirs are sorted instead."""
    slot = (values.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - _SLOT_BITS)
    winner = np.zeros(1 << _SLOT_BITS, np.int64)
    winner[slot] = np.arange(len(values))
    held = winner[slot]
    losers = np.flatnonzero(values[held] != values)
    first = np.zeros(len(values), np.bool_)
    first[held] = True
    first[losers] = False
    at = np.flatnonzero(first)
    late, late_inverse = np.unique(values[losers], return_inverse=True)
    found = np.concatenate([values[at], late])
    order = np.argsort(found)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    of_first = np.empty(len(values), np.int64)
    of_first[at] = rank[: len(at)]
    inverse = of_first[held]
    inverse[losers] = rank[len(at) :][late_inverse]
    return found[order], inverse
