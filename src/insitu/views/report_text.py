"""A report as lines of text: header, losses, hottest functions and lines, threads, call tree."""

import shlex
from collections.abc import Iterator, Sequence
from typing import Final

from insitu.views.function_names import module_labels
from insitu.views.losses import loss_text
from insitu.views.quantity import amount, formatter, percent, rest
from insitu.views.report import Report, ThreadRow
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, Line, Screen, heat, wrapped
from insitu.views.tree_text import KIND_STYLES, tree_lines

__all__ = ["report_lines"]

_MODULE_COLUMNS: Final = 24
_MOST_OF_A_NAME: Final = 20  # threads that have a row each


def report_lines(
    report: Report,
    screen: Screen,
    *,
    limit: int = 30,
    min_percent: float = 1.0,
    tree: bool = True,
    functions: Iterator[Block] | None = None,
) -> Iterator[Block]:
    """The whole report; ``limit`` (0: none) bounds its tables, ``min_percent`` of all the tree's nodes.

    ``functions`` takes the place of the table of functions.
    """
    plain = screen.plain
    for line in _header(report, screen.width and screen.width - 2 * plain):
        yield [("# ", ""), *line] if plain else line
    if not report.total:
        return
    sections: list[tuple[str, Iterator[Block]]] = [("hottest functions", functions or _functions(report, limit))]
    if report.lines is not None:
        sections.append(("hottest lines", _source_lines(report, limit)))
    if report.threads:
        sections.append(("threads", _threads(report, limit)))
    if tree and report.tree.parent.any():  # else it would repeat the functions
        title = "callers of the hottest functions (bottom-up" if report.reverse else "call tree ("
        least = f"branches of {min_percent:g} % or more)"
        lines = tree_lines(report.tree, screen, min_percent=min_percent, reverse=report.reverse)
        sections.append((f"{title}{', ' if report.reverse else ''}{least}", lines))
    for title, lines in sections:
        yield []
        yield [("# ", "") if plain else ("", ""), (title, "bold cyan")]
        yield from lines


def _header(report: Report, width: int | None) -> Iterator[Line]:
    info = report.info
    for key in ("command", "target", "host", "kernel", "source"):
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
        yield from wrapped((f"{'also':<9}", "dim"), (f"{also}; --table NAME or insitu sql", ""), width)
    notes = info.get("notes")
    for note in notes if isinstance(notes, (list, tuple)) else ():
        yield from wrapped((f"{'note':<9}", "dim"), (str(note), "yellow"), width)
    if report.lost:
        yield from wrapped(("", ""), (loss_text(report.lost), "bold red"), width)


def _amounts(report: Report) -> Line:
    """What was recorded and how much of it: "1234 of cpu-clock at 99 Hz, 12.464 s"."""
    frequency = report.info.get("frequency_hz")
    of_event = "" if report.event in ("", report.counted) else f" of {report.event}"
    if not report.samples:
        period = ""
        if isinstance(frequency, int) and frequency and not report.lost:
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
        Column("function", "left", names=True),
    ]
    shown = formatter(report.unit, report.total)
    rows = []
    hottest = report.functions[: limit or None]
    modules = module_labels([row.module for row in hottest])
    for row, module in zip(hottest, modules, strict=True):
        own, total = percent(row.own, report.total), percent(row.total, report.total)
        rows.append(
            [
                (f"{own:.2f}", heat(own)),
                (shown(row.own), ""),
                (f"{total:.2f}", heat(total)),
                (shown(row.total), ""),
                (module or "-", "dim"),
                (row.function, KIND_STYLES.get(row.kind, "")),
            ]
        )
    yield Table(columns, rows)
    yield from _rest(len(report.functions), limit, "function")


def _source_lines(report: Report, limit: int) -> Iterator[Block]:
    assert report.lines is not None
    if not report.lines:
        yield [("# no source line is known for any of these functions", "yellow")]
        return
    columns = [
        Column("self%"),
        Column("self", spare=True),
        Column("file:line", "left"),
        Column("function", "left", 32, spare=True, names=True),
    ]
    shown = formatter(report.unit, report.total)
    rows = []
    for row in report.lines[: limit or None]:
        own = percent(row.own, report.total)
        cells = [(f"{own:.2f}", heat(own)), (shown(row.own), "")]
        rows.append([*cells, (f"{row.file}:{row.line}", ""), (row.function, "")])
    yield Table(columns, rows)
    yield from _rest(len(report.lines), limit, "line")


def _threads(report: Report, limit: int) -> Iterator[Block]:
    with_share = any(row.cpu_share is not None for row in report.threads)
    columns = [Column("%"), Column("self"), *[Column("cpu%")] * with_share, Column("tid"), Column("command", "left")]
    shown = formatter(report.unit, report.total)
    rows = []
    threads = _summed(report.threads)
    for tid, row in threads[: limit or None]:
        own = percent(row.own, report.total)
        cells = [(f"{own:.2f}", heat(own)), (shown(row.own), "")]
        if with_share:
            cells.append(("-" if row.cpu_share is None else f"{100 * row.cpu_share:.1f}", ""))
        rows.append([*cells, (tid, ""), (row.comm, "")])
    yield Table(columns, rows)
    yield from _rest(len(threads), limit, "thread")


def _summed(threads: Sequence[ThreadRow]) -> list[tuple[str, ThreadRow]]:
    """Threads with their tid, by falling weight; of many of one name one row with their number and sum.

    A server that starts a thread for each request has hundreds.
    """
    named: dict[str, list[ThreadRow]] = {}
    for row in threads:
        named.setdefault(row.comm, []).append(row)
    found = []
    for rows in named.values():
        if len(rows) <= _MOST_OF_A_NAME:
            found += [(str(row.tid), row) for row in rows]
        else:
            shares = [row.cpu_share for row in rows if row.cpu_share is not None]
            own = sum(row.own for row in rows)
            found.append(
                (f"{len(rows)} threads", rows[0]._replace(own=own, cpu_share=sum(shares) if shares else None))
            )
    return sorted(found, key=lambda each: -each[1].own)


def _rest(count: int, limit: int, what: str) -> Iterator[Line]:
    if limit and count > limit:
        yield [(rest(count - limit, what), "dim")]
