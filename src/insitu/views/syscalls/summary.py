"""How often each call was made and how long it took: strace(1)'s -c table, with percentiles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.syscalls.call import Call
from insitu.syscalls.decode import call_name

__all__ = ["COLUMNS", "SORTS", "Summary", "SummaryRow", "column_names", "sort_name", "summary_lines"]


class SummaryRow(NamedTuple):
    """One call's figures; times are latencies in ns."""

    name: str
    calls: int
    errors: int
    total_ns: int
    min_ns: int
    max_ns: int
    p50_ns: int
    p99_ns: int


class _Column(NamedTuple):
    title: str
    width: int
    short: str = ""
    """The title where there is little room."""


# As strace(1)'s count.c has them; the last three are ours.
_COLUMNS: Final = {
    "time-percent": _Column("% time", 6),
    "total-time": _Column("seconds", 11),
    "min-time": _Column("shortest", 8),
    "max-time": _Column("longest", 8),
    "avg-time": _Column("usecs/call", 11, "us/call"),
    "calls": _Column("calls", 9),
    "errors": _Column("errors", 9),
    "name": _Column("syscall", 16),
    "p50": _Column("p50 usecs", 9, "p50 us"),
    "p99": _Column("p99 usecs", 9, "p99 us"),
    "max": _Column("max usecs", 9, "max us"),
}
COLUMNS: Final = ("time-percent", "total-time", "avg-time", "calls", "errors", "p50", "p99", "max", "name")
"""What is shown by default: strace's columns, and in front of the last, which is the name, percentiles."""
_SPARE: Final = ("max", "p50", "time-percent", "avg-time", "p99")
"""Columns that are left out one after the other, in this order, until the table fits."""

_ALIASES: Final = {
    "time": "total-time",
    "time_percent": "time-percent",
    "time-total": "total-time",
    "total_time": "total-time",
    "min_time": "min-time",
    "shortest": "min-time",
    "max_time": "max-time",
    "longest": "max-time",
    "avg_time": "avg-time",
    "usecs/call": "avg-time",
    "count": "calls",
    "error": "errors",
    "syscall": "name",
    "syscall-name": "name",
    "none": "nothing",
}
SORTS: Final = ("total-time", "min-time", "max-time", "avg-time", "calls", "errors", "name", "nothing", "p50", "p99")

_WHOLE_NS: Final = 1_000_000
"""From here on microseconds are shown without a fraction."""
_PIECES = 5
"""A power of two of latencies is counted in 2^5 buckets: a percentile is exact to some 3 per cent."""


class _Figures:
    __slots__ = ("buckets", "calls", "errors", "max_ns", "min_ns", "total_ns")

    def __init__(self) -> None:
        self.calls = self.errors = self.total_ns = self.max_ns = 0
        self.min_ns = 1 << 63
        self.buckets: dict[int, int] = {}

    def percentile(self, share: float) -> int:
        """Returns the latency that ``share`` of the calls do not exceed: the middle of its bucket."""
        left = share * self.calls
        for bucket in sorted(self.buckets):
            left -= self.buckets[bucket]
            if left <= 0:
                low, high = _bounds(bucket)
                return min(max((low + high) // 2, self.min_ns), self.max_ns)
        return self.max_ns


def _bucket(ns: int) -> int:
    shift = max(ns.bit_length() - _PIECES - 1, 0)
    return (shift << _PIECES + 1) + (ns >> shift)


def _bounds(bucket: int) -> tuple[int, int]:
    shift, top = bucket >> _PIECES + 1, bucket & ((1 << _PIECES + 1) - 1)
    return top << shift, ((top + 1) << shift) - 1


class Summary:
    """Counts calls that have returned; memory is bounded by the number of calls' names."""

    def __init__(self) -> None:
        self._figures: dict[tuple[str, int], _Figures] = {}

    def add(self, call: Call) -> None:
        """Count a call."""
        key = (call.enter.abi, call.enter.nr)
        figures = self._figures.get(key)
        if figures is None:
            figures = self._figures[key] = _Figures()
        ns = max(call.dur_ns or 0, 0)
        figures.calls += 1
        figures.errors += call.failed
        figures.total_ns += ns
        figures.min_ns = min(figures.min_ns, ns)
        figures.max_ns = max(figures.max_ns, ns)
        bucket = _bucket(ns)
        figures.buckets[bucket] = figures.buckets.get(bucket, 0) + 1

    def rows(self) -> list[SummaryRow]:
        """Returns the figures, by number of the call."""
        return [
            SummaryRow(
                call_name(*key),
                each.calls,
                each.errors,
                each.total_ns,
                each.min_ns,
                each.max_ns,
                each.percentile(0.5),
                each.percentile(0.99),
            )
            for key, each in sorted(self._figures.items())
        ]


def sort_name(text: str) -> str:
    """Returns what -S sorts by. Raises InsituError (status 2)."""
    name = _ALIASES.get(text, text)
    name = {"time-percent": "total-time", "max": "max-time"}.get(name, name)
    if name not in SORTS:
        raise InsituError(f"-S {text}: unknown order{nearest(text, SORTS)}", remedy=", ".join(SORTS), status=2)
    return name


def column_names(text: str) -> tuple[str, ...]:
    """Returns the columns that -U names. Raises InsituError (status 2)."""
    names = tuple(_ALIASES.get(word, word) for word in text.split(","))
    for name in names:
        if name not in _COLUMNS:
            remedy = ", ".join(_COLUMNS)
            raise InsituError(f"-U {name}: unknown column{nearest(name, _COLUMNS)}", remedy=remedy, status=2)
    if len(set(names)) < len(names):
        raise InsituError(f"-U {text}: a column is named twice", status=2)
    return names


def summary_lines(
    rows: Iterable[SummaryRow], sort: str = "total-time", columns: Sequence[str] = COLUMNS, width: int = 0
) -> list[str]:
    """Returns the table; nothing without rows. In ``width`` columns (0: any) titles are shorter, and where that is
    not enough, some of the usual columns are left out."""
    rows = list(rows)
    if not rows:
        return []
    if sort == "name":
        rows.sort(key=lambda row: row.name)
    elif sort != "nothing":
        rows.sort(key=lambda row: _sorted_by(row, sort), reverse=True)
    total_ns = sum(row.total_ns for row in rows)
    calls = sum(row.calls for row in rows)
    total = SummaryRow(
        "total",
        calls,
        sum(row.errors for row in rows),
        total_ns,
        min(row.min_ns for row in rows),
        max(row.max_ns for row in rows),
        -1,
        -1,
    )
    cells = {column: [_cell(row, column, total_ns) for row in [*rows, total]] for column in columns}
    lines = _table(cells)
    if width and _widest(lines) > width:
        lines = _table(cells, short=True)
        for spare in _SPARE if tuple(columns) == COLUMNS else ():
            if _widest(lines) > width:
                del cells[spare]
                lines = _table(cells, short=True)
    return lines


def _widest(lines: Iterable[str]) -> int:
    return max(map(len, lines))


def _table(cells: Mapping[str, Sequence[str]], *, short: bool = False) -> list[str]:
    """The lines of a table, of its cells by column."""
    titles = [(short and _COLUMNS[column].short) or _COLUMNS[column].title for column in cells]
    widths = [
        max(len(title) if short else _COLUMNS[column].width, *(len(cell) + (column == "name") for cell in found))
        for title, (column, found) in zip(titles, cells.items(), strict=True)
    ]
    rule = " ".join("-" * width for width in widths)
    lines = [_line(row, tuple(cells), widths) for row in [titles, *zip(*cells.values(), strict=True)]]
    return [lines[0], rule, *lines[1:-1], rule, lines[-1]]


def _sorted_by(row: SummaryRow, sort: str) -> float:
    return {
        "total-time": row.total_ns,
        "min-time": row.min_ns,
        "max-time": row.max_ns,
        "avg-time": row.total_ns / row.calls,
        "calls": row.calls,
        "errors": row.errors,
        "p50": row.p50_ns,
        "p99": row.p99_ns,
    }[sort]


def _line(cells: Sequence[str], columns: Sequence[str], widths: Sequence[int]) -> str:
    padded = [
        cell.ljust(width) if column == "name" else cell.rjust(width)
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    return " ".join(padded).rstrip()


def _cell(row: SummaryRow, column: str, total_ns: int) -> str:
    match column:
        case "time-percent":
            return f"{100 * row.total_ns / total_ns if total_ns else 0:.2f}"
        case "total-time":
            return f"{row.total_ns / 1e9:.6f}"
        case "min-time":
            return f"{row.min_ns / 1e9:.6f}"
        case "max-time":
            return f"{row.max_ns / 1e9:.6f}"
        case "avg-time":
            return str(row.total_ns // row.calls // 1000)
        case "calls":
            return str(row.calls)
        case "errors":
            return str(row.errors or "")
        case "name":
            return row.name
        case "p50":
            return "" if row.p50_ns < 0 else _microseconds(row.p50_ns)
        case "p99":
            return "" if row.p99_ns < 0 else _microseconds(row.p99_ns)
    return _microseconds(row.max_ns)


def _microseconds(ns: int) -> str:
    return f"{ns / 1000:.1f}" if ns < _WHOLE_NS else f"{ns / 1000:.0f}"
