"""What `insitu syscalls` does: prints, counts or records what an engine delivers, or prints a session."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from insitu import messages, terminal_text
from insitu.commands._options import command_words, pids_named
from insitu.commands._output import ended
from insitu.commands._text_destination import TextDestination, standard_error, text_destination
from insitu.commands.syscalls_engine import backend, engine, records
from insitu.commands.syscalls_settings import Settings, separate, settings
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.plurals import counted
from insitu.quick_imports import QuickImports
from insitu.record.run import Request, record, run
from insitu.syscalls.call import Event
from insitu.syscalls.chosen_decoder import ChosenDecoder
from insitu.syscalls.decode import Decoder
from insitu.views.syscalls.call_counter import CallCounter
from insitu.views.syscalls.lines import LinePrinter
from insitu.views.syscalls.separate_lines import SeparateLines
from insitu.views.syscalls.summary import SummaryRow, summary_lines

if TYPE_CHECKING:
    from insitu.record.source import Source
    from insitu.session.reader import Session

__all__ = ["run_syscalls"]

_BATCH: Final = 1024

_Frames = Callable[[int], Sequence[str]]


class _Consumer(Protocol):
    def deliver(self, events: Sequence[Event]) -> None: ...

    def finish(self) -> None: ...


def run_syscalls(args: argparse.Namespace) -> int:
    """Trace, or print a session; returns the exit status. Raises InsituError.

    Nothing at ``-o`` is touched, and no command is started, before all that can be refused has been.
    """
    if args.filter == "list":
        from insitu.syscalls.filters.fields import FIELDS

        for name, field in FIELDS.items():
            print(f"{name:<16} {field.type:<9} {field.help}")
        return 0
    command = command_words(args)
    if command and os.path.exists(f"{command[0]}/session.json"):  # noqa: PTH110 - a start without pathlib
        if len(command) > 1:
            message, remedy = "options stand before the session", f"insitu syscalls {command[1]} ... {command[0]}"
            raise InsituError(message, remedy=remedy, status=2)
        return _print_session(args, command[0])
    if command and command[0].endswith(".insitu") and not os.path.exists(command[0]):  # noqa: PTH110
        remedy = f"record one with insitu syscalls -o {command[0]} COMMAND"
        raise InsituError(f"{command[0]}: no such session", remedy=remedy)
    found = settings(args)
    request = _request(args, command)
    request.check()
    _set_environment(args.env)
    if records(args):
        return _recorded(args, found, request)
    for option, given in (("--json", args.json), ("-ff", separate(args))):
        if args.summary_only and given:
            raise InsituError(f"-c prints one table, and {option} is for calls", remedy="-C has both", status=2)
    if args.off_cpu:
        raise InsituError("--off-cpu is for a session", remedy="give one a name: -o RUN.insitu", status=2)
    if args.summary_only and not found.selection.selects_returns and backend(args, found)[0] == "bpf":
        return _counted(args, found, request)
    return _traced(args, found, request)


def _request(args: argparse.Namespace, command: Sequence[str]) -> Request:
    pids = tuple(dict.fromkeys(pid for group in args.pid or () for pid in group))
    if args.comm is not None:
        pids = tuple(dict.fromkeys((*pids, *_pids_named(args.comm))))
    if args.all and command and command[0].isdigit():
        message, remedy = (
            f"-a is the whole machine, and {command[0]} no command",
            f"strace's -a is --columns {command[0]}",
        )
        raise InsituError(message, remedy=remedy, status=2)
    if not (command or pids or args.all):
        raise InsituError("nothing to trace", remedy="give a command, -p PID, or -a", status=2)
    return Request(tuple(command), pids, args.all, args.duration)


def _pids_named(name: str) -> tuple[int, ...]:
    try:
        return pids_named(name)
    except InsituError as error:
        error.remedy += "; strace's -n is -N"
        raise


def _set_environment(words: Sequence[str]) -> None:
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise InsituError(f"-E {word}: the name is empty", status=2)
        if equals:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


# Printing


def _traced(args: argparse.Namespace, found: Settings, request: Request) -> int:
    if separate(args) and (args.output or "|")[0] in "|!":
        if args.output is not None:
            raise InsituError(f"-ff writes FILE.TID, and {args.output} is a command", remedy="-o FILE", status=2)
        args.follow_forks, args.output_separately = 1, False  # strace(1) does the same: nowhere to write to
        found = found._replace(lines=found.lines._replace(pids="several"))
    consumers: list[_Consumer] = []
    source = engine(args, found, lambda events: _deliver(consumers, events))
    with _destination(args) as destination:
        decoder = ChosenDecoder(found.text, found.qualifiers.abbreviated, found.qualifiers.raw)
        frames = _stack_lines(source) if args.stack_traces else None
        counter = _add_consumers(args, found, destination, decoder, frames, consumers)
        for consumer in consumers:
            if isinstance(consumer, LinePrinter):
                _know(consumer, request.pids)
        destination.outlives_failure = True
        destination.when_attached = lambda: _note_attached(found, request)
        outcome = run(request, [source], destination)
        if not outcome.failure:
            _finish(consumers, counter, found, destination)
        elif destination.reader_gone:
            outcome = outcome._replace(failure="")
    return ended(outcome, quiet=args.quiet)


def _print_session(args: argparse.Namespace, path: str) -> int:
    """Print the calls of a session, as the options would have shown them live."""
    from insitu.convert.open import open_session
    from insitu.views.syscalls.session_events import StoredDecoder, session_events

    for option, given in (("-p", args.pid), ("-n", args.comm), ("-a", args.all), ("-d", args.duration)):
        if given:
            raise InsituError(
                f"{option} chooses what is recorded; {path} is a session", remedy="--filter chooses calls", status=2
            )
    for option, given, remedy in (
        (
            "-k",
            args.stack_traces,
            f"insitu flame {path} or insitu report {path} show stacks that were recorded with -k",
        ),
        ("-y", args.descriptors, f"--filter 'fd.name contains ...', or insitu report {path}: files and descriptors"),
        ("-X", args.const_print_style != "abbrev", "a session has the text of arguments as it was recorded"),
        ("-x", args.hexadecimal, "a session has the text of arguments as it was recorded"),
    ):
        if given:
            raise InsituError(f"{option} is not for printing a session", remedy=remedy, status=2)
    session: Session
    with open_session(path) as session:
        if "syscall" not in session.tables:
            raise InsituError(
                f"{path} has no system calls", remedy=f"insitu syscalls -o {path} -- COMMAND records them"
            )
        found = settings(args, session)._replace(hide_attached=True)
        consumers: list[_Consumer] = []
        with _destination(args, session=True) as destination:
            destination.settle()
            counter = _add_consumers(args, found, destination, StoredDecoder(), None, consumers)
            events = session_events(session)
            while batch := list(itertools.islice(events, _BATCH)):
                _deliver(consumers, batch)
            _finish(consumers, counter, found, destination)
    return 0


def _add_consumers(
    args: argparse.Namespace,
    found: Settings,
    destination: TextDestination,
    decoder: Decoder,
    frames: _Frames | None,
    consumers: list[_Consumer],
) -> CallCounter | None:
    counter = None
    if args.summary_only or args.summary:
        counter = CallCounter(found.selection)
        consumers.append(counter)
    if not args.summary_only:
        consumers.append(_printer(args, found, destination, decoder, frames))
    return counter


def _finish(
    consumers: Iterable[_Consumer], counter: CallCounter | None, found: Settings, destination: TextDestination
) -> None:
    for consumer in consumers:
        consumer.finish()
    if counter is not None:
        _write_summary(counter.summary.rows(), found, destination)
    destination.stream.flush()


def _write_summary(rows: Sequence[SummaryRow], found: Settings, destination: TextDestination) -> None:
    table = summary_lines(rows, found.sort, found.columns, terminal_text.fitted_columns(destination.stream) or 0)
    destination.stream.write("".join(f"{line}\n" for line in table).encode())
    destination.stream.flush()


def _know(printer: LinePrinter, pids: Sequence[int]) -> None:
    """Say how many threads there are: with several, lines begin with their ids."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            printer.know(pid, procfs.threads(pid))


def _note_attached(found: Settings, request: Request) -> None:
    for pid in () if found.hide_attached else request.pids:
        with contextlib.suppress(OSError):
            threads = len(procfs.threads(pid))
            name = terminal_text.printable(os.fsdecode(procfs.comm(pid)))
            messages.note(f"attached to {pid} ({name}), {counted(threads, 'thread')}")


def _deliver(consumers: Sequence[_Consumer], events: Sequence[Event]) -> None:
    for consumer in consumers:
        consumer.deliver(events)


def _destination(args: argparse.Namespace, *, session: bool = False) -> TextDestination:
    if args.output is None:
        return TextDestination() if args.json or session else standard_error()
    if separate(args):
        destination = TextDestination()
        destination.name = f"{args.output}.*"
        return destination
    return text_destination(args.output, append=args.append, commands=True)


def _stack_lines(source: Source) -> _Frames | None:
    frames: Callable[[int], str] | None = getattr(source, "stack_frames", None)
    return None if frames is None else lambda stack: [line.strip() for line in frames(stack).splitlines() if line]


def _printer(
    args: argparse.Namespace,
    found: Settings,
    destination: TextDestination,
    decoder: Decoder,
    frames: _Frames | None,
) -> _Consumer:
    def write(text: str) -> None:
        destination.stream.write(text.encode("utf-8", "backslashreplace"))
        destination.stream.flush()

    if args.json:
        from insitu.syscalls.filters.processes import Processes
        from insitu.views.syscalls.json_lines import JsonLines

        return JsonLines(
            decoder,
            write,
            selection=found.selection,
            signals=found.lines.signals,
            realtime_offset_ns=found.lines.times.realtime_offset_ns,
            stack_lines=frames,
            processes=Processes(),
        )

    def line_printer(write: Callable[[str], object]) -> LinePrinter:
        return LinePrinter(
            found.lines,
            decoder,
            write,
            selection=found.selection,
            stack_lines=frames,
            attached=None if found.hide_attached else attached,
        )

    def attached(printer: LinePrinter, tid: int) -> None:
        text = f"process {tid} attached"
        if args.output is None:
            printer.note(f"insitu: {text}")
        else:
            messages.note(text)

    if args.output is not None and separate(args):
        return SeparateLines(args.output, line_printer)
    return line_printer(write)


# Counting and recording


def _counted(args: argparse.Namespace, found: Settings, request: Request) -> int:
    """-c alone, counted in the kernel: time on a CPU as strace(1) shows it, or latencies with -w."""
    with QuickImports():
        from insitu.record.sources.syscalls_summary import SummarySource

    counted: list[SummaryRow] = []

    class Counting(SummarySource):
        """Reads its maps when it has stopped, before it is closed."""

        def stop(self, end_ns: int) -> None:
            super().stop(end_ns)
            counted.extend(
                SummaryRow(
                    row.name,
                    row.calls,
                    row.errors,
                    row.wall_ns if args.summary_wall_clock else row.system_ns,
                    row.least_ns,
                    row.most_ns,
                    row.percentiles_ns[0],
                    row.percentiles_ns[-1],
                )
                for row in self.rows()
                if row.calls
            )

    with _destination(args) as destination:
        destination.when_attached = lambda: _note_attached(found, request)
        outcome = run(request, [Counting(found.engine)], destination)
        _write_summary(counted, found, destination)
    return ended(outcome, quiet=args.quiet)


def _recorded(args: argparse.Namespace, found: Settings, request: Request) -> int:
    """Record a session."""
    from pathlib import Path

    from insitu.commands._output import Displaced, finished, progress
    from insitu.record.sources.processes import ProcessesSource

    for option, given in (
        ("-c", args.summary_only or args.summary),
        ("--json", args.json),
        ("--filter", args.filter),
        ("-P", args.trace_path),
        ("-z and -Z", args.successful_only or args.failed_only),
    ):
        if given:
            remedy = f"record, then insitu syscalls {args.output} with it"
            raise InsituError(f"{option} is of what is printed, not of a session", remedy=remedy, status=2)
    path = Path(args.output)
    mapped = args.stack_traces or args.off_cpu
    sources: list[Source] = [ProcessesSource(mappings=mapped), engine(args, found, None)]
    if args.off_cpu:
        from insitu.record.sources.off_cpu import OffCpuSource

        sources.append(OffCpuSource(wakeups=True))
    displaced = Displaced(path)
    outcome = record(request, sources, path, progress=None if args.quiet else progress, default_table="span")
    messages.progress("")
    if not args.quiet:
        displaced.report()
    if outcome.abandoned:
        messages.note(f"left unconverted: {path} is converted when it is next opened")
        return outcome.exit_status
    manifest = finished(path)
    if manifest and not args.quiet:
        calls = manifest.tables.get("syscall", {"rows": 0})["rows"]
        messages.note(f"{calls} system calls, {manifest.lost} lost, in {path}")
    return ended(outcome, quiet=args.quiet) or (0 if manifest else 1)
