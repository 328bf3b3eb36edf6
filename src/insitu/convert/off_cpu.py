"""Off-CPU time: the events of a thread leaving and returning to the CPU, joined to spans.

A wait that is still open at the end of the recording lasts until then; one of a thread that was asleep at its start
begins there.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.probe_source import decoded_events, stack_nodes
from insitu.convert.sources import RawSource, raw_bytes
from insitu.kernel.sleeping import SLEEPING, unpacked
from insitu.probe.runtime.event_columns import CopiedStackColumn
from insitu.session.core_tables import SPAN
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import CORE_TEXT, KERNEL, Frame
from insitu.symbols.registers import machine_called

__all__ = ["already_waiting", "convert_source"]

I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

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
_COLUMNS: Final = ("ts_ns", "tid", "pid", "cpu", "state", "stack", "seen")
# The frame of what the kernel called before the recording, of which only the last function is known, if at all.
_ALREADY_WAITING: Final = "[already waiting]"
_PREEMPTED: Final = "preempted"
_RUN_QUEUE: Final = "run-queue"
_PREEMPTED_BIT: Final = 0x100


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "off_cpu" to the ``span`` table, category ``off-cpu``.

    Spans are written with the window of records in which they end; what is kept is one row of each waiting thread.
    """
    writer.append(SPAN, {})
    spans = _Spans(writer, already_waiting(source, writer, addresses))
    last_ns = 0
    for tables in decoded_events(source, writer):
        left: dict[str, Any] = {name: np.zeros(0, np.int64) for name in _COLUMNS}
        if "out" in tables:
            columns = tables["out"]
            left = {name: np.asarray(columns[name]) for name in _COLUMNS if name in columns}
            user, kernel = (stack_nodes(columns[name], addresses, left["ts_ns"]) for name in ("user", "kernel"))
            left["stack"] = addresses.joined(user, kernel)
            left["seen"] = np.ones(len(left["tid"]), np.bool_)
        back = tables.get("in", {})
        back_ns = np.asarray(back.get("ts_ns", []), np.int64)
        last_ns = max(last_ns, int(left["ts_ns"].max(initial=0)), int(back_ns.max(initial=0)))
        woken = np.asarray(back["woken"], np.int64) if "woken" in back else np.zeros(len(back_ns), np.int64)
        spans.add(left, np.asarray(back.get("who", [])).astype(np.int64), back_ns, woken)
    # Without an end, the recorder was killed.
    spans.finish(source.manifest.end_ns or last_ns)


def already_waiting(source: RawSource, writer: SessionWriter, addresses: Addresses) -> dict[str, Any]:
    """Rows of the threads that were asleep when the recording started."""
    file = source.directory / SLEEPING
    threads = [*unpacked(raw_bytes(file)[:])] if file.exists() else []
    if not threads:
        return {name: np.zeros(0, np.int64) for name in _COLUMNS}
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
        "seen": np.zeros(len(threads), np.bool_),
    }


class _Spans:
    """Joins threads' leaving the CPU to their return."""

    def __init__(self, writer: SessionWriter, waiting: dict[str, Any]) -> None:
        """``waiting`` are rows of threads that wait at the beginning."""
        self._writer = writer
        self._waiting = waiting

    def add(self, left: dict[str, Any], back_tid: I64, back_ns: I64, woken_ns: I64) -> None:
        """Take the next window's records. Of one thread, none is earlier than those of the windows before.

        ``woken_ns``: when the threads that come back were woken; 0 where that is not known.
        """
        rows = {name: np.concatenate([self._waiting[name], left[name]]) for name in _COLUMNS}
        found, last = _returns(rows["tid"], rows["ts_ns"], back_tid, back_ns)
        returned = found >= 0
        end, woken = np.zeros((2, len(found)), np.int64)
        end[returned], woken[returned] = back_ns[found[returned]], woken_ns[found[returned]]
        self._waiting = {name: values[last] for name, values in rows.items()}
        # A thread that is taken for asleep at the start, and leaves the CPU, was not.
        over = ~last & ((end > 0) | rows["seen"].astype(np.bool_))
        self._write({name: values[over] for name, values in rows.items()}, end[over], woken[over])

    def finish(self, end_ns: int) -> None:
        """Write the threads that have not come back until ``end_ns``."""
        self._write(self._waiting, np.maximum(self._waiting["ts_ns"], end_ns), np.zeros_like(self._waiting["ts_ns"]))

    def _write(self, rows: dict[str, Any], end: I64, woken: I64) -> None:
        """Write waits, and in those whose thread was woken the time until it had a CPU, a span of its own."""
        order = np.argsort(rows["ts_ns"], kind="stable")
        rows, end, woken = {name: values[order] for name, values in rows.items()}, end[order], woken[order]
        missing = end == 0
        duration = np.ma.masked_array(np.where(missing, 0, end - rows["ts_ns"]), missing)
        ids = self._writer.span_ids(len(order))
        runnable = (woken > rows["ts_ns"]) & (woken < end)
        without_cpu = np.where(runnable, end - woken, 0)
        utid = self._writer.processes.utids(rows["tid"].astype(np.int32), rows["ts_ns"], rows["pid"].astype(np.int32))
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


def _returns(tid: I64, ts_ns: I64, back_tid: I64, back_ns: I64) -> tuple[I64, Bools]:
    """For each (thread, time) the row of ``back`` that is that thread's first later one, and whether none is later.

    -1 where there is none. A return after the thread has left again does not count: the event between them was lost.
    """
    who = np.concatenate([tid, back_tid])
    when = np.concatenate([ts_ns, back_ns])
    leaves = np.concatenate([np.ones(len(tid), np.bool_), np.zeros(len(back_tid), np.bool_)])
    order = np.lexsort((leaves, when, who))
    who, leaves = who[order], leaves[order]
    follows = np.append(who[1:] == who[:-1], False)  # the next one is of the same thread
    found, last = np.full(len(who), -1, np.int64), np.zeros(len(who), np.bool_)
    returns = np.flatnonzero(leaves & follows & ~np.append(leaves[1:], False))
    found[order[returns]] = order[returns + 1] - len(tid)
    last[order] = leaves & ~follows
    return found[: len(tid)], last[: len(tid)]


def _names(state: I64) -> list[str]:
    """Names of waits, by the thread's state when it left the CPU."""
    kinds: dict[int, str] = {}
    for value in np.unique(state).tolist():
        name = _PREEMPTED
        if not value & _PREEMPTED_BIT:
            name = next((each for bit, each in _STATES if value & bit), "unknown state" if value else _PREEMPTED)
        kinds[value] = name
    return [kinds[value] for value in state.tolist()]
