"""What `insitu trace` does with a script: compile and load it, attach it, print or record until it ends."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

from insitu import messages
from insitu.commands._text_destination import text_destination
from insitu.commands.trace import PROPERTIES, arguments, traced_process
from insitu.errors import InsituError, nearest
from insitu.probe.compile import Compiled, compile_script
from insitu.probe.options import Options, UnknownOptionError
from insitu.probe.output.stream import JsonOutput, Output, TerminalJsonOutput, TextOutput
from insitu.probe.passes.target import finds_target
from insitu.probe.providers import PROVIDERS
from insitu.probe.providers.base import Context
from insitu.probe.runtime.run import Runtime, has_user_addresses
from insitu.probe.source import ScriptError, Source
from insitu.quick_imports import QuickImports
from insitu.record.launcher import executable
from insitu.record.run import Outcome, Request, record, run
from insitu.record.source import Target
from insitu.record.sources.probe import ProbeSource

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["run_script"]

# In whatever wakes a thread up.
_WAKEUPS = ("sched_wakeup", "sched_wakeup_new", "sched_waking", "ttwu_do_wakeup", "try_to_wake_up")


def run_script(args: argparse.Namespace) -> int:
    """Run the script that the options describe; returns the exit status. Raises InsituError, of which ScriptError.

    Nothing at ``-o`` is touched, and no command is started, before all that can be refused has been.
    """
    source, words, command = _script(args)
    options = Options.given(words, unsafe=args.unsafe)
    options.warns, options.hides_warnings = bool(args.warns) and not args.no_warnings, args.no_warnings
    messages.hide_warnings(args.no_warnings)
    options.include_folders, options.includes = args.include_folders, args.includes
    is_recorded = args.output is not None and args.output.endswith(".insitu")
    if is_recorded and args.json:
        raise InsituError("--json prints what -o RUN.insitu records", remedy="leave one of them out", status=2)
    options.trials = args.trials
    options.events = "record" if is_recorded else "print" if args.json else "drop"
    options.apply_environment()
    context = Context(
        pid=traced_process(args),
        runs_command=bool(command),
        whole_system=args.all,
        probe_filter=_expression(args.probe_filter),
        traceable_functions=args.traceable_functions or "",
    )
    if command and context.pid is not None:
        raise InsituError("a command cannot be combined with -p or -n", remedy="leave one of them out", status=2)
    if args.all and context.pid is not None:
        raise InsituError("-a cannot be combined with -p or -n", remedy="leave one of them out", status=2)
    if args.dump:
        from insitu.probe.dump import dump

        return dump(args.dump, source, options, context)
    try:
        return _run(args, source, options, context, command)
    except UnknownOptionError as error:
        raise UnknownOptionError(error.name, error.known, _meant(error.name)) from None
    except ScriptError as error:
        if args.verbose and error.log:
            messages.block(error.log, prefix="")
        raise
    finally:
        context.close()


def _meant(name: str) -> str:
    """Which of our own options may have been meant by one that no script has, or what replaces bpftrace's."""
    parser = argparse.ArgumentParser(add_help=False)
    arguments(parser)
    own = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
    peer = PROPERTIES.peer_options.get(f"--{name}", "")
    return f"; {peer}" if peer else nearest(f"--{name}", own)


def _expression(text: str | None) -> str:
    """--probe-filter, which has to be a regular expression."""
    try:
        re.compile(text or "")
    except re.error as error:
        raise InsituError(f"--probe-filter {text}: {error}", status=2) from None
    return text or ""


def _script(args: argparse.Namespace) -> tuple[Source, list[str], list[str]]:
    """The script, its parameters and options, and the words of the command to run (none: empty).

    After ``--`` a word that begins with a dash begins words for the script, as in bpftrace; any other a command.
    """
    if args.after_dashes is not None and not any(args.after_dashes[:1]):
        raise InsituError("the command after -- is empty", status=2)
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
        from insitu.probe.bpftrace.scripts import script_text

        return Source(script_text(sys.stdin.buffer, "standard input")), parameters, command
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
    _check_scope(args, source, context, command)
    with QuickImports():  # of the compiler
        compiled = compile_script(source, options, context, cached=not args.no_cache)
    pids = (context.pid,) if context.pid else ()
    request = Request(tuple(command), pids, not context.one_process, args.duration)
    if command and command[0].rpartition("/")[2] == "sleep" and not args.all and _sees_processes(compiled):
        messages.warning("only events of sleep are traced; -a traces the whole machine while it runs")
    if context.one_process and not finds_target(source) and (wakeups := _first_of(compiled, _WAKEUPS)):
        messages.warning(f"{wakeups}: only what the process itself wakes up is traced; trace the whole machine")
    if args.dry_run:
        if command:
            executable(command)
        with contextlib.closing(_Script(args, source, compiled, context, sys.stdout.buffer)) as probe:
            probe.open(Target())
        return 0
    if options.events == "record":
        probe = _Script(args, source, compiled, context, sys.stdout.buffer)
        return _recorded(args, probe, request, compiled)
    with text_destination(args.output) as output:
        probe = _Script(args, source, compiled, context, output.stream)
        outcome = run(request, [probe], output)
    return _ended(args, probe, outcome)


def _check_scope(args: argparse.Namespace, source: Source, context: Context, command: list[str]) -> None:
    """Refuse to restrict a ready program that is about the whole machine; say which follow no children."""
    if not context.one_process:
        return
    scope, _, why = source.scope.partition(", ")
    if scope == "machine":
        what = f"{source.name} is about the whole machine, not one process: {why}"
        remedy = "-a: the whole machine while the command runs" if command else "leave out -p and -n"
        raise InsituError(what, remedy=remedy, status=2)
    if scope == "process" and command and not args.quiet:
        messages.note(f"only {command[0]} itself is traced, not its children")


def _sees_processes(compiled: Compiled) -> bool:
    """Whether a script has probes that are restricted to a command's process."""
    return any(PROVIDERS[point.kind].traits.of_process for each in compiled.programs for point in each.points)


def _first_of(compiled: Compiled, functions: Sequence[str]) -> str:
    """The first of a script's probes of these functions or events; "" for none."""
    points = (point for each in compiled.programs for point in each.points)
    return next((point.name for point in points if point.function in functions), "")


def _records_nothing(compiled: Compiled) -> bool:
    """Whether a script only prints, so that a session of it is empty."""
    return not compiled.layout.labels and not any(each.is_script_map for each in compiled.layout.maps)


def _recorded(args: argparse.Namespace, probe: _Script, request: Request, compiled: Compiled) -> int:
    """Record into a session, besides printing."""
    from pathlib import Path

    from insitu.commands._output import Displaced, finished
    from insitu.record.source import Source as Recorded
    from insitu.record.sources.processes import ProcessesSource

    path = Path(args.output)
    sources: list[Recorded] = [probe]
    mappings = has_user_addresses(compiled.layout)
    if mappings or compiled.layout.labels:
        # First: its start takes as long as a script's ring takes to fill.
        sources.insert(0, ProcessesSource(mappings=mappings))
    displaced = Displaced(path)
    outcome = record(request, sources, path)
    if not args.quiet:
        displaced.report()
    if outcome.abandoned:
        messages.note(f"left unconverted: {path} is converted when it is next opened")
        whole = True
    else:
        whole = finished(path) is not None
        if not (args.quiet or outcome.failure) and _records_nothing(compiled):
            messages.warning("the script has no emit() and no maps: what it printed was shown, and is not recorded")
    return _ended(args, probe, outcome) or (0 if whole else 1)


def _ended(args: argparse.Namespace, probe: _Script, outcome: Outcome) -> int:
    """Report what was lost; returns the status that the script gave exit(), else the command's.

    With -c the command's is ignored, as bpftrace does.
    """
    for number, what in probe.lost:
        messages.note(f"Lost {number} {what}")
    if outcome.failure:
        messages.error(outcome.failure)
    if probe.reader_gone:
        raise BrokenPipeError
    if outcome.abandoned or outcome.quit:
        return outcome.exit_status
    status = probe.output.exit_status
    if status is None:
        status = 0 if args.command is not None else outcome.exit_status
    return status or (1 if outcome.failure else 0)


class _Script(ProbeSource):
    """The script as the options want it: with the verifier's log, and the number of probes when they are attached."""

    def __init__(
        self, args: argparse.Namespace, source: Source, compiled: Compiled, context: Context, stream: BinaryIO
    ) -> None:
        terminal = stream.isatty()

        def output(runtime: Runtime) -> Output:
            if args.json or args.format == "json":
                return (TerminalJsonOutput if terminal else JsonOutput)(runtime.loaded, runtime.formatter(), stream)
            # What scripts print is the user's choice, as in bpftrace; names in ready programs' rows never break rows.
            escapes = terminal or source.built_in
            text = TextOutput(runtime.loaded, runtime.formatter(on_terminal=escapes), stream)
            text.newer_heading = source.built_in
            return text

        super().__init__(compiled, source, context, output, log_level=1 if args.verbose else 0)
        self._args, self._source = args, source

    def open(self, target: Target) -> None:
        super().open(target)
        if self._args.verbose:
            for program in self.runtime.loaded.programs:
                messages.block(f"{program.points[0].name}:\n{program.log}", prefix="")

    def start(self, directory: Path | None, start_ns: int) -> None:
        count = sum(len(program.points) for program in self.runtime.compiled.programs)
        if not self._args.quiet:
            self.output.attaching(count)
            if self.runtime.compiled.layout.drops_events and not self._source.built_in:
                messages.note("events of emit() are not kept; -o RUN.insitu records them")
        super().start(directory, start_ns)
        if not self._args.quiet:
            self.output.attached(count)
            if directory is None:  # the loop would wait for an event, or a while, first
                self._printed(self.output.flush)
        if self._args.trials:
            from insitu.probe.runtime.trials import run_trials

            run_trials(self.runtime, self.output, self._args.trials)
        for warning in self.runtime.loaded.warnings:
            messages.warning(warning)
