"""A report as lines of text: header, losses, hottest functions and lines, threads, call tree."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from insitu.session.profile import CallTree
from insitu.views.losses import loss_text
from insitu.views.report import Report, percent
from insitu.views.terminal import Column, Line, Screen, heat, printable, shorten, table

__all__ = ["base_name", "quantity", "report_lines"]

_KIND_STYLES: Final = {"kernel": "magenta", "jit": "green", "python": "green"}
_MODULE_COLUMNS: Final = 24
_LEAST_TREE_NAME: Final = 16  # columns; deeper nodes lose indentation rather than their name


def report_lines(
    report: Report, screen: Screen, *, limit: int = 30, min_percent: float = 1.0, tree: bool = True
) -> Iterator[Line]:
    """The whole report; ``limit`` (0: none) bounds its tables, ``min_percent`` of all the tree's nodes."""
    plain = screen.width is None
    for line in _header(report):
        yield [("# ", ""), *line] if plain else line
    if not report.total:
        return
    sections = [("hottest functions", _functions(report, screen, limit))]
    if report.lines is not None:
        sections.append(("hottest lines", _source_lines(report, screen, limit)))
    sections.append(("threads", _threads(report, screen, limit)))
    if tree:
        title = "who called the running functions" if report.reverse else "call tree"
        sections.append((f"{title}, from {min_percent:g} % up", _tree(report, screen, min_percent)))
    for title, lines in sections:
        yield []
        yield [("# ", "") if plain else ("", ""), (title, "bold cyan")]
        yield from lines


def quantity(value: int, unit: str) -> str:
    """A weight without blanks in it: nanoseconds as seconds, all else as the number."""
    return f"{value / 1e9:.3f}s" if unit == "ns" else str(value)


def base_name(module: str) -> str:
    """The file's name of a module's path; what is in brackets stays as it is."""
    return module.rpartition("/")[2] or module


def _header(report: Report) -> Iterator[Line]:
    info = report.info
    for key in ("command", "host", "kernel", "source"):
        said = info.get(key)
        if said:
            words = " ".join(map(str, said)) if isinstance(said, (list, tuple)) else str(said)
            yield [(f"{key:<9}", "dim"), (printable(words), "bold" if key == "command" else "")]
    if report.duration_ns:
        yield [(f"{'duration':<9}", "dim"), (f"{report.duration_ns / 1e9:.3f} s", "")]
    frequency = info.get("frequency_hz")
    event = report.event + (f" at {frequency} Hz" if frequency else "")
    amount = "" if report.unit == "samples" else f", {quantity(report.total, report.unit)} {report.unit}"
    if not report.total:
        yield [("no samples: ", "bold yellow"), ("the program used no CPU time, or ended too soon", "")]
    else:
        of_event = "" if report.event == "samples" else f" of {printable(event)}"
        yield [(f"{'samples':<9}", "dim"), (f"{report.samples}{of_event}{amount}", "")]
    notes = info.get("notes")
    for note in notes if isinstance(notes, (list, tuple)) else ():
        yield [(f"{'note':<9}", "dim"), (printable(str(note)), "yellow")]
    if report.lost:
        yield [(printable(loss_text(report.lost)), "bold red")]


def _functions(report: Report, screen: Screen, limit: int) -> Iterator[Line]:
    columns = [
        Column("self%"),
        Column("self", spare=True),
        Column("total%"),
        Column("total", spare=True),
        Column("module", "left", _MODULE_COLUMNS, spare=True),
        Column("function", "name"),
    ]
    rows = []
    for row in report.functions[: limit or None]:
        own, total = percent(row.own, report.total), percent(row.total, report.total)
        rows.append(
            [
                (f"{own:.2f}", heat(own)),
                (quantity(row.own, report.unit), ""),
                (f"{total:.2f}", heat(total)),
                (quantity(row.total, report.unit), ""),
                (base_name(row.module) or "-", "dim"),
                (row.function, _KIND_STYLES.get(row.kind, "")),
            ]
        )
    yield from table(columns, rows, screen.width)
    yield from _rest(len(report.functions), limit, "functions")


def _source_lines(report: Report, screen: Screen, limit: int) -> Iterator[Line]:
    assert report.lines is not None
    if not report.lines:
        yield [("no line information: build the program with -g, or install its debug symbols", "yellow")]
        return
    columns = [
        Column("self%"),
        Column("self", spare=True),
        Column("function", "left", 32, spare=True),
        Column("file:line", "name"),
    ]
    rows = []
    for row in report.lines[: limit or None]:
        own = percent(row.own, report.total)
        cells = [(f"{own:.2f}", heat(own)), (quantity(row.own, report.unit), "")]
        rows.append([*cells, (row.function, ""), (f"{row.file}:{row.line}", "")])
    yield from table(columns, rows, screen.width)
    yield from _rest(len(report.lines), limit, "lines")


def _threads(report: Report, screen: Screen, limit: int) -> Iterator[Line]:
    columns = [Column("%"), Column("self"), Column("cpu%"), Column("tid"), Column("command", "name")]
    rows = []
    for row in report.threads[: limit or None]:
        own = percent(row.own, report.total)
        cpu = "-" if row.cpu_share is None else f"{100 * row.cpu_share:.1f}"
        cells = [(f"{own:.2f}", heat(own)), (quantity(row.own, report.unit), ""), (cpu, "")]
        rows.append([*cells, (str(row.tid), ""), (row.comm, "")])
    yield from table(columns, rows, screen.width)
    yield from _rest(len(report.threads), limit, "threads")


def _rest(count: int, limit: int, what: str) -> Iterator[Line]:
    if limit and count > limit:
        yield [(f"# {count - limit} more {what}; -n 0 shows all", "dim")]


def _tree(report: Report, screen: Screen, min_percent: float) -> Iterator[Line]:
    tree = report.tree
    children = _children(tree, min_percent)
    amounts = {at: quantity(int(tree.total[at]), tree.unit) for nodes in children.values() for at in nodes}
    wide = max([len("total"), *map(len, amounts.values())])
    plain = screen.width is None
    yield [("# " if plain else "", ""), (f"total%   self%  {'total':>{wide}}  function", "bold")]
    for at, lead in _walk(children, screen.unicode):
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


def _walk(children: dict[int, list[int]], unicode: bool) -> Iterator[tuple[int, str]]:
    """Every node with the drawing that leads to its name. An only child stands below its parent, not indented."""
    fork, corner, pipe = ("├─ ", "└─ ", "│  ") if unicode else ("|- ", "`- ", "|  ")
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
            waiting.append((node, below + (corner if last else fork), below + ("   " if last else pipe)))
            last = False
