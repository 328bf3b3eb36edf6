"""Trace events of the kernel: print them as they come, record them, count them, measure the time between them.

EVENT is CATEGORY:NAME, a category, or a glob of either. -F keeps those events of the -e before it whose fields match
(the kernel's filter syntax), --trigger acts at them; both are checked against the event's fields first. --probe makes
an event at a function or a source line, with variables by name. Children and new threads are followed. Needs root.
The exit status is the command's.

examples:
  insitu events -l 'sched:*' -v                                  events and their fields
  insitu events -e sched:sched_switch -F 'prev_prio < 100' -a    print switches from real-time threads
  insitu events -e 'syscalls:sys_enter_open*' -- ls              what a command opens
  insitu events -e kmem:kmalloc --trigger 'stacktrace if bytes_req > 4096' -- ls
  insitu events -e sched:sched_switch -e sched:sched_waking -o run.insitu -- make
  insitu events run.insitu                                       print a recording, as trace-cmd report does
  insitu sql run.insitu 'from event.sched_switch limit 5'
  insitu events --hist kmem:kmalloc --key call_site.sym --value bytes_req -a -d 5
  insitu events --latency 'sched:sched_waking -> sched:sched_switch, key pid=next_pid' -a -d 5
  insitu events --lines parse -x ./prog                          where one can look, and what is visible there
  insitu events --probe 'uprobe:./prog:parse.c:42 n node->next' -- ./prog
"""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import (
    duration_option,
    json_option,
    limit_option,
    output_option,
    pids_asked_for,
    quiet_option,
    recording_target_options,
    size,
)
from insitu.commands._output import recorded, status_of
from insitu.commands.events_histogram import histogram_options, run_histogram
from insitu.commands.events_latency import latency_options, run_latency
from insitu.commands.events_listing import listing_options, run_lines, run_list
from insitu.errors import InsituError
from insitu.plurals import counted
from insitu.terminal_text import printable_lines

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.ftrace.tracepoints import EventChoice
    from insitu.record.run import Request
    from insitu.record.sources.trace_pages import TracePagesSource
    from insitu.views.trace_lines import TraceLines

__all__ = ["PROPERTIES", "arguments", "run"]

_FOREVER = 2**63 - 1
_LINES_AT_ONCE = 4096

PROPERTIES = Properties(starts_programs=True, command_after_dashes=True)


class _InOrder(argparse.Action):
    """Collects -e, -F and --trigger in the order in which they are given: ``args.chosen``."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.chosen = [*(namespace.chosen or []), (self.dest, values)]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(chosen=None)
    parser.add_argument("-e", "--event", action=_InOrder, metavar="EVENT[,EVENT]", help="trace these events")
    parser.add_argument(
        "--probe", action=_InOrder, metavar="'KIND:PLACE [VARIABLE ...]'", help="make an event there, and trace it"
    )
    parser.add_argument("-F", "--filter", action=_InOrder, metavar="FILTER", help="only such of the -e before it")
    parser.add_argument("--trigger", action=_InOrder, metavar="TRIGGER", help="a trigger for the -e before it")
    parser.add_argument("--stack", action="store_true", help="the kernel's stack of each event")
    parser.add_argument("--user-stack", action="store_true", help="the user's stack of each event (frame pointers)")
    output_option(parser, "record a session instead of printing", metavar="RUN", default=None)
    duration_option(parser)
    parser.add_argument("-b", "--buffer", type=size, metavar="SIZE", help="buffer for each CPU (default 4M)")
    quiet_option(parser)
    json_option(parser, "write a histogram as one JSON document")
    limit_option(parser, 30, "entries of a histogram, or of the longest latencies")
    recording_target_options(parser, "trace")
    parser.add_argument("run_path", nargs="?", metavar="RUN", help="print this recording; -e: only these events")
    histogram_options(parser)
    latency_options(parser)
    listing_options(parser)


def run(args: argparse.Namespace) -> int:
    from contextlib import closing

    from insitu.kernel.tracefs import Tracefs
    from insitu.record.run import Request

    if args.run_path is not None:
        return _print(args)
    with closing(Tracefs.open()) as tracefs:
        if args.list is not None:
            return run_list(args, tracefs)
        if args.lines:
            return run_lines(args)
        request = Request(tuple(args.after_dashes or ()), pids_asked_for(args), args.all, args.duration)
        request.check()
        if args.hist:
            return run_histogram(args, request, tracefs)
        if args.latency:
            return run_latency(args, request, tracefs)
        return _trace(args, request, tracefs)


def _trace(args: argparse.Namespace, request: "Request", tracefs: "Tracefs") -> int:
    """Print or record events; returns the exit status."""
    from pathlib import Path

    from insitu.commands._text_destination import TextDestination
    from insitu.record.ftrace.dynamic_events import Definition, DynamicEvents, definitions
    from insitu.record.ftrace.tracepoints import EventTracing
    from insitu.record.run import run as run_sources
    from insitu.record.sources.processes import ProcessesSource
    from insitu.record.sources.trace_pages import TracePagesSource

    probes: list[Definition] = []

    def defined(spec: str) -> str:
        found = definitions(spec, tracefs, [each.name for each in probes], args.exec)
        probes.extend(found)
        return ",".join(each.label for each in found)

    given = [("event", defined(text)) if kind == "probe" else (kind, text) for kind, text in args.chosen or []]
    choices = _choices(given)
    with DynamicEvents(tracefs, probes):
        tracing = EventTracing(tracefs, choices, stack=args.stack, user_stack=args.user_stack)
        source = TracePagesSource(tracing, buffer_kb=(args.buffer or 0) >> 10, tracefs=tracefs)
        source.at_end = tracing.read_results
        if args.output is not None:
            from insitu.convert.event_schema import tables_of

            first = tables_of(tracing.events)[0]
            outcome, manifest = recorded(
                request, [source, ProcessesSource()], Path(args.output), quiet=args.quiet, default_table=first
            )
            if manifest is not None and not args.quiet:
                rows = sum(table["rows"] for name, table in manifest.tables.items() if name.startswith("event."))
                messages.note(f"{counted(rows, 'event')}, {manifest.lost} lost, in {args.output}")
            status = status_of(outcome, manifest)
        else:
            lines = _lines(source, user_stack=args.user_stack)
            source.see = lines.add
            outcome = run_sources(request, [source], TextDestination())
            lines.add([], _FOREVER)
            if not args.quiet and not lines.lines:
                is_filtered = any(choice.filter for choice in choices)
                messages.note(f"no such event happened{', or none passed its filter' if is_filtered else ''}")
            if not args.quiet and outcome.lost:
                messages.note(f"{counted(outcome.lost, 'event')} lost; -b takes a larger buffer")
            status = outcome.exit_status or int(bool(outcome.failure))
        for title, text in tracing.results.items():
            sys.stdout.write(f"# {title}\n{printable_lines(text)}")
    return status


def _print(args: argparse.Namespace) -> int:
    """Print a recording. Raises InsituError if it has no such events."""
    from itertools import islice
    from pathlib import Path

    from insitu.convert.open import open_session
    from insitu.record.ftrace.tracepoints import matching_events
    from insitu.views.trace_lines import recorded_events, session_lines

    patterns = [each for kind, text in args.chosen or () if kind == "event" for each in text.split(",") if each]
    with open_session(Path(args.run_path)) as session:
        events = recorded_events(session)
        if not events:
            raise InsituError(f"{args.run_path}: no trace events", remedy=f"insitu sql {args.run_path} .tables")
        names = list(dict.fromkeys(each.label for each in events))
        chosen = {name for each in patterns for name in matching_events(each, names)} or {*names}
        lines = session_lines(session, [each for each in events if each.label in chosen])
        while some := list(islice(lines, _LINES_AT_ONCE)):
            sys.stdout.write("\n".join([*some, ""]))
        if session.manifest.lost and not args.quiet:
            messages.note(f"{counted(session.manifest.lost, 'event')} lost in the recording")
    return 0


def _lines(source: "TracePagesSource", *, user_stack: bool) -> "TraceLines":
    """What prints a source's pages."""
    from insitu.commands._live_names import enumerator, kernel_symbols, thread_names, user_symbols
    from insitu.convert.trace_events import described
    from insitu.views.trace_lines import TraceLines

    return TraceLines(
        *described(source.layout()),
        sys.stdout,
        thread=thread_names(source.tracefs),
        symbol=kernel_symbols(),
        user_symbol=user_symbols() if user_stack else lambda pid, address: hex(address),
        constant=enumerator,
    )


def _choices(given: "list[tuple[str, str]]") -> "list[EventChoice]":
    """The events of each -e, with the filter and triggers that follow it. Raises InsituError (status 2)."""
    from insitu.record.ftrace.tracepoints import EventChoice

    found: list[list[EventChoice]] = []
    for kind, text in given:
        if kind == "event":
            found.append([EventChoice(pattern) for pattern in text.split(",") if pattern])
        elif not found:
            raise InsituError(f"{'-F' if kind == 'filter' else '--trigger'} {text}: no -e before it", status=2)
        elif kind == "filter":
            found[-1] = [choice._replace(filter=text) for choice in found[-1]]
        else:
            found[-1] = [choice._replace(triggers=(*choice.triggers, text)) for choice in found[-1]]
    choices = [choice for each in found for choice in each]
    if not choices:
        raise InsituError("no event to trace", remedy="-e CATEGORY:NAME; insitu events -l lists them", status=2)
    return choices
