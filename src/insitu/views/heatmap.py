"""Subsecond-offset heat map page: when samples fell, and the flame graph of any range of time."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.weighted_stacks import TimedRows, Value, WeightedStacks
from insitu.views.call_tree import named_stacks
from insitu.views.flamegraph import described, name_columns, thread_columns
from insitu.views.hints import hints
from insitu.views.page import data_page
from insitu.views.page_data import Meta

__all__ = ["MAX_ROWS", "heatmap_html"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SECOND: Final = 1_000_000_000
MAX_ROWS: Final = 500

# Columns of one second are drawn at least 4 pixels wide, and a canvas may be some 16,000 pixels wide.
_MAX_COLUMNS: Final = 3600


def heatmap_html(
    stacks: WeightedStacks,
    batches: Iterable[TimedRows] | None = None,
    *,
    title: str,
    subtitle: str | None = None,
    notes: Sequence[str] = (),
    value: Value | None = None,
    rows: int = 50,
    addresses: bool = False,
) -> str:
    """The heat map page of weighted stacks.

    ``batches`` are their rows with ``value``, in the order of time from batch to batch (default: ``stacks.in_time``).
    A column is one second from the recording's first row on, a row one ``rows``-th of it. Recordings longer than an
    hour get columns of several seconds, and the page says so. The page holds what ``value`` (default: what suits the
    rows) adds up to per cell, thread and stack: a cell is the finest range of which it can draw a flame graph.
    ``addresses`` keeps addresses without a symbol apart.
    Raises InsituError when ``rows`` is not in 1..MAX_ROWS, or the rows have no times (folded stacks).
    """
    if not 1 <= rows <= MAX_ROWS:
        raise InsituError(f"{rows} rows: a heat map has 1 to {MAX_ROWS}", status=2)
    if len(stacks) and not stacks.last_ns:
        raise InsituError(f"the {stacks.counted} have no times", remedy="a heat map needs a session or perf.data")
    value = value or stacks.preferred
    grid = _Grid.of(stacks, rows)
    named = named_stacks(stacks, addresses=addresses)
    nodes = len(named.parent)
    sums = [
        _summed(grid.cells(each.ts_ns), each.thread, named.node[each.stack], each.value, len(stacks.threads), nodes)
        for each in (stacks.in_time(value) if batches is None else batches)
        if len(each.stack)
    ]
    columns = [np.concatenate(parts) for parts in zip(*sums, strict=True)] or [np.zeros(0, np.int32)] * 4
    sums.clear()
    cell, group, node, count = columns
    used = np.zeros(len(stacks.threads), np.bool_)
    used[group] = True
    threads = thread_columns([label for label, there in zip(stacks.threads, used.tolist(), strict=True) if there])
    group = _narrow(np.cumsum(used) - 1 if threads["tid"] else np.zeros(len(used), np.int64))[group]
    remarks = [*stacks.notes, *hints(stacks), *notes]
    if grid.column_ns != SECOND:
        remarks.append(f"a long recording: each column is {grid.column_ns // SECOND} seconds")
    meta: Meta = {
        "mode": "heatmap",
        "title": title,
        "subtitle": described(stacks) if subtitle is None else subtitle,
        "notes": remarks,
        "losses": stacks.losses,
        "unit": stacks.unit_of(value),
        "counted": stacks.counted,
        "names": name_columns(named.names, named.files),
        "threads": threads,
        "reverse": False,
        "icicle": False,
        "minWidth": 0.5,
        "heat": {"columns": grid.columns, "rows": rows, "columnNs": grid.column_ns},
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "parent": named.parent,
        "name": named.name,
        "entryCell": cell,
        "entryGroup": group,
        "entryNode": node,
        "entryCount": count,
    }
    return data_page(meta, arrays)


class _Grid(NamedTuple):
    """Cells of time, numbered column by column: ``columns`` of ``column_ns`` since ``first_ns``, ``rows`` in each."""

    first_ns: int
    columns: int
    column_ns: int
    rows: int

    @staticmethod
    def of(stacks: WeightedStacks, rows: int) -> "_Grid":
        if not len(stacks):
            return _Grid(0, 0, SECOND, rows)
        seconds = (stacks.last_ns - stacks.first_ns) // SECOND + 1
        column_ns = SECOND * -(-seconds // _MAX_COLUMNS)
        return _Grid(stacks.first_ns, (stacks.last_ns - stacks.first_ns) // column_ns + 1, column_ns, rows)

    def cells(self, ts_ns: I64) -> I64:
        """The cell of each time."""
        since = ts_ns - self.first_ns
        column = since // self.column_ns
        # Not since * rows // column_ns at once: that product could pass 2**63.
        return column * self.rows + (since - column * self.column_ns) * self.rows // self.column_ns


def _summed(cell: I64, group: I32, node: I32, weight: I64, groups: int, nodes: int) -> tuple[NDArray[Any], ...]:
    """The distinct (cell, thread, node) triples, in that order, and the weight of each, in few bytes."""
    key = (cell * groups + group) * nodes + node
    ones = bool((weight == 1).all())
    if ones:
        key.sort()
    else:
        order = np.argsort(key, kind="stable")
        key = key[order]
    starts = np.flatnonzero(np.concatenate([np.ones(1, np.bool_), key[1:] != key[:-1]]))
    sums = np.diff(starts, append=len(key)) if ones else np.add.reduceat(weight[order], starts)
    pair, leaf = np.divmod(key[starts], nodes)
    at, of = np.divmod(pair, groups)
    return tuple(_narrow(values) for values in (at, of, leaf, sums))


def _narrow(values: I64) -> NDArray[Any]:
    """The values in 1, 2 or 4 bytes each, where they fit."""
    if not len(values) or values.min() < 0:
        return values
    kind = np.min_scalar_type(int(values.max()))
    return values if kind == np.uint64 else values.astype(kind)
