"""What the options of `insitu syscalls` mean."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from insitu.errors import InsituError
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.qualifiers import Qualifiers, parse_qualifiers
from insitu.syscalls.selection import Selection
from insitu.views.syscalls.lines import LineOptions
from insitu.views.syscalls.summary import COLUMNS, column_names, sort_name
from insitu.views.syscalls.timestamps import PRECISIONS, TimeOptions

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["Settings", "separate", "settings"]

_DUMP_BYTES: Final = 1 << 16
"""Of a buffer, with -e read= and -e write=."""


class Settings(NamedTuple):
    """The options, understood."""

    qualifiers: Qualifiers
    selection: Selection
    engine: EngineOptions
    text: TextOptions
    lines: LineOptions
    hide_attached: bool
    sort: str
    columns: tuple[str, ...]


def settings(args: argparse.Namespace, session: Session | None = None) -> Settings:
    """Returns them; ``session`` is the one that is printed, if any. Raises InsituError (status 2)."""
    found = parse_qualifiers(args.expressions)
    if args.successful_only or args.failed_only:
        found = replace(found, statuses=frozenset(("successful" if args.successful_only else "failed",)))
    quiet = found.quiet | _QUIETER[min(args.quiet, 3)]
    times = _times(args, session)
    expression = None
    if args.filter is not None:
        from insitu.syscalls.filters.call_filter import CallFilter
        from insitu.views.syscalls.session_events import RecordedProcesses

        recorded = RecordedProcesses(session) if session is not None else None
        expression = CallFilter(args.filter, times.realtime_offset_ns, recorded=recorded)
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
        pids="never" if separate(args) else "always" if args.output else "several",
        times=times,
        numbers=args.syscall_number,
        exits="exit" not in quiet and expression is None,
        superseded="thread-execve" not in quiet,
        signals=frozenset() if expression and found.signals is None else found.signals,
        dump_reads=found.reads,
        dump_writes=found.writes,
    )
    columns = column_names(args.summary_columns) if args.summary_columns else COLUMNS
    return Settings(
        found, selection, engine, text, lines, "attach" in quiet, sort_name(args.summary_sort_by), columns
    )


_QUIETER = (
    frozenset[str](),
    frozenset(("attach", "personality")),
    frozenset(("attach", "personality", "exit")),
    frozenset(("attach", "personality", "exit", "path-resolution", "thread-execve")),
)


def separate(args: argparse.Namespace) -> bool:
    """Returns whether each thread has a file of its own."""
    return bool(args.follow_forks > 1 or args.output_separately)


def _times(args: argparse.Namespace, session: Session | None) -> TimeOptions:
    if session is None:
        offset_ns = time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    else:
        offset_ns = session.manifest.start_realtime_ns - session.manifest.start_ns
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
