"""Maps and values as Python has them: frames, numbers, text."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from insitu.probe.aggregations import CountAndTotal, OneNumber, Ranges, TimeSeries
from insitu.probe.layout import MapLayout
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.map_text import bounds
from insitu.probe.output.time_series import series_rows
from insitu.probe.runtime.map_content import MapContent
from insitu.probe.types import Array, Buffer, Integer, Pointer, Record, Tuple, Type
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    import polars

__all__ = ["map_columns", "map_frame", "plain"]

# Makes the text of a value.
Texts = Callable[[Type, Any], str]


def plain(text: Texts, kind: Type, value: Any) -> Any:
    """A value as Python has it: numbers stay numbers, arrays are lists, tuples tuples, records and named tuples
    dictionaries; the rest is text."""
    if isinstance(kind, Tuple):
        parts = [plain(text, k, v) for k, v in zip(kind.elements, value, strict=True)]
        return dict(zip(kind.names, parts, strict=True)) if kind.names else tuple(parts)
    if isinstance(kind, Integer) and kind.enum == "bool":
        return bool(value)
    if isinstance(kind, Integer | Pointer | Buffer | Array | Record):
        return value
    return text(kind, value)


def map_frame(layout: MapLayout, content: MapContent, formatter: Formatter) -> polars.DataFrame:
    """A map as a frame, with the columns of map_columns()."""
    import polars

    columns, _ = map_columns(layout, content, formatter.text)
    return polars.DataFrame(columns, strict=False)


def map_columns(layout: MapLayout, content: MapContent, text: Texts) -> tuple[dict[str, list[Any]], list[int]]:
    """Key columns ``key``, or ``key0`` and so on; then ``value``, or what an aggregation consists of. Also the row
    of ``content.sorted_rows()`` that each row of the columns comes from.

    Histograms have a row for each cell that counted something: ``low`` and ``high`` (excluded) and ``count``;
    averages ``value``, ``count`` and ``total``. Time series have a row for each interval: ``start_ns`` (of the wall
    clock) and ``value``, null where there is none.
    """
    rows = content.sorted_rows()
    which, values = _values(content, [value for _, value in rows], text)
    kinds = layout.key.elements if layout.key else ()
    columns: dict[str, list[Any]] = {}
    for index, kind in enumerate(kinds):
        name = "key" if len(kinds) == 1 else f"key{index}"
        column = [_in_column(kind, plain(text, kind, key[index])) for key, _ in rows]
        columns[name] = [column[row] for row in which]
    return {name: [_valid(each) for each in column] for name, column in {**columns, **values}.items()}, which


def _in_column(kind: Type, value: Any) -> Any:
    """A plain value as a frame's column can hold it: a tuple with values in it that have parts themselves, as a
    struct with a field for each; an empty one, which has no type there, as text."""
    if not isinstance(kind, Tuple):
        return value
    if not kind.elements:
        return str(value)
    if not any(isinstance(each, Tuple | Record | Array) for each in kind.elements):
        return value
    names = kind.names or tuple(map(str, range(len(kind.elements))))
    parts = value.values() if isinstance(value, dict) else value
    return {name: _in_column(each, part) for name, each, part in zip(names, kind.elements, parts, strict=True)}


def _valid(value: Any) -> Any:
    """A value that frames can hold: bytes of texts that are not UTF-8 are replaced, empty structs are null."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {name: _valid(each) for name, each in value.items()} or None
    if isinstance(value, list | tuple):
        return type(value)(map(_valid, value))
    return value


def _values(content: MapContent, values: list[Any], text: Texts) -> tuple[list[int], dict[str, list[Any]]]:
    """The number of each row's value, and the columns made of them."""
    kind = content.kind
    found: dict[str, list[Any]]
    if isinstance(kind, Ranges):
        cells = [(i, cell, int(n)) for i, value in enumerate(values) for cell, n in enumerate(value) if n]
        ranges = [bounds(kind, cell) for _, cell, _ in cells]
        found = {"low": [r[0] for r in ranges], "high": [r[1] for r in ranges], "count": [n for _, _, n in cells]}
        return [i for i, _, _ in cells], found
    if isinstance(kind, TimeSeries):
        last = content.last_interval
        moments = [(i, *row) for i, value in enumerate(values) for row in series_rows(kind, value, last)]
        found = {"start_ns": [start for _, start, _ in moments], "value": [value for _, _, value in moments]}
        return [i for i, _, _ in moments], found
    every = list(range(len(values)))
    if isinstance(kind, CountAndTotal):
        counts, totals = [value[0] for value in values], [value[1] for value in values]
        means = [total / count if count else 0.0 for count, total in zip(counts, totals, strict=True)]
        return every, {"value": means, "count": counts, "total": totals}
    if isinstance(kind, OneNumber):
        return every, {"value": values}
    return every, {"value": [_in_column(kind, plain(text, kind, value)) for value in values]}
