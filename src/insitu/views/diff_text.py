"""A diff of two recordings as lines of text."""

from collections.abc import Iterator, Sequence
from typing import Final

from insitu.plurals import counted
from insitu.views.diff import Diff, DiffRow
from insitu.views.quantity import rest
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, Screen, wrapped

__all__ = ["diff_lines"]

_GREW: Final = "red"
_SHRANK: Final = "green"


def diff_lines(diff: Diff, screen: Screen, *, limit: int = 30, warnings: Sequence[str] = ()) -> Iterator[Block]:
    """What was compared, then the ``limit`` (0: all) functions with the largest differences."""
    mark = ("# ", "") if screen.plain else ("", "")
    yield [mark, (f"{_amounts(diff)}; {diff.part} {_scale(diff)} by function", "")]
    for warning in (*diff.notes, *warnings):
        for line in wrapped(("", ""), (warning, "bold red"), screen.width and screen.width - len(mark[0])):
            yield [mark, *line]
    real = sum(not row.noise for row in diff.rows)
    if real:
        yield [mark, (f"{real} of {len(diff.rows)} functions changed; ~ not significant", "")]
    else:
        yield [mark, ("no significant change (p >= 0.05)", "bold green")]
    yield []
    unit = "%" if diff.scale == "share" else ""
    columns = [
        Column(f"before{unit}"),
        Column(f"after{unit}"),
        Column("delta"),
        Column("ratio", spare=True),
        Column("~", "left"),
        Column("module", "left", 20, spare=True),
        Column("function", "left", names=True),
    ]
    rows = []
    for row in diff.rows[: limit or None]:
        style = "dim" if row.noise else _GREW if row.delta > 0 else _SHRANK
        rows.append(
            [
                (_figure(row.before, diff), ""),
                (_figure(row.after, diff), ""),
                (_figure(row.delta, diff, sign="+"), style),
                (_ratio(row), style),
                ("~" if row.noise else "*", style),
                (row.module or "-", "dim"),
                (row.function, style),
            ]
        )
    yield Table(columns, rows)
    if limit and len(diff.rows) > limit:
        yield [(rest(len(diff.rows) - limit, "function"), "dim")]


def _amounts(diff: Diff) -> str:
    return f"{counted(diff.samples[0], diff.counted.removesuffix('s'))} before, {diff.samples[1]} after"


def _scale(diff: Diff) -> str:
    unit = diff.unit
    if unit == "ns":
        unit = "CPU seconds" if diff.is_cpu_time else "seconds"
    return {"share": "per cent", "rate": f"{unit} per second", "amount": unit}[diff.scale]


def _figure(value: float, diff: Diff, sign: str = "") -> str:
    if diff.scale == "share":
        return f"{value:{sign}.2f}"
    if diff.unit == "ns":
        return f"{value / 1e9:{sign}.4f}"
    return f"{value:{sign}.2f}" if diff.scale == "rate" else f"{value:{sign}.0f}"


def _ratio(row: DiffRow) -> str:
    if row.ratio is None:
        return "new"
    return f"{row.ratio:.2f}" if row.after else "gone"
