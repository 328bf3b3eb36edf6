"""Show where the time of a recording went: hottest functions, threads and call tree.

RUN is a session, a perf.data file or folded stacks. On a terminal names are fitted to the width; in a pipe
they are whole, columns are separated by blanks, the function is last and comments begin with "#".

examples:
  insitu report run.insitu
  insitu report run.insitu --reverse --min-percent 5     who calls the hot functions?
  insitu report run.insitu --comm nginx --sort total
  insitu report --folded perf.data > perf.folded         for FlameGraph and its friends
"""

import argparse

from insitu.commands._numbers import count, percent

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_path", metavar="RUN", help="session, perf.data or folded stacks")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--folded", action="store_true", help='write "comm;outer;inner count" lines instead')
    form.add_argument("--json", action="store_true", help="write one JSON document instead")
    parser.add_argument("--weight", choices=("samples", "weight"), help="add up samples, or time or events")
    parser.add_argument("--sort", choices=("self", "total"), default="self", help="order of functions")
    parser.add_argument("-n", "--limit", type=count, default=30, metavar="N", help="rows of a table, 0 for all (30)")
    parser.add_argument("--min-percent", type=percent, default=1.0, metavar="P", help="least share in the tree (1)")
    parser.add_argument("--reverse", action="store_true", help="tree of callers, from the running functions")
    parser.add_argument("--no-tree", action="store_true", help="leave the tree out")
    parser.add_argument("--lines", action="store_true", help="add the hottest source lines")
    parser.add_argument("--thread", type=int, metavar="TID", help="only this thread")
    parser.add_argument("--comm", metavar="NAME", help="only threads of this name")
    parser.add_argument("--event", metavar="NAME", help="this event (else the first that has samples)")
    parser.add_argument("--annotate", action="store_true", help="with --folded: mark frames _[k] _[i] _[j]")
    parser.add_argument(
        "--as-perf", action="store_true", help="perf.data: look return addresses up as perf does, not the calls"
    )
    parser.add_argument("--addresses", action="store_true", help="keep addresses without a symbol apart")


def run(args: argparse.Namespace) -> int:
    import sys

    from insitu.convert.open import load_profile
    from insitu.views.selection import selected, value_of

    profile = load_profile(args.run_path, as_perf=args.as_perf)
    profile = selected(profile, event=args.event, tid=args.thread, comm=args.comm)
    if args.folded:
        from insitu.convert.formats.folded import write_folded
        from insitu.views.output import write_stdout

        text = write_folded(
            profile, value=value_of(profile, args.weight), annotate=args.annotate, addresses=args.addresses
        )
        write_stdout(text.encode(errors="backslashreplace"))
        return 0

    from insitu.views.report import build_report, to_json

    report = build_report(
        profile,
        value=args.weight,
        sort=args.sort,
        reverse=args.reverse,
        lines=args.lines,
        addresses=args.addresses,
    )
    if args.json:
        print(to_json(report, limit=args.limit, min_percent=args.min_percent, tree=not args.no_tree))
        return 0

    from insitu.views.report_text import report_lines
    from insitu.views.terminal import Screen

    screen = Screen.of(sys.stdout)
    lines = report_lines(report, screen, limit=args.limit, min_percent=args.min_percent, tree=not args.no_tree)
    screen.write(lines)
    return 0
