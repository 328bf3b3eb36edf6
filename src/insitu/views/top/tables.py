"""The tables of the screen: processes, threads, functions and stacks; rows are drawn when they are seen."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from insitu.record.top.functions import Cost, Functions
from insitu.record.top.tick import Process, Sample
from insitu.symbols.frame import CORE_TEXT
from insitu.terminal_text import printable
from insitu.views import quantity
from insitu.views.table import Line, shorten
from insitu.views.top.columns import COLUMNS, Column, Shown, heat_style

__all__ = ["ALL_THREADS", "Listing", "functions_table", "process_table", "side_lines", "stacks_table"]

ALL_THREADS: Final = 0
"""The key of the row of threads that means all of them."""
_WIDE: Final = 100  # columns, from which on spare ones are shown
_TITLE: Final = "bold"
_SORTED: Final = "bold underline"
_QUIET: Final = "bright_black"
_MODULE: Final = 24  # columns of a function's module


class Listing(NamedTuple):
    """A table: ``key`` identifies a row from tick to tick, ``line`` draws it."""

    title: Line
    rows: Sequence[Any]
    key: Callable[[Any], Hashable]
    line: Callable[[Any], Line]


def process_table(
    rows: Sequence[Process], shown: Shown, width: int, *, bpf: bool, of_threads: Process | None = None
) -> Listing:
    """Processes; with ``of_threads`` the threads of that process, with one row for all of them first."""
    columns = [each for each in COLUMNS if (bpf or not each.bpf) and (width >= _WIDE or not each.spare)]
    if of_threads is not None:  # what /proc/PID/task does not have
        columns = [each for each in columns if each.name not in ("read", "write", "rss", "threads", "off", "calls")]
    name_width = max(8, width - sum(each.width + 1 for each in columns if each.width))
    ordered = list(shown.rows(rows))
    if of_threads is not None:
        ordered.insert(0, of_threads._replace(name="all threads", pid=ALL_THREADS))

    def line(row: Process) -> Line:
        cells: Line = []
        for column in columns:
            text = column.text(row)
            if column.name == "pid" and row.pid == ALL_THREADS:
                text = ""
            if column.width:
                cells.append((f"{text:>{column.width}} ", _cell_style(column, row)))
            else:
                cells.append((shorten(text, name_width), "" if row.cpu >= 0.0005 else _QUIET))
        return cells

    title: Line = [
        (
            f"{column.title:>{column.width}} " if column.width else column.title,
            _SORTED if column.name == shown.sort.name else _TITLE,
        )
        for column in columns
    ]
    return Listing(title, ordered, lambda row: row.pid, line)


def _cell_style(column: Column, row: Process) -> str:
    value = column.value(row)
    if column.name == "pid":
        return ""
    if column.name == "state":
        return {"R": "green", "D": "red", "Z": "magenta", "T": "yellow"}.get(row.state, _QUIET)
    if not isinstance(value, int | float) or value < 0.0005:
        return _QUIET
    return heat_style(float(value)) if column.heats else ""


def side_lines(costs: Sequence[Cost], width: int, height: int) -> list[Line]:
    """The functions that take the most CPU time, as lines beside the processes."""
    whole = max(1, sum(cost.own for cost in costs))
    name_width = width - 8 - _MODULE
    lines: list[Line] = [[("  CPU % FUNCTION", _TITLE)]]
    for cost in costs[: max(0, height - 1)]:
        name = shorten(printable(cost.function), name_width - 1)
        share = cost.own / whole
        lines.append(
            [
                (f"{100 * share:>7.1f} ", heat_style(share)),
                (f"{name:<{name_width}}", ""),
                (shorten(_module(cost.module), _MODULE), _QUIET),
            ]
        )
    return lines


def functions_table(costs: Sequence[Cost], width: int, *, waits: bool, by_total: bool) -> Listing:
    """Functions by their share of all samples, or of all time off the CPU."""
    whole = max(1, sum(cost.own for cost in costs))
    module_width = _MODULE if width >= _WIDE else 16
    name_width = max(12, width - 18 - module_width)
    ordered = sorted(costs, key=lambda cost: (-cost.total, -cost.own)) if by_total else costs

    def line(cost: Cost) -> Line:
        own, total = cost.own / whole, cost.total / whole
        name = shorten(printable(cost.function), name_width)
        module = shorten(_module(cost.module), module_width)
        return [
            (f"{100 * own:>7.1f} ", heat_style(own)),
            (f"{100 * total:>8.1f} ", heat_style(total)),
            (f"{name:<{name_width}} ", ""),
            (module, _QUIET),
        ]

    title: Line = [
        (" SELF % ", _TITLE if by_total else _SORTED),
        (" TOTAL % ", _SORTED if by_total else _TITLE),
        (f"{'WAITING IN' if waits else 'FUNCTION':<{name_width}} MODULE", _TITLE),
    ]
    return Listing(title, ordered, lambda cost: (cost.function, cost.module), line)


def stacks_table(
    stacks: Mapping[Sample, int], functions: Functions, through: tuple[str, str] | None, width: int, *, waits: bool
) -> Listing:
    """Stacks, those with the most samples (or time) first; ``through``: of one function only."""
    whole = max(1, sum(stacks.values()))
    lines: list[Line] = []
    for names, value in functions.merged(stacks, through):
        share = value / whole
        amount = quantity.duration(value) if waits else f"{value} samples"
        lines.append([(f"{100 * share:6.1f} %  ", heat_style(share)), (amount, "bold")])
        for function, module in names:
            name, place = printable(function), _module(module)
            style = "bold" if (function, module) == through else ""
            lines.append([("    ", ""), (shorten(name, max(12, width - 30)), style), (f"  {place}", _QUIET)])
        lines.append([])
    numbered = list(enumerate(lines))
    title: Line = [(" SHARE    STACK, innermost function first", _TITLE)]
    return Listing(title, numbered, lambda row: row[0], lambda row: row[1])


def _module(path: str) -> str:
    return "kernel" if path == CORE_TEXT else printable(path.rpartition("/")[2])
