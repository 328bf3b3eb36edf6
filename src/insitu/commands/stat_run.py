"""What `insitu stat` does with its options: runs, and their figures in the form that was asked for."""

from __future__ import annotations

import argparse
import itertools
import os
from collections.abc import Sequence

from insitu import messages
from insitu.commands._options import command_words, pids_named
from insitu.commands._text_destination import TextDestination, standard_error, text_destination
from insitu.commands.stat_events import counting_options, counts_every_thread
from insitu.commands.stat_report import Report
from insitu.errors import InsituError
from insitu.record.bare_run import run_command
from insitu.record.interrupts import Interrupts
from insitu.record.run import Destination, Outcome, Request, run
from insitu.record.sources.counting import CountingOptions, CountingSource, Reading

__all__ = ["destination", "print_notes", "stat"]

_COMM_BYTES = 15  # of a thread's name: TASK_COMM_LEN


def stat(args: argparse.Namespace) -> int:
    """Count, print, and return the exit status: the command's."""
    _check(args)
    request = _request(args)
    options, notes = counting_options(args, request)
    if args.control is None:
        return _counted(args, request, options, notes)
    from insitu.record.control import Control

    control = Control.parsed(args.control)
    try:
        return _counted(args, request, options._replace(control=control), notes)
    finally:
        control.close()


def _counted(args: argparse.Namespace, request: Request, options: CountingOptions, notes: list[str]) -> int:
    if args.output and args.output.endswith(".insitu"):
        return _session(args, request, options, notes)
    readings: list[Reading] = []
    times: list[tuple[float, float]] = []
    # perf's -r 0: each run by itself, until somebody asks to stop.
    forever, runs = args.repeat == 0, args.repeat or 1
    status = shown = 0

    def show() -> None:
        nonlocal shown
        shown = len(readings)
        print_notes(args, notes)
        if not args.interval_print or args.summary:
            report.total(readings, times)

    with destination(args) as out, Interrupts() as interrupts:
        report = Report(args, request, out)
        for number in itertools.count(1) if forever else range(1, runs + 1):
            source = CountingSource(options, report.interval if args.interval_print else None)

            def ended(
                outcome: Outcome, source: CountingSource = source, last: bool = forever or number == runs
            ) -> None:
                """Before the events are closed, which takes as long as the kernel likes."""
                readings.append(source.total)
                times.extend([source.times_s] if source.times_s else [])
                notes.extend([*outcome.notes, *(source.details() if args.verbose else ())])
                if source.command_pid is not None:  # when the threads were listed it was not there
                    report.names[source.command_pid] = request.command[0].rpartition("/")[2][:_COMM_BYTES]
                if last or interrupts.count or outcome.exit_status > 128:
                    show()

            try:
                _shell("--pre", args.pre, interrupts)
                if args.sync:
                    os.sync()
                status = run(request, [source], Destination(), ended=ended, interrupts=interrupts).exit_status
                _shell("--post", args.post, interrupts)
            except InsituError:
                if not interrupts.count or (number == 1 and not readings):
                    raise  # otherwise the runs before it are shown
            if status > 128:
                break
            if interrupts.count and (forever or len(readings) < runs):  # the command had ended, or handles the signal
                status = 128 + interrupts.first
                break
            if forever:
                readings.clear()
                times.clear()
                notes.clear()
        if shown < len(readings):
            show()
    return status


def _shell(option: str, command: str | None, interrupts: Interrupts) -> None:
    """Run a shell command beside the counted one. Raises InsituError if it fails, or somebody has asked to stop."""
    if command is None:
        return
    status = run_command(("/bin/sh", "-c", command), {}, interrupts)
    if interrupts.count:
        raise InsituError(f"interrupted during {option}", status=128 + interrupts.first)
    if status:
        raise InsituError(f"{option} {command}: exit status {status}", status=status if status > 128 else 1)


def _session(args: argparse.Namespace, request: Request, options: CountingOptions, notes: list[str]) -> int:
    """Record the counts over time as a session, and print the totals."""
    from pathlib import Path

    from insitu.commands._output import Displaced, finished, status_of
    from insitu.record.session_destination import SessionDestination

    if args.repeat is not None:
        raise InsituError("a session holds one run: -r N prints, or writes text to -o FILE.txt", status=2)
    path = Path(args.output)
    displaced = Displaced(path)
    args.output = None
    with destination(args) as out:
        report = Report(args, request, out)
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
    return status_of(outcome, manifest)


def _request(args: argparse.Namespace) -> Request:
    command = tuple(command_words(args))
    pids = args.pid or ()
    if args.comm is not None:
        pids = tuple(dict.fromkeys((*pids, *pids_named(args.comm))))
    pids += args.tid or ()
    whole = bool(args.all or args.cpu or args.cgroup or args.for_each_cgroup)
    for wrong, what, remedy in (
        (not (command or pids or whole), "nothing to count", "give a command after --, -p PID, or -a"),
        (pids and whole, "-p and -t cannot be combined with -a, -C and -G", ""),
        (args.no_aggr and not whole, "-A shows CPUs, which are counted with -a or -C", "insitu stat -a -A"),
        (args.domain and not whole, f"--per-{args.domain} adds up CPUs, which are counted with -a or -C", ""),
        (
            args.per_thread and not (pids or counts_every_thread(args)),
            "--per-thread needs -p, -t, or -a without -C and -G",
            "",
        ),
        (args.repeat is not None and not command, "-r repeats a command", "insitu stat -r 5 -- COMMAND"),
    ):
        if wrong:
            raise InsituError(what, remedy=remedy, status=2)
    seconds = args.timeout / 1000 if args.timeout else None
    return Request(command, pids, whole, seconds, as_long_as=bool(command and pids))


def _check(args: argparse.Namespace) -> None:
    """Raises InsituError for options that exclude or need each other."""
    separator = args.field_separator
    for wrong, what in (
        (separator is not None and args.json, "-x and -j exclude each other"),
        (args.log_fd is not None and args.output, "--log-fd and -o exclude each other"),
        (args.append and not args.output, "--append needs -o FILE"),
        (args.interval_count and not args.interval_print, "--interval-count needs -I MS"),
        (args.interval_clear and not args.interval_print, "--interval-clear needs -I MS"),
        (args.table and (args.repeat or 1) < 2, "--table shows the runs of -r N"),
        (args.delay < 0 and args.control is None, "-D -1 starts when --control says so"),
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
            stream = os.fdopen(os.dup(args.log_fd), "wb", buffering=0)
        except (OSError, OverflowError) as error:
            why = error.strerror if isinstance(error, OSError) else "no such descriptor"
            raise InsituError(f"--log-fd {args.log_fd}: {why}", status=2) from None
        return TextDestination(stream, f"--log-fd {args.log_fd}")
    return text_destination(args.output, append=args.append) if args.output else standard_error()


def print_notes(args: argparse.Namespace, notes: Sequence[str]) -> None:
    if args.quiet or ((args.json or args.field_separator) and not args.output):
        return
    for note in dict.fromkeys(notes):
        messages.note(note)
