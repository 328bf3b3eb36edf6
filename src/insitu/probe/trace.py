"""The two ways in: the command line, and insitu.trace() for Python."""

from __future__ import annotations

import argparse
import sys
import time
from typing import BinaryIO, Protocol

from insitu.errors import InsituError
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.stream import JsonOutput, Output, TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.runtime.run import Runtime, interrupts
from insitu.probe.source import Source
from insitu.probe.target import Target

__all__ = ["Keeper", "from_command_line"]


class Keeper(Protocol):
    """What keeps a run besides showing it: a session."""

    def passed(self, runtime: Runtime, formatter: Formatter) -> None:
        """The rings have just been looked at."""

    def finished(self, runtime: Runtime, formatter: Formatter) -> None:
        """The run is over; its maps still exist."""


def from_command_line(args: argparse.Namespace, keeper: Keeper | None = None) -> int:
    """What `insitu trace` does: the exit status."""
    source, parameters = _source(args)
    options = Options.given(parameters, unsafe=args.unsafe)
    options.apply_environment()
    context = Context(pid=args.pid, runs_command=args.command is not None)
    if args.dump:
        from insitu.probe.dump import dump

        return dump(args.dump, source, options, context)
    compiled = compile_script(source, options, context, cached=not args.no_cache)
    target = _target(args)
    runtime = Runtime(compiled, source, context, target, log_level=1 if args.verbose else 0)
    try:
        if args.verbose:
            for program in runtime.loaded.programs:
                print(f"{program.points[0].name}:\n{program.log}", file=sys.stderr)
        if args.dry_run:
            return 0
        return _run(args, runtime, keeper)
    finally:
        runtime.close()
        context.close()


def _source(args: argparse.Namespace) -> tuple[Source, list[str]]:
    """The script, and what is left of the words as its parameters."""
    words: list[str] = [*args.words, *args.after_dashes]
    if args.expression is not None:
        return Source(args.expression), words
    if not args.words:
        raise InsituError("nothing to trace", remedy="give a script, or a program with -e", status=2)
    name, *parameters = words
    if name == "-":
        return Source(sys.stdin.read()), parameters
    from insitu.probe.bpftrace.scripts import read_script

    return read_script(name), parameters


def _target(args: argparse.Namespace) -> Target:
    if args.command is not None:
        return Target.child(args.command)
    return Target.existing(args.pid) if args.pid else Target()


def _run(args: argparse.Namespace, runtime: Runtime, keeper: Keeper | None) -> int:
    stream: BinaryIO = sys.stdout.buffer
    if args.output and keeper is None:
        stream = open(args.output, "wb")  # noqa: PTH123, SIM115 - open for the whole run
    make = JsonOutput if args.format == "json" else TextOutput
    formatter = runtime.formatter()
    output: Output = make(runtime.loaded, formatter, stream)
    passed = (lambda: keeper.passed(runtime, formatter)) if keeper is not None else None
    runtime.handle_with(output)
    with interrupts() as stopped:
        if not args.quiet:
            output.attached(sum(len(program.points) for program in runtime.compiled.programs))
        runtime.attach()
        for warning in runtime.loaded.warnings:
            print(f"WARNING: {warning}", file=sys.stderr)
        deadline = time.monotonic() + args.seconds if args.seconds else None
        runtime.drain_until_end(output, stopped, deadline, passed)
        runtime.finish(output)
        output.write("\n\n")
        if runtime.compiled.print_maps:
            output.all_maps()
        output.flush()
        if keeper is not None:
            keeper.finished(runtime, formatter)
    for count, what in runtime.lost():
        print(f"Lost {count} {what}", file=sys.stderr)
    return output.exit_status or 0
