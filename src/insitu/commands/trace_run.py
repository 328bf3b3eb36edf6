"""What `insitu trace` does with a script: compile and load it, attach it, print or record until it ends."""

from __future__ import annotations

import argparse
import os
import stat
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from insitu import messages
from insitu.commands._options import pids_named
from insitu.errors import InsituError
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import JsonOutput, Output, TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime.run import Runtime, interrupts
from insitu.probe.source import ScriptError, Source
from insitu.probe.target import Target

if TYPE_CHECKING:
    from insitu.probe.output.formatting import Formatter

__all__ = ["run_script", "traced_process"]


def run_script(args: argparse.Namespace) -> int:
    """Run the script that the options describe; returns the exit status. Raises InsituError, of which ScriptError.

    Nothing at ``-o`` is touched, and no command is started, before all that can be refused has been.
    """
    source, words, command = _source(args)
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


def _source(args: argparse.Namespace) -> tuple[Source, list[str], list[str]]:
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
    target = _target(command, context.pid)
    try:
        runtime = Runtime(compiled, source, context, target, log_level=1 if args.verbose else 0)
    except BaseException:
        target.close()
        raise
    try:
        if args.verbose:
            for program in runtime.loaded.programs:
                messages.block(f"{program.points[0].name}:\n{program.log}", prefix="")
        if args.dry_run:
            return 0
        with _destination(args.output) as destination:
            status = _attach_and_drain(args, runtime, destination)
    finally:
        runtime.close()
    if status is None and command and args.command is None:
        return target.exit_status or 0
    return status or 0  # with -c as without, as bpftrace has it


def _target(command: Sequence[str], pid: int | None) -> Target:
    if command:
        import shlex

        from insitu.record.launcher import executable

        executable(command)
        return Target.child(shlex.join(command))
    return Target.existing(pid) if pid else Target()


def _attach_and_drain(args: argparse.Namespace, runtime: Runtime, destination: _Destination) -> int | None:
    """Run the script to its end; returns the status that it gave exit(), None if it did not call it."""
    formatter = runtime.formatter()
    make = JsonOutput if args.format == "json" else TextOutput
    output: Output = make(runtime.loaded, formatter, destination.stream)
    runtime.handle_with(output)
    count = sum(len(program.points) for program in runtime.compiled.programs)
    with interrupts() as stopped:
        if not args.quiet and not destination.replaces:
            output.attached(count)
        runtime.attach()
        destination.begin(quiet=args.quiet)
        if not args.quiet and destination.replaces:
            output.attached(count)
        for warning in runtime.loaded.warnings:
            messages.warning(warning)
        deadline = time.monotonic() + args.duration if args.duration is not None else None
        runtime.drain_until_end(output, stopped, deadline, lambda: destination.passed(runtime, formatter))
        runtime.finish(output)
        output.write("\n\n")
        if runtime.compiled.print_maps:
            output.all_maps()
        output.flush()
        destination.finished(runtime, formatter)
    for number, what in runtime.lost():
        messages.note(f"Lost {number} {what}")
    return output.exit_status


# Where output goes


class _Destination:
    """Standard output. ``begin`` is called when everything is attached: what is replaced is untouched until then."""

    replaces = False

    def __init__(self) -> None:
        self.stream: BinaryIO = sys.stdout.buffer

    def __enter__(self) -> _Destination:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def begin(self, *, quiet: bool) -> None:
        pass

    def passed(self, runtime: Runtime, formatter: Formatter) -> None:
        """The rings have just been read."""

    def finished(self, runtime: Runtime, formatter: Formatter) -> None:
        """The run has ended; its maps still exist."""


class _File(_Destination):
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

    def begin(self, *, quiet: bool) -> None:
        self._began = True
        if stat.S_ISREG(os.fstat(self.stream.fileno()).st_mode):
            self.stream.truncate(0)


class _Session(_Destination):
    """A session, besides standard output: made under another name, and moved to its own by ``begin``."""

    def __init__(self, path: str) -> None:
        from pathlib import Path

        from insitu.commands._output import Displaced
        from insitu.record.script import ScriptSession
        from insitu.session import directory

        super().__init__()
        self._path, self._began = Path(path), False
        directory.refuse_in_the_way(self._path)
        self._displaced = Displaced(path)
        self._session = ScriptSession(directory.name_beside(self._path))

    def __exit__(self, *raised: object) -> None:
        if not self._began:
            import shutil

            shutil.rmtree(self._session.path, ignore_errors=True)

    def begin(self, *, quiet: bool) -> None:
        from insitu.session import directory

        directory.replace(self._path, self._session.path)
        self._session.path, self._began = self._path, True
        if not quiet:
            self._displaced.report()

    def passed(self, runtime: Runtime, formatter: Formatter) -> None:
        self._session.passed(runtime, formatter)

    def finished(self, runtime: Runtime, formatter: Formatter) -> None:
        self._session.finished(runtime, formatter)


def _destination(output: str | None) -> _Destination:
    if output is None:
        return _Destination()
    return _Session(output) if output.endswith(".insitu") else _File(output)
