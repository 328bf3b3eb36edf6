"""What `insitu events --hist` does: count events by their fields in the kernel, and show the table."""

import argparse
import sys
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands._options import duration
from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.ftrace.histograms import Histogram
    from insitu.record.run import Request

__all__ = ["histogram_options", "run_histogram"]


def histogram_options(parser: argparse.ArgumentParser) -> None:
    """Declare --hist and what belongs to it."""
    group = parser.add_argument_group("histogram")
    group.add_argument("--hist", metavar="EVENT", help="count this event in the kernel, by --key")
    group.add_argument("--key", action="append", metavar="FIELD[.MODIFIER]", help="by this field; stacktrace is one")
    group.add_argument("--value", action="append", metavar="FIELD", help="add up this field for each entry")
    group.add_argument("--where", metavar="FILTER", help="only such events")
    group.add_argument("--sort", metavar="FIELD", help="by this; .ascending or .descending may follow")
    group.add_argument(
        "--interval", type=duration, default=0.0, metavar="SECONDS", help="show what was counted in each interval"
    )
    group.add_argument("--entries", type=int, default=8192, metavar="N", help="at most so many (default %(default)s)")


def run_histogram(args: argparse.Namespace, request: "Request", tracefs: "Tracefs") -> int:
    """Count until the target's end; returns the exit status."""
    import json
    from pathlib import Path

    from insitu.kernel.bpf_map import possible_cpus
    from insitu.record.ftrace.histograms import histogram_request
    from insitu.record.ftrace.tracepoints import event_formats
    from insitu.record.run import Destination, run
    from insitu.record.sources.histogram import histogram_source
    from insitu.views import histogram as view
    from insitu.views.terminal import Screen

    event = event_formats(tracefs)(*_event(args.hist))
    asked = histogram_request(event, args.key or (), args.value or (), args.where, args.entries, cpus=possible_cpus())
    keys, values = [key.text for key in asked.keys], [value.text for value in asked.values]
    view.sorted_entries((), keys, values, args.sort)  # refuse a wrong one before anything starts
    source = histogram_source(asked, tracefs, args.interval)

    def show(found: "Histogram") -> None:
        entries = view.sorted_entries(found.rows, keys, values, args.sort)
        if args.json:
            made = view.document(event.name, entries, keys, values, hits=found.hits, dropped=found.dropped)
            # Intervals are lines.
            print(json.dumps({**made, "counted_by": source.engine}, indent=None if args.interval else 1), flush=True)
        else:
            shown = view.blocks(entries, keys, values, hits=found.hits, dropped=found.dropped, limit=args.limit)
            Screen.of(sys.stdout).write(shown)

    if args.interval:
        source.see = show
    if args.output is not None:
        from insitu.commands._output import recorded, status_of

        status = status_of(*recorded(request, [source], Path(args.output), quiet=args.quiet))
    else:
        status = run(request, [source], Destination()).exit_status
    found = source.histogram
    if found is not None:
        if not args.interval:
            show(found)
        if not args.quiet and args.output is None:
            messages.note(f"counted by {source.engine}")
        if found.damaged:
            messages.warning(f"{found.damaged} entries of the kernel's text could not be read")
    return status


def _event(text: str) -> tuple[str, str]:
    category, _, name = text.replace("/", ":", 1).partition(":")
    if not name:
        raise InsituError(f"{text!r} is not CATEGORY:NAME", remedy="insitu events -l lists events", status=2)
    return category, name
