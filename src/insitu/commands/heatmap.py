"""Write the subsecond-offset heat map of a recording: when samples were taken, and the flame graph of any time range.

RUN is a session or a perf.data file. Each column of the map is a second, time runs upwards within it:
a periodic burst is a pattern, a stall a gap. Drag over a range, or click its start and end, to see its flame graph.
One HTML page that needs nothing else and works offline.

examples:
  insitu heatmap                                the last recording, into profile-heatmap.html
  insitu heatmap perf.data -o map.html
  insitu heatmap run.insitu -n nginx --rows 100
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
        "--rows", type=positive, default=50, metavar="N", help="rows of a second (default 50: 20 ms each)"
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
    page = heatmap_html(stacks, rows(value), title=title, value=value, rows=args.rows, addresses=args.addresses)
    write_page(page, path, args.output, suffix="-heatmap")
    return 0
