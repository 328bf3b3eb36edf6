"""Counts of `insitu stat` in the form that its options ask for."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence

from insitu import messages
from insitu.commands._text_destination import TextDestination
from insitu.commands.stat_events import counts_every_thread
from insitu.kernel import procfs
from insitu.record.run import Request
from insitu.record.sources.counting import Reading
from insitu.views.counts.figures import Row, rows_of
from insitu.views.counts.text import (
    Labels,
    Times,
    count_lines,
    interval_header,
    interval_lines,
    reason_lines,
    run_lines,
    time_lines,
)

__all__ = ["Report"]

_CLEAR = "\x1b[H\x1b[2J"


class Report:
    """Writes intervals and totals."""

    def __init__(self, args: argparse.Namespace, request: Request, out: TextDestination) -> None:
        self._args = args
        self._request = request
        self._out = out
        self._every_thread = counts_every_thread(args)
        tids = args.tid or _threads(procfs.pids() if self._every_thread else request.pids)
        self.names = dict(_names(tids) if args.per_thread else ())
        """What threads are called."""
        self._labels = Labels(self.names)
        self._began = False
        self._metrics = None
        if args.metric_only:
            from insitu.views.counts.metric_only import MetricColumns

            self._metrics = MetricColumns(self._labels)

    def interval(self, reading: Reading) -> None:
        """Write the counts of one interval."""
        args, at_s = self._args, reading.at_s
        rows = self._shown(rows_of([reading.counts], reading.elapsed_s))
        if self._fields:
            self._write(self._records(rows, at_s))
            return
        clears = args.interval_clear and self._out.stream.isatty()
        begin = [_CLEAR] if clears else []
        if self._metrics:
            self._write([*begin, *self._metrics.table(rows, at_s)])
            return
        begin += [interval_header()] if clears or not self._began else []
        self._write([*begin, *interval_lines(rows, self._labels, at_s, big_num=args.big_num)])

    def total(self, readings: Sequence[Reading], times: Sequence[tuple[float, float]]) -> None:
        """Write the counts of one or several runs."""
        args = self._args
        elapsed = [each.elapsed_s for each in readings]
        rows = self._shown(rows_of([each.counts for each in readings], sum(elapsed) / len(elapsed)))
        if self._fields:
            self._write(self._records(rows, None))
            return
        runs = f" ({len(readings)} runs)" if len(readings) > 1 else ""
        self._write(["", f" Performance counter stats for {_described(args, self._request)}{runs}:", ""])
        if self._metrics:
            self._write([*self._metrics.table(rows), *reason_lines(rows)])
        else:
            self._write(count_lines(rows, self._labels, big_num=args.big_num, fold=not args.verbose))
        self._write([""] if rows else [])
        if args.table:
            self._write(run_lines(elapsed))
        user, system = zip(*times, strict=True) if times and not self._request.as_long_as else ((), ())
        self._write(time_lines(Times(elapsed, user, system)))

    def _shown(self, rows: list[Row]) -> list[Row]:
        """Of all the machine's threads those that have a count, those with most of the first event first."""
        if not self._every_thread:
            return rows
        first = rows[0].event.name if rows else ""
        most = {row.place: row.value or 0.0 for row in rows if row.event.name == first}
        kept = [row for row in rows if row.value or row.reason]
        self.names.update(_names({row.place.tid for row in kept} - self.names.keys()))  # started meanwhile
        return sorted(kept, key=lambda row: most.get(row.place, 0.0), reverse=True)

    @property
    def _fields(self) -> bool:
        return bool(self._args.json or self._args.field_separator)

    def _records(self, rows: Sequence[Row], at_s: float | None) -> Iterable[str]:
        from insitu.views.counts.records import csv_lines, json_lines

        if self._args.json:
            return self._metrics.json(rows, at_s) if self._metrics else json_lines(rows, self._labels, at_s)
        separator = self._args.field_separator.replace("\\t", "\t")
        if self._metrics:
            return self._metrics.csv(rows, separator, at_s)
        return csv_lines(rows, self._labels, separator, at_s)

    def _write(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if not self._began:
            self._began = True
            self._out.settle()
            if self._args.output and not self._args.json:
                text = f"# started on {time.ctime()}\n{text}"
        self._out.stream.write(text.encode(errors="surrogateescape"))
        self._out.stream.flush()


def _described(args: argparse.Namespace, request: Request) -> str:
    if args.tid:
        return f"thread id '{','.join(map(str, args.tid))}'"
    if request.pids:
        return f"process id '{','.join(map(str, request.pids))}'"
    if args.cpu:
        return f"'CPU(s) {args.cpu}'"
    if request.whole_system:
        return "'system wide'"
    return f"'{messages.one_line(' '.join(request.command))}'"


def _threads(pids: Iterable[int]) -> Iterable[int]:
    for pid in pids:
        try:
            yield from procfs.threads(pid)
        except ProcessLookupError:
            continue  # which is reported where it is attached to


def _names(tids: Iterable[int]) -> Iterable[tuple[int, str]]:
    for tid in tids:
        try:
            yield tid, procfs.comm(tid).decode(errors="replace")
        except OSError:
            continue
