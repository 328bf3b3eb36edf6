"""Subsecond-offset heat map page: when samples fell, and the flame graph of any range of time."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.weighted_stacks import Value, WeightedStacks
from insitu.views.call_tree import named_stacks
from insitu.views.flamegraph import described, name_columns, thread_groups
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
    *,
    title: str,
    subtitle: str | None = None,
    notes: Sequence[str] = (),
    value: Value | None = None,
    rows: int = 50,
) -> str:
    """The heat map page of weighted stacks with their times.

    A column is one second from the first row on, a row one ``rows``-th of it. Recordings longer than an hour get
    columns of several seconds, and the page says so. The page holds what ``value`` (default: what suits the rows)
    adds up to per cell, thread and stack: a cell is the finest range of which it can draw a flame graph.
    Raises InsituError when ``rows`` is not in 1..MAX_ROWS, or the rows have no times (folded stacks).
    """
    if not 1 <= rows <= MAX_ROWS:
        raise InsituError(f"{rows} rows: a heat map has 1 to {MAX_ROWS}", status=2)
    if stacks.ts_ns is None or (len(stacks) and not stacks.ts_ns.any()):
        raise InsituError(f"the {stacks.counted} have no times", remedy="a heat map needs a session or perf.data")
    value = value or stacks.preferred
    cell, columns, column_ns = _cells(stacks.ts_ns, rows)
    named = named_stacks(stacks)
    threads, group = thread_groups(stacks)
    cells, groups, nodes, counts = _counted(
        cell, group, named.node[stacks.stack], stacks.values(value), max(len(threads["tid"]), 1), len(named.parent)
    )
    remarks = [*stacks.notes, *notes]
    if column_ns != SECOND:
        remarks.append(f"a long recording: each column is {column_ns // SECOND} seconds")
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
        "heat": {"columns": columns, "rows": rows, "columnNs": column_ns},
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "parent": named.parent,
        "name": named.name,
        "entryCell": cells,
        "entryGroup": groups,
        "entryNode": nodes,
        "entryCount": counts,
    }
    return data_page(meta, arrays)


def _cells(ts_ns: I64, rows: int) -> tuple[I64, int, int]:
    """The cell of each sample (column * rows + row), how many columns there are and how long each is in ns."""
    if not len(ts_ns):
        return np.zeros(0, np.int64), 0, SECOND
    since = ts_ns - ts_ns.min()
    seconds = int(since.max()) // SECOND + 1
    column_ns = SECOND * -(-seconds // _MAX_COLUMNS)
    column = since // column_ns
    # Not since * rows // column_ns at once: that product could pass 2**63.
    row = (since - column * column_ns) * rows // column_ns
    return column * rows + row, int(column.max()) + 1, column_ns


def _counted(cell: I64, group: I64, node: I32, weight: I64, groups: int, nodes: int) -> tuple[I32, I32, I32, I64]:
    """The distinct (cell, thread, node) triples, in that order, and the weight of each."""
    key = (cell * groups + group) * nodes + node
    if len(weight) and (weight == 1).all():
        key.sort(kind="stable")  # rows come nearly in order of time, which is what this sort is quick with
        starts = np.flatnonzero(np.diff(key, prepend=key[:1] - 1))
        sums = np.diff(starts, append=len(key))
    else:
        order = np.argsort(key, kind="stable")
        key = key[order]
        starts = np.flatnonzero(np.diff(key, prepend=key[:1] - 1))
        sums = np.add.reduceat(weight[order], starts) if len(starts) else np.zeros(0, np.int64)
    pair, leaf = np.divmod(key[starts], nodes)
    at, of = np.divmod(pair, groups)
    return at.astype(np.int32), of.astype(np.int32), leaf.astype(np.int32), sums
