"""`insitu lab compare`: is it the kernel or the system that is slow? Swap the kernel and see."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from insitu.commands.lab_guests import machine_arguments, machine_options
from insitu.commands.lab_parser import subcommand

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["arguments"]


def arguments(subparsers: "Subparsers") -> None:
    """Declare the subcommand."""
    compare = subcommand(
        subparsers,
        "compare",
        "the same workload under two kernels, and whether it matters",
        "compare -k 6.1,6.12 -- ./workload",
        "compare -k 6.1,6.1:mitigations=off -n 20 -o report.html -- ./workload",
    )
    compare.add_argument(
        "-k", "--kernels", required=True, metavar="A,B", help="two kernels; 6.1:WORDS adds to that one's command line"
    )
    compare.add_argument(
        "-n", "--runs", type=int, default=10, metavar="N", help="runs of each, in turns (default 10)"
    )
    compare.add_argument("-o", "--output", type=Path, metavar="FILE", help="the whole report as one HTML page")
    compare.add_argument("--json", action="store_true", help="everything as JSON instead of the text")
    compare.add_argument(
        "--no-profile", action="store_true", help="timings only: no further runs that count system calls and sample"
    )
    machine_arguments(compare)
    compare.add_argument("command", nargs="+", metavar="CMD", help="the workload, after --")
    compare.set_defaults(action=_compare)


def _compare(args: argparse.Namespace) -> int:
    from insitu.lab.compare.compare import compare, parse_sides
    from insitu.views.compare import compare_html, compare_json, compare_text

    comparison = compare(
        parse_sides(args.kernels),
        args.command,
        runs=args.runs,
        options=machine_options(args),
        profile=not args.no_profile,
        report=_report,
    )
    if args.output:
        args.output.write_text(compare_html(comparison))
    print(compare_json(comparison) if args.json else compare_text(comparison))
    return 0


def _report(line: str) -> None:
    print(f"insitu: {line}", file=sys.stderr, flush=True)
