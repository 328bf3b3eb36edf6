"""Metrics without the counts that they are made of: a column for each (`--metric-only`)."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from insitu.views.counts.figures import Row
from insitu.views.counts.text import Labels, labelled

__all__ = ["MetricColumns"]


_LEAST_WIDTH: Final = 10  # columns of a metric


class _Line(NamedTuple):
    label: str
    values: list[float | None]


class MetricColumns:
    """The titles are those of the first rows that are shown; above intervals they stand once."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._titles: list[str] = []

    def table(self, rows: Sequence[Row], at_s: float | None = None) -> Iterator[str]:
        """Lines of right-aligned columns."""
        first, lines = not self._titles, self._lines(rows)
        places = max((len(line.label) for line in lines), default=0)
        time = "" if at_s is None else f"{at_s:13.6f}"
        widths = [max(len(title), _LEAST_WIDTH) for title in self._titles]

        def line(time: str, label: str, cells: Iterable[str]) -> str:
            padded = (f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
            return f"{time} {label:<{places}}{''.join(padded)}".rstrip()

        if (first or at_s is None) and self._titles:
            yield line("seconds".rjust(len(time)) if time else "", "", self._titles)
        for label, values in lines:
            yield line(time, label, ("" if value is None else f"{value:.3f}" for value in values))

    def csv(self, rows: Sequence[Row], separator: str, at_s: float | None = None) -> Iterator[str]:
        """A line of titles, once, and lines of fields."""
        first, lines = not self._titles, self._lines(rows)
        places = [""] if any(line.label for line in lines) else []
        if first and self._titles:
            yield separator.join([*(["time"] if at_s is not None else []), *places, *self._titles])
        for line in lines:
            values = ["" if value is None else f"{value:.3f}" for value in line.values]
            time = [] if at_s is None else [f"{at_s:.9f}"]
            yield separator.join([*time, *([line.label] if places else []), *values])

    def json(self, rows: Sequence[Row], at_s: float | None = None) -> Iterator[str]:
        """An object for each place: title -> number; null where there is none."""
        for line in self._lines(rows):
            found: dict[str, object] = {} if at_s is None else {"interval": round(at_s, 9)}
            found |= {"place": line.label} if line.label else {}
            rounded = (None if value is None else round(value, 6) for value in line.values)
            yield json.dumps(found | dict(zip(self._titles, rounded, strict=True)))

    def _lines(self, rows: Sequence[Row]) -> list[_Line]:
        named = labelled(rows, self._labels)
        if not self._titles:
            self._titles = list(dict.fromkeys(_title(row) for row in rows if row.metric))
        found: dict[str, dict[str, float]] = {}
        for label, row in named:
            if row.metric:
                found.setdefault(label, {})[_title(row)] = row.metric.plain.value
        return [_Line(label, [values.get(title) for title in self._titles]) for label, values in found.items()]


def _title(row: Row) -> str:
    """What the metric is, with the event where the unit does not say it."""
    assert row.metric is not None, "only rows with a metric have a title"
    unit = row.metric.plain.unit
    return f"{row.event.name} {unit}" if unit.startswith("/sec") or ":" in row.event.name else unit
