"""Distinct values of an array, groups of equal values, ranges of rows and offsets of parts."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["distinct", "first_rows", "group_order", "groups", "offsets_of", "ranges", "stable_order", "time_order"]

_SMALL_TABLE = 1 << 16  # entries that cost next to nothing
_SAMPLED = 256
_FEW_VALUES = 32
_FEW = 1 << 15  # sorting so few values is faster than clearing a table


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio: Fibonacci hashing


def distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct values of an integer array, ascending, and for each element the index of its value there.

    The same as ``np.unique(values, return_inverse=True)``, by a table instead of a sort: one entry for each possible
    value where the range is small, the values of some rows where these are all, else a hash table, which pays where
    values repeat.
    """
    if not len(values):
        return values, np.zeros(0, np.int64)
    low, high = values.min(), values.max()
    span = int(high) - int(low)
    if span >= max(_SMALL_TABLE, 8 * len(values)):
        some = np.unique(values[:: len(values) // _SAMPLED + 1])
        if len(some) <= _FEW_VALUES:
            index = np.searchsorted(some[:-1], values)
            if bool((some[index] == values).all()):
                return some, index
        if len(values) > _FEW:
            return _hashed(values)
        return np.unique(values, return_inverse=True)
    offset = (values - low).astype(np.int64)
    seen = np.zeros(span + 1, np.bool_)
    seen[offset] = True
    at = np.flatnonzero(seen)
    index = np.zeros(len(seen), np.int64)
    index[at] = np.arange(len(at))
    return at.astype(values.dtype) + low, index[offset]


def first_rows(inverse: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Of ``count`` distinct values the first row of each, by the index of each row's value (see ``distinct``)."""
    first = np.zeros(count, np.int64)
    first[inverse[::-1]] = np.arange(len(inverse) - 1, -1, -1)
    return first


def groups(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each distinct value of an integer array, ascending, and the indices of its elements, ascending."""
    found, inverse = distinct(values)
    order = stable_order(inverse)
    bounds = np.searchsorted(inverse[order], np.arange(len(found) + 1))
    for number, value in enumerate(found.tolist()):
        yield value, order[bounds[number] : bounds[number + 1]]


def stable_order(keys: NDArray[Any]) -> NDArray[np.int64]:
    """The indices that sort keys of 0 or more; equal ones stay in order. Keys below 65536 take linear time."""
    return np.argsort(keys.astype(np.uint16) if keys.max(initial=0) < 1 << 16 else keys, kind="stable")


def group_order(values: NDArray[Any]) -> NDArray[np.int64]:
    """The indices that put equal integers next to each other, the least first; equal ones stay in order."""
    if len(values) and int(values.min()) >= 0 and int(values.max()) < 1 << 16:
        return stable_order(values)
    return stable_order(distinct(values)[1])


def time_order(ts_ns: NDArray[np.int64]) -> Any:
    """The indices that sort times, equal ones in order; a slice of all where they are sorted already."""
    if bool((ts_ns[1:] >= ts_ns[:-1]).all()):
        return slice(None)
    return np.argsort(ts_ns, kind="stable")


def ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """All integers of the ranges [start, start + length), concatenated."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    flat: NDArray[np.int64] = np.repeat(starts - (ends - lengths), lengths)
    flat += np.arange(total)
    return flat


def offsets_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """Where parts of these lengths begin when they are joined (n + 1: the last is the whole length)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _hashed(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Each value claims a slot, the last one wins; those that find another value in theirs are sorted instead."""
    bits = min(len(values).bit_length() + 1, 22)
    slot = ((values.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - bits)).view(np.int64)
    winner = np.empty(1 << bits, np.int32)
    winner[slot] = np.arange(len(values), dtype=np.int32)
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
