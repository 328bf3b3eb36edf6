"""What `insitu trace` does with a script: compile and load it, attach it, print or record until it ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import stat
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from insitu import messages
from insitu.commands._options import pids_named
from insitu.errors import InsituError
from insitu.probe.compile import Compiled, compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import JsonOutput, Output, TerminalJsonOutput, TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime.run import Runtime, has_user_addresses
from insitu.probe.source import ScriptError, Source
from insitu.record.interrupts import Interrupts
from insitu.record.loop import Loop
from insitu.record.source import Target
from insitu.record.sources.probe import ProbeSource
from insitu.record.target import TracedProcess

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run_script", "traced_process"]


def run_script(args: argparse.Namespace) -> int:
    """Run the script that the options describe; returns the exit status. Raises InsituError, of which ScriptError.

    Nothing at ``-o`` is touched, and no command is started, before all that can be refused has been.
    """
    source, words, command = _script(args)
    options = Options.given(words, unsafe=args.unsafe)
    options.apply_environment()
    context = Context(pid=traced_process(args), runs_command=bool(command))
    if command and context.pid is not None:
        raise InsituError("a command cannot be combined with -p or -n", remedy="leave one of them out", status=2)
    if args.dump:
        from insitu.probe.dump import dump

        return dump(args.dump, source, options, context)
    try:
        return _run(args, source, options, context, command)
    except ScriptError as error:
        if args.verbose and error.log:
            messages.block(error.log, prefix="")
        raise
    finally:
        context.close()


def traced_process(args: argparse.Namespace) -> int | None:
    """The process that -p or -n restricts probes to. Raises InsituError unless it is one."""
    pids = tuple(args.pid or ())
    if args.comm:
        pids += pids_named(args.comm)
    if len(pids) > 1:
        listed = ", ".join(map(str, pids[:8]))
        raise InsituError(f"trace takes one process, not {len(pids)}: {listed}", remedy="-p PID", status=2)
    return pids[0] if pids else None


def _script(args: argparse.Namespace) -> tuple[Source, list[str], list[str]]:
    """The script, its parameters and options, and the words of the command to run (none: empty).

    After ``--`` a word that begins with a dash begins words for the script, as in bpftrace; any other a command.
    """
    after: list[str] = args.after_dashes or []
    words: list[str] = [*args.words, *args.foreign_options]
    command: list[str] = []
    if after[:1] and after[0].startswith("-"):
        words += after
    else:
        command = after
    if args.command is not None:
        if command:
            raise InsituError("-c and a command after -- exclude each other", status=2)
        command = _split(args.command)
    if args.expression is not None:
        return Source(args.expression, "-e"), words, command
    if not args.words:
        raise InsituError("nothing to trace", remedy="give a script, or a program with -e", status=2)
    name, *parameters = words
    if name == "-":
        return Source(sys.stdin.read()), parameters, command
    from insitu.probe.bpftrace.scripts import read_script

    return read_script(name), parameters, command


def _split(command: str) -> list[str]:
    import shlex

    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InsituError(f"cannot read the command {command!r}: {error}", status=2) from None
    if not words:
        raise InsituError("the command is empty", status=2)
    return words


def _run(args: argparse.Namespace, source: Source, options: Options, context: Context, command: list[str]) -> int:
    compiled = compile_script(source, options, context, cached=not args.no_cache)
    if args.output is not None and args.output.endswith(".insitu") and not args.dry_run:
        return _recorded(args, source, compiled, context, command)
    with _output_file(None if args.dry_run else args.output) as file:
        probe = _source(args, source, compiled, context, file.stream)
        with Interrupts() as interrupts, contextlib.ExitStack() as open_things:
            process = _process(command, context.pid, interrupts.ignored_before)
            open_things.callback(process.close)
            open_things.callback(probe.close)
            probe.open(Target(process.launched))
            _show_log(args, probe)
            if args.dry_run:
                return 0
            if not args.quiet and not file.replaces:
                _announce(probe)
            if compiled.layout.labels and not args.quiet:
                messages.note("events of emit() are not kept; -o RUN.insitu records them")
            probe.start(None, 0)
            if interrupts.count:
                return 128 + signal.SIGINT
            process.release()
            file.begin()
            if not args.quiet and file.replaces:
                _announce(probe)
            _warn(probe)
            loop = Loop(
                [probe],
                probe.drain,
                launched=process.launched,
                pids=[context.pid] if context.pid else (),
                seconds=args.duration,
                interrupts=interrupts,
            )
            open_things.callback(loop.close)
            while loop.turn():
                pass
            interrupts.leaving = True
            probe.stop(0)
            interrupts.leaving = False
            if probe.reader_gone:
                raise BrokenPipeError
            loop.end_command()
            status = _status(args, probe, loop.exit_status())
        _report_losses(probe)
    return status


def _recorded(
    args: argparse.Namespace, source: Source, compiled: Compiled, context: Context, command: list[str]
) -> int:
    """Record into a session, besides printing."""
    from pathlib import Path

    from insitu.commands._output import Displaced, finished
    from insitu.record.run import Request, record
    from insitu.record.source import Source as Recorded
    from insitu.record.sources.processes import ProcessesSource

    path = Path(args.output)
    probe = _source(args, source, compiled, context, sys.stdout.buffer)
    pids = (context.pid,) if context.pid else ()
    request = Request(tuple(command), pids, not (command or pids), args.duration)
    sources: list[Recorded] = [_Announced(probe, args)]
    if has_user_addresses(compiled.layout):
        sources.append(ProcessesSource())
    displaced = Displaced(path)
    outcome = record(request, sources, path)
    if not args.quiet:
        displaced.report()
    _report_losses(probe)
    if outcome.failure:
        messages.error(outcome.failure)
    if outcome.abandoned:
        messages.note(f"left unconverted: {path} is converted when it is next opened")
        return outcome.exit_status
    whole = finished(path) is not None and not outcome.failure
    if probe.reader_gone:
        raise BrokenPipeError
    return _status(args, probe, outcome.exit_status) or (0 if whole else 1)


class _Announced:
    """A script's source that says how many probes it attaches when it does."""

    def __init__(self, probe: ProbeSource, args: argparse.Namespace) -> None:
        self._probe = probe
        self._args = args

    def __getattr__(self, name: str) -> Any:
        return getattr(self._probe, name)

    def open(self, target: Target) -> None:
        self._probe.open(target)
        _show_log(self._args, self._probe)

    def start(self, directory: Path, start_ns: int) -> None:
        if not self._args.quiet:
            _announce(self._probe)
        self._probe.start(directory, start_ns)
        _warn(self._probe)


def _source(
    args: argparse.Namespace, source: Source, compiled: Compiled, context: Context, stream: BinaryIO
) -> ProbeSource:
    terminal = stream.isatty()

    def output(runtime: Runtime) -> Output:
        if args.format == "json":
            return (TerminalJsonOutput if terminal else JsonOutput)(runtime.loaded, runtime.formatter(), stream)
        return TextOutput(runtime.loaded, runtime.formatter(on_terminal=terminal), stream)

    return ProbeSource(compiled, source, context, output, log_level=1 if args.verbose else 0)


def _process(command: Sequence[str], pid: int | None, ignoring: Sequence[int]) -> TracedProcess:
    if command:
        return TracedProcess.command(command, ignoring)
    return TracedProcess.existing(pid) if pid else TracedProcess()


def _status(args: argparse.Namespace, probe: ProbeSource, status: int) -> int:
    """The status that the script gave exit(), else the command's; with -c as without, as bpftrace has it."""
    if probe.output.exit_status is not None:
        return probe.output.exit_status
    return 0 if args.command is not None else status


def _show_log(args: argparse.Namespace, probe: ProbeSource) -> None:
    if args.verbose:
        for program in probe.runtime.loaded.programs:
            messages.block(f"{program.points[0].name}:\n{program.log}", prefix="")


def _announce(probe: ProbeSource) -> None:
    probe.output.attached(sum(len(program.points) for program in probe.runtime.compiled.programs))


def _warn(probe: ProbeSource) -> None:
    for warning in probe.runtime.loaded.warnings:
        messages.warning(warning)


def _report_losses(probe: ProbeSource) -> None:
    for number, what in probe.lost:
        messages.note(f"Lost {number} {what}")


# Where text goes


class _Standard:
    """Standard output."""

    replaces = False

    def __init__(self) -> None:
        self.stream: BinaryIO = sys.stdout.buffer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def begin(self) -> None:
        """Called when everything is attached: what is replaced is untouched until then."""


class _File(_Standard):
    """A file of text, opened at once, so that a refusal comes early, and emptied by ``begin``."""

    replaces = True

    def __init__(self, path: str) -> None:
        self._path, self._began = path, False
        self._new = not os.path.lexists(path)
        self.stream = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb")

    def __exit__(self, *raised: object) -> None:
        self.stream.close()
        if self._new and not self._began:
            os.unlink(self._path)  # noqa: PTH108

    def begin(self) -> None:
        self._began = True
        if stat.S_ISREG(os.fstat(self.stream.fileno()).st_mode):
            self.stream.truncate(0)


def _output_file(output: str | None) -> _Standard:
    return _Standard() if output is None else _File(output)
