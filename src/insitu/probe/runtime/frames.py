"""Maps and values as Python has them: frames, numbers, text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from insitu.probe.layout import MapLayout
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.map_text import bounds
from insitu.probe.output.time_series import series_rows
from insitu.probe.runtime.map_content import MapContent
from insitu.probe.types import (
    Array,
    Buffer,
    CountAndTotal,
    Integer,
    OneNumber,
    Pointer,
    Ranges,
    Record,
    TimeSeries,
    Tuple,
    Type,
)

if TYPE_CHECKING:
    import polars

__all__ = ["map_frame", "plain"]


def plain(formatter: Formatter, kind: Type, value: Any) -> Any:
    """A value as Python has it: numbers stay numbers, arrays are lists, tuples tuples, records and named tuples
    dictionaries; the rest is text."""
    if isinstance(kind, Tuple):
        parts = [plain(formatter, k, v) for k, v in zip(kind.elements, value, strict=True)]
        return dict(zip(kind.names, parts, strict=True)) if kind.names else tuple(parts)
    if isinstance(kind, Integer) and kind.enum == "bool":
        return bool(value)
    if isinstance(kind, Integer | Pointer | Buffer | Array | Record):
        return value
    return formatter.text(kind, value)


def map_frame(layout: MapLayout, content: MapContent, formatter: Formatter) -> polars.DataFrame:
    """Key columns ``key``, or ``key0`` and so on; then ``value``, or what an aggregation consists of.

    Histograms have a row for each cell that counted something: ``low`` and ``high`` (excluded) and ``count``;
    averages ``value``, ``count`` and ``total``. Time series have a row for each interval: ``start_ns`` (of the wall
    clock) and ``value``, null where there is none.
    """
    import polars

    rows = content.sorted_rows()
    kinds = layout.key.elements if layout.key else ()
    columns: dict[str, list[Any]] = {}
    for index, kind in enumerate(kinds):
        name = "key" if len(kinds) == 1 else f"key{index}"
        columns[name] = [plain(formatter, kind, key[index]) for key, _ in rows]
    if isinstance(content.kind, TimeSeries):
        rows = [(key, series_rows(content.kind, value, content.last_interval)) for key, value in rows]
    values = _values(content.kind, rows, columns, formatter)
    return polars.DataFrame({**columns, **values}, strict=False)


def _values(
    kind: Type, rows: list[tuple[tuple[Any, ...], Any]], columns: dict[str, list[Any]], formatter: Formatter
) -> dict[str, list[Any]]:
    if isinstance(kind, Ranges):
        cells = [(i, cell, int(n)) for i, (_, value) in enumerate(rows) for cell, n in enumerate(value) if n]
        for name, column in columns.items():
            columns[name] = [column[i] for i, _, _ in cells]
        ranges = [bounds(kind, cell) for _, cell, _ in cells]
        return {"low": [r[0] for r in ranges], "high": [r[1] for r in ranges], "count": [n for _, _, n in cells]}
    if isinstance(kind, TimeSeries):
        moments = [(i, *row) for i, (_, value) in enumerate(rows) for row in value]
        for name, column in columns.items():
            columns[name] = [column[i] for i, _, _ in moments]
        return {"start_ns": [start for _, start, _ in moments], "value": [value for _, _, value in moments]}
    if isinstance(kind, CountAndTotal):
        counts, totals = [value[0] for _, value in rows], [value[1] for _, value in rows]
        means = [total / count if count else 0.0 for count, total in zip(counts, totals, strict=True)]
        return {"value": means, "count": counts, "total": totals}
    if isinstance(kind, OneNumber):
        return {"value": [value for _, value in rows]}
    return {"value": [plain(formatter, kind, value) for _, value in rows]}
