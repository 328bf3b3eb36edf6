"""Entries and exits of traced functions (ftrace's function_graph) joined to calls: parent, depth and self time.

An exit says how long its call took; an entry is needed for calls that have not returned, and for exact starts. Losses
break nesting only where they are: a call whose entry was lost still has its duration, and no call gets the exit of
another.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct, groups, stable_order

__all__ = ["CallCost", "CallJoiner", "CallRecords", "Calls", "join_calls"]

Bools = NDArray[np.bool_]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_MOST_DEPTH: Final = 1024  # the kernel's own limit is 50 (FTRACE_RETFUNC_DEPTH), in newer ones a page of frames
_MOST_LEVELS: Final = 2 * _MOST_DEPTH
# How far an entry's record may be from the start that its exit gives, for a match across lost records.
_START_TOLERANCE_NS: Final = 20_000


class CallRecords(NamedTuple):
    """n entries and exits, those of each CPU in the order of its ring.

    ``func`` (i32) numbers functions. ``dur_ns`` is the duration that an exit gives; -1: none, an entry.
    """

    ts_ns: I64
    thread: I32
    """Whose call stack it is: a thread id; idle tasks, which share one, need a number for each CPU."""
    cpu: I32
    exits: Bools
    func: I32
    depth: I32
    dur_ns: I64


_NO_32, _NO_64 = np.zeros(0, np.int32), np.zeros(0, np.int64)
_NO_RECORDS: Final = CallRecords(_NO_64, _NO_32, _NO_32, np.zeros(0, np.bool_), _NO_32, _NO_32, _NO_64)


class CallCost(NamedTuple):
    """What tracing a call costs: in its own measured duration, and besides that in its caller's."""

    inside_ns: int = 0
    outside_ns: int = 0


class Calls(NamedTuple):
    """n calls, callers before what they call, in the order of their starts for each thread."""

    ts_ns: I64
    dur_ns: I64
    """As measured; -1: it has not returned, or its exit was lost."""
    self_ns: I64
    """Duration without traced callees, interrupts and the tracer's own cost; -1 where the duration is unknown."""
    thread: I32
    cpu: I32
    func: I32
    parent: I64
    """Row of the caller; -1: none was traced."""
    depth: I32
    """Number of traced callers."""
    interrupt: Bools
    """Made by an interrupt handler that cut into its ``parent``."""
    dropped: int
    """Records that could not be used."""


def join_calls(records: CallRecords, lost_ns: I64, handlers: Bools, cost: CallCost | None = None) -> Calls:
    """Join entries and exits to calls.

    ``lost_ns``: times (on any CPU) before which records were lost. ``handlers[func]`` tells which functions are
    entered by interrupts; they and what they call are no part of the calls that they cut into.
    """
    return _join(_by_thread(records), lost_ns, handlers, cost or CallCost())


def _join(records: CallRecords, lost_ns: I64, handlers: Bools, cost: CallCost) -> Calls:
    """``join_calls`` of records that are sorted already."""
    valid = (records.depth >= 0) & (records.depth < _MOST_DEPTH) & (~records.exits | (records.dur_ns >= -1))
    dropped = len(valid) - int(valid.sum())
    if dropped:
        records = _taken(records, valid)
    lost_ns = np.sort(lost_ns)
    exit_of = _matched(records, lost_ns)
    single = records.exits.copy()
    single[exit_of[exit_of >= 0]] = False
    alone = np.flatnonzero(single & (records.dur_ns >= 0))
    dropped += int(single.sum()) - len(alone)  # of these not even the start is known
    return _nested(records, exit_of, alone, lost_ns, handlers, cost, dropped)


class CallJoiner:
    """Joins records that come one window after another. A call is joined when its outermost caller has returned.

    Records that wait for that are kept by thread, and looked at again only then.
    """

    def __init__(self, cost: CallCost) -> None:
        self.cost = cost
        self._held: dict[int, list[CallRecords]] = {}
        self._outermost: dict[int, int] = {}
        """By thread: the least depth of what is held."""
        self._late: CallRecords | None = None
        self._lost_ns: I64 = np.zeros(0, np.int64)

    def add(self, records: CallRecords, lost_ns: I64, until_ns: int, handlers: Bools) -> Calls:
        """The calls that are complete; all records up to ``until_ns`` are there. See ``join_calls``."""
        new = records if self._late is None else _joined([self._late, records])
        late = new.ts_ns > until_ns
        self._late = _taken(new, late) if late.any() else None
        new = _by_thread(_taken(new, ~late) if late.any() else new)
        self._lost_ns = np.concatenate([self._lost_ns, lost_ns])
        calls = _join(_joined([_NO_RECORDS, *self._returned(new)]), self._lost_ns, handlers, self.cost)
        first_ns = min((int(parts[0].ts_ns[0]) for parts in self._held.values()), default=until_ns)
        self._lost_ns = self._lost_ns[self._lost_ns >= first_ns]
        return calls

    def finish(self, handlers: Bools) -> Calls:
        """The calls that have not returned, and what they called."""
        parts = [_NO_RECORDS, *(part for held in self._held.values() for part in held)]
        parts += [self._late] if self._late is not None else []
        self._held, self._outermost, self._late = {}, {}, None
        return _join(_by_thread(_joined(parts)), self._lost_ns, handlers, self.cost)

    def _returned(self, new: CallRecords) -> list[CallRecords]:
        """The records, those of a thread together, up to the last return of its outermost calls; others are held."""
        if not len(new.ts_ns):
            return []
        depth = np.where(new.depth >= 0, new.depth, _MOST_DEPTH)
        starts = np.flatnonzero(np.append(True, new.thread[1:] != new.thread[:-1]))
        threads = new.thread[starts].tolist()
        known = np.array([self._outermost.get(thread, _MOST_DEPTH) for thread in threads])
        outermost = np.minimum(np.minimum.reduceat(depth, starts), known)
        returns = new.exits & (depth == outermost[_thread_numbers(new)])
        after = np.maximum.reduceat(np.where(returns, np.arange(1, len(depth) + 1), 0), starts).tolist()
        over = []
        bounds = zip(starts.tolist(), [*starts[1:].tolist(), len(depth)], after, strict=True)
        for thread, (low, high, returned) in zip(threads, bounds, strict=True):
            if returned:
                over += [*self._held.pop(thread, []), _taken(new, slice(low, returned))]
                self._outermost.pop(thread, None)
                low = returned
            if low < high:
                rest = CallRecords._make(column[low:high].copy() for column in new)
                self._held.setdefault(thread, []).append(rest)
                least = int(depth[low:high].min())
                self._outermost[thread] = min(self._outermost.get(thread, _MOST_DEPTH), least)
        return over


def _joined(parts: Sequence[CallRecords]) -> CallRecords:
    return CallRecords._make(map(np.concatenate, zip(*parts, strict=True)))


def _taken(records: CallRecords, rows: Any) -> CallRecords:
    return CallRecords._make(column[rows] for column in records)


def _by_thread(records: CallRecords) -> CallRecords:
    """The records of each thread together, in the order of time."""
    order = np.argsort(records.ts_ns, kind="stable")
    return _taken(records, order[stable_order(distinct(records.thread)[1][order])])


def _thread_numbers(records: CallRecords) -> I64:
    """Of each record the number of its thread, from 0 in their order."""
    return np.cumsum(np.append(0, records.thread[1:] != records.thread[:-1]))[: len(records.thread)]


def _matched(records: CallRecords, lost_ns: I64) -> I64:
    """For each entry the row of its exit, -1 where there is none.

    Of one thread and depth, entries and exits alternate: an exit belongs to the entry right before it, unless records
    in between were lost.
    """
    key = _thread_numbers(records) * (records.depth.max(initial=0) + 1) + records.depth
    order = stable_order(key)
    first, second = order[:-1], order[1:]
    pairs = (key[first] == key[second]) & ~records.exits[first] & records.exits[second]
    pairs &= records.func[first] == records.func[second]
    first, second = first[pairs], second[pairs]
    if len(lost_ns):
        ts_ns, dur_ns = records.ts_ns, records.dur_ns[second]
        whole = np.searchsorted(lost_ns, ts_ns[first], "right") == np.searchsorted(lost_ns, ts_ns[second], "right")
        apart = np.abs(ts_ns[second] - dur_ns - ts_ns[first])
        whole |= (dur_ns >= 0) & (apart <= _START_TOLERANCE_NS + dur_ns // 1000)
        first, second = first[whole], second[whole]
    found = np.full(len(key), -1, np.int64)
    found[first] = second
    return found


def _ends_of_open(records: CallRecords, rows: I64, lost_ns: I64) -> I64:
    """For entries without an exit the last row at which they may be open.

    A record of no greater depth ends them, and so do lost records, which may have been their exits.
    """
    part = np.searchsorted(lost_ns, records.ts_ns, "right")
    ends = (records.thread[1:] != records.thread[:-1]) | (part[1:] != part[:-1])
    boundary = np.flatnonzero(np.append(ends, True))
    last = boundary[np.searchsorted(boundary, rows)]
    for depth in np.unique(records.depth[rows]).tolist():
        of_depth = np.flatnonzero(records.depth[rows] == depth)
        shallow = np.append(np.flatnonzero(records.depth <= depth), len(records.depth))
        following = shallow[np.searchsorted(shallow, rows[of_depth], "right")]
        last[of_depth] = np.minimum(last[of_depth], following - 1)
    return last


def _place(records: CallRecords, alone: I64) -> I64:
    """The row before which calls of exits without an entry have started."""
    if not len(alone):
        return alone
    low = int(records.ts_ns.min())
    span = int(records.ts_ns.max()) - low + 2
    number = _thread_numbers(records)
    key = number * span + (records.ts_ns - low) + 1
    start = np.maximum(records.ts_ns[alone] - records.dur_ns[alone] - low + 1, 0)
    place: I64 = np.searchsorted(key, number[alone] * span + start)
    return place


def _nested(
    records: CallRecords, exit_of: I64, alone: I64, lost_ns: I64, handlers: Bools, cost: CallCost, dropped: int
) -> Calls:
    """The calls of entries, and of exits ``alone``, with their places in the call tree."""
    entry = np.flatnonzero(~records.exits)
    start_ns = records.ts_ns[alone] - records.dur_ns[alone]
    alone = alone[np.lexsort((records.depth[alone], start_ns))]
    row = np.concatenate([alone, entry])
    key = np.concatenate([2 * _place(records, alone), 2 * entry + 1])  # the former are before that row
    end = np.concatenate([alone, exit_of[entry]])
    still_open = np.flatnonzero(end < 0)
    end[still_open] = _ends_of_open(records, row[still_open], lost_ns)
    closed = np.ones(len(row), np.bool_)
    closed[still_open] = False
    order = np.argsort(key, kind="stable")
    row, key, end, closed = row[order], key[order] >> 1, end[order], closed[order]

    ts_ns, dur_ns = records.ts_ns[row], np.full(len(row), -1, np.int64)
    said = records.dur_ns[end[closed]]
    dur_ns[closed] = np.where(said >= 0, said, records.ts_ns[end[closed]] - ts_ns[closed])
    by_exit = records.exits[row]
    ts_ns[by_exit] -= dur_ns[by_exit]
    thread, func = records.thread[row], records.func[row]
    # An interrupt that comes while an exit is being recorded has not cut into that call, but into its caller.
    last_ns = np.where((dur_ns < 0), np.iinfo(np.int64).max, ts_ns + dur_ns)
    parent, depth, interrupt = _tree(key, end, thread, handlers[func], ts_ns, last_ns)
    own = _self_times(dur_ns, parent, cost)
    return Calls(ts_ns, dur_ns, own, thread, records.cpu[row], func, parent, depth, interrupt, dropped)


def _tree(start: I64, end: I64, thread: I32, handler: Bools, ts_ns: I64, last_ns: I64) -> tuple[I64, I32, Bools]:
    """For each call the row of the call around it (-1: none), its depth, and whether an interrupt made it.

    The call around is the last one before of the next outer level; a call's level is the number of calls that have
    started before it and not ended (by rows). Around a handler of an interrupt is one that lasts until then.
    """
    rows = np.arange(len(start))
    level = np.clip(rows - np.searchsorted(np.sort(end), start, "left"), 0, _MOST_LEVELS).astype(np.int32)
    parent, depth, interrupt = np.full(len(start), -1, np.int64), np.zeros(len(start), np.int32), handler.copy()
    outer = np.zeros(0, np.int64)
    for _, inner in groups(level):
        if len(outer) and len(inner):
            found = outer[np.maximum(np.searchsorted(outer, inner) - 1, 0)]
            around = (found < inner) & (thread[found] == thread[inner]) & (end[found] >= end[inner])
            row, found = inner[around], found[around]
            while (late := handler[row] & (found >= 0) & (ts_ns[row] > last_ns[found])).any():
                found = np.where(late, parent[found], found)
            parent[row], depth[row] = found, np.where(found < 0, 0, depth[found] + 1)
            interrupt[row] |= (found >= 0) & interrupt[found]
        outer = inner
    return parent, depth, interrupt


def _self_times(dur_ns: I64, parent: I64, cost: CallCost) -> I64:
    closed = dur_ns >= 0
    child = np.flatnonzero((parent >= 0) & closed)
    # bincount sums in double precision: exact up to 2**53, that is 104 days of nanoseconds.
    inner = np.bincount(parent[child], weights=dur_ns[child], minlength=len(dur_ns)).astype(np.int64)
    children = np.bincount(parent[child], minlength=len(dur_ns))
    own = np.maximum(dur_ns - inner - cost.inside_ns - cost.outside_ns * children, 0)
    return np.where(closed, own, -1)
