"""Show where the time of a recording went: hottest functions, threads and call tree.

RUN is a session, a perf.data file or folded stacks. On a terminal names are cut to fit its width; in a pipe
they are whole, columns are separated by spaces, the function is last and comments begin with "#".

examples:
  insitu report                                          the last recording in this directory
  insitu report run.insitu --reverse --min-percent 5     who calls the hot functions?
  insitu report run.insitu -n nginx --sort total
  insitu report --folded perf.data > perf.folded         for flamegraph.pl and the like
"""

import argparse

from insitu.commands._options import (
    as_perf_option,
    chosen_run,
    json_option,
    limit_option,
    percent,
    run_argument,
    selection_options,
    unit_option,
    unit_value,
)

__all__ = ["arguments", "run"]


def arguments(parser: argparse.ArgumentParser) -> None:
    run_argument(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--folded", action="store_true", help='write "comm;outer;inner count" lines instead')
    json_option(form)
    unit_option(parser)
    parser.add_argument(
        "--sort", choices=("self", "total"), default="self", help="order of functions (default: self)"
    )
    limit_option(parser, 30)
    parser.add_argument(
        "--min-percent", type=percent, default=1.0, metavar="P", help="tree: branches of P %% or more (default 1)"
    )
    parser.add_argument("--reverse", action="store_true", help="tree: callers of the hottest functions (bottom-up)")
    parser.add_argument("--no-tree", action="store_true", help="omit the tree")
    parser.add_argument("--lines", action="store_true", help="add the hottest source lines")
    selection_options(parser)
    parser.add_argument(
        "--suffixes",
        action="store_true",
        help="with --folded: mark kernel, inlined and JIT-compiled frames by _[k] _[i] _[j]",
    )
    as_perf_option(parser, "perf.data: ")
    parser.add_argument("--addresses", action="store_true", help="show unknown functions by address")


def run(args: argparse.Namespace) -> int:
    import sys

    from insitu.convert.open import load_profile
    from insitu.views.selection import selected

    profile = load_profile(chosen_run(args.run_path), as_perf=args.as_perf)
    profile = selected(profile, event=args.event, tid=args.thread, comm=args.comm)
    value = unit_value(profile, args.unit)
    if args.folded:
        from insitu.convert.formats.folded import write_folded
        from insitu.views.output import write_stdout

        text = write_folded(profile, value=value, annotate=args.suffixes, addresses=args.addresses)
        write_stdout(text.encode(errors="backslashreplace"))
        return 0

    from insitu.views.report import build_report, to_json

    report = build_report(
        profile,
        value=value,
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
