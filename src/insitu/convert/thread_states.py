"""What each thread did at any time, running, waiting for a CPU or asleep: from the scheduler's events.

sched_switch says who left a CPU, in which state, and who got it; sched_waking (or sched_wakeup) who woke whom.
Whole columns are sorted and compared, a window of time after another; there is no loop over events.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from insitu.convert.trace_pages import END_NS
from insitu.session.coded_texts import CodedTexts
from insitu.session.core_tables import THREAD_STATE
from insitu.session.distinct import group_order, time_order
from insitu.session.writer import SessionWriter

__all__ = [
    "STATES",
    "WAKINGS",
    "SchedulerEvents",
    "StateJoiner",
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


_NONE_32, _NONE_64 = np.zeros(0, np.int32), np.zeros(0, np.int64)
_NO_SWITCHES: Final = Switches(_NONE_64, _NONE_32, _NONE_32, _NONE_64, _NONE_32, _NONE_32)
_NO_WAKINGS: Final = Wakings(_NONE_64, _NONE_32, _NONE_32)


class ThreadStates(NamedTuple):
    """Rows of a window, in the order of time.

    ``dur_ns`` is -1 of a last state; ``waker_ts_ns`` 0 where no waking is known.
    """

    ts_ns: I64
    dur_ns: I64
    tid: I32
    cpu: I32
    state: NDArray[np.int8]
    waker_tid: I32
    waker_ts_ns: I64
    stack: I32


def thread_states(switches: Switches, wakings: Wakings, *, start_ns: int | None = None) -> ThreadStates:
    """The states of all threads, whose events may come in any order; see ``StateJoiner``."""
    return StateJoiner(start_ns).finish(switches, wakings)


class _Events(NamedTuple):
    """What happened to threads: each left a CPU, was woken or got a CPU."""

    ts_ns: I64
    kind: NDArray[np.int8]
    tid: I32
    cpu: I32
    left: NDArray[np.int8]
    """The state in which a thread left its CPU."""
    waker_tid: I32
    stack: I32
    done: Bools
    """Its row has been given."""


class StateJoiner:
    """Joins the events of threads but the idle ones to states, a window of time after another.

    A thread that first leaves a CPU ran there from ``start_ns`` on (default: the first event). It is ``runnable``
    from the first waking after it fell asleep, or that fell between its decision to sleep and its leaving the CPU.
    Where events of a thread contradict each other some were lost, and what it did between them is ``unknown``.
    """

    def __init__(self, start_ns: int | None = None) -> None:
        self._start_ns = start_ns
        self._held = _events(_NO_SWITCHES, _NO_WAKINGS)

    @property
    def held(self) -> int:
        """How many events wait for later ones: at most four of each thread."""
        return len(self._held.ts_ns)

    def add(self, switches: Switches, wakings: Wakings) -> ThreadStates:
        """The states that are over. No event is before those of the last call; in one call they are in any order."""
        return self._states(_events(switches, wakings), ended=False)

    def finish(self, switches: Switches = _NO_SWITCHES, wakings: Wakings = _NO_WAKINGS) -> ThreadStates:
        """The states of the last events, with the last state of each thread."""
        return self._states(_events(switches, wakings), ended=True)

    def _states(self, new: _Events, *, ended: bool) -> ThreadStates:
        if self._start_ns is None and len(new.ts_ns):
            self._start_ns = int(new.ts_ns[0])
        events = _concatenated([self._held, new])
        order = group_order(events.tid)  # by thread, and of one as they were
        kind, tid, left = events.kind[order], events.tid[order], events.left[order]
        starts = _changes(tid)  # a thread's first event
        out, wakes = kind == _OUT, kind == _WAKE
        asleep = out & (left >= _SLEEPING)
        first_waking = wakes & (_before(asleep, False) | starts)
        # A thread asleep that returns without having been woken: the waking just before had found it on the CPU.
        returns = _after(kind == _IN, False) & _after(~starts, False)
        early = asleep & returns & ~starts & _before(wakes & ~first_waking, False)
        woken = np.flatnonzero(early | wakes)
        waking = order[woken - early[woken]]

        at = np.flatnonzero(~wakes | first_waking)  # other wakings are of threads that run or are runnable already
        place = order[at]
        out, runs, early = out[at], kind[at] == _IN, early[at]
        ts_ns, cpu = events.ts_ns[place], events.cpu[place]
        last = _after(starts[at], True)
        state = np.where(runs, _RUNNING, np.where(early | ~(out | runs), _RUNNABLE, left[at])).astype(np.int8)
        contradicts = _after(out, False) != runs
        contradicts[:-1] |= runs[:-1] & (cpu[1:] != cpu[:-1])
        state[contradicts & ~last & (state != _EXITED)] = _UNKNOWN
        duration = np.where(last | (state == _EXITED), -1, _after(ts_ns, 0) - ts_ns)
        given = ~events.done[place] & (ended | ~last)
        ran = place[starts[at] & out & given]

        # In the order of time again.
        size = len(order)
        rows = np.flatnonzero(_scattered(size, place, given, np.bool_))
        state = _scattered(size, place, state, np.int8)[rows]
        found = ThreadStates(
            events.ts_ns[rows],
            _scattered(size, place, duration, np.int64)[rows],
            events.tid[rows],
            np.where(state == _RUNNING, events.cpu[rows], -1).astype(np.int32),
            state,
            _scattered(size, order[woken], events.waker_tid[waking], np.int32)[rows],
            _scattered(size, order[woken], events.ts_ns[waking], np.int64)[rows],
            events.stack[rows],
        )
        events = events._replace(done=~_scattered(size, place[last], True, np.bool_))
        self._held = _taken(events, np.flatnonzero(_scattered(size, order[_needed(tid, at[last])], True, np.bool_)))
        first = _first(self._start_ns or 0, events.ts_ns[ran], events.tid[ran], events.cpu[ran])
        return _concatenated([first, found]) if len(ran) else found


def _scattered(size: int, rows: I64, values: Any, kind: Any) -> NDArray[Any]:
    """An array of zeros that has ``values`` in these rows."""
    found = np.zeros(size, kind)
    found[rows] = values
    return found


def _needed(tid: I32, last: I64) -> I64:
    """What the next event of each thread may depend on; ``last`` is where its last state began.

    Those are the two events before, which say whether it was woken early, and its last waking.
    """
    kept = np.zeros(len(tid), np.bool_)
    for back in (1, 2):
        before = last[last >= back]
        kept[before[tid[before - back] == tid[before]] - back] = True
    kept[last] = True
    return np.flatnonzero(kept | _after(_changes(tid), True))


def write_thread_states(writer: SessionWriter, states: ThreadStates) -> None:
    """Append the rows to the table ``thread_state``."""
    writer.append(THREAD_STATE, {})
    for at in range(0, len(states.ts_ns), _BATCH_ROWS):
        batch = _taken(states, slice(at, at + _BATCH_ROWS))
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
                "state": CodedTexts(batch.state, STATES),
                "waker": np.ma.masked_array(waker, ~known),
                "waker_ts_ns": np.ma.masked_array(batch.waker_ts_ns, batch.waker_ts_ns == 0),
                "stack": batch.stack,
            },
        )


class SchedulerEvents:
    """Writes the states of threads from the scheduler's trace events, which come a window of time after another.

    The events of a window are joined in a thread, while the next window is made.
    """

    def __init__(self, writer: SessionWriter, only: Collection[int] | None = None) -> None:
        """Write the table ``thread_state``, if there are switches: ``only`` of these threads, or of all."""
        self._writer = writer
        self._only = None if only is None else np.array(sorted(only), np.int32)
        self._joiner = StateJoiner(writer.manifest.start_ns or None)
        self._switches: list[Switches] = []
        self._wakings: list[Wakings] = []
        self._switched = False
        self._pool = ThreadPoolExecutor(1)
        self._joining: Future[ThreadStates] | None = None

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
            self._switched = True
        elif label in WAKINGS:
            self._wakings.append(Wakings(columns["ts_ns"], of("pid", np.int32), tid))

    def advance(self, until_ns: int) -> None:
        """Write the states that were over at the last call; all events from before ``until_ns`` have come."""
        self._write()
        if self._switches or self._wakings:
            switches, self._switches = _split(self._switches, until_ns)
            wakings, self._wakings = _split(self._wakings, until_ns)
            self._joining = self._pool.submit(self._joiner.add, switches or _NO_SWITCHES, wakings or _NO_WAKINGS)

    def finish(self) -> None:
        """Write the rest."""
        self.advance(END_NS)
        self._write()
        self._joining = self._pool.submit(self._joiner.finish)
        self._write()
        self._pool.shutdown()

    def _write(self) -> None:
        """Write the states that were joined last."""
        joining, self._joining = self._joining, None
        states = None if joining is None else joining.result()
        if states is not None and self._switched:
            if self._only is not None:
                states = _taken(states, np.isin(states.tid, self._only))
            write_thread_states(self._writer, states)


Columns = TypeVar("Columns", bound=tuple[Any, ...])


def _taken(columns: Columns, rows: Any) -> Columns:
    """Rows of columns, which are a named tuple of arrays."""
    make: Any = type(columns)
    return cast(Columns, make(*(column[rows] for column in columns)))


def _concatenated(parts: Sequence[Columns]) -> Columns:
    make: Any = type(parts[0])
    return cast(Columns, make(*map(np.concatenate, zip(*parts, strict=True))))


def _split(batches: list[Columns], until_ns: int) -> tuple[Columns | None, list[Columns]]:
    """The rows from before a time, and the rest."""
    if not batches:
        return None, []
    whole = _concatenated(batches)
    late = whole[0] >= until_ns
    return (_taken(whole, ~late), [_taken(whole, late)]) if late.any() else (whole, [])


def _events(switches: Switches, wakings: Wakings) -> _Events:
    """The events in the order of time, without the idle threads'; wakings before switches of the same time."""
    order, woken_order = time_order(switches.ts_ns), time_order(wakings.ts_ns)
    ts_ns, woken_ns = switches.ts_ns[order], wakings.ts_ns[woken_order]
    rows, woken = len(ts_ns), len(woken_ns)
    at = 2 * np.searchsorted(ts_ns, woken_ns) + np.arange(woken)
    switched = np.ones(2 * rows + woken, np.bool_)
    switched[at] = False
    # Of each event where it is in a column of all that left a CPU, all that got one, and all that were woken.
    source = np.empty(2 * rows + woken, np.int64)
    source[switched] = np.arange(2 * rows).reshape(2, rows).T.reshape(-1)
    source[at] = np.arange(2 * rows, 2 * rows + woken)
    tid = np.concatenate([switches.prev_tid[order], switches.next_tid[order], wakings.tid[woken_order]])[source]
    kept = np.flatnonzero(tid)
    tid, source = tid[kept], source[kept]

    def merged(of_out: Any, of_in: Any, of_waking: Any, kind: Any) -> NDArray[Any]:
        column = np.empty(2 * rows + woken, kind)
        column[:rows], column[rows : 2 * rows], column[2 * rows :] = of_out, of_in, of_waking
        return column[source]

    cpu, stack = switches.cpu[order], 0 if switches.prev_stack is None else switches.prev_stack[order]
    return _Events(
        merged(ts_ns, ts_ns, woken_ns, np.int64),
        merged(_OUT, _IN, _WAKE, np.int8),
        tid,
        merged(cpu, cpu, -1, np.int32),
        merged(_states_of(switches.prev_state[order]), _UNKNOWN, _UNKNOWN, np.int8),
        merged(0, 0, wakings.waker_tid[woken_order], np.int32),
        merged(stack, 0, 0, np.int32),
        np.zeros(len(tid), np.bool_),
    )


def _changes(values: I32) -> Bools:
    return np.append(True, values[1:] != values[:-1])[: len(values)]


def _before(values: NDArray[Any], first: Any) -> NDArray[Any]:
    """Of each event what ``values`` say of the one before it."""
    return np.concatenate([np.full(1, first, values.dtype), values[:-1]])[: len(values)]


def _after(values: NDArray[Any], last: Any) -> NDArray[Any]:
    """Of each event what ``values`` say of the one after it."""
    return np.append(values[1:], np.full(1, last, values.dtype))[: len(values)]


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
