"""Calls added up by function: how many, their times and how these are spread."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.call_table import INTERRUPT, CallTable
from insitu.session.distinct import stable_order

__all__ = ["UNTRACED", "CalleeTime", "FunctionCalls", "callees_of", "function_calls", "outermost"]

I64 = NDArray[np.int64]

UNTRACED: Final = "[itself and callees that were not traced]"

_FENCE: Final = 3.0  # interquartile ranges above the third quartile: Tukey's "far out"


class FunctionCalls(NamedTuple):
    """The calls of one function that have returned. Times are in ns, without interrupts and the cost of tracing.

    ``total_ns`` counts only the outermost calls of a recursive function. ``deviation_ns`` is the standard deviation
    of totals, ``own_deviation_ns`` that of self times; ``outliers`` are the calls more than three interquartile
    ranges above the third quartile. ``calls_traced``: some of what it calls was traced; the rest is in its self time.
    """

    function: str
    category: str
    calls: int
    self_ns: int
    total_ns: int
    mean_ns: float
    p50_ns: int
    p99_ns: int
    max_ns: int
    deviation_ns: float
    outliers: int
    own_deviation_ns: float
    calls_traced: bool


def function_calls(table: CallTable, *, by: Literal["self", "total"] = "self") -> list[FunctionCalls]:
    """Every function, by falling time; what interrupts have called is of category "interrupt"."""
    closed = np.flatnonzero(table.dur_ns >= 0)
    if not len(closed):
        return []
    function, total, own = table.function[closed], table.total_ns[closed], table.self_ns[closed]
    order = np.argsort(total, kind="stable")
    order = order[stable_order(function[order].astype(np.int64))]
    function, total, own, outer = function[order], total[order], own[order], outermost(table)[closed][order]
    starts = np.flatnonzero(np.append(True, function[1:] != function[:-1]))
    count = np.diff(np.append(starts, len(function)))

    def at_share(share: float) -> I64:
        found: I64 = total[starts + np.minimum((count * share).astype(np.int64), count - 1)]
        return found

    low, high = at_share(0.25), at_share(0.75)
    fence = np.repeat(high + _FENCE * (high - low), count)
    callers = np.unique(table.function[table.parent[table.parent >= 0]])
    columns = (
        function[starts],
        count,
        np.add.reduceat(own, starts),
        np.add.reduceat(np.where(outer, total, 0), starts),
        np.add.reduceat(total, starts) / count,
        at_share(0.5),
        at_share(0.99),
        total[starts + count - 1],
        _deviation(total, starts, count),
        np.add.reduceat((total > fence).astype(np.int64), starts),
        _deviation(own, starts, count),
        np.isin(function[starts], callers),
    )
    rows = [
        FunctionCalls(*table.functions[code], *rest)
        for code, *rest in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.self_ns if by == "self" else -row.total_ns, row.function))


def _deviation(values: I64, starts: I64, count: I64) -> NDArray[np.float64]:
    mean = np.add.reduceat(values, starts) / count
    squares = np.add.reduceat((values - np.repeat(mean, count)) ** 2, starts)
    deviation: NDArray[np.float64] = np.sqrt(squares / np.maximum(count - 1, 1))
    return deviation


def outermost(table: CallTable) -> NDArray[np.bool_]:
    """Which calls are not within another call of the same function."""
    found = np.ones(len(table.function), np.bool_)
    at, rows = table.parent.copy(), np.flatnonzero(table.parent >= 0)
    while len(rows):  # as often as the deepest call has callers
        found[rows] &= table.function[at[rows]] != table.function[rows]
        at[rows] = table.parent[at[rows]]
        rows = rows[(at[rows] >= 0) & found[rows]]
    return found


class CalleeTime(NamedTuple):
    """What the calls of a function spent in one callee; ``function`` None: in itself, and in what was not traced."""

    function: str | None
    calls: int
    total_ns: int


def callees_of(table: CallTable, name: str) -> tuple[int, int, list[CalleeTime]]:
    """The number of a function's calls, their time, and what it consists of, the largest part first.

    The last part is what is left of it when that of all traced callees is taken off: the function's own code and what
    it calls that cannot be traced (inlined, assembly, notrace).
    """
    codes = [code for code, (each, kind) in enumerate(table.functions) if each == name and kind != INTERRUPT]
    callers = np.isin(table.function, codes) & (table.dur_ns >= 0)
    inner = np.flatnonzero((table.parent >= 0) & callers[table.parent] & ~table.interrupt)
    totals: dict[str, list[int]] = {}
    for code in np.unique(table.function[inner]).tolist():
        rows = inner[table.function[inner] == code]
        part = totals.setdefault(table.functions[code][0], [0, 0])
        part[0] += len(rows)
        part[1] += int(np.maximum(table.total_ns[rows], 0).sum())
    parts = [CalleeTime(each, count, total) for each, (count, total) in totals.items()]
    parts.sort(key=lambda part: (-part.total_ns, part.function or ""))
    calls, own = int(callers.sum()), int(table.self_ns[callers].sum())
    return calls, own + sum(part.total_ns for part in parts), [*parts, CalleeTime(None, calls, own)]
