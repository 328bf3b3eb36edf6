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

from insitu.commands._options import chosen_run, output_option, positive, run_argument, selection, selection_options

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser, "session or perf.data")
    output_option(parser, "the page (default: NAME-heatmap.html for NAME.insitu; - is standard output)")
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (default: what was recorded)")
    parser.add_argument(
        "--rows", type=positive, default=50, metavar="N", help="rows of a second (default 50: 20 ms each)"
    )
    selection_options(parser)


def run(args: argparse.Namespace) -> int:
    from insitu.convert.open import load_stacks
    from insitu.views.heatmap import heatmap_html
    from insitu.views.page import page_title, write_page

    path = chosen_run(args.run_path)
    stacks = load_stacks(path, selection(args), times=True)
    page = heatmap_html(stacks, title=args.title or page_title(path, stacks), rows=args.rows)
    write_page(page, path, args.output, suffix="-heatmap")
    return 0
