"""What `insitu syscalls` does with its options: chooses an engine, and prints, counts or records what it delivers."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from insitu import messages
from insitu.commands._text_destination import TextDestination, standard_error, text_destination
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.record.run import Outcome, Request, run
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.call import Event
from insitu.syscalls.call_sets import resolve
from insitu.syscalls.chosen_decoder import ChosenDecoder
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.filters.fields import FIELDS
from insitu.syscalls.filters.live import LiveFilter
from insitu.syscalls.pairing import Pairing
from insitu.syscalls.qualifiers import Qualifiers, parse_qualifiers
from insitu.syscalls.selection import Selection
from insitu.views.syscalls.lines import LineOptions, LinePrinter
from insitu.views.syscalls.separate_lines import SeparateLines
from insitu.views.syscalls.summary import COLUMNS, Summary, column_names, sort_name, summary_lines
from insitu.views.syscalls.timestamps import PRECISIONS, TimeOptions

if TYPE_CHECKING:
    from insitu.record.source import Source

__all__ = ["run_syscalls"]

_DUMP_BYTES = 1 << 16
"""Of a buffer, with -e read= and -e write=."""


class _Consumer(Protocol):
    def deliver(self, events: Sequence[Event]) -> None: ...

    def finish(self) -> None: ...


class _Settings(NamedTuple):
    """The options, understood."""

    qualifiers: Qualifiers
    selection: Selection
    engine: EngineOptions
    text: TextOptions
    lines: LineOptions
    hide_attached: bool
    sort: str
    columns: tuple[str, ...]


def run_syscalls(args: argparse.Namespace) -> int:
    """Trace, or print a session; returns the exit status. Raises InsituError.

    Nothing at ``-o`` is touched, and no command is started, before all that can be refused has been.
    """
    if args.filter == "list":
        for name, field in FIELDS.items():
            print(f"{name:<16} {field.type:<9} {field.help}")
        return 0
    settings = _settings(args)
    command = list(args.command[1:] if args.command[:1] == ["--"] else args.command)
    request = _request(args, command)
    request.check()
    _set_environment(args.env)
    return _traced(args, settings, request)


# Options


def _settings(args: argparse.Namespace) -> _Settings:
    found = parse_qualifiers(args.expressions)
    if args.successful_only or args.failed_only:
        found = replace(found, statuses=frozenset(("successful" if args.successful_only else "failed",)))
    quiet = found.quiet | _QUIETER[min(args.quiet, 3)]
    times = _times(args)
    expression = LiveFilter(args.filter, times.realtime_offset_ns) if args.filter is not None else None
    paths = {os.path.realpath(path) for path in args.trace_path}
    selection = Selection(
        calls=found.calls,
        statuses=found.statuses,
        paths=frozenset(paths | set(args.trace_path)),
        slower_ns=round(args.slower * 1e9) if args.slower else 0,
        expression=expression,
    )
    descriptors = max(min(args.descriptors, 2), found.descriptors)
    dumps = found.reads is None or found.writes is None or bool(found.reads | found.writes)
    engine = EngineOptions(
        calls=found.calls,
        string_limit=max(args.string_limit, _DUMP_BYTES) if dumps else args.string_limit,
        verbose=args.verbose or found.abbreviated is not None,
        stacks=args.stack_traces,
        descriptors=2 if expression and expression.needs_descriptors else descriptors or bool(paths),
        paths=tuple(sorted(selection.paths)),
        slower_ns=selection.slower_ns,
        inject=found.inject,
        seccomp=args.seccomp_bpf,
    )
    text = TextOptions(
        string_limit=args.string_limit,
        verbose=args.verbose,
        strings_in_hex=("", "non-ascii", "all")[min(args.hexadecimal, 2)],
        constants=args.const_print_style,
        descriptors=descriptors,
    )
    lines = LineOptions(
        columns=args.columns,
        pids="never" if _separate(args) else "always" if args.output else "several",
        times=times,
        numbers=args.syscall_number,
        exits="exit" not in quiet and expression is None,
        superseded="thread-execve" not in quiet,
        signals=frozenset() if expression and found.signals is None else found.signals,
        dump_reads=found.reads,
        dump_writes=found.writes,
    )
    columns = column_names(args.summary_columns) if args.summary_columns else COLUMNS
    return _Settings(
        found, selection, engine, text, lines, "attach" in quiet, sort_name(args.summary_sort_by), columns
    )


_QUIETER = (
    frozenset[str](),
    frozenset(("attach", "personality")),
    frozenset(("attach", "personality", "exit")),
    frozenset(("attach", "personality", "exit", "path-resolution", "thread-execve")),
)


def _separate(args: argparse.Namespace) -> bool:
    return bool(args.follow_forks > 1 or args.output_separately)


def _times(args: argparse.Namespace) -> TimeOptions:
    offset_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    absolute, digits = (("", 0), ("time", 0), ("time", 6), ("unix", 6))[min(args.absolute, 3)]
    if args.absolute_timestamps is not None:
        absolute, digits = "time", 0
        for word in args.absolute_timestamps.split(","):
            word = word.removeprefix("format:").removeprefix("precision:")
            if word in ("time", "unix"):
                absolute = word
            elif word in PRECISIONS:
                digits = PRECISIONS[word]
            else:
                remedy = "time or unix, and s, ms, us or ns"
                raise InsituError(f"--absolute-timestamps {word}: unknown format", remedy=remedy, status=2)
    relative, times = args.relative_timestamps, args.syscall_times
    return TimeOptions(
        absolute,
        digits,
        PRECISIONS[relative or "us"] if relative or args.relative else -1,
        PRECISIONS[times or "us"] if times or args.times else -1,
        offset_ns,
    )


def _request(args: argparse.Namespace, command: Sequence[str]) -> Request:
    pids = tuple(dict.fromkeys(pid for group in args.pid or () for pid in group))
    if args.comm is not None:
        from insitu.commands._options import pids_named

        pids = tuple(dict.fromkeys((*pids, *pids_named(args.comm))))
    if not (command or pids or args.all):
        raise InsituError("nothing to trace", remedy="give a command, -p PID, or -a", status=2)
    return Request(tuple(command), pids, args.all, args.duration)


def _set_environment(words: Sequence[str]) -> None:
    for word in words:
        name, equals, value = word.partition("=")
        if not name:
            raise InsituError(f"-E {word}: the name is empty", status=2)
        if equals:
            os.environ[name] = value
        else:
            os.environ.pop(name, None)


# Tracing


def _traced(args: argparse.Namespace, settings: _Settings, request: Request) -> int:
    path: str | None = args.output
    if _separate(args) and (path is None or path[:1] in ("|", "!")):
        if path is not None:
            raise InsituError(f"-ff writes FILE.TID, and {path} is a command", remedy="-o FILE", status=2)
        args.follow_forks = 1  # strace does the same: with nowhere to write to, -ff is -f
    source: Source
    consumers: list[_Consumer] = []
    source = _engine(args, settings, lambda events: _deliver(consumers, events))
    with _destination(args, path) as destination:
        summary = _Counted(settings.selection) if args.summary_only or args.summary else None
        if summary is not None:
            consumers.append(summary)
        if not args.summary_only:
            consumers.append(_printer(args, settings, source, destination))
            _know(consumers[-1], request.pids)
        try:
            outcome = run(request, [source], destination)
        finally:
            messages.progress("")
        for consumer in consumers:
            consumer.finish()
        if summary is not None:
            table = summary_lines(summary.counted.rows(), settings.sort, settings.columns)
            destination.stream.write("".join(f"{line}\n" for line in table).encode())
        destination.stream.flush()
    return _ended(args, outcome)


def _know(printer: _Consumer, pids: Sequence[int]) -> None:
    """Tell a printer of lines how many threads there are: with several, lines begin with their ids."""
    if isinstance(printer, LinePrinter):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                printer.know(pid, procfs.threads(pid))


def _deliver(consumers: Sequence[_Consumer], events: Sequence[Event]) -> None:
    for consumer in consumers:
        consumer.deliver(events)


def _destination(args: argparse.Namespace, path: str | None) -> TextDestination:
    if path is None:
        return TextDestination() if args.json else standard_error()
    if _separate(args):
        return TextDestination()
    return text_destination(path, append=args.append, commands=True)


def _engine(args: argparse.Namespace, settings: _Settings, deliver: Callable[[Sequence[Event]], None]) -> Source:
    backend, reason = _backend(args, settings)
    if args.verbose:
        messages.note(f"engine: {backend} ({reason})")
    if backend == "ptrace":
        from insitu.record.sources.ptrace import PtraceSource

        if args.all:
            raise InsituError(f"-a needs the eBPF engine: {reason}", remedy="run as root, without --backend ptrace")
        return PtraceSource(settings.engine, deliver)
    from insitu.record.sources.syscalls import SyscallsSource

    calls = settings.engine.calls
    if calls is not None:  # a launched command is recorded from its execve on
        calls |= resolve("execve,execveat")
    return SyscallsSource(settings.engine._replace(calls=calls), deliver)


def _backend(args: argparse.Namespace, settings: _Settings) -> tuple[str, str]:
    """Returns the engine, "bpf" or "ptrace", and why. Raises InsituError for what the chosen one cannot do."""
    needs_ptrace = "-e inject=" if settings.engine.inject else "--seccomp-bpf" if args.seccomp_bpf else ""
    if args.backend == "bpf" and needs_ptrace:
        raise InsituError(f"{needs_ptrace} needs the ptrace engine", remedy="without --backend bpf", status=2)
    if args.backend != "auto":
        return args.backend, f"--backend {args.backend}"
    if needs_ptrace:
        return "ptrace", f"for {needs_ptrace}"
    from insitu.capabilities.result import State
    from insitu.capabilities.tracing import raw_tracepoints

    found = raw_tracepoints()
    if found.state is State.YES:
        return "bpf", "privileged, and the kernel can"
    return "ptrace", f"no eBPF: {found.reason}" if found.reason else "no eBPF"


def _stack_lines(source: Source) -> Callable[[int], Sequence[str]] | None:
    frames: Callable[[int], str] | None = getattr(source, "stack_frames", None)
    return None if frames is None else lambda stack: [line.strip() for line in frames(stack).splitlines() if line]


def _printer(
    args: argparse.Namespace, settings: _Settings, source: Source, destination: TextDestination
) -> _Consumer:
    decoder = ChosenDecoder(settings.text, settings.qualifiers.abbreviated, settings.qualifiers.raw)
    frames = _stack_lines(source) if args.stack_traces else None

    def write(text: str) -> None:
        destination.stream.write(text.encode("utf-8", "backslashreplace"))
        destination.stream.flush()

    if args.json:
        from insitu.views.syscalls.json_lines import JsonLines

        return JsonLines(
            decoder,
            write,
            selection=settings.selection,
            signals=settings.lines.signals,
            realtime_offset_ns=settings.lines.times.realtime_offset_ns,
            stack_lines=frames,
        )

    def line_printer(write: Callable[[str], object]) -> LinePrinter:
        return LinePrinter(
            settings.lines, decoder, write, selection=settings.selection, stack_lines=frames, attached=attached
        )

    attached: Callable[[LinePrinter, int], None] | None = None
    if not settings.hide_attached:

        def attached(printer: LinePrinter, tid: int) -> None:
            text = f"process {tid} attached"
            printer.note(f"insitu: {text}") if args.output is None else messages.note(text)

    if args.output is not None and _separate(args):
        return SeparateLines(args.output, line_printer)
    return line_printer(write)


class _Counted:
    """Counts selected calls."""

    def __init__(self, selection: Selection) -> None:
        self.counted = Summary()
        self._selection = selection
        self._pairing = Pairing()

    def deliver(self, events: Sequence[Event]) -> None:
        for event in events:
            self._selection.observe(event)
            call = self._pairing.feed(event)
            if (
                call is not None
                and call.exit is not None
                and self._selection.entry(call.enter)
                and self._selection.returned(call)
            ):
                self.counted.add(call)

    def finish(self) -> None:
        """Calls that have not returned are not counted, as strace(1) does it."""


def _ended(args: argparse.Namespace, outcome: Outcome) -> int:
    if not args.quiet:
        for note in outcome.notes:
            messages.note(note)
    if outcome.lost:
        messages.warning(f"{outcome.lost} records lost")
    if outcome.failure:
        messages.error(outcome.failure)
    return outcome.exit_status or (1 if outcome.failure else 0)
