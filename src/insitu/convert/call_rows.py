"""Joined calls as rows of the table ``span``, with the stack of functions that each is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from insitu.convert.call_spans import Calls
from insitu.session.coded_texts import CodedTexts
from insitu.session.core_tables import SPAN
from insitu.session.distinct import groups
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame

__all__ = ["write_calls"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def write_calls(
    writer: SessionWriter,
    calls: Calls,
    functions: Sequence[Frame],
    categories: CodedTexts,
    pid: I32 | None = None,
) -> I64:
    """Write calls of ``functions``, in the order of time; returns the id of each. ``categories`` and ``pid`` have one
    element for each call. Raises OSError when the disk is full."""
    stack = _stacks(writer, calls, functions)
    order = np.argsort(calls.ts_ns, kind="stable")
    ids = writer.span_ids(len(order))
    id_of = np.empty(len(order), np.int64)
    id_of[order] = ids
    parent = calls.parent[order]
    names = [each.function for each in functions]
    open_calls = calls.dur_ns[order] < 0
    ts_ns, tid = calls.ts_ns[order], np.maximum(calls.thread[order], 0)
    writer.append(
        SPAN,
        {
            "id": ids,
            "ts_ns": ts_ns,
            "dur_ns": np.ma.masked_array(calls.dur_ns[order], open_calls),
            "self_ns": np.ma.masked_array(calls.self_ns[order], open_calls),
            "utid": writer.processes.utids(tid, ts_ns, None if pid is None else pid[order]),
            "cpu": calls.cpu[order],
            "category": CodedTexts(categories.codes[order], categories.values),
            "name": CodedTexts(calls.func[order], names),
            "parent": np.ma.masked_array(id_of[parent], parent < 0),
            "depth": calls.depth[order],
            "stack": stack[order],
        },
    )
    return id_of


def _stacks(writer: SessionWriter, calls: Calls, functions: Sequence[Frame]) -> I32:
    """The call path of each call; that of an interrupt begins with its handler."""
    frame = np.array(writer.frames.number(functions), np.int32)[calls.func]
    stack = np.zeros(len(frame), np.int32)
    for _, rows in groups(calls.depth):
        parent = calls.parent[rows]
        inner = (parent >= 0) & (calls.interrupt[parent] == calls.interrupt[rows])
        outer = np.where(inner, stack[parent], 0).astype(np.int32)
        stack[rows] = writer.stacks.add(np.arange(len(rows) + 1), frame[rows], outer)
    return stack
