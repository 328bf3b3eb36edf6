"""Weighted stacks of tables in memory, for files that are read once: nothing is written, DuckDB not imported."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.core_tables import SAMPLE
from insitu.session.distinct import distinct, groups
from insitu.session.manifest import Manifest
from insitu.session.weighted_stacks import (
    Selection,
    ThreadLabel,
    WeightedStacks,
    chosen,
    event_chosen,
    names_between,
    preferred_of,
)
from insitu.session.writer import MemoryTables, SessionWriter

__all__ = ["stacks_in_memory"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def stacks_in_memory(
    tables: MemoryTables, writer: SessionWriter, want: Selection, *, times: bool = False
) -> WeightedStacks:
    """The weighted stacks of tables in memory, which ``writer`` has filled: for files that are looked at once.

    Only the ``sample`` table is there then. Raises InsituError as load_stacks does.
    """
    manifest: Manifest = writer.manifest
    types = writer.event_types
    names = [SAMPLE.name] if SAMPLE.name in tables.tables else []
    if want.table and want.table not in names:
        raise InsituError(f"no table {want.table}", remedy=f"tables: {', '.join(names)}")
    column = {
        each: np.asarray(tables.column(SAMPLE.name, each)) if names else np.zeros(0, np.int64)
        for each in ("ts_ns", "utid", "event_type", "stack", "weight")
    }
    rows = [(at, name, unit, period) for at, (name, unit, period, *_) in enumerate(types)]
    named, notes = event_chosen(rows, lambda: set(distinct(column["event_type"])[0].tolist()), want.event)
    if named is not None and notes:
        column = {each: values[column["event_type"] == named[0]] for each, values in column.items()}
    ts_ns = column["ts_ns"]
    first, last = (int(ts_ns.min()), int(ts_ns.max())) if len(ts_ns) else (0, 0)
    if want.start_s is not None or want.end_s is not None:
        low = first + round((want.start_s or 0) * 1e9)
        high = first + round(want.end_s * 1e9) if want.end_s is not None else last + 1
        inside = (ts_ns >= low) & (ts_ns < high)
        column = {each: values[inside] for each, values in column.items()}
    threads, thread = _labels_in_memory(writer, column["utid"], column["ts_ns"])
    tree = writer.stacks
    stack, count, weight = column["stack"], np.ones(len(thread), np.int64), column["weight"]
    kept: I64 | None = None
    if times:
        order = np.argsort(column["ts_ns"], kind="stable")
        stack, thread, weight, kept = stack[order], thread[order], weight[order], column["ts_ns"][order]
    else:
        keys, inverse = distinct(thread.astype(np.int64) * len(tree) + stack)
        count = np.bincount(inverse, minlength=len(keys)).astype(np.int64)
        # bincount sums in double precision: exact up to 2**53, that is 104 days of nanoseconds.
        weight = np.bincount(inverse, weights=weight, minlength=len(keys)).astype(np.int64)
        thread, stack = keys // len(tree), keys % len(tree)
    stacks = WeightedStacks(
        parent=tree.parent,
        frame=tree.frame,
        frames=writer.frames.frames,
        stack=stack.astype(np.int32),
        thread=thread.astype(np.int32),
        count=count,
        weight=weight.astype(np.int64),
        threads=threads,
        event=str(named[1]) if named else "",
        period=int(named[3]) if named else 0,
        unit=(str(named[2]) if named else "") or "samples",
        ts_ns=kept,
        first_ns=first,
        last_ns=last,
        manifest=manifest,
        losses=writer.losses_by_source(),
        notes=(*writer.notes, *notes),
        preferred=preferred_of(manifest),
    )
    return chosen(stacks, want)


def _labels_in_memory(writer: SessionWriter, utid: I64, ts_ns: I64) -> tuple[list[ThreadLabel], I32]:
    labels: list[ThreadLabel] = []
    thread = np.zeros(len(utid), np.int32)
    for one, rows in groups(utid):
        tid, pid, names = writer.processes.label(one)
        lives = names_between(names, int(ts_ns[rows].min()), int(ts_ns[rows].max())) or [(0, "")]
        starts = np.array([start for start, _ in lives], np.int64)
        at = np.maximum(np.searchsorted(starts, ts_ns[rows], side="right") - 1, 0)
        thread[rows] = len(labels) + at
        labels += [ThreadLabel(one, tid, pid, name or f":{tid}") for _, name in lives]
    return labels or [ThreadLabel(0, 0, 0, "")], thread
