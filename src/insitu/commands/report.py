"""Show where the time of a recording went: hottest functions, threads and call tree.

RUN is a session, a perf.data file or folded stacks. On a terminal names are cut to fit its width; in a pipe
they are whole, columns are separated by spaces, the function is last and comments begin with "#".

examples:
  insitu report                                          the last recording in this directory
  insitu report run.insitu --reverse --min-percent 5     who calls the hot functions?
  insitu report run.insitu -n nginx --sort total
  insitu report run.insitu --slowest vfs_read            of recorded calls: the slowest, with what it called
  insitu report --folded perf.data > perf.folded         for flamegraph.pl and the like
"""

import argparse
from typing import TYPE_CHECKING

from insitu.commands import Properties
from insitu.commands._options import (
    addresses_option,
    chosen_run,
    import_options,
    json_option,
    limit_option,
    percent,
    perf_data_options,
    range_option,
    run_argument,
    selection,
    selection_options,
    unit_option,
    unit_value,
)

if TYPE_CHECKING:
    from insitu.session.reader import Session
    from insitu.session.weighted_stacks import Selection, WeightedStacks
    from insitu.views.calls.functions import FunctionCalls

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    peer_options={
        "-i": "give the recording without an option",
        "--stdio": "a report is always text",
        "--no-children": "functions are in the order of self time by default",
        "--children": "use --sort total",
        "-g": "the call tree is shown by default; --reverse shows callers",
        "--call-graph": "the call tree is shown by default; --reverse shows callers",
        "--tid": "use --thread",
        "--comms": "use --comm",
        "--percent-limit": "use --min-percent",
        "--time": "use --range FROM-TO, in seconds since the first sample",
    }
)


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
    range_option(parser)
    calls = parser.add_argument_group("recorded calls (insitu calls -o)")
    of_calls = calls.add_mutually_exclusive_group()
    of_calls.add_argument(
        "--slowest", nargs="?", const="", metavar="FUNC", help="the slowest call (of FUNC) with all that it called"
    )
    of_calls.add_argument("--callees", metavar="FUNC", help="what the time of FUNC consists of, untraced callees too")
    calls.add_argument(
        "--vmlinux", metavar="FILE", help="with --callees: the kernel's file, to name untraced callees"
    )
    parser.add_argument(
        "--suffixes",
        action="store_true",
        help="with --folded: mark kernel, inlined and JIT-compiled frames by _[k] _[i] _[j]",
    )
    addresses_option(parser)
    perf_data_options(parser)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.commands._report_calls import no_calls, report_calls
    from insitu.convert.open import is_like_a_session, load_stacks, open_session
    from insitu.errors import InsituError

    if args.slowest and args.run_path is None and Path(args.slowest).exists():
        args.run_path, args.slowest = args.slowest, ""
    path, want = Path(chosen_run(args.run_path)), selection(args)
    if not is_like_a_session(path):
        if args.slowest is not None or args.callees:
            raise no_calls(path)
        return _report(args, load_stacks(path, want, options=import_options(args)))
    with open_session(path) as session:
        if args.slowest is not None or args.callees:
            return report_calls(session, args)
        if not want.table and not _has_stacks(session):
            if args.range:
                raise InsituError(f"{path}: no table with stacks, of which --range takes a part")
            return _tables(args, session)
        status = _report(args, session.stacks(want), _function_calls(args, session, want))
        if not (want.table or args.range or args.folded or args.json):
            _sections_and_maps(args, session)
        return status


def _function_calls(args: argparse.Namespace, session: "Session", want: "Selection") -> "list[FunctionCalls] | None":
    """The functions of a recording of calls, if that is what is shown."""
    from insitu.session.call_table import load_calls, shows_calls
    from insitu.session.weighted_stacks import Selection

    if args.folded or args.reverse or args.lines or want != Selection() or not shows_calls(session):
        return None
    from insitu.views.calls.functions import function_calls

    return function_calls(load_calls(session.database), by=args.sort)


def _report(args: argparse.Namespace, stacks: "WeightedStacks", calls: "list[FunctionCalls] | None" = None) -> int:
    import sys

    from insitu.views.time_range import check_range, range_ns

    if args.range:
        check_range(stacks, args.range)
    value = unit_value(stacks, args.unit)
    if args.folded:
        from insitu.convert.formats.folded import write_folded
        from insitu.views.output import write_stdout

        text = write_folded(stacks, value=value, suffixes=args.suffixes, addresses=args.addresses)
        write_stdout(text.encode(errors="backslashreplace"))
        return 0

    from insitu.views.report import build_report, to_json

    report = build_report(
        stacks,
        value=value,
        sort=args.sort,
        reverse=args.reverse,
        lines=args.lines,
        addresses=args.addresses,
        duration_ns=range_ns(stacks, args.range) if args.range else None,
    )
    shown = {"limit": args.limit, "min_percent": args.min_percent, "tree": not args.no_tree}
    if args.json:
        print(to_json(report, calls=calls, **shown))
        return 0

    from insitu.views.calls.text import functions_table
    from insitu.views.report_text import report_lines
    from insitu.views.terminal import Screen

    screen = Screen.of(sys.stdout)
    functions = functions_table(calls, args.limit) if calls is not None else None
    screen.write(report_lines(report, screen, functions=functions, **shown))
    return 0


def _tables(args: argparse.Namespace, session: "Session") -> int:
    """The report on a session without stacks: what its tables hold."""
    import sys

    from insitu.errors import InsituError
    from insitu.views.tables import table_lines, tables_json
    from insitu.views.terminal import Screen

    if args.folded:
        raise InsituError(f"{session.name}: no table with stacks, which --folded needs", remedy="leave --folded out")
    if args.json:
        print(tables_json(session, limit=args.limit))
        return 0
    screen = Screen.of(sys.stdout)
    screen.write(table_lines(session, screen, limit=args.limit))
    return 0


def _has_stacks(session: "Session") -> bool:
    from insitu.views.tables import has_sections

    recorded = int(session.manifest.tables.get("stack", {}).get("rows", 0)) > 1  # beside the root
    return bool(session.tables_with_stacks) and (recorded or not has_sections(session))


def _sections_and_maps(args: argparse.Namespace, session: "Session") -> None:
    """What else is in the session, after the report on its stacks."""
    import sys

    from insitu.views.tables import map_lines, section_lines
    from insitu.views.terminal import Screen

    screen = Screen.of(sys.stdout)
    screen.write(section_lines(session, screen, limit=args.limit))
    screen.write(map_lines(session, screen, limit=args.limit))
