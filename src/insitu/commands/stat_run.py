"""What `insitu stat` does with its options: runs, and their figures in the form that was asked for."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable, Sequence

from insitu import messages
from insitu.commands._options import pids_named
from insitu.commands._text_destination import TextDestination, standard_error, text_destination
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.record.counters import choose_counted
from insitu.record.default_events import default_events
from insitu.record.event_names import all_events
from insitu.record.run import Destination, Request, run
from insitu.record.sources.counting import CountingOptions, CountingSource, Reading
from insitu.views.counts.figures import Row, rows_of
from insitu.views.counts.text import Labels, Times, count_lines, interval_header, interval_lines, time_lines

__all__ = ["counting_options", "destination", "print_notes", "stat"]


def stat(args: argparse.Namespace) -> int:
    """Count, print, and return the exit status: the command's."""
    _check(args)
    request = _request(args)
    options, notes = counting_options(args, request)
    if args.output and args.output.endswith(".insitu"):
        return _session(args, request, options, notes)
    with destination(args) as out:
        report = _Report(args, request, out)
        readings: list[Reading] = []
        times: list[tuple[float, float]] = []
        status = 0
        for _ in range(args.repeat or 1):
            source = CountingSource(options, report.interval if args.interval_print else None)
            outcome = run(request, [source], Destination())
            readings.append(source.total)
            times += [source.times_s] if source.times_s else []
            notes += outcome.notes
            status = outcome.exit_status
            if status > 128:  # of a signal, as of Ctrl-C
                break
        print_notes(args, notes)
        if not args.interval_print or args.summary:
            report.total(readings, times)
    return status


def _session(args: argparse.Namespace, request: Request, options: CountingOptions, notes: list[str]) -> int:
    """Record the counts over time as a session, and print the totals."""
    from pathlib import Path

    from insitu.commands._output import Displaced, finished
    from insitu.record.session_destination import SessionDestination

    if args.repeat:
        raise InsituError("a session holds one run: -r N prints, or writes text to -o FILE.txt", status=2)
    path = Path(args.output)
    displaced = Displaced(path)
    args.output = None
    with destination(args) as out:
        report = _Report(args, request, out)
        source = CountingSource(options, report.interval if args.interval_print else None)
        outcome = run(request, [source], SessionDestination(path, "counter"))
        print_notes(args, [*notes, *outcome.notes])
        report.total([source.total], [source.times_s] if source.times_s else [])
    if not args.quiet:
        displaced.report()
    if outcome.failure:
        messages.error(outcome.failure)
    manifest = finished(path)
    if manifest and not args.quiet:
        messages.note(f"{manifest.tables['track']['rows']} counters over time in {path}")
    return outcome.exit_status or (0 if manifest and not outcome.failure else 1)


class _Report:
    """Writes counts in the form that the options ask for."""

    def __init__(self, args: argparse.Namespace, request: Request, out: TextDestination) -> None:
        self._args = args
        self._request = request
        self._out = out
        self._labels = Labels(dict(_names(args.tid or _threads(request.pids)) if args.per_thread else ()))
        self._began = False

    def interval(self, reading: Reading) -> None:
        """Write the counts of one interval."""
        args = self._args
        rows = rows_of([reading.counts], reading.elapsed_s)
        if self._fields:
            self._write(self._records(rows, reading.at_s))
            return
        self._write([] if self._began else [interval_header()])
        self._write(interval_lines(rows, self._labels, reading.at_s, big_num=args.big_num))

    def total(self, readings: Sequence[Reading], times: Sequence[tuple[float, float]]) -> None:
        """Write the counts of one or several runs."""
        elapsed = [each.elapsed_s for each in readings]
        rows = rows_of([each.counts for each in readings], sum(elapsed) / len(elapsed))
        if self._fields:
            self._write(self._records(rows, None))
            return
        runs = f" ({len(readings)} runs)" if len(readings) > 1 else ""
        self._write(["", f" Performance counter stats for {_described(self._args, self._request)}{runs}:", ""])
        self._write(count_lines(rows, self._labels, big_num=self._args.big_num))
        self._write([""] if rows else [])
        user, system = zip(*times, strict=True) if times and not self._request.as_long_as else ((), ())
        self._write(time_lines(Times(elapsed, user, system)))

    @property
    def _fields(self) -> bool:
        return bool(self._args.json or self._args.field_separator)

    def _records(self, rows: Sequence[Row], at_s: float | None) -> Iterable[str]:
        from insitu.views.counts.records import csv_lines, json_lines

        if self._args.json:
            return json_lines(rows, self._labels, at_s)
        separator = self._args.field_separator.replace("\\t", "\t")
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


def _request(args: argparse.Namespace) -> Request:
    command = tuple(args.command[1:] if args.command[:1] == ["--"] else args.command)
    pids = args.pid or ()
    if args.comm is not None:
        pids = tuple(dict.fromkeys((*pids, *pids_named(args.comm))))
    pids += args.tid or ()
    whole = bool(args.all or args.cpu or args.cgroup or args.for_each_cgroup)
    if not (command or pids or whole):
        raise InsituError("nothing to count", remedy="give a command after --, -p PID, or -a", status=2)
    if pids and whole:
        raise InsituError("-p and -t cannot be combined with -a, -C and -G", status=2)
    if args.no_aggr and not whole:
        raise InsituError("-A shows CPUs, which are counted with -a or -C", remedy="insitu stat -a -A", status=2)
    if args.per_thread and not pids:
        raise InsituError("--per-thread needs -p or -t", status=2)
    if args.repeat and not command:
        raise InsituError("-r repeats a command", remedy="insitu stat -r 5 -- COMMAND", status=2)
    seconds = args.timeout / 1000 if args.timeout else None
    return Request(command, pids, whole, seconds, as_long_as=bool(command and pids))


def counting_options(args: argparse.Namespace, request: Request) -> tuple[CountingOptions, list[str]]:
    """What the options ask to count, and notes about what of it cannot be counted here. Raises InsituError."""
    whole = request.whole_system
    if args.null:
        events = []
    elif args.event:
        events = all_events(",".join(args.event))
        if not events:
            raise InsituError("-e names no event", remedy="-n counts nothing", status=2)
    else:
        events = default_events(args.detailed, whole_system=whole)
    if args.all_user:
        events = [event._replace(kernel=False) for event in events]
    if args.all_kernel:
        events = [event._replace(user=False) for event in events]
    cgroups = (args.cgroup or "").split(",")
    if args.for_each_cgroup:
        names = args.for_each_cgroup.split(",")
        cgroups = [name for name in names for _ in events]
        events = [event for _ in names for event in events]
    chosen, notes = choose_counted(events, cgroups, whole_system=whole)
    options = CountingOptions(
        chosen,
        per="cpu" if args.no_aggr else "thread" if args.per_thread else "all",
        cpus=_cpus(args.cpu) if whole else None,
        tids=args.tid or (),
        inherit=not args.no_inherit,
        delay_s=args.delay / 1000,
        interval_s=(args.interval_print or 0) / 1000,
        interval_count=args.interval_count or 0,
    )
    return options, notes


def _cpus(text: str | None) -> list[int]:
    online = procfs.online_cpus()
    if text is None:
        return online
    try:
        wanted = procfs.cpu_list(text)
    except ValueError:
        raise InsituError(f"-C {text}: not a list of CPUs such as 0-3,8", status=2) from None
    if not wanted or not set(wanted) <= set(online):
        raise InsituError(f"-C {text}: online are {procfs.text('/sys/devices/system/cpu/online')}", status=2)
    return wanted


def _check(args: argparse.Namespace) -> None:
    """Raises InsituError for options that exclude or need each other."""
    separator = args.field_separator
    for wrong, what in (
        (separator is not None and args.json, "-x and -j exclude each other"),
        (args.log_fd is not None and args.output, "--log-fd and -o exclude each other"),
        (args.append and not args.output, "--append needs -o FILE"),
        (args.interval_count and not args.interval_print, "--interval-count needs -I MS"),
        (
            separator is not None and (not separator or set(separator) & set('0123456789.-"\n')),
            "-x: a separator has no digits, points, minus signs, quotes or newlines",
        ),
    ):
        if wrong:
            raise InsituError(what, status=2)


def destination(args: argparse.Namespace) -> TextDestination:
    if args.log_fd is not None:
        try:
            return TextDestination(os.fdopen(os.dup(args.log_fd), "wb", buffering=0))
        except OSError as error:
            raise InsituError(f"--log-fd {args.log_fd}: {error.strerror}", status=2) from None
    return text_destination(args.output, append=args.append) if args.output else standard_error()


def print_notes(args: argparse.Namespace, notes: Sequence[str]) -> None:
    if args.quiet or ((args.json or args.field_separator) and not args.output):
        return
    for note in dict.fromkeys(notes):
        messages.note(note)


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
