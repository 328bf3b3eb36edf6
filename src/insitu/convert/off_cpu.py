"""Off-CPU time: the events of a thread leaving and returning to the CPU, joined to spans."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.probe_source import decoded_events, stack_nodes
from insitu.convert.sources import RawSource
from insitu.session.core_tables import SPAN
from insitu.session.writer import SessionWriter

__all__ = ["convert_source"]

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
_COLUMNS: Final = ("ts_ns", "tid", "pid", "cpu", "state", "stack")
_PREEMPTED: Final = "preempted"
_PREEMPTED_BIT: Final = 0x100


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "off_cpu" to the ``span`` table, category ``off-cpu``.

    Spans are written with the window of records in which they end; what is kept is one row of each waiting thread.
    """
    writer.append(SPAN, {})
    spans = _Spans(writer)
    for tables in decoded_events(source, writer):
        left: dict[str, Any] = {name: np.zeros(0, np.int64) for name in _COLUMNS}
        if "out" in tables:
            columns = tables["out"]
            left = {name: np.asarray(columns[name]) for name in _COLUMNS if name != "stack"}
            user, kernel = (stack_nodes(columns[name], addresses, left["ts_ns"]) for name in ("user", "kernel"))
            left["stack"] = addresses.joined(user, kernel)
        back = tables.get("in", {})
        spans.add(left, np.asarray(back.get("who", [])).astype(np.int64), np.asarray(back.get("ts_ns", []), np.int64))
    spans.finish()


class _Spans:
    """Joins threads' leaving the CPU to their return."""

    def __init__(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._waiting: dict[str, Any] = {name: np.zeros(0, np.int64) for name in _COLUMNS}
        self._written = 0

    def add(self, left: dict[str, Any], back_tid: I64, back_ns: I64) -> None:
        """Take the next window's records. Of one thread, none is earlier than those of the windows before."""
        rows = {name: np.concatenate([self._waiting[name], left[name]]) for name in _COLUMNS}
        end, last = _ends(rows["tid"], rows["ts_ns"], back_tid, back_ns)
        self._waiting = {name: values[last] for name, values in rows.items()}
        self._write({name: values[~last] for name, values in rows.items()}, end[~last])

    def finish(self) -> None:
        """Write the threads that did not come back."""
        self._write(self._waiting, np.zeros(len(self._waiting["tid"]), np.int64))

    def _write(self, rows: dict[str, Any], end: I64) -> None:
        order = np.argsort(rows["ts_ns"], kind="stable")
        rows, end = {name: values[order] for name, values in rows.items()}, end[order]
        missing = end == 0
        duration = np.ma.masked_array(np.where(missing, 0, end - rows["ts_ns"]), missing)
        self._writer.append(
            SPAN,
            {
                "id": self._written + np.arange(len(order)),
                "ts_ns": rows["ts_ns"],
                "dur_ns": duration,
                "self_ns": duration,
                "utid": self._writer.processes.utids(
                    rows["tid"].astype(np.int32), rows["ts_ns"], rows["pid"].astype(np.int32)
                ),
                "cpu": rows["cpu"],
                "category": ["off-cpu"] * len(order),
                "name": _names(rows["state"]),
                "stack": rows["stack"].astype(np.int32),
            },
        )
        self._written += len(order)


def _ends(tid: I64, ts_ns: I64, back_tid: I64, back_ns: I64) -> tuple[I64, Bools]:
    """For each (thread, time) the first later time of that thread in ``back``, and whether nothing of it is later.

    0 where there is none. A return after the thread has left again does not count: the event between them was lost.
    """
    who = np.concatenate([tid, back_tid])
    when = np.concatenate([ts_ns, back_ns])
    leaves = np.concatenate([np.ones(len(tid), np.bool_), np.zeros(len(back_tid), np.bool_)])
    order = np.lexsort((leaves, when, who))
    who, when, leaves = who[order], when[order], leaves[order]
    follows = np.append(who[1:] == who[:-1], False)  # the next one is of the same thread
    end, last = np.zeros(len(who), np.int64), np.zeros(len(who), np.bool_)
    returns = np.flatnonzero(leaves & follows & ~np.append(leaves[1:], False))
    end[order[returns]] = when[returns + 1]
    last[order] = leaves & ~follows
    return end[: len(tid)], last[: len(tid)]


def _names(state: I64) -> list[str]:
    """Names of waits, by the thread's state when it left the CPU."""
    kinds: dict[int, str] = {}
    for value in np.unique(state).tolist():
        name = _PREEMPTED
        if not value & _PREEMPTED_BIT:
            name = next((each for bit, each in _STATES if value & bit), "unknown state" if value else _PREEMPTED)
        kinds[value] = name
    return [kinds[value] for value in state.tolist()]
