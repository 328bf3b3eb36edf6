"""Time series: what tseries() keeps of each interval, as rows, text and JSON in bpftrace's format."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from insitu.probe.aggregations import TimeSeries
from insitu.probe.passes.check.folding import quotient

__all__ = ["WORDS", "merged", "series_json", "series_rows", "series_text"]

# Words of an interval: its number (nanoseconds of the wall clock by the length of an interval; 0 when it was never
# used), the value, and what merging needs: how many values an average has, when the last value came.
WORDS = 3
_WIDTH = 53
_MARGIN = 21  # what the least value takes of the scale
_UNITS = ((10**9, "", 0), (10**6, "ms", 3), (10**3, "us", 6), (1, "ns", 9))  # nanoseconds, name, digits

# Number of an interval and its value, ascending.
Series = list[tuple[int, int]]


def merged(kind: TimeSeries, words: Sequence[int]) -> Series:
    """What all CPUs hold (WORDS for each interval of each), the latest intervals only."""
    found: dict[int, tuple[int, int]] = {}
    for at in range(0, len(words), WORDS):
        number, value, extra = words[at : at + WORDS]
        if number:
            known = found.get(number)
            found[number] = (value, extra) if known is None else _joined(kind.aggregate, known, (value, extra))
    last = max(found, default=0)
    average = kind.aggregate == "avg"
    return [
        (number, quotient(*found[number]) if average else found[number][0])
        for number in sorted(found)
        if number > last - kind.count
    ]


def _joined(aggregate: str, one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    """One interval's value and extra u64 of two CPUs."""
    if aggregate in ("avg", "sum"):
        return one[0] + other[0], one[1] + other[1]
    if aggregate == "min":
        return min(one, other)
    if aggregate == "max":
        return max(one, other)
    return max(one, other, key=lambda each: each[1])


def series_rows(kind: TimeSeries, series: Series, last: int) -> list[tuple[int, int | None]]:
    """Start of each interval (nanoseconds of the wall clock) and its value, None for an empty one.

    From the first interval that has a value to number ``last``, which other series of the map may have reached.
    """
    values = dict(series)
    start = min((number for number in values if number > last - kind.count), default=last + 1)
    return [(number * kind.interval, values.get(number)) for number in range(start, last + 1)]


def _unit(interval: int) -> tuple[str, int]:
    """The coarsest unit below a second that shows an interval exactly: name and digits."""
    return next((name, digits) for size, name, digits in _UNITS if interval % size == 0)


def _clock(moment_ns: int, form: str, digits: int) -> str:
    seconds, rest = divmod(moment_ns, 10**9)
    text = time.strftime(form, time.localtime(seconds))
    return f"{text}.{rest // 10 ** (9 - digits):0{digits}d}" if digits else text


def series_text(kind: TimeSeries, rows: Sequence[tuple[int, int | None]]) -> str:
    """A line for each interval, its value plotted between the least and the greatest."""
    values = [value for _, value in rows if value is not None]
    if not values:
        return "<no data>\n"
    least, greatest = min(values), max(values)
    if least == greatest:
        least, greatest = least - 1 if kind.signed or least else least, greatest + 1
    name, digits = _unit(kind.interval)
    indent = 9 + (digits + 1 if digits else 0)
    scale = f"{'':{indent}}{least!s:<{_MARGIN}}{greatest!s:>{_WIDTH - _MARGIN}}\n"
    lines = [scale, f"{'hh:mm:ss' + ('.' + name if name else ''):<{indent}}|{'_' * (_WIDTH - 2)}|\n"]
    # Next to a least value of -10**16 a greatest of 1 is nothing to a float.
    zero = min(int(_WIDTH * -least / (greatest - least)), _WIDTH - 1) if least < 0 < greatest else 0
    for moment, value in rows:
        bar = ["|", *" " * (_WIDTH - 2), "|"]
        if zero:
            bar[zero] = "."
        if value is not None:
            bar[int((_WIDTH - 1) * (value - least) / (greatest - least))] = "*"
        lines.append(f"{_clock(moment, '%H:%M:%S', digits)} {''.join(bar)} {'-' if value is None else value}\n")
    lines.append(f"{'':{indent}}v{'_' * (_WIDTH - 2)}v\n{scale}")
    return "".join(lines)


def series_json(rows: Sequence[tuple[int, int | None]]) -> tuple[dict[str, Any], ...]:
    """Start (ISO 8601, local time) and value of each interval."""
    return tuple({"interval_start": _clock(moment, "%Y-%m-%dT%H:%M:%S", 9), "value": value} for moment, value in rows)
