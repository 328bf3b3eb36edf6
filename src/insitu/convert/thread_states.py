"""What each thread did at any time, running, waiting for a CPU or asleep: from the scheduler's events.

sched_switch says who left a CPU, in which state, and who got it; sched_waking (or sched_wakeup) who woke whom.
Whole columns are sorted and compared; there is no loop over events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.core_tables import THREAD_STATE
from insitu.session.distinct import distinct, stable_order
from insitu.session.writer import SessionWriter

__all__ = [
    "STATES",
    "WAKINGS",
    "SchedulerEvents",
    "Switches",
    "ThreadStates",
    "Wakings",
    "thread_states",
    "write_thread_states",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

STATES: Final = (
    "running",
    "runnable",
    "preempted",
    "sleeping",
    "uninterruptible",
    "stopped",
    "traced",
    "exited",
    "parked",
    "idle",
    "unknown",
)
"""Names of ``ThreadStates.state``."""

_RUNNING, _RUNNABLE, _PREEMPTED, _SLEEPING, _UNINTERRUPTIBLE, _STOPPED, _TRACED, _EXITED, _PARKED, _IDLE, _UNKNOWN = (
    range(len(STATES))
)
# prev_state of sched_switch (include/trace/events/sched.h): 0 or TASK_REPORT_MAX: preempted; else one bit is set.
_OF_BIT: Final = (
    (0x80, _IDLE),
    (0x40, _PARKED),
    (0x30, _EXITED),
    (0x8, _TRACED),
    (0x4, _STOPPED),
    (0x2, _UNINTERRUPTIBLE),
    (0x1, _SLEEPING),
)
_PREEMPTED_BIT: Final = 0x100
WAKINGS: Final = ("sched:sched_waking", "sched:sched_wakeup", "sched:sched_wakeup_new")
"""Events of which the first after a thread fell asleep has woken it."""
_OUT, _WAKE, _IN = range(3)
_BATCH_ROWS: Final = 1 << 20  # written at a time: the states' names are texts


class Switches(NamedTuple):
    """Columns of sched_switch. ``prev_stack``: where the thread left the CPU, stack ids of the session."""

    ts_ns: I64
    cpu: I32
    prev_tid: I32
    prev_state: I64
    next_tid: I32
    prev_stack: I32 | None = None


class Wakings(NamedTuple):
    """Columns of sched_waking or sched_wakeup, or both. A ``waker_tid`` of 0 is the idle task: an interrupt."""

    ts_ns: I64
    tid: I32
    waker_tid: I32


class ThreadStates(NamedTuple):
    """Rows in the order of time. ``dur_ns`` is -1 of a last state; ``waker_ts_ns`` 0 where no waking is known."""

    ts_ns: I64
    dur_ns: I64
    tid: I32
    cpu: I32
    state: NDArray[np.int8]
    waker_tid: I32
    waker_ts_ns: I64
    stack: I32


def thread_states(switches: Switches, wakings: Wakings, *, start_ns: int | None = None) -> ThreadStates:
    """The states of all threads but the idle ones, in which times and threads may come in any order.

    A thread that first leaves a CPU ran there from ``start_ns`` on (default: the first event). It is ``runnable``
    from the first waking after it fell asleep, or that fell between its decision to sleep and its leaving the CPU.
    Where events of a thread contradict each other some were lost, and what it did between them is ``unknown``.
    """
    switches, wakings = Switches(*_in_time(*switches)), Wakings(*_in_time(*wakings))
    kind, source, tid = _events(switches, wakings)
    order = stable_order(distinct(tid)[1])  # by thread, and of one as they were
    kind, source, who = kind[order], source[order], tid[order]
    starts = _changes(who)  # a thread's first event
    out, wakes = kind == _OUT, kind == _WAKE
    left = np.full(len(kind), _UNKNOWN, np.int8)
    left[out] = _states_of(switches.prev_state)[source[out]]
    asleep = out & (left >= _SLEEPING)
    first_waking = wakes & (_before(asleep, False) | starts)
    # A thread asleep that returns without having been woken: the waking just before had found it still on the CPU.
    returns = np.append(kind[1:] == _IN, False) & np.append(~starts[1:], False) if len(kind) else wakes
    early = asleep & returns & ~starts & _before(wakes & ~first_waking, False)
    waking = np.where(early, _before(source, -1), np.where(wakes, source, -1))

    at = np.flatnonzero(~wakes | first_waking)  # other wakings are of threads that run or are runnable already
    kind, starts, left, waking, early = kind[at], starts[at], left[at], waking[at], early[at]
    source, order, who = source[at], order[at], who[at]
    switched = kind != _WAKE
    cpu, when, stack = np.full(len(at), -1, np.int32), np.zeros(len(at), np.int64), np.zeros(len(at), np.int32)
    cpu[switched] = switches.cpu[source[switched]]
    when[switched] = switches.ts_ns[source[switched]]
    when[~switched] = wakings.ts_ns[source[~switched]]
    out = kind == _OUT
    if switches.prev_stack is not None:
        stack[out] = switches.prev_stack[source[out]]
    last = np.append(starts[1:], True)[: len(at)]
    state = np.where(kind == _IN, _RUNNING, np.where(early | ~switched, _RUNNABLE, left)).astype(np.int8)
    then_out = np.append(out[1:], False)[: len(at)]
    contradicts = then_out != (kind == _IN)
    contradicts[:-1] |= (kind[:-1] == _IN) & (cpu[1:] != cpu[:-1])
    state[contradicts & ~last & (state != _EXITED)] = _UNKNOWN
    duration = np.where(last | (state == _EXITED), -1, np.append(when[1:], 0)[: len(at)] - when)
    waker_tid, waker_ts = np.zeros(len(at), np.int32), np.zeros(len(at), np.int64)
    woken = np.flatnonzero(waking >= 0)
    waker_tid[woken], waker_ts[woken] = wakings.waker_tid[waking[woken]], wakings.ts_ns[waking[woken]]
    ran = tuple(column[starts & out] for column in (when, who, cpu))
    cpu[state != _RUNNING] = -1
    # Back into the order of time, in which events were numbered.
    row = np.full(len(tid), -1, np.int32)
    row[order] = np.arange(len(at), dtype=np.int32)
    row = row[row >= 0]
    begin = start_ns if start_ns is not None else int(when[row[0]]) if len(row) else 0
    columns: Sequence[NDArray[Any]] = (when, duration, who, cpu, state, waker_tid, waker_ts, stack)
    first: Sequence[NDArray[Any]] = _first(begin, *ran)
    return ThreadStates(*(_joined(before, column, row) for before, column in zip(first, columns, strict=True)))


def write_thread_states(writer: SessionWriter, states: ThreadStates) -> None:
    """Append the rows to the table ``thread_state``."""
    import polars

    names = polars.Series(STATES)
    writer.append(THREAD_STATE, {})
    for at in range(0, len(states.ts_ns), _BATCH_ROWS):
        columns: Sequence[Any] = states
        batch = ThreadStates(*(column[at : at + _BATCH_ROWS] for column in columns))
        waker = np.zeros(len(batch.tid), np.int32)
        known = batch.waker_tid > 0
        waker[known] = writer.processes.utids(batch.waker_tid[known], batch.waker_ts_ns[known])
        writer.append(
            THREAD_STATE,
            {
                "ts_ns": batch.ts_ns,
                "dur_ns": np.ma.masked_array(np.maximum(batch.dur_ns, 0), batch.dur_ns < 0),
                "utid": writer.processes.utids(batch.tid, batch.ts_ns),
                "cpu": batch.cpu,
                "state": names[batch.state.astype(np.uint32)],
                "waker": np.ma.masked_array(waker, ~known),
                "waker_ts_ns": np.ma.masked_array(batch.waker_ts_ns, batch.waker_ts_ns == 0),
                "stack": batch.stack,
            },
        )


class SchedulerEvents:
    """Collects the scheduler's trace events, batch by batch, for the states of threads."""

    def __init__(self) -> None:
        self._switches: list[Switches] = []
        self._wakings: list[Wakings] = []

    def add(self, label: str, columns: Mapping[str, Any], tid: I32, stack: I32 | None) -> None:
        """Take the columns of events "CATEGORY:NAME"; ``tid`` is the thread that they happened in, of ``WAKINGS`` 0
        in an interrupt. Others, and those without the kernel's fields (a forged format), are ignored.
        """
        wanted = ("prev_pid", "prev_state", "next_pid") if label == "sched:sched_switch" else ("pid",)
        if any(getattr(columns.get(name), "ndim", 0) != 1 for name in wanted):
            return

        def of(name: str, kind: type[np.generic]) -> NDArray[Any]:
            return np.asarray(columns[name]).astype(kind)

        if label == "sched:sched_switch":
            kept = of("prev_pid", np.int32), of("prev_state", np.int64), of("next_pid", np.int32)
            stack = np.zeros(len(tid), np.int32) if stack is None else stack
            self._switches.append(Switches(columns["ts_ns"], columns["cpu"], *kept, stack))
        elif label in WAKINGS:
            self._wakings.append(Wakings(columns["ts_ns"], of("pid", np.int32), tid))

    def write(self, writer: SessionWriter, only: Collection[int] | None = None) -> None:
        """Write the table ``thread_state``, if there were switches: ``only`` of these threads, or of all."""
        if self._switches:
            none = Wakings(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
            switches = Switches(*map(np.concatenate, zip(*self._switches, strict=True)))
            wakings = Wakings(*map(np.concatenate, zip(*(self._wakings or [none]), strict=True)))
            states = thread_states(switches, wakings, start_ns=writer.manifest.start_ns or None)
            if only is not None:
                known = np.isin(states.tid, np.array(sorted(only), np.int32))
                columns: Sequence[Any] = states
                states = ThreadStates(*(column[known] for column in columns))
            write_thread_states(writer, states)


def _in_time(ts_ns: I64, *columns: Any) -> list[Any]:
    """The columns in the order of time; one may be None."""
    if bool((ts_ns[1:] >= ts_ns[:-1]).all()):
        return [ts_ns, *columns]
    order = np.argsort(ts_ns, kind="stable")
    return [None if column is None else column[order] for column in (ts_ns, *columns)]


def _events(switches: Switches, wakings: Wakings) -> tuple[NDArray[np.int8], I32, I32]:
    """Kind, row in its table, and thread of each event, in the order of time, without the idle threads'."""
    rows, woken = len(switches.ts_ns), len(wakings.ts_ns)
    at = 2 * np.searchsorted(switches.ts_ns, wakings.ts_ns) + np.arange(woken)
    switched = np.ones(2 * rows + woken, np.bool_)
    switched[at] = False
    kind = np.full(len(switched), _WAKE, np.int8)
    kind[switched] = np.tile(np.array([_OUT, _IN], np.int8), rows)
    source, tid = np.empty((2, len(switched)), np.int32)
    source[at], source[switched] = np.arange(woken), np.repeat(np.arange(rows, dtype=np.int32), 2)
    tid[at], tid[switched] = wakings.tid, np.stack([switches.prev_tid, switches.next_tid], axis=1).ravel()
    known = tid != 0
    return kind[known], source[known], tid[known]


def _changes(values: I32) -> Bools:
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _before(values: NDArray[Any], first: Any) -> NDArray[Any]:
    """Of each event what ``values`` say of the one before it."""
    return np.concatenate([np.full(1, first, values.dtype), values[:-1]])[: len(values)]


def _states_of(prev_state: I64) -> NDArray[np.int8]:
    found = np.full(len(prev_state), _UNKNOWN, np.int8)
    for bit, state in _OF_BIT:
        found[(prev_state & bit) != 0] = state
    found[(prev_state == 0) | ((prev_state & _PREEMPTED_BIT) != 0)] = _PREEMPTED
    return found


def _first(start_ns: int, end_ns: I64, tid: I32, cpu: I32) -> ThreadStates:
    """The rows of threads that ran from the start until ``end_ns``."""
    some = end_ns > start_ns
    end_ns, tid, cpu = end_ns[some], tid[some], cpu[some]
    zeros = np.zeros(len(tid), np.int32)
    running, never = np.zeros(len(tid), np.int8), np.zeros(len(tid), np.int64)
    return ThreadStates(never + start_ns, end_ns - start_ns, tid, cpu, running, zeros, never, zeros)


def _joined(first: NDArray[Any], column: NDArray[Any], rows: I32) -> NDArray[Any]:
    """``first``, then the rows of a column in their order."""
    joined = np.empty(len(first) + len(rows), column.dtype)
    joined[: len(first)] = first
    np.take(column, rows, out=joined[len(first) :])
    return joined
