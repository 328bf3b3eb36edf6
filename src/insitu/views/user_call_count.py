"""Calls added up by function: as ltrace -c and uftrace report do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from insitu.convert.call_spans import Calls
from insitu.views import quantity
from insitu.views.table import Column, Table

__all__ = ["call_count_table"]

_TITLES = ("self%", "self", "total", "mean", "max", "calls")


def call_count_table(calls: Calls, names: Sequence[str], sort: str = "self") -> Table:
    """A row for each function, the largest ``sort`` ("self", "total", "calls", "mean", "max") first.

    The total of a recursive function counts its outermost calls only.
    """
    size = len(names)
    closed = np.maximum(calls.dur_ns, 0)
    count = np.bincount(calls.func, minlength=size)
    own = _sums(calls.func, np.maximum(calls.self_ns, 0), size)
    outermost = ~_recursive(calls)
    total = _sums(calls.func[outermost], closed[outermost], size)
    most = np.zeros(size, np.int64)
    np.maximum.at(most, calls.func, closed)
    mean = _sums(calls.func, closed, size) // np.maximum(count, 1)
    key = {"self": own, "total": total, "calls": count, "mean": mean, "max": most}[sort]
    whole = int(own.sum())
    rows = []
    for at in np.lexsort((np.arange(size), -key)).tolist():
        if count[at]:
            times = (quantity.duration(int(each[at])) for each in (own, total, mean, most))
            cells = (f"{quantity.percent(int(own[at]), whole):.2f}", *times, str(int(count[at])), names[at])
            rows.append([(cell, "") for cell in cells])
    return Table([*(Column(title) for title in _TITLES), Column("function", "left", names=True)], rows)


def _sums(func: np.ndarray, values: np.ndarray, size: int) -> np.ndarray:
    found = np.zeros(size, np.int64)
    np.add.at(found, func, values)
    return found


def _recursive(calls: Calls) -> np.ndarray:
    """Which calls are inside another one of the same function."""
    found = np.zeros(len(calls.func), np.bool_)
    above, rows = calls.parent.copy(), np.flatnonzero(calls.parent >= 0)
    while len(rows):  # as often as the deepest call has callers
        found[rows] |= calls.func[above[rows]] == calls.func[rows]
        above[rows] = calls.parent[above[rows]]
        rows = rows[(above[rows] >= 0) & ~found[rows]]
    return found
