"""What `insitu events --latency` does: measure the time between two events with equal keys, and show it."""

import argparse
import sys
from typing import TYPE_CHECKING

from insitu import messages
from insitu.plurals import counted

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.run import Request

__all__ = ["latency_options", "run_latency"]


def latency_options(parser: argparse.ArgumentParser) -> None:
    """Declare --latency."""
    group = parser.add_argument_group("latency")
    group.add_argument(
        "--latency",
        metavar="'BEGIN -> END, key FIELD[=FIELD]'",
        help="the time from an event to another with an equal key ('if FILTER' after each, 'show FIELD' at the end)",
    )


def run_latency(args: argparse.Namespace, request: "Request", tracefs: "Tracefs") -> int:
    """Record the latencies into the session of -o, else into one that is removed; show them. Returns the status."""
    from pathlib import Path

    from insitu.commands._output import recorded, status_of
    from insitu.files import temporary_home
    from insitu.kernel.bpf_map import possible_cpus
    from insitu.record.ftrace.latencies import latency_request
    from insitu.record.ftrace.tracepoints import event_formats
    from insitu.record.sources.latency import latency_source
    from insitu.record.sources.processes import ProcessesSource
    from insitu.session.reader import Session
    from insitu.temporary_directories import TemporaryDirectory
    from insitu.views import latency as view
    from insitu.views.terminal import Screen

    asked = latency_request(args.latency, event_formats(tracefs), cpus=possible_cpus())
    buffer_kb = (args.buffer or 0) >> 10
    source = latency_source(asked, tracefs, whole_system=request.whole_system, buffer_kb=buffer_kb)
    table = f"event.{asked.label}"
    ours = None if args.output is not None else TemporaryDirectory(temporary_home(), "insitu-latency-", "")
    path = Path(args.output) if ours is None else Path(ours.path) / "run.insitu"
    try:
        outcome, manifest = recorded(
            request, [source, ProcessesSource(mappings=False)], path, quiet=args.quiet, default_table=table
        )
        if outcome.lost and not args.quiet:
            messages.note(f"{counted(outcome.lost, 'event')} lost; -b takes a larger buffer")
        if manifest is not None:
            with Session(path) as session:
                found = view.document(session, table, limit=args.limit)
            if args.json:
                import json

                print(json.dumps({"begin": asked.begin.name, "end": asked.end.name, **found}, indent=1))
            else:
                title = f"{asked.begin.name} -> {asked.end.name}"
                Screen.of(sys.stdout).write(view.blocks(found, title))
    finally:
        if ours is not None:
            ours.remove()
    return status_of(outcome, manifest)
