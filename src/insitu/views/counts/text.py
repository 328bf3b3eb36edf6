"""Counts as perf stat lays them out, fitted to their own widths."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from insitu.record.counters import Place
from insitu.terminal_text import printable
from insitu.views.counts.figures import Row, mean, spread_percent

__all__ = [
    "Labels",
    "Times",
    "count_lines",
    "interval_header",
    "interval_lines",
    "labelled",
    "reason_lines",
    "time_lines",
]


class Labels(NamedTuple):
    """How places are called: ``threads`` maps a thread's id to its name."""

    threads: dict[int, str]

    def of(self, place: Place) -> str:
        """ "CPU3", "worker-4711", a cgroup's name, or two of them; "" for the whole target."""
        parts = []
        if place.cpu >= 0:
            parts.append(f"CPU{place.cpu}")
        if place.tid >= 0:
            parts.append(f"{self.threads.get(place.tid, '?')}-{place.tid}")
        if place.cgroup:
            parts.append(place.cgroup)
        return printable(" ".join(parts))


class Times(NamedTuple):
    """Seconds of each run: elapsed, and with a command user and system time."""

    elapsed: Sequence[float]
    user: Sequence[float] = ()
    system: Sequence[float] = ()


def labelled(rows: Sequence[Row], labels: Labels) -> list[tuple[str, Row]]:
    """The rows with the names of their places, those of one thread or cgroup together."""
    named = [(labels.of(row.place), row) for row in rows]
    order = list(dict.fromkeys(label for label, _ in named))
    # CPUs stay side by side, event by event.
    return named if any(row.place.cpu >= 0 for row in rows) else sorted(named, key=lambda each: order.index(each[0]))


def count_lines(rows: Sequence[Row], labels: Labels, *, big_num: bool = True) -> Iterator[str]:
    """A line for each row, a blank one between threads, and at the end why some events have no count."""
    yield from _table(labelled(rows, labels), big_num)
    yield from reason_lines(rows)


def interval_header() -> str:
    """The line above the first interval."""
    return "#     seconds            counts"


def interval_lines(rows: Sequence[Row], labels: Labels, at_s: float, *, big_num: bool = True) -> Iterator[str]:
    """The lines of one interval, which ended ``at_s`` after the start."""
    for line in _table(labelled(rows, labels), big_num):
        yield f"{at_s:13.6f} {line}" if line else line


def _table(shown: Sequence[tuple[str, Row]], big_num: bool) -> Iterator[str]:
    label_width = max((len(label) for label, _ in shown), default=0)
    if label_width:
        shown = [(label, row) for label, row in shown if label]  # reason_lines() has the others
    cells = [_cells(row, big_num) for _, row in shown]
    value_width, unit_width, name_width, metric_width = (
        max((len(cell[at]) for cell in cells), default=0) for at in range(4)
    )
    previous = shown[0][0] if shown else ""
    is_by_cpu = any(row.place.cpu >= 0 for _, row in shown)
    for (label, _), (value, unit, name, number, meaning, notes) in zip(shown, cells, strict=True):
        if label != previous and not is_by_cpu:
            yield ""
        previous = label
        place = f"{label:<{label_width}} " if label_width else ""
        line = f"{place}{value:>{max(value_width, 15)}} {unit:<{unit_width}} {name:<{name_width}}"
        if number:
            line += f"  # {number:>{metric_width}}{'' if meaning.startswith('%') else ' '}{meaning}"
        yield f" {line}{notes}".rstrip()


def _cells(row: Row, big_num: bool) -> tuple[str, str, str, str, str, str]:
    number = f"{row.metric.value:.{2 if row.metric.unit.startswith('%') else 3}f}" if row.metric else ""
    notes = f"  ( +- {row.spread:.2f}% )" if row.spread is not None else ""
    if row.value is not None and row.percent < 99.995:
        notes += f"  ({row.percent:.2f}% of the time)"
    value = row.absent if row.value is None else _number(row, big_num)
    return value, row.unit, printable(row.event.name), number, row.metric.unit if row.metric else "", notes


def _number(row: Row, big_num: bool) -> str:
    assert row.value is not None, "a row without a value shows why"
    digits = 0 if not row.unit else 2
    return f"{row.value:,.{digits}f}" if big_num else f"{row.value:.{digits}f}"


def reason_lines(rows: Sequence[Row]) -> Iterator[str]:
    """A blank line, and why some rows have no count; nothing if all have one."""
    from textwrap import wrap

    reasons: dict[str, list[str]] = {}
    for row in rows:
        if row.value is None:
            reason = row.reason or "other events held the counters all the time"
            reasons.setdefault(reason, []).append(printable(row.event.name))
    if reasons:
        yield ""
    for reason, names in reasons.items():
        text = f"{', '.join(dict.fromkeys(names))}: {reason}"
        yield from wrap(text, 78, initial_indent=" ", subsequent_indent="   ", break_on_hyphens=False)


def time_lines(times: Times) -> Iterator[str]:
    """The lines below the counts: elapsed, user and system time, with their spread over several runs."""
    for values, what in (
        (times.elapsed, "seconds time elapsed"),
        (times.user, "seconds user"),
        (times.system, "seconds sys"),
    ):
        if not values:
            continue
        middle = mean(values)
        if len(values) == 1:
            yield f"{middle:18.9f} {what}"
        else:
            percent = spread_percent(values)
            yield f"{middle:18.7f} +- {middle * percent / 100:.7f} {what}  ( +- {percent:.2f}% )"
    yield ""
