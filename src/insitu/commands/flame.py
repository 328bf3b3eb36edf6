"""Write the flame graph of a recording: one HTML page that needs nothing else and works offline.

RUN is a session, a perf.data file or folded stacks. In the page: / searches, click zooms, i puts the root on top,
r shows callers; single threads and times can be chosen; ? lists the keys.

examples:
  insitu flame                                           the last recording, into profile.html
  insitu flame perf.data -o perf.html --icicle
  insitu flame run.insitu -n nginx --range 2.5-4         1.5 seconds of the threads named nginx
  insitu flame run.insitu --unit time -o - | ssh host 'cat > page.html'
"""

import argparse

from insitu.commands._options import (
    addresses_option,
    chosen_run,
    import_options,
    output_option,
    perf_data_options,
    pixels,
    range_option,
    require_stacks,
    run_argument,
    selection,
    selection_options,
    unit_option,
    unit_value,
)

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    output_option(parser, "the page (default: NAME.html for NAME.insitu; - is standard output)")
    parser.add_argument("--title", metavar="TEXT", help="heading of the page (default: what was recorded)")
    parser.add_argument("--icicle", action="store_true", help="root on top")
    parser.add_argument(
        "--reverse", action="store_true", help="bottom-up: rooted in the running functions, callers above them"
    )
    unit_option(parser, "what widths are")
    perf_data_options(parser)
    selection_options(parser)
    addresses_option(parser)
    range_option(parser)
    parser.add_argument(
        "--min-width", type=pixels, default=0.5, metavar="PX", help="merge narrower frames (default %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    from insitu.convert.open import load_stacks
    from insitu.views.flamegraph import flame_html
    from insitu.views.page import page_title, write_page
    from insitu.views.time_range import check_range

    path, want = chosen_run(args.run_path), selection(args)
    stacks = load_stacks(path, want, options=import_options(args))
    if args.range:
        check_range(stacks, args.range)
    require_stacks(path, stacks)
    page = flame_html(
        stacks,
        title=args.title or page_title(path, stacks),
        value=unit_value(stacks, args.unit),
        reverse=args.reverse,
        icicle=args.icicle,
        min_width=args.min_width,
        addresses=args.addresses,
    )
    write_page(page, path, args.output)
    return 0
