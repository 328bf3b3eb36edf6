"""Off-CPU time: the events of a thread leaving and returning to the CPU, joined to spans.

A wait that is still open at the end of the recording lasts until then; one of a thread that was asleep at its start
begins there. Where a return was not seen, the scheduler's counts say when it was, if it was the only one; else the
duration is null, and the return counts as lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.probe_source import decoded_events, stack_nodes
from insitu.convert.sources import RawSource, raw_bytes
from insitu.convert.tracing_frames import without_tracing
from insitu.kernel.sleeping import SLEEPING, unpacked
from insitu.probe.runtime.event_columns import CopiedStackColumn
from insitu.session.core_tables import SPAN
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import CORE_TEXT, KERNEL, Frame
from insitu.symbols.registers import machine_called

__all__ = ["already_waiting", "convert_source"]

I64 = NDArray[np.int64]

# include/linux/sched.h: prev_state of sched_switch. TASK_RUNNING means preempted; so does the TASK_REPORT_MAX bit,
# whatever the state.
_STATES: Final = (
    (0x1, "sleep"),
    (0x2, "uninterruptible sleep"),
    (0x4, "stopped"),
    (0x8, "traced"),
    (0x30, "ended"),
    (0x40, "parked"),
    (0x80, "idle"),
)
_COLUMNS: Final = ("ts_ns", "tid", "pid", "cpu", "state", "stack", "seen", "executed", "switches")
# The frame of what the kernel called before the recording, of which only the last function is known, if at all.
_ALREADY_WAITING: Final = "[already waiting]"
_PREEMPTED: Final = "preempted"
_RUN_QUEUE: Final = "run-queue"
_PREEMPTED_BIT: Final = 0x100
_ENDED: Final = 0x30


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "off_cpu" to the ``span`` table, category ``off-cpu``.

    Spans are written with the window of records in which they end; what is kept is one row of each waiting thread.
    """
    writer.append(SPAN, {})
    spans = _Spans(writer, already_waiting(source, writer, addresses))
    last_ns = 0
    for tables in decoded_events(source, writer):
        left = _left(tables, writer, addresses)
        back = tables.get("in", {})
        back_ns = np.asarray(back.get("ts_ns", []), np.int64)
        last_ns = max(last_ns, int(left["ts_ns"].max(initial=0)), int(back_ns.max(initial=0)))
        woken = np.asarray(back["woken"], np.int64) if "woken" in back else np.zeros(len(back_ns), np.int64)
        spans.add(left, np.asarray(back.get("who", [])).astype(np.int64), back_ns, woken)
    # Without an end, the recorder was killed.
    spans.finish(source.manifest.end_ns or last_ns)
    writer.lost(f"{source.id}: returns to a CPU", spans.lost)


def _no_rows() -> dict[str, Any]:
    return {name: np.zeros(0, np.int64) for name in _COLUMNS}


def _left(tables: Mapping[str, Mapping[str, Any]], writer: SessionWriter, addresses: Addresses) -> dict[str, Any]:
    """Rows of the threads that left the CPU, and of those that ended, whose return had not been seen."""
    parts = [_no_rows()]
    for label, columns in tables.items():
        if label in ("out", "gone"):
            rows: dict[str, Any] = {
                name: np.asarray(columns[name]).astype(np.int64) for name in _COLUMNS if name in columns
            }
            count = len(rows["tid"])
            if label == "out":
                user, kernel = (stack_nodes(columns[name], addresses, rows["ts_ns"]) for name in ("user", "kernel"))
                rows["stack"] = addresses.joined(user, without_tracing(writer, kernel))
            else:
                rows["state"] = np.full(count, _ENDED)
            rows["seen"] = np.ones(count, np.int64)
            parts.append({name: rows.get(name, np.zeros(count, np.int64)) for name in _COLUMNS})
    return {name: np.concatenate([each[name] for each in parts]) for name in _COLUMNS}


def already_waiting(source: RawSource, writer: SessionWriter, addresses: Addresses) -> dict[str, Any]:
    """Rows of the threads that were asleep when the recording started."""
    file = source.directory / SLEEPING
    threads = [*unpacked(raw_bytes(file)[:])] if file.exists() else []
    if not threads:
        return _no_rows()
    machine = machine_called(writer.manifest.machine)
    # The user registers that /proc gives; the mask has perf's bits, in whose order they are.
    known = sorted((machine.dwarf_of_perf.index(number), at) for at, number in enumerate((machine.sp, machine.pc)))
    registers = np.array([(each.sp, each.pc) for each in threads], np.uint64)
    sizes = np.array([len(each.stack) for each in threads], np.int64)
    pid = np.array([each.pid for each in threads], np.int32)
    ts_ns = np.array([each.ts_ns for each in threads], np.int64)
    copies = CopiedStackColumn(
        registers=registers[:, [at for _, at in known]],
        mask=sum(1 << bit for bit, _ in known),
        stack=np.frombuffer(b"".join(each.stack for each in threads), np.uint8),
        start=np.cumsum(sizes) - sizes,
        size=sizes,
        pid=pid,
    )
    user = np.where(sizes > 0, stack_nodes(copies, addresses, ts_ns), 0).astype(np.int32)
    kernel = []
    for each in threads:
        where = [Frame(each.wchan, CORE_TEXT, kind=KERNEL)] if each.wchan else []
        kernel.append(writer.intern_stack([*where, Frame(_ALREADY_WAITING, kind=KERNEL)]))
    return {
        "ts_ns": ts_ns,
        "tid": np.array([each.tid for each in threads], np.int64),
        "pid": pid.astype(np.int64),
        "cpu": np.array([each.cpu for each in threads], np.int64),
        "state": np.array([each.state for each in threads], np.int64),
        "stack": addresses.joined(user, np.array(kernel, np.int32)),
        **{name: np.zeros(len(threads), np.int64) for name in ("seen", "executed", "switches")},
    }


class _Spans:
    """Joins threads' leaving the CPU to their return."""

    def __init__(self, writer: SessionWriter, waiting: dict[str, Any]) -> None:
        """``waiting`` are rows of threads that wait at the beginning."""
        self._writer = writer
        self._waiting = waiting
        self.lost = 0
        """Waits whose end is not known."""

    def add(self, left: dict[str, Any], back_tid: I64, back_ns: I64, woken_ns: I64) -> None:
        """Take the next window's records. Of one thread, none is earlier than those of the windows before.

        ``woken_ns``: when the threads that come back were woken; 0 where that is not known.
        """
        rows = {name: np.concatenate([self._waiting[name], left[name]]) for name in _COLUMNS}
        following = _following(rows["tid"], rows["ts_ns"], back_tid, back_ns)
        returned, again = following.back >= 0, following.left >= 0
        end, woken = np.zeros((2, len(returned)), np.int64)
        end[returned], woken[returned] = back_ns[following.back[returned]], woken_ns[following.back[returned]]
        end[again] = _unseen_returns(rows, np.flatnonzero(again), following.left[again])
        ended = (rows["state"] & _ENDED) != 0
        waits = ~ended & (returned | again)
        self._waiting = {name: values[~(ended | returned | again)] for name, values in rows.items()}
        # A thread that is taken for asleep at the start, and leaves the CPU, was not.
        waits &= returned | (rows["seen"] != 0)
        self._write({name: values[waits] for name, values in rows.items()}, end[waits], woken[waits])

    def finish(self, end_ns: int) -> None:
        """Write the threads that have not come back until ``end_ns``.

        One that has ended by then had come back; when is not known.
        """
        rows = self._waiting
        ended_ns = self._writer.processes.end_ns(self._utids(rows))
        ended = (rows["ts_ns"] < ended_ns) & (ended_ns < end_ns)
        end = np.where(ended, 0, np.maximum(rows["ts_ns"], end_ns))
        self._write(rows, end, np.zeros_like(rows["ts_ns"]))

    def _utids(self, rows: dict[str, Any]) -> NDArray[np.int32]:
        """The thread of each row."""
        tid, pid = rows["tid"].astype(np.int32), rows["pid"].astype(np.int32)
        return self._writer.processes.utids(tid, rows["ts_ns"], pid)

    def _write(self, rows: dict[str, Any], end: I64, woken: I64) -> None:
        """Write waits, and in those whose thread was woken the time until it had a CPU, a span of its own.

        ``end`` is 0 where it is not known.
        """
        order = np.argsort(rows["ts_ns"], kind="stable")
        rows, end, woken = {name: values[order] for name, values in rows.items()}, end[order], woken[order]
        missing = end == 0
        self.lost += int(missing.sum())
        duration = np.ma.masked_array(np.where(missing, 0, end - rows["ts_ns"]), missing)
        ids = self._writer.span_ids(len(order))
        runnable = (woken > rows["ts_ns"]) & (woken < end)
        without_cpu = np.where(runnable, end - woken, 0)
        utid = self._utids(rows)
        stack = rows["stack"].astype(np.int32)
        self._writer.append(
            SPAN,
            {
                "id": ids,
                "ts_ns": rows["ts_ns"],
                "dur_ns": duration,
                "self_ns": duration - without_cpu,
                "utid": utid,
                "cpu": rows["cpu"],
                "category": ["off-cpu"] * len(order),
                "name": _names(rows["state"]),
                "stack": stack,
            },
        )
        count = int(runnable.sum())
        if count:
            self._writer.append(
                SPAN,
                {
                    "id": self._writer.span_ids(count),
                    "ts_ns": woken[runnable],
                    "dur_ns": without_cpu[runnable],
                    "self_ns": without_cpu[runnable],
                    "utid": utid[runnable],
                    "cpu": rows["cpu"][runnable],
                    "category": [_RUN_QUEUE] * count,
                    "name": ["runnable"] * count,
                    "parent": ids[runnable],
                    "depth": np.ones(count, np.int32),
                    "stack": stack[runnable],
                },
            )


def _unseen_returns(rows: dict[str, Any], left: I64, again: I64) -> I64:
    """When threads came back that leave the CPU again (rows ``again``) and were not seen to return; 0: unknown.

    The kernel counts a switch, and the time on the CPU up to it, before sched_switch: kernel/sched/core.c,
    __schedule().
    """
    ran = rows["executed"][again] - rows["executed"][left]
    once = (rows["switches"][again] - rows["switches"][left] == 1) & (ran >= 0) & (rows["seen"][left] != 0)
    return np.where(once, np.maximum(rows["ts_ns"][again] - ran, rows["ts_ns"][left]), 0)


class _Following(NamedTuple):
    """The row of the next event of each thread that left the CPU: ``back``, or ``left`` again; else -1.

    Both are -1 if there is no later event.
    """

    back: I64
    left: I64


def _following(tid: I64, ts_ns: I64, back_tid: I64, back_ns: I64) -> _Following:
    """The next event of each (thread, time)."""
    who = np.concatenate([tid, back_tid])
    when = np.concatenate([ts_ns, back_ns])
    leaves = np.concatenate([np.ones(len(tid), np.bool_), np.zeros(len(back_tid), np.bool_)])
    order = np.lexsort((leaves, when, who))
    who, leaves = who[order], leaves[order]
    followed = np.flatnonzero(leaves & np.append(who[1:] == who[:-1], False))  # the next one is of the same thread
    back, left = np.full((2, len(who)), -1, np.int64)
    returns = followed[~leaves[followed + 1]]
    again = followed[leaves[followed + 1]]
    back[order[returns]] = order[returns + 1] - len(tid)
    left[order[again]] = order[again + 1]
    return _Following(back[: len(tid)], left[: len(tid)])


def _names(state: I64) -> list[str]:
    """Names of waits, by the thread's state when it left the CPU."""
    kinds: dict[int, str] = {}
    for value in np.unique(state).tolist():
        name = _PREEMPTED
        if not value & _PREEMPTED_BIT:
            name = next((each for bit, each in _STATES if value & bit), "unknown state" if value else _PREEMPTED)
        kinds[value] = name
    return [kinds[value] for value in state.tolist()]
