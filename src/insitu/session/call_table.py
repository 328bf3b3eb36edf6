"""The function calls of a session as arrays: what reports on calls are functions of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.core_tables import SAMPLE, SPAN, THREAD
from insitu.session.distinct import groups
from insitu.session.weighted_stacks import check_durations

if TYPE_CHECKING:
    from insitu.session.query import Database
    from insitu.session.reader import Session

__all__ = [
    "INTERRUPT",
    "KERNEL_FUNCTION",
    "LIBRARY_CALL",
    "USER_FUNCTION",
    "CallTable",
    "has_calls",
    "load_calls",
    "shows_calls",
    "thread_labels",
    "with_totals",
]

KERNEL_FUNCTION: Final = "kernel function"
USER_FUNCTION: Final = "user function"
LIBRARY_CALL: Final = "library call"
INTERRUPT: Final = "interrupt"
"""Kernel functions of an interrupt that cut into a call."""

_CATEGORIES: Final = (KERNEL_FUNCTION, USER_FUNCTION, LIBRARY_CALL, INTERRUPT)
_OF_CALLS: Final = f"category in ({', '.join(repr(each) for each in _CATEGORIES)})"


class CallTable(NamedTuple):
    """n calls, callers before what they call. Times are in nanoseconds; -1: the call has not returned."""

    ts_ns: NDArray[np.int64]
    dur_ns: NDArray[np.int64]
    """As measured: with interrupts and the tracer's own cost."""
    self_ns: NDArray[np.int64]
    total_ns: NDArray[np.int64]
    """Self times of the call and of all that it called, without interrupts and the tracer's own cost."""
    utid: NDArray[np.int32]
    cpu: NDArray[np.int32]
    function: NDArray[np.int32]
    """Index into ``functions``."""
    parent: NDArray[np.int64]
    """Row of the caller; -1: none was traced."""
    depth: NDArray[np.int32]
    functions: list[tuple[str, str]]
    """Name and category."""

    @property
    def interrupt(self) -> NDArray[np.bool_]:
        """Which calls interrupts made."""
        kinds = np.array([category == INTERRUPT for _, category in self.functions], np.bool_)
        return kinds[self.function] if len(kinds) else np.zeros(len(self.function), np.bool_)


def has_calls(database: Database) -> bool:
    """Whether spans of a session are function calls."""
    if SPAN.name not in database.names:
        return False
    return bool(database.all(f"select 1 from {database.relation(SPAN.name)} where {_OF_CALLS} limit 1"))


def shows_calls(session: Session) -> bool:
    """Whether function calls are what a session shows by default."""
    default = session.manifest.default_table
    samples = SAMPLE.name in session.tables and session.database.rows(SAMPLE.name)
    return (default == SPAN.name or (not default and not samples)) and has_calls(session.database)


def load_calls(database: Database) -> CallTable:
    """The function calls of a session."""
    source = database.relation(SPAN.name)
    distinct = f"(select distinct name, category from {source} where {_OF_CALLS})"
    functions = database.all(f"select name, category from {distinct} order by name, category")
    numbered = f"(select name, category, row_number() over (order by name, category) - 1 as at from {distinct})"
    found = database.fetch(
        "select id, ts_ns, coalesce(dur_ns, -1) as dur_ns, coalesce(self_ns, -1) as self_ns,"
        " coalesce(parent, -1) as parent, utid, cpu, f.at::integer as function"
        f" from {source} s join {numbered} f on f.name = s.name and f.category = s.category"
    )
    ids = found.pop("id")
    if (ids[1:] <= ids[:-1]).any():  # DuckDB would need twice the memory to sort
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        for name in found:
            found[name] = found[name][order]
    parent = _rows_of(found.pop("parent"), ids)
    columns = {name: found[name] for name in ("ts_ns", "dur_ns", "self_ns", "utid", "cpu", "function")}
    for times in (columns["dur_ns"], columns["self_ns"]):
        check_durations(times[times != -1], f"{database.called[0]}: {SPAN.name}")
    depth = _depths(parent)
    table = CallTable(
        **columns,
        total_ns=columns["self_ns"],
        parent=parent,
        depth=depth,
        functions=[(str(a), str(b)) for a, b in functions],
    )
    return with_totals(table)


def _rows_of(parent: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows of callers, which come before their callees; -1: there is none (else damaged, or forged)."""
    rows = np.arange(len(ids))
    at = parent
    if len(ids) and (ids[0] or ids[-1] != len(ids) - 1):  # else ids are the rows
        at = np.minimum(np.searchsorted(ids, parent), len(ids) - 1)
        at = np.where(ids[at] == parent, at, -1)
    return np.where((at >= 0) & (at < rows), at, -1)


def thread_labels(database: Database) -> dict[int, tuple[int, str]]:
    """Thread id and last name of each thread of a session, by utid."""
    rows = database.all(f"select utid, tid, name from {database.loadable(THREAD.name)}")
    return {int(utid): (int(tid), str(name)) for utid, tid, name in rows}


def _depths(parent: NDArray[np.int64]) -> NDArray[np.int32]:
    at, rows = parent.copy(), np.flatnonzero(parent >= 0)
    depth = (parent >= 0).astype(np.int32)
    while len(rows):  # `at` is `depth` levels up, twice as many each time
        up = at[rows]
        depth[rows] += depth[up]
        at[rows] = at[up]
        rows = rows[at[rows] >= 0]
    return depth


def with_totals(table: CallTable) -> CallTable:
    """The table with self times added up from the innermost calls to the outermost, interrupts' among themselves."""
    total, interrupt = np.maximum(table.self_ns, 0), table.interrupt
    for _, rows in reversed([*groups(table.depth)]):
        inner = rows[(table.parent[rows] >= 0)]
        inner = inner[interrupt[inner] == interrupt[table.parent[inner]]]
        np.add.at(total, table.parent[inner], total[inner])
    return table._replace(total_ns=np.where(table.dur_ns < 0, -1, total))
