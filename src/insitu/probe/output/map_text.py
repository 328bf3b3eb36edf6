"""Maps as text and JSON, in bpftrace's format: order, spacing, histograms and all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from insitu.probe.aggregations import (
    Average,
    CountAndTotal,
    Histogram,
    LinearHistogram,
    OneNumber,
    Ranges,
    Statistics,
    TimeSeries,
)
from insitu.probe.layout import MapLayout
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.time_series import series_json, series_rows, series_text
from insitu.probe.passes.check.folding import quotient
from insitu.probe.runtime.map_content import MapContent
from insitu.probe.types import Integer, Type

__all__ = ["map_json", "map_text"]

_BAR = 52
_STATISTICS = "count {count}, average {average}, total {total}"
_NEWER_STATISTICS = "{{ .count = {count}, .average = {average}, .total = {total} }}"


def map_text(formatter: Formatter, layout: MapLayout, content: MapContent, top: int = 0, div: int = 0) -> str:
    """A whole map. ``top`` keeps the last entries in order, ``div`` divides numbers; 0 for neither."""
    kind = layout.value
    rows = content.sorted_rows()
    if top:
        rows = rows[-top:]
    last = content.last_interval
    lines = []
    for key, value in rows:
        name = layout.name + _key_text(formatter, layout, key)
        if isinstance(kind, Ranges):
            space = "" if formatter.newer_form else " "
            lines.append(f"{name}:{space}\n{histogram_text(kind, value, div, formatter.newer_form)}\n")
        elif isinstance(kind, TimeSeries):
            lines.append(f"{name}:\n{series_text(kind, series_rows(kind, value, last))}\n")
        elif isinstance(kind, Statistics):
            shape = _NEWER_STATISTICS if formatter.newer_form else _STATISTICS
            lines.append(f"{name}: {shape.format(**_statistics(value, div))}\n")
        else:
            lines.append(f"{name}: {_value_text(formatter, kind, value, div)}\n")
    if formatter.newer_form:
        return "".join(lines)
    if not lines:
        lines.append("\n")
    if isinstance(kind, CountAndTotal):
        lines.append("\n")
    return "".join(lines)


def _statistics(value: tuple[int, int], div: int) -> dict[str, int]:
    """What stats() shows of a count and a total."""
    count, total = value
    return {"count": count, "average": _divided(quotient(total, count), div), "total": _divided(total, div)}


def _value_text(formatter: Formatter, kind: Type | None, value: Any, div: int) -> str:
    if isinstance(kind, OneNumber):
        return str(_divided(value, div))
    if isinstance(kind, Average):
        return str(_divided(quotient(value[1], value[0]), div))
    assert kind is not None
    if isinstance(kind, Integer) and div:
        return str(_divided(value, div))
    return formatter.text(kind, value)


def _divided(value: int, div: int) -> int:
    return quotient(value, div) if div else value


def _key_text(formatter: Formatter, layout: MapLayout, key: tuple[Any, ...]) -> str:
    if layout.key is None:
        return ""
    parts = [_key_part(formatter, kind, part) for kind, part in zip(layout.key.elements, key, strict=True)]
    return f"[{', '.join(parts)}]"


def _key_part(formatter: Formatter, kind: Type, part: Any) -> str:
    return formatter.text(kind, part, indent=8 if formatter.newer_form else 4)


def histogram_text(kind: Ranges, cells: Sequence[int], div: int, newer_form: bool = False) -> str:
    """The bars of a histogram, from the first cell that counted something to the last."""
    first, last = _extent(cells)
    most = max(1, *cells)
    lines = []
    for index in range(first, last + 1):
        count = _divided(cells[index], div)
        bar = "@" * int(cells[index] / most * _BAR)
        lines.append(f"{_label(kind, index, newer_form):<16}{count:8d} |{bar:<{_BAR}}|\n")
    return "".join(lines)


def _extent(counts: Sequence[int]) -> tuple[int, int]:
    """First and last cell to show."""
    used = [index for index, count in enumerate(counts) if count]
    return (used[0], used[-1]) if used else (0, -1)


def bounds(kind: Ranges, index: int) -> tuple[int | None, int | None]:
    """A cell's range, its end excluded; None where it has no end."""
    if index == 0:
        return None, kind.minimum if isinstance(kind, LinearHistogram) else 0
    if isinstance(kind, LinearHistogram):
        low = kind.minimum + (index - 1) * kind.step
        return (kind.maximum, None) if index == kind.cells - 1 else (low, min(low + kind.step, kind.maximum))
    bits = kind.bits
    number = index - 1
    if number < 1 << bits:
        return number, number + 1
    power, part = divmod(number, 1 << bits)
    low = ((1 << bits) + part) << (power - 1)
    return low, low + (1 << (power - 1))


def percentile(kind: Ranges, cells: Sequence[int], percent: int) -> int:
    """The middle of the range that a percentile of a histogram is in; 0 of an empty one."""
    rank, seen = -(-sum(cells) * percent // 100), 0
    for cell, count in enumerate(cells):
        seen += count
        if seen >= rank:
            low, high = bounds(kind, cell)
            return ((low or 0) + (high or 0)) // 2
    return 0


def _label(kind: Ranges, index: int, newer_form: bool) -> str:
    low, high = bounds(kind, index)
    start, end = (None if bound is None else _bound(kind, bound, newer_form) for bound in (low, high))
    if start is None:
        return f"(..., {end})"
    if end is None:
        return f"[{start}, ...)"
    if low is not None and high == low + 1 and (isinstance(kind, Histogram) or newer_form):
        return f"[{low}]"
    return f"[{start}, {end})"


def _bound(kind: Ranges, number: int, newer_form: bool) -> str:
    """1024 as 1K, as far as it divides evenly; of linear ranges in the newer form only if their width does, too."""
    if isinstance(kind, LinearHistogram):
        return str(number) if newer_form and kind.step % 1024 else _suffixed(number, ("", "K", "M"))
    return _suffixed(number, ("", "K", "M", "G", "T", "P", "E"))


def _suffixed(number: int, suffixes: Sequence[str]) -> str:
    used = 0
    while number and number % 1024 == 0 and used + 1 < len(suffixes):
        number, used = number // 1024, used + 1
    return f"{number}{suffixes[used]}"


def map_json(formatter: Formatter, layout: MapLayout, content: MapContent, top: int = 0, div: int = 0) -> Any:
    """A whole map as bpftrace's JSON has it: (type, data)."""
    kind = layout.value
    rows = content.sorted_rows()
    if top:
        rows = rows[-top:]
    if isinstance(kind, TimeSeries):
        rows = [(key, _series_json(formatter, kind, value, content.last_interval)) for key, value in rows]
    shown = [(_json_key(formatter, layout, key), _json_value(formatter, kind, value, div)) for key, value in rows]
    if isinstance(kind, Ranges):
        label = "hist"
    elif isinstance(kind, TimeSeries):
        label = "tseries"
    else:
        label = "stats" if isinstance(kind, CountAndTotal) else "map"
    if not shown:
        return None
    if layout.key is None:
        return label, {layout.name: shown[0][1]}
    return label, {layout.name: dict(shown)}


def _series_json(formatter: Formatter, kind: TimeSeries, value: Any, last: int) -> tuple[dict[str, Any], ...]:
    """A time series; in the newer form without the intervals that have no value."""
    rows = series_rows(kind, value, last)
    return series_json([row for row in rows if row[1] is not None] if formatter.newer_form else rows)


def _json_key(formatter: Formatter, layout: MapLayout, key: tuple[Any, ...]) -> str:
    if layout.key is None:
        return ""
    kinds = layout.key.elements
    return ",".join(
        str(part)
        if isinstance(kind, Integer) and kind.enumerators and not formatter.newer_form
        else _key_part(formatter, kind, part)
        for kind, part in zip(kinds, key, strict=True)
    )


def _json_value(formatter: Formatter, kind: Type | None, value: Any, div: int) -> Any:
    if isinstance(kind, Ranges):
        counts = [count // div for count in value] if div else value
        first, last = _extent(value)
        cells = []
        for index in range(first, last + 1):
            low, high = bounds(kind, index)
            cell = {} if low is None else {"min": low}
            if high is not None:
                cell["max"] = high - 1
            cells.append({**cell, "count": counts[index]})
        return tuple(cells)
    if isinstance(kind, TimeSeries):
        return value
    if isinstance(kind, Statistics):
        return {name: formatter.number(number) for name, number in _statistics(value, div).items()}
    if isinstance(kind, Average):
        return formatter.number(_divided(quotient(value[1], value[0]), div))
    if isinstance(kind, OneNumber) or (isinstance(kind, Integer) and div):
        return formatter.number(_divided(value, div))
    assert kind is not None
    return formatter.json(kind, value)
