"""Counts as perf stat lays them out, fitted to their own widths."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from insitu.record.counters import Place, why_not
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
    "run_lines",
    "time_lines",
]


_MOST_ABSENT: Final = 4
"""Events without a count that have a line each."""


_BAR: Final = 40  # columns


class Labels(NamedTuple):
    """How places are called: ``threads`` maps a thread's id to its name."""

    threads: dict[int, str]

    def of(self, place: Place) -> str:
        """ "CPU3", "S0-D0-C1", "worker-4711", a cgroup's name, or two of them; "" for the whole target."""
        parts = []
        if place.domain:
            parts.append(place.domain)
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


def count_lines(rows: Sequence[Row], labels: Labels, *, big_num: bool = True, fold: bool = True) -> Iterator[str]:
    """A line for each row, a blank one between threads, and at the end why some events have no count.

    ``fold``: where many events have none for the same reason, they have no lines besides.
    """
    folded = {reason for reason, names in _reasons(rows).items() if fold and len(names) > _MOST_ABSENT}
    shown = [row for row in rows if row.value is not None or why_not(row.event, row.reason) not in folded]
    yield from _table(labelled(shown, labels), big_num)
    yield from reason_lines(rows, fold=fold)


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
    has_domains = any(row.place.domain for _, row in shown)
    is_by_cpu = any(row.place.cpu >= 0 for _, row in shown)
    for (label, row), (value, unit, name, number, meaning, notes) in zip(shown, cells, strict=True):
        if label != previous and not is_by_cpu:
            yield ""
        previous = label
        place = f"{label:<{label_width}} " if label_width else ""
        place += f"{row.counters:>6} " if has_domains else ""
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
    digits = 0 if row.unit in ("", "ns") else 2
    return f"{row.value:,.{digits}f}" if big_num else f"{row.value:.{digits}f}"


def reason_lines(rows: Sequence[Row], *, fold: bool = True) -> Iterator[str]:
    """A blank line, and why some rows have no count; nothing if all have one."""
    reasons = _reasons(rows)
    if reasons:
        yield ""
    for reason, names in reasons.items():
        most = _MOST_ABSENT if fold and len(names) > _MOST_ABSENT else len(names)
        rest = f" and {len(names) - most} more not counted" if most < len(names) else ""
        yield f" {', '.join(names[:most])}{rest}: {reason}"


def _reasons(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Why some rows have no count -> the names of their events."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.value is None:
            reasons.setdefault(why_not(row.event, row.reason), {})[printable(row.event.name)] = None
    return {reason: list(names) for reason, names in reasons.items()}


def run_lines(elapsed: Sequence[float]) -> Iterator[str]:
    """The elapsed time of each run: how far it is from the mean, and as a bar."""
    middle, longest = mean(elapsed), max(elapsed)
    yield "          # Table of individual measurements:"
    for each in elapsed:
        bar = "#" * max(1, round(each / longest * _BAR)) if longest else ""
        yield f"          {each:.6f} ({each - middle:+.6f}) {bar}"
    yield ""


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
