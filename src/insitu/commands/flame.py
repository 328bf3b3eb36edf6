"""Write the flame graph of a recording: one HTML page that needs nothing else and works offline.

RUN is a session, a perf.data file or folded stacks. The page searches (/), zooms (click), turns over (i), shows
callers (r), single threads and times; ? in the page lists its keys.

examples:
  insitu flame run.insitu                                run.html
  insitu flame perf.data -o perf.html --icicle
  insitu flame run.insitu --comm nginx --range 2.5-4     1.5 seconds of one command
  insitu flame run.insitu --weight weight -o - | ssh host 'cat > page.html'
"""

import argparse

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_path", metavar="RUN", help="session, perf.data or folded stacks")
    parser.add_argument("-o", "--output", metavar="FILE", help="the page (NAME.html for NAME.insitu; - is stdout)")
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (what was recorded)")
    parser.add_argument("--icicle", action="store_true", help="start with the root on top")
    parser.add_argument("--reverse", action="store_true", help="start rooted in the running functions")
    parser.add_argument("--weight", choices=("samples", "weight"), help="widths are samples, or time or events")
    parser.add_argument("--thread", type=int, metavar="TID", help="only this thread")
    parser.add_argument("--comm", metavar="NAME", help="only threads of this name")
    parser.add_argument("--event", metavar="NAME", help="this event (else the first that has samples)")
    parser.add_argument("--range", metavar="FROM-TO", help="only these seconds since the first sample")
    parser.add_argument(
        "--min-width", type=float, default=0.5, metavar="PX", help="narrower frames are drawn together (0.5)"
    )


def run(args: argparse.Namespace) -> int:
    from insitu.convert.open import load_profile
    from insitu.errors import InsituError
    from insitu.views.flamegraph import flame_html
    from insitu.views.page import page_title, write_page
    from insitu.views.selection import selected, value_of
    from insitu.views.time_range import time_range

    if not 0.1 <= args.min_width <= 100:
        raise InsituError(f"--min-width {args.min_width}: not in 0.1 to 100 pixels", status=2)
    profile = selected(load_profile(args.run_path), event=args.event, tid=args.thread, comm=args.comm)
    page = flame_html(
        profile,
        title=args.title or page_title(args.run_path, profile),
        value=value_of(profile, args.weight),
        select=time_range(profile, args.range) if args.range else None,
        reverse=args.reverse,
        icicle=args.icicle,
        min_width=args.min_width,
    )
    write_page(page, args.run_path, args.output)
    return 0
