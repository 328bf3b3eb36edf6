"""Counts for programs, as perf has them: separated fields, and JSON, a line for each count."""

import json
from collections.abc import Iterator, Sequence

from insitu.record.counters import why_not
from insitu.views.counts.figures import Row
from insitu.views.counts.text import Labels, labelled

__all__ = ["csv_lines", "json_lines"]


def csv_lines(rows: Sequence[Row], labels: Labels, separator: str, at_s: float | None = None) -> Iterator[str]:
    """value, unit, event, spread (several runs), time counted in ns, its share in per cent, metric, metric's unit.

    The time of an interval and the place stand before them.
    """
    found = list(labelled(rows, labels))
    has_domains = any(row.place.domain for row in rows)
    has_places = any(label for label, _ in found)  # what is not supported is nowhere
    for label, row in found:
        fields = [] if at_s is None else [f"{at_s:18.9f}"]
        fields += [label] if has_places else []
        fields += [str(row.counters)] if has_domains else []
        fields += [_value(row, 2), row.unit, row.event.name]
        fields += [] if row.spread is None else [f"{row.spread:.2f}%"]
        fields += [f"{row.running_ns:.0f}", f"{row.percent:.2f}"]
        fields += [f"{row.metric.value:.3f}", row.metric.unit.removeprefix("% ")] if row.metric else ["", ""]
        yield separator.join(fields)


def json_lines(rows: Sequence[Row], labels: Labels, at_s: float | None = None) -> Iterator[str]:
    """An object for each event, with perf's names, and a "reason" where the event was not counted."""
    for _, row in labelled(rows, labels):
        found: dict[str, object] = {} if at_s is None else {"interval": round(at_s, 9)}
        place = row.place
        if place.cpu >= 0:
            found["cpu"] = str(place.cpu)
        if place.tid >= 0:
            found["thread"] = labels.of(place._replace(cgroup=""))
        if place.domain:
            found |= {"domain": place.domain, "aggregate-number": row.counters}
        if place.cgroup:
            found["cgroup"] = place.cgroup
        found |= {"counter-value": _value(row, 6), "unit": row.unit, "event": row.event.name}
        if row.spread is not None:
            found["variance"] = round(row.spread, 2)
        found |= {"event-runtime": round(row.running_ns), "pcnt-running": round(row.percent, 2)}
        if row.metric:
            found |= {"metric-value": round(row.metric.value, 6), "metric-unit": row.metric.unit.removeprefix("% ")}
        if row.value is None:
            found["reason"] = why_not(row.event, row.reason)
        yield json.dumps(found)


def _value(row: Row, digits: int) -> str:
    if row.value is None:
        return row.absent
    return f"{row.value:.{digits if row.unit not in ('', 'ns') or digits > 2 else 0}f}"
