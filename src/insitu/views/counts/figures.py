"""Rows of counts: one for each event and place, over one run or several."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from insitu.record.count_metrics import Key, Metric, key_of, metric_of
from insitu.record.counters import Count, Place, count_value
from insitu.record.event_names import NamedEvent

__all__ = ["NOT_COUNTED", "NOT_SUPPORTED", "Row", "mean", "rows_of", "spread_percent", "unit_of"]

NOT_SUPPORTED = "<not supported>"
NOT_COUNTED = "<not counted>"


class Row(NamedTuple):
    """The figures of an event at a place: means where there were several runs.

    ``value`` is in ``unit``, and None where there is none, for the ``reason``. ``spread`` is the standard error of
    the mean in per cent (None: one run), ``percent`` the share of the time in which the event was really counted.
    """

    event: NamedEvent
    place: Place
    value: float | None
    unit: str
    running_ns: float
    percent: float
    spread: float | None
    metric: Metric | None
    reason: str
    counters: int = 0
    """How many were added up."""

    @property
    def absent(self) -> str:
        """What stands for a count that there is none of."""
        return NOT_SUPPORTED if self.reason else NOT_COUNTED


def rows_of(runs: Sequence[Sequence[Count]], elapsed_s: float) -> list[Row]:
    """The rows of some runs' counts; ``elapsed_s`` is the mean time of one."""
    gathered: dict[tuple[str, Place], list[Count]] = {}
    for run in runs:
        for count in run:
            gathered.setdefault((count.counted.event.name, count.place), []).append(count)
    means: dict[Place, dict[Key, float]] = {}
    for counts in gathered.values():
        known = [count.value for count in counts if count_value(count) is not None]
        if known:
            means.setdefault(counts[0].place, {})[key_of(counts[0].counted.event)] = mean(known)
    return [_row(counts, means.get(counts[0].place, {}), elapsed_s, len(runs)) for counts in gathered.values()]


def _row(counts: Sequence[Count], values: dict[Key, float], elapsed_s: float, runs: int) -> Row:
    counted, place = counts[0].counted, counts[0].place
    event = counted.event
    known = [count for count in counts if count_value(count) is not None]
    enabled, running = sum(each.enabled_ns for each in counts), sum(each.running_ns for each in counts)
    # The time of several CPUs or threads, of several runs.
    percent = 100.0 * running / enabled if enabled else 100.0
    if not known:
        return Row(event, place, None, unit_of(event)[0], 0.0, percent, None, None, counted.reason)
    value = mean([each.value for each in known])
    unit, scale = unit_of(event)
    return Row(
        event,
        place,
        value * scale,
        unit,
        running / len(known),
        percent,
        spread_percent([each.value for each in known]) if runs > 1 else None,
        metric_of(event, value, values, elapsed_s),
        counted.reason,
        counts[0].counters,
    )


def unit_of(event: NamedEvent) -> tuple[str, float]:
    """The unit that an event's count is shown in, and by what it is multiplied for it."""
    return ("msec", 1e-6) if event.is_clock else (event.unit, event.scale)


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean."""
    return math.fsum(values) / len(values)


def spread_percent(values: Sequence[float]) -> float:
    """The standard error of the mean, in per cent of it; 0 for a mean of 0, as perf has it."""
    middle = mean(values)
    if len(values) < 2 or not middle:
        return 0.0
    variance = math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)
    return 100 * math.sqrt(variance / len(values)) / abs(middle)
