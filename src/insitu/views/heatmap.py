"""Subsecond-offset heat map page: when samples fell, and the flame graph of any range of time."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.profile import Profile
from insitu.views.flamegraph import described, recorded_notes
from insitu.views.losses import lost_by_source
from insitu.views.named_stacks import name_columns, named_stacks, thread_groups
from insitu.views.page import html_page

__all__ = ["MAX_ROWS", "heatmap_html"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SECOND: Final = 1_000_000_000
MAX_ROWS: Final = 500

# Columns of one second are drawn at least 4 pixels wide, and a canvas may be some 16,000 pixels wide.
_MAX_COLUMNS: Final = 3600


def heatmap_html(
    profile: Profile,
    *,
    title: str,
    subtitle: str | None = None,
    notes: Sequence[str] = (),
    rows: int = 50,
    select: NDArray[np.bool_] | None = None,
) -> str:
    """The heat map page of the samples of ``profile``, or of those where the mask ``select`` is set.

    A column is one second from the first sample on, a row one ``rows``-th of it. Recordings longer than an hour get
    columns of several seconds, and the page says so. The page holds the number of samples per cell, thread and
    stack: a cell is the finest range of which it can draw a flame graph.
    Raises InsituError when ``rows`` is not in 1..MAX_ROWS, or the samples have no times (folded stacks).
    """
    if not 1 <= rows <= MAX_ROWS:
        raise InsituError(f"{rows} rows: a heat map has 1 to {MAX_ROWS}", status=2)
    ts_ns, stack = profile.ts_ns, profile.stack
    if select is not None:
        ts_ns, stack = ts_ns[select], stack[select]
    if len(ts_ns) and not ts_ns.any():
        raise InsituError("the samples have no times", remedy="a heat map needs a session or perf.data")
    cell, columns, column_ns = _cells(ts_ns, rows)
    stacks = named_stacks(profile, select)
    threads, group = thread_groups(profile, select)
    cells, groups, nodes, counts = _counted(cell, group, stacks.node[stack], len(threads["tid"]), len(stacks.parent))
    remarks = [*recorded_notes(profile), *notes]
    if column_ns != SECOND:
        remarks.append(f"a long recording: each column is {column_ns // SECOND} seconds")
    meta = {
        "mode": "heatmap",
        "title": title,
        "subtitle": described(profile, len(stack)) if subtitle is None else subtitle,
        "notes": remarks,
        "losses": lost_by_source(profile.lost),
        "unit": "samples",
        "names": name_columns(stacks.names, stacks.files),
        "threads": threads,
        "reverse": False,
        "icicle": False,
        "minWidth": 0.5,
        "heat": {"columns": columns, "rows": rows, "columnNs": column_ns},
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "parent": stacks.parent,
        "name": stacks.name,
        "entryCell": cells,
        "entryGroup": groups,
        "entryNode": nodes,
        "entryCount": counts,
    }
    return html_page("heatmap", title=title, meta=meta, arrays=arrays)


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


def _counted(cell: I64, group: I64, node: I32, groups: int, nodes: int) -> tuple[I32, I32, I32, I64]:
    """The distinct (cell, thread, node) triples, in that order, and the number of samples of each."""
    key = (cell * max(groups, 1) + group) * nodes + node
    key.sort(kind="stable")  # samples come nearly in order of time, which is what this sort is quick with
    starts = np.flatnonzero(np.diff(key, prepend=key[:1] - 1))
    counts = np.diff(starts, append=len(key))
    distinct = key[starts]
    pair, leaf = np.divmod(distinct, nodes)
    at, of = np.divmod(pair, max(groups, 1))
    return at.astype(np.int32), of.astype(np.int32), leaf.astype(np.int32), counts
