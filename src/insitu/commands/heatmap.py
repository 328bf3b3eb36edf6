"""Write the heat map of a recording: when its samples fell, and the flame graph of any range of time.

RUN is a session or a perf.data file. Each column of the map is a second, time runs upwards within it:
a periodic burst is a pattern, a stall a gap. Drag over a range, or click its start and its end, and the page shows
the flame graph of just that. One HTML page that needs nothing else and works offline.

examples:
  insitu heatmap run.insitu                     run-heatmap.html
  insitu heatmap perf.data -o map.html
  insitu heatmap run.insitu --comm nginx --rows 100
"""

import argparse

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_path", metavar="RUN", help="session or perf.data")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the page (NAME-heatmap.html for NAME.insitu; - is stdout)"
    )
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (what was recorded)")
    parser.add_argument("--rows", type=int, default=50, metavar="N", help="parts of a second (50, which is 20 ms)")
    parser.add_argument("--thread", type=int, metavar="TID", help="only this thread")
    parser.add_argument("--comm", metavar="NAME", help="only threads of this name")
    parser.add_argument("--event", metavar="NAME", help="this event (else the first that has samples)")


def run(args: argparse.Namespace) -> int:
    from insitu.convert.open import load_profile
    from insitu.views.heatmap import heatmap_html
    from insitu.views.page import page_title, write_page
    from insitu.views.selection import selected

    profile = selected(load_profile(args.run_path), event=args.event, tid=args.thread, comm=args.comm)
    page = heatmap_html(profile, title=args.title or page_title(args.run_path, profile), rows=args.rows)
    write_page(page, args.run_path, args.output, suffix="-heatmap")
    return 0
