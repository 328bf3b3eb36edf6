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

I32 = NDArray[np.int32]
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
_PREEMPTED: Final = "preempted"
_PREEMPTED_BIT: Final = 0x100


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write a source of kind "off_cpu" to the ``span`` table, category ``off-cpu``."""
    out: dict[str, list[Any]] = {name: [] for name in ("ts_ns", "tid", "pid", "cpu", "stack", "state")}
    back: dict[str, list[Any]] = {"ts_ns": [], "tid": []}
    for label, columns in decoded_events(source, writer):
        ts_ns = np.asarray(columns["ts_ns"])
        if label == "in":
            back["ts_ns"].append(ts_ns)
            back["tid"].append(np.asarray(columns["who"]).astype(np.int32))
            continue
        user, kernel = (stack_nodes(columns[name], addresses, ts_ns) for name in ("user", "kernel"))
        out["stack"].append(addresses.joined(user, kernel))
        for name in ("ts_ns", "tid", "pid", "cpu", "state"):
            out[name].append(np.asarray(columns[name]))
    rows = {name: np.concatenate(parts) if parts else np.zeros(0, np.int64) for name, parts in out.items()}
    returned = {name: np.concatenate(parts) if parts else np.zeros(0, np.int64) for name, parts in back.items()}
    order = np.argsort(rows["ts_ns"], kind="stable")
    rows = {name: values[order] for name, values in rows.items()}
    end = _next_of(rows["tid"], rows["ts_ns"], returned["tid"], returned["ts_ns"])
    missing = end == 0
    utid = writer.processes.utids(rows["tid"].astype(np.int32), rows["ts_ns"], rows["pid"].astype(np.int32))
    duration = np.ma.masked_array(np.where(missing, 0, end - rows["ts_ns"]), missing)
    writer.append(
        SPAN,
        {
            "id": np.arange(len(order)),
            "ts_ns": rows["ts_ns"],
            "dur_ns": duration,
            "self_ns": duration,
            "utid": utid,
            "cpu": rows["cpu"],
            "category": ["off-cpu"] * len(order),
            "name": _names(rows["state"]),
            "stack": rows["stack"].astype(np.int32),
        },
    )


def _next_of(tid: I64, ts_ns: I64, back_tid: I64, back_ns: I64) -> I64:
    """For each (thread, time) the first later time of that thread in ``back``; 0 if there is none.

    A return after the thread has left again does not count: the event between them was lost.
    """
    result = np.zeros(len(tid), np.int64)
    if not len(tid):
        return result
    who = np.concatenate([tid, back_tid])
    when = np.concatenate([ts_ns, back_ns])
    leaves = np.concatenate([np.ones(len(tid), np.bool_), np.zeros(len(back_tid), np.bool_)])
    order = np.lexsort((leaves, when, who))
    pairs = np.flatnonzero(leaves[order][:-1] & ~leaves[order][1:] & (who[order][:-1] == who[order][1:]))
    result[order[pairs]] = when[order[pairs + 1]]
    return result


def _names(state: I64) -> list[str]:
    """Names of waits, by the thread's state when it left the CPU."""
    kinds: dict[int, str] = {}
    for value in np.unique(state).tolist():
        name = _PREEMPTED
        if not value & _PREEMPTED_BIT:
            name = next((each for bit, each in _STATES if value & bit), "unknown state" if value else _PREEMPTED)
        kinds[value] = name
    return [kinds[value] for value in state.tolist()]
