"""A report as lines of text: header, losses, hottest functions and lines, threads, call tree."""

import shlex
from collections.abc import Iterator
from typing import Final

import numpy as np

from insitu.terminal_text import printable
from insitu.views.call_tree import CallTree
from insitu.views.losses import loss_text
from insitu.views.quantity import amount, formatter, rest
from insitu.views.report import Report, percent
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, Line, Screen, heat, shorten

__all__ = ["base_name", "report_lines"]

_KIND_STYLES: Final = {"kernel": "magenta", "jit": "green", "python": "green"}
_MODULE_COLUMNS: Final = 24
_LEAST_TREE_NAME: Final = 16  # columns; deeper nodes lose indentation rather than their name


def report_lines(
    report: Report, screen: Screen, *, limit: int = 30, min_percent: float = 1.0, tree: bool = True
) -> Iterator[Block]:
    """The whole report; ``limit`` (0: none) bounds its tables, ``min_percent`` of all the tree's nodes."""
    plain = screen.width is None
    for line in _header(report):
        yield [("# ", ""), *line] if plain else line
    if not report.total:
        return
    sections: list[tuple[str, Iterator[Block]]] = [("hottest functions", _functions(report, limit))]
    if report.lines is not None:
        sections.append(("hottest lines", _source_lines(report, limit)))
    if report.threads:
        sections.append(("threads", _threads(report, limit)))
    if tree:
        title = "callers of the hottest functions (bottom-up" if report.reverse else "call tree ("
        least = f"branches of {min_percent:g} % or more)"
        sections.append((f"{title}{', ' if report.reverse else ''}{least}", _tree(report, screen, min_percent)))
    for title, lines in sections:
        yield []
        yield [("# ", "") if plain else ("", ""), (title, "bold cyan")]
        yield from lines


def base_name(module: str) -> str:
    """The file's name of a module's path; what is in brackets stays as it is."""
    return module.rpartition("/")[2] or module


def _header(report: Report) -> Iterator[Line]:
    info = report.info
    for key in ("command", "host", "kernel", "source"):
        said = info.get(key)
        if said:
            words = shlex.join(map(str, said)) if isinstance(said, (list, tuple)) else str(said)
            yield [(f"{key:<9}", "dim"), (words, "bold" if key == "command" else "")]
    if report.duration_ns:
        yield [(f"{'duration':<9}", "dim"), (f"{report.duration_ns / 1e9:.3f} s", "")]
    yield [(f"{report.counted:<9}", "dim"), *_amounts(report)]
    without = int(report.tree.own[0])
    if without and not report.reverse:
        yield [(f"{'no stack':<9}", "dim"), (f"{percent(without, report.total):.2f} % of this", "")]
    if report.also:
        also = ", ".join(f"{name} ({rows:,} rows)" for name, rows in report.also.items())
        yield [(f"{'also':<9}", "dim"), (f"{also}; --table NAME or insitu sql", "")]
    notes = info.get("notes")
    for note in notes if isinstance(notes, (list, tuple)) else ():
        yield [(f"{'note':<9}", "dim"), (str(note), "yellow")]
    if report.lost:
        yield [(loss_text(report.lost), "bold red")]


def _amounts(report: Report) -> Line:
    """What was recorded and how much of it: "1234 of cpu-clock at 99 Hz, 12.464 s"."""
    frequency = report.info.get("frequency_hz")
    of_event = "" if report.event in ("", report.counted) else f" of {report.event}"
    if not report.samples:
        period = ""
        if isinstance(frequency, int) and frequency:
            period = f" (one every {1000 / frequency:.3g} ms of CPU time; a higher -F samples more often)"
        return [(f"none{of_event}", "bold yellow"), (period, "")]
    text = f"{report.samples}{of_event}{f' at {frequency} Hz' if frequency else ''}"
    if report.unit == report.event != report.counted:
        text += f", {report.total:,} in all"
    elif report.unit != report.counted:
        text += f", {amount(report.total, report.unit)}"
    return [(text, "")]


def _functions(report: Report, limit: int) -> Iterator[Block]:
    columns = [
        Column("self%"),
        Column("self", spare=True),
        Column("total%"),
        Column("total", spare=True),
        Column("module", "left", _MODULE_COLUMNS, spare=True),
        Column("function", "left"),
    ]
    shown = formatter(report.unit, report.total)
    rows = []
    for row in report.functions[: limit or None]:
        own, total = percent(row.own, report.total), percent(row.total, report.total)
        rows.append(
            [
                (f"{own:.2f}", heat(own)),
                (shown(row.own), ""),
                (f"{total:.2f}", heat(total)),
                (shown(row.total), ""),
                (base_name(row.module) or "-", "dim"),
                (row.function, _KIND_STYLES.get(row.kind, "")),
            ]
        )
    yield Table(columns, rows)
    yield from _rest(len(report.functions), limit, "function")


def _source_lines(report: Report, limit: int) -> Iterator[Block]:
    assert report.lines is not None
    if not report.lines:
        yield [("no source line is known for any of these functions", "yellow")]
        return
    columns = [
        Column("self%"),
        Column("self", spare=True),
        Column("function", "left", 32, spare=True),
        Column("file:line", "left"),
    ]
    shown = formatter(report.unit, report.total)
    rows = []
    for row in report.lines[: limit or None]:
        own = percent(row.own, report.total)
        cells = [(f"{own:.2f}", heat(own)), (shown(row.own), "")]
        rows.append([*cells, (row.function, ""), (f"{row.file}:{row.line}", "")])
    yield Table(columns, rows)
    yield from _rest(len(report.lines), limit, "line")


def _threads(report: Report, limit: int) -> Iterator[Block]:
    with_share = any(row.cpu_share is not None for row in report.threads)
    columns = [Column("%"), Column("self"), *[Column("cpu%")] * with_share, Column("tid"), Column("command", "left")]
    shown = formatter(report.unit, report.total)
    rows = []
    for row in report.threads[: limit or None]:
        own = percent(row.own, report.total)
        cells = [(f"{own:.2f}", heat(own)), (shown(row.own), "")]
        if with_share:
            cells.append(("-" if row.cpu_share is None else f"{100 * row.cpu_share:.1f}", ""))
        rows.append([*cells, (str(row.tid), ""), (row.comm, "")])
    yield Table(columns, rows)
    yield from _rest(len(report.threads), limit, "thread")


def _rest(count: int, limit: int, what: str) -> Iterator[Line]:
    if limit and count > limit:
        yield [(rest(count - limit, what, f"{what}s"), "dim")]


def _tree(report: Report, screen: Screen, min_percent: float) -> Iterator[Block]:
    tree = report.tree
    children = _children(tree, min_percent)
    shown = formatter(tree.unit, report.total)
    amounts = {at: shown(int(tree.total[at])) for nodes in children.values() for at in nodes}
    wide = max([len("total"), *map(len, amounts.values())])
    plain = screen.width is None
    yield [("# " if plain else "", ""), (f"total%   self%  {'total':>{wide}}  function", "bold")]
    for at, lead in _walk(children):
        total, own = percent(int(tree.total[at]), report.total), percent(int(tree.own[at]), report.total)
        name = tree.names[tree.name[at]]
        text = printable(name.function) + (" (inlined)" if name.inlined else "")
        figures = [
            ("  " if plain else "", ""),
            (f"{total:6.2f}", heat(total)),
            ("  ", ""),
            (f"{own:6.2f}", heat(own)),
        ]
        if screen.width is not None:
            room = max(screen.width - 18 - wide, 0)
            lead = lead[-max(room - _LEAST_TREE_NAME, 0) :] if len(lead) + _LEAST_TREE_NAME > room else lead
            text = shorten(text, max(room - len(lead), 0))
        yield [*figures, (f"  {amounts[at]:>{wide}}  ", ""), (lead, "dim"), (text, _KIND_STYLES.get(name.kind, ""))]


def _children(tree: CallTree, min_percent: float) -> dict[int, list[int]]:
    """The nodes of at least ``min_percent`` of all, by parent, heaviest first."""
    keep = np.flatnonzero(tree.total >= max(min_percent / 100 * int(tree.total[0]), 1))
    heaviest = keep[np.argsort(-tree.total[keep], kind="stable")]
    children: dict[int, list[int]] = {}
    for at, parent in zip(heaviest.tolist(), tree.parent[heaviest].tolist(), strict=True):
        if at:
            children.setdefault(parent, []).append(at)
    return children


def _walk(children: dict[int, list[int]]) -> Iterator[tuple[int, str]]:
    """Every node with the drawing that leads to its name. An only child stands below its parent, not indented."""
    # Entries: node, what leads to it, what leads to those below it.
    waiting = [(at, "", "") for at in children.get(0, [])[::-1]]
    while waiting:
        at, lead, below = waiting.pop()
        yield at, lead
        nodes = children.get(at, [])
        if len(nodes) == 1:
            waiting.append((nodes[0], below, below))
            continue
        last = True
        for node in nodes[::-1]:
            waiting.append((node, below + ("└─ " if last else "├─ "), below + ("   " if last else "│  ")))
            last = False
