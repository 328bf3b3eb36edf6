"""The columns of the table of processes: what they show, how wide they are, and the keys that sort by them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from insitu.record.top.tick import Process
from insitu.terminal_text import printable

__all__ = ["COLUMNS", "SORTED_BY", "Column", "Shown", "heat_style", "percent", "processes", "short"]

_UNITS: Final = "kMGTPE"
# Share of one CPU, from here on -> style.
_HEAT: Final = ((0.9, "bold red"), (0.6, "red"), (0.3, "yellow"), (0.05, "green"), (0.0, "bright_black"))


def heat_style(share: float) -> str:
    """The style of a share of one CPU."""
    return next((style for least, style in _HEAT if share >= least), "")


def short(value: float | None, base: int = 1000) -> str:
    """At most five characters: "999", "1.2k", "12.3M"; "-" for what is not known."""
    if value is None:
        return "-"
    if round(value) < base:
        return f"{value:.0f}"
    unit = -1
    while round(value) >= base and unit < len(_UNITS) - 1:
        value /= base
        unit += 1
    return f"{value:.{1 if value < 99.95 else 0}f}{_UNITS[unit] if base == 1000 else _UNITS[unit].upper()}"


def percent(share: float | None) -> str:
    """A share of one CPU in per cent, without the sign."""
    if share is None:
        return "-"
    return f"{100 * share:.1f}" if share < 9.9995 else f"{100 * share:.0f}"


def processes(count: int) -> str:
    """A number of processes."""
    return f"{count} process{'es' if count != 1 else ''}"


class Column(NamedTuple):
    """A column. Rows are sorted by ``value``, which ``key`` chooses on the screen and ``name`` in --sort."""

    name: str
    title: str
    width: int
    key: str
    value: Callable[[Process], float | int | str | None]
    text: Callable[[Process], str]
    doc: str
    heats: bool = False
    """Whether the value is a share of a CPU, coloured by it."""
    ascends: bool = False
    bpf: bool = False
    """Whether only BPF knows it."""
    spare: bool = False
    """Whether it is left out on a narrow terminal."""


_OFF: Final = "blocked or asleep, in waits that ended in the tick"


def _io(row: Process) -> float:
    return (row.read_bytes or 0.0) + (row.write_bytes or 0.0)


COLUMNS: Final = (
    Column("pid", "PID", 7, "p", lambda r: r.pid, lambda r: str(r.pid), "process (or thread) id", ascends=True),
    Column("state", "S", 1, "", lambda r: r.state, lambda r: printable(r.state), "state, as in ps"),
    Column("threads", "THR", 4, "", lambda r: r.threads, lambda r: short(r.threads), "threads", spare=True),
    Column("cpu", "CPU %", 6, "c", lambda r: r.cpu, lambda r: percent(r.cpu), "time on a CPU; 100 is one CPU", True),
    Column(
        "wait", "WAIT %", 6, "w", lambda r: r.wait, lambda r: percent(r.wait), "runnable, waiting for a CPU", True
    ),
    Column("off", "OFF %", 6, "o", lambda r: r.off_cpu, lambda r: percent(r.off_cpu), _OFF, bpf=True),
    Column(
        "calls", "CALLS/S", 7, "s", lambda r: r.calls, lambda r: short(r.calls), "system calls a second", bpf=True
    ),
    Column("read", "READ/S", 6, "i", _io, lambda r: short(r.read_bytes, 1024), "bytes read from storage a second"),
    Column("write", "WRITE/S", 7, "", _io, lambda r: short(r.write_bytes, 1024), "bytes written to it a second"),
    Column("rss", "RSS", 6, "m", lambda r: r.rss_bytes, lambda r: short(r.rss_bytes, 1024), "resident memory"),
    Column("name", "NAME", 0, "n", lambda r: r.name, lambda r: printable(r.name), "name", ascends=True),
)
SORTED_BY: Final = {column.name: column for column in COLUMNS}
"""Columns by name."""


class Shown(NamedTuple):
    """Which rows are shown and in which order. ``filter``: part of the name in any case, or the pid."""

    sort: Column = SORTED_BY["cpu"]
    reverse: bool = False
    filter: str = ""

    def rows(self, found: Iterable[Process]) -> Sequence[Process]:
        """Returns the rows in order; rows that do not know the value come last."""
        if self.filter:
            matches = re.compile(re.escape(self.filter), re.IGNORECASE).search
            found = [row for row in found if matches(row.name) or str(row.pid) == self.filter]
        value = self.sort.value
        known = [(value(row), -row.cpu, row.pid, row) for row in found]
        down = self.sort.ascends == self.reverse
        by_name = self.sort.name in ("name", "state")
        unknown = "" if by_name else -1.0
        ordered = sorted(known, key=lambda each: (each[1], each[2]))
        ordered.sort(key=lambda each: unknown if each[0] is None else each[0], reverse=down)
        return [each[3] for each in ordered]
