"""The slowest call of a recording, with all that it called."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from insitu.errors import InsituError
from insitu.plurals import plural
from insitu.session.call_table import INTERRUPT, CallTable
from insitu.session.distinct import groups
from insitu.views.calls.functions import UNTRACED
from insitu.views.calls.lines import CallLine, call_text

__all__ = ["slowest_call", "subtree_lines", "subtree_text"]


def slowest_call(table: CallTable, function: str = "") -> int:
    """The row of the call that took longest, of ``function`` if that is given; interrupts do not count.

    Raises InsituError if no such call has returned.
    """
    rows = np.flatnonzero((table.dur_ns >= 0) & ~table.interrupt)
    if function:
        codes = [code for code, (name, kind) in enumerate(table.functions) if name == function and kind != INTERRUPT]
        rows = rows[np.isin(table.function[rows], codes)]
    if not len(rows):
        raise InsituError(f"no call of {function or 'a function'} has returned")
    return int(rows[np.argmax(table.total_ns[rows])])


def subtree_lines(table: CallTable, row: int, threads: Mapping[int, tuple[int, str]]) -> Iterator[CallLine]:
    """The call and all that it called, each above what it called; ``threads`` gives (tid, name) by utid."""
    inside = np.zeros(len(table.parent), np.bool_)
    inside[row] = True
    for depth, rows in groups(table.depth):
        if depth > table.depth[row]:
            inside[rows] = inside[table.parent[rows]]
    found = np.flatnonzero(inside)
    found = found[np.lexsort((found, table.depth[found], table.ts_ns[found]))]
    handlers = table.interrupt & ~table.interrupt[table.parent]
    for at in found.tolist():
        tid, name = threads.get(int(table.utid[at]), (0, ""))
        yield CallLine(
            int(table.ts_ns[at]),
            int(table.dur_ns[at]),
            int(table.self_ns[at]),
            int(table.cpu[at]),
            tid,
            name,
            int(table.depth[at] - table.depth[row]),
            table.functions[table.function[at]][0],
            bool(handlers[at]),
        )


def subtree_text(lines: Sequence[CallLine], min_percent: float) -> Iterator[str]:
    """Lines for calls of at least ``min_percent`` of the first one's duration, and one for what is left out of each.

    What a call spent in no traced callee has a line of its own.
    """
    least = lines[0].dur_ns * min_percent / 100
    callees: list[list[int]] = [[] for _ in lines]
    path: list[int] = []
    for at, line in enumerate(lines):
        del path[line.depth :]
        if path:
            callees[path[-1]].append(at)
        path.append(at)
    todo: list[int | str] = [0]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield item
            continue
        at, call = item, lines[item]
        yield call_text(call)
        long = [each for each in callees[at] if not 0 <= lines[each].dur_ns < least]
        short = [lines[each].dur_ns for each in callees[at] if 0 <= lines[each].dur_ns < least]
        within = call._replace(depth=call.depth + 1, interrupt=False)
        rest = []
        if short:
            name = f"... {len(short)} shorter {plural(len(short), 'call')}"
            rest.append(call_text(within._replace(dur_ns=sum(short), self_ns=-1, function=name)))
        if callees[at] and call.self_ns >= least:
            rest.append(call_text(within._replace(dur_ns=call.self_ns, function=UNTRACED)))
        todo += reversed([*long, *rest])
