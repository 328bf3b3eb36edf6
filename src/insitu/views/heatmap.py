"""Heat map pages: when samples fell, or how long what began then took; and the flame graph of any of it."""

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
from insitu.views.page_data import Heat, Meta

__all__ = ["MAX_ROWS", "heatmap_html"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

SECOND: Final = 1_000_000_000
MAX_ROWS: Final = 500

# Columns of one second are drawn at least 4 pixels wide, and a canvas may be some 16,000 pixels wide.
_MAX_COLUMNS: Final = 3600
_LATENCY_COLUMNS: Final = 120  # at most, as all of them are to be seen at once
_POWERS: Final = 19  # of ten, in nanoseconds: what 63 bits hold


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
    latency: bool = False,
) -> str:
    """The heat map page of weighted stacks.

    ``batches`` are their rows with ``value``, in the order of time from batch to batch (default: ``stacks.in_time``).
    A column is one second from the recording's first row on, a row one ``rows``-th of it. Recordings longer than an
    hour get columns of several seconds, and the page says so. The page holds what ``value`` (default: what suits the
    rows) adds up to per cell, thread and stack: a cell is the finest range of which it can draw a flame graph.
    ``addresses`` keeps addresses without a symbol apart.

    With ``latency`` rows of the map are durations, by their logarithm; columns are as wide as suits the recording.
    ``rows`` are then those of a power of ten, and ``batches`` have the durations (``value`` "weight"); ``value``
    (default: their number) is what is shown. Rows without a duration are left out.
    Raises InsituError when ``rows`` is not in 1..MAX_ROWS (a tenth with ``latency``), or the rows have no times
    (folded stacks) or durations.
    """
    most = MAX_ROWS // 10 if latency else MAX_ROWS
    if not 1 <= rows <= most:
        raise InsituError(f"{rows} rows: a heat map has 1 to {most}", status=2)
    if len(stacks) and not stacks.last_ns:
        raise InsituError(f"the {stacks.counted} have no times", remedy="a heat map needs a session or perf.data")
    if latency and (stacks.unit != "ns" or stacks.is_cpu_time):
        raise InsituError(f"the {stacks.counted} of {stacks.table} have no durations", remedy="choose --table")
    value = value or ("count" if latency else stacks.preferred)
    grid = (_Latencies if latency else _Seconds).of(stacks, rows)
    if batches is None:
        batches = stacks.in_time("weight" if latency else value)
    named = named_stacks(stacks, addresses=addresses)
    nodes = len(named.parent)
    sums = []
    for each in batches:
        if latency:
            each = each.only(each.value > 0)  # the rest has no end
        if len(each.stack):
            added = np.ones(len(each.stack), np.int64) if latency and value == "count" else each.value
            node = named.node[each.stack]
            sums.append(_summed(grid.cells(each), each.thread, node, added, len(stacks.threads), nodes))
    columns = [np.concatenate(parts) for parts in zip(*sums, strict=True)] or [np.zeros(0, np.int32)] * 4
    sums.clear()
    cell, group, node, count = columns
    cell, heat, remarks = grid.shown(cell)
    used = np.zeros(len(stacks.threads), np.bool_)
    used[group] = True
    threads = thread_columns([label for label, there in zip(stacks.threads, used.tolist(), strict=True) if there])
    group = _narrow(np.cumsum(used) - 1 if threads["tid"] else np.zeros(len(used), np.int64))[group]
    meta: Meta = {
        "mode": "heatmap",
        "title": title,
        "subtitle": described(stacks) if subtitle is None else subtitle,
        "notes": [*stacks.notes, *hints(stacks), *notes, *remarks],
        "losses": stacks.losses,
        "unit": stacks.unit_of(value),
        "counted": stacks.counted,
        "names": name_columns(named.names, named.files),
        "threads": threads,
        "reverse": False,
        "icicle": False,
        "minWidth": 0.5,
        "heat": heat,
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


class _Seconds(NamedTuple):
    """``columns`` of ``column_ns`` since ``first_ns``, each cut into ``rows`` parts of time."""

    first_ns: int
    columns: int
    column_ns: int
    rows: int

    @staticmethod
    def of(stacks: WeightedStacks, rows: int) -> "_Seconds":
        if not len(stacks):
            return _Seconds(0, 0, SECOND, rows)
        seconds = (stacks.last_ns - stacks.first_ns) // SECOND + 1
        column_ns = SECOND * -(-seconds // _MAX_COLUMNS)
        return _Seconds(stacks.first_ns, (stacks.last_ns - stacks.first_ns) // column_ns + 1, column_ns, rows)

    def cells(self, batch: TimedRows) -> I64:
        """The cell of each row of a batch; cells are numbered column by column."""
        since = batch.ts_ns - self.first_ns
        column = since // self.column_ns
        # Not since * rows // column_ns at once: that product could pass 2**63.
        return column * self.rows + (since - column * self.column_ns) * self.rows // self.column_ns

    def shown(self, cell: NDArray[Any]) -> tuple[NDArray[Any], Heat, list[str]]:
        """Cells as the page numbers them, what it has to know of the map, and notes."""
        long = f"a long recording: each column is {self.column_ns // SECOND} seconds"
        heat: Heat = {"columns": self.columns, "rows": self.rows, "columnNs": self.column_ns}
        return cell, heat, [long] * (self.column_ns != SECOND)


class _Latencies(NamedTuple):
    """``columns`` of ``column_ns`` since ``first_ns``; ``rows`` for each power of ten of durations."""

    first_ns: int
    columns: int
    column_ns: int
    rows: int

    @staticmethod
    def of(stacks: WeightedStacks, rows: int) -> "_Latencies":
        """Columns are 1, 2 or 5 times a power of ten wide."""
        extent = max(stacks.last_ns - stacks.first_ns + 1, 1)
        widths = (step * 10**power for power in range(19) for step in (1, 2, 5))
        column_ns = next(width for width in widths if width * _LATENCY_COLUMNS >= extent)
        return _Latencies(stacks.first_ns, (extent - 1) // column_ns + 1, column_ns, rows)

    @property
    def _edges_ns(self) -> NDArray[np.float64]:
        return 10.0 ** (np.arange(_POWERS * self.rows + 1) / self.rows)

    def cells(self, batch: TimedRows) -> I64:
        """The cell of each row of a batch, with all powers of ten in each column."""
        column = (batch.ts_ns - self.first_ns) // self.column_ns
        return column * (_POWERS * self.rows) + np.searchsorted(self._edges_ns, batch.value, side="right") - 1

    def shown(self, cell: NDArray[Any]) -> tuple[NDArray[Any], Heat, list[str]]:
        """As of _Seconds: only the powers of ten that there are."""
        column, row = np.divmod(cell.astype(np.int64), _POWERS * self.rows)
        low = int(row.min()) // self.rows * self.rows if len(row) else 0
        high = (int(row.max()) // self.rows + 1) * self.rows if len(row) else self.rows
        heat: Heat = {
            "columns": self.columns,
            "rows": high - low,
            "columnNs": self.column_ns,
            "edgesNs": self._edges_ns[low : high + 1].tolist(),
        }
        return _narrow(column * (high - low) + row - low), heat, []


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
