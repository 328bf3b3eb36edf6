"""Spans as begins and ends in the order of time, for formats that draw slices by them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Edges", "edges", "lanes"]

I64 = NDArray[np.int64]


class Edges(NamedTuple):
    """Begins and ends by track and time: ``span`` is the row of the span, ``is_end`` whether it ends there."""

    span: I64
    is_end: NDArray[np.bool_]


def edges(track: I64, ts_ns: I64, end_ns: I64, depth: I64) -> Edges:
    """The begins and ends of spans: of those that begin together the outer first, of those that end together last.

    A span without duration ends before the next begins.
    """
    rows = len(ts_ns)
    outer_first = np.empty(rows, np.int64)
    outer_first[np.lexsort((depth, -end_ns, ts_ns))] = np.arange(rows)
    empty = end_ns <= ts_ns
    span = np.tile(np.arange(rows), 2)
    is_end = np.repeat([False, True], rows)
    inner = np.concatenate((outer_first, np.where(empty, outer_first, -outer_first)))
    after_ends = np.concatenate((np.ones(rows, np.bool_), empty))
    time = np.concatenate((ts_ns, np.maximum(end_ns, ts_ns)))
    order = np.lexsort((is_end, inner, after_ends, time, track[span]))
    return Edges(span[order], is_end[order])


def lanes(track: I64, ts_ns: I64, end_ns: I64, depth: I64) -> I64:
    """The lane of each span: within a lane of a track, spans nest or follow each other. Lane 0 suffices for most."""
    found = np.zeros(len(ts_ns), np.int64)
    if not len(ts_ns):
        return found
    span, is_end = edges(track, ts_ns, end_ns, depth)
    step = np.where(is_end, -1, 1)
    level = np.cumsum(step) + is_end  # of an end: the level that it leaves
    pairs = span[np.argsort(level, kind="stable")].reshape(-1, 2)
    crossing = np.unique(track[pairs[pairs[:, 0] != pairs[:, 1]].ravel()])
    for each in crossing.tolist():
        rows = np.flatnonzero(track == each)
        rows = rows[np.lexsort((depth[rows], -end_ns[rows], ts_ns[rows]))]
        found[rows] = _greedy(ts_ns[rows].tolist(), end_ns[rows].tolist())
    return found


def _greedy(ts_ns: list[int], end_ns: list[int]) -> list[int]:
    """The first lane where each span fits, given in the order of their begins."""
    open_ends: list[list[int]] = []
    found = []
    for begin, end in zip(ts_ns, end_ns, strict=True):
        for lane, stack in enumerate(open_ends):
            while stack and stack[-1] <= begin:
                stack.pop()
            if not stack or end <= stack[-1]:
                stack.append(end)
                found.append(lane)
                break
        else:
            open_ends.append([end])
            found.append(len(open_ends) - 1)
    return found
