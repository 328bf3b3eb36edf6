"""Write the heat map of a recording: when samples were taken, or how long things took, and flame graphs of it.

RUN is a session or a perf.data file. Each column of the map is a second, time runs upwards within it:
a periodic burst is a pattern, a stall a gap. Drag over a range, or click its start and end, to see its flame graph.
With --latency, for system calls, waits, requests and whatever has a duration: columns are moments, rows durations;
a cell is darker the more calls that began then took that long. Drag over a rectangle to see their flame graph.
One HTML page that needs nothing else and works offline.

examples:
  insitu heatmap                                the last recording, into profile-heatmap.html
  insitu heatmap perf.data -o map.html
  insitu heatmap run.insitu -n nginx --rows 100
  insitu syscalls -o run.insitu -k -- ./prog && insitu heatmap --latency run.insitu
"""

import argparse
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from insitu.commands._options import (
    addresses_option,
    chosen_run,
    output_option,
    positive,
    run_argument,
    selection,
    selection_options,
    unit_option,
    unit_value,
)

if TYPE_CHECKING:
    from insitu.session.weighted_stacks import TimedRows, Value, WeightedStacks

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser, "session or perf.data")
    output_option(parser, "the page (default: NAME-heatmap.html for NAME.insitu; - is standard output)")
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (default: what was recorded)")
    parser.add_argument(
        "--rows",
        type=positive,
        metavar="N",
        help="rows of a second (default 50: 20 ms each), with --latency of a power of ten (default 10)",
    )
    parser.add_argument(
        "--latency", action="store_true", help="rows are durations: how long what began in a column took"
    )
    addresses_option(parser)
    unit_option(parser, "what cells and widths are")
    selection_options(parser)


def run(args: argparse.Namespace) -> int:
    from functools import partial
    from pathlib import Path

    from insitu.convert.open import load_stacks, open_session
    from insitu.session.directory import is_session

    path, want = chosen_run(args.run_path), selection(args)
    if not is_session(Path(path)):
        stacks = load_stacks(path, want, times=True)
        return _write(args, path, stacks, stacks.in_time)
    with open_session(path) as session:
        stacks = session.stacks(want, by_thread=False)
        return _write(args, path, stacks, partial(session.rows_in_time, want, stacks))


def _write(
    args: argparse.Namespace,
    path: str,
    stacks: "WeightedStacks",
    rows: "Callable[[Value], Iterable[TimedRows]]",
) -> int:
    from insitu.views.heatmap import heatmap_html
    from insitu.views.page import page_title, write_page

    title, value = args.title or page_title(path, stacks), unit_value(stacks, args.unit)
    if args.latency and args.unit is None:
        value = "count"
    page = heatmap_html(
        stacks,
        rows("weight" if args.latency else value),
        title=title,
        value=value,
        rows=args.rows or (10 if args.latency else 50),
        addresses=args.addresses,
        latency=args.latency,
    )
    write_page(page, path, args.output, suffix="-heatmap")
    return 0
