"""`insitu lab compare`: a workload under two kernels."""

import argparse
import sys
from pathlib import Path

from insitu import messages
from insitu.commands._options import json_option, positive
from insitu.commands.lab._subcommands import Subcommands
from insitu.commands.lab.guests import machine_arguments, machine_options

__all__ = ["arguments"]


def arguments(subcommands: Subcommands) -> None:
    """Declare the subcommand."""
    compare = subcommands.add(
        "compare",
        "run a workload under two kernels, and judge whether the kernel makes a difference",
        "compare -k 6.1,6.12 -- ./workload",
        "compare -k 6.1,6.1:mitigations=off -n 20 -o report.html -- ./workload",
    )
    compare.add_argument(
        "-k",
        "--kernels",
        required=True,
        metavar="A,B",
        help="two kernels; 6.1:WORDS adds to the kernel's command line",
    )
    compare.add_argument(
        "-n", "--runs", type=positive, default=10, metavar="N", help="runs of each, interleaved (default 10)"
    )
    compare.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the full report as an HTML page")
    json_option(compare, "print all measurements as JSON")
    compare.add_argument(
        "--no-profile", action="store_true", help="timings only: no extra runs that count system calls and sample"
    )
    machine_arguments(compare, name="the guests' names: NAME-1 and NAME-2")
    compare.add_argument("command", nargs="+", metavar="CMD", help="the workload, after --")
    compare.set_defaults(action=_compare)


def _compare(args: argparse.Namespace) -> int:
    from insitu.errors import InsituError
    from insitu.lab.compare.compare import compare, parse_sides
    from insitu.views.compare import compare_blocks, compare_html, compare_json
    from insitu.views.output import write_file
    from insitu.views.terminal import Screen

    # Before the runs, which take minutes.
    if args.output and (args.output.is_dir() or not args.output.absolute().parent.is_dir()):
        raise InsituError(f"-o {args.output}: not a file in an existing directory", status=2)
    comparison = compare(
        parse_sides(args.kernels),
        args.command,
        runs=args.runs,
        options=machine_options(args),
        profile=not args.no_profile,
        name=args.name,
        report=messages.note,
    )
    if args.output:
        write_file(args.output, compare_html(comparison).encode())
    if args.json:
        print(compare_json(comparison))
    else:
        Screen.of(sys.stdout).write(compare_blocks(comparison))
    return 0
