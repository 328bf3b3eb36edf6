"""`insitu stat --compare`: two commands by turns, and whether they differ."""

from __future__ import annotations

import argparse
import io
import shlex
from typing import Final

from insitu import messages
from insitu.commands._options import command_words
from insitu.commands.stat_events import counting_options
from insitu.commands.stat_run import destination, print_notes
from insitu.errors import InsituError
from insitu.record.interrupts import Interrupts
from insitu.record.run import Destination, Request, run
from insitu.record.sources.counting import CountingSource
from insitu.verdict import turns
from insitu.views.counts.compare import Measured, comparison_blocks, comparison_json
from insitu.views.terminal import Screen

__all__ = ["compare"]

_RUNS: Final = 10
_EXCLUDED: Final = (
    *("pid", "tid", "comm", "all", "cpu", "cgroup", "for_each_cgroup"),
    *("delay", "interval_print", "field_separator", "no_aggr", "per_thread", "domain", "metric_only", "table"),
    *("control", "pre", "post", "sync"),
)
_USAGE: Final = "--compare 'CMD A' -- CMD B, or --compare -- CMD A -- CMD B"


def compare(args: argparse.Namespace) -> int:
    """Run both, print the verdict and what it rests on; the exit status is 0.

    Raises InsituError with a command's status if it fails: the time of a failure says nothing.
    """
    commands = _commands(args)
    if args.repeat == 0:
        raise InsituError("--compare needs an end: -r N with N of at least 1", status=2)
    if given := [name for name in _EXCLUDED if getattr(args, name)]:
        raise InsituError(f"--compare excludes --{given[0].replace('_', '-')}", status=2)
    requests = [Request(command, seconds=args.timeout / 1000 if args.timeout else None) for command in commands]
    options, notes = counting_options(args, requests[0])
    runs = args.repeat or _RUNS
    sides = tuple(Measured(shlex.join(command), [], []) for command in commands)
    with destination(args) as out, Interrupts() as interrupts:
        for number, side in [(0, 0), (0, 1), *turns(runs)]:
            messages.progress(f"run {number} of {runs}" if number else "warming up")
            source = CountingSource(options)
            try:
                outcome = run(requests[side], [source], Destination(), interrupts=interrupts)
            except InsituError:
                if not (interrupts.count and sides[1].readings):
                    raise
                break
            if (interrupts.count or outcome.exit_status > 128) and sides[1].readings:
                break  # what has been measured is shown
            if interrupts.count:
                raise InsituError("interrupted before both had been measured", status=128 + interrupts.first)
            if outcome.exit_status:
                raise InsituError(
                    f"{sides[side].command}: exit status {outcome.exit_status}", status=outcome.exit_status
                )
            if number:
                sides[side].readings.append(source.total)
                sides[side].times.append(source.times_s or (0.0, 0.0))
        messages.progress("")
        print_notes(args, notes)
        if args.json:
            text = comparison_json(*sides) + "\n"
        else:
            page = io.StringIO()
            Screen(page).write(comparison_blocks(*sides))
            text = page.getvalue()
        out.settle()
        out.stream.write(text.encode(errors="surrogateescape"))
    return 0


def _commands(args: argparse.Namespace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of both commands. Raises InsituError (status 2) unless there are two."""
    words = command_words(args)
    if args.compare:
        try:
            first, second = shlex.split(args.compare), words
        except ValueError as error:
            raise InsituError(f"--compare {args.compare}: {error}", remedy=_USAGE, status=2) from None
    else:
        at = words.index("--") if "--" in words else len(words)
        first, second = words[:at], words[at + 1 :]
    if not first or not second:
        raise InsituError("--compare needs two commands", remedy=_USAGE, status=2)
    return tuple(first), tuple(second)
