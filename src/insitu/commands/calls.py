"""Trace calls of functions: the kernel's, with what they call in turn (-g) or each as it happens (-f), or a
program's (--user), with arguments and results.

FUNC is a name, a glob such as 'vfs_*', or either followed by :mod:MODULE. Calls are printed, with duration and self
time (without what they call), or recorded (-o). Children and new threads are followed. Needs root. The exit status is
the command's.

examples:
  insitu calls -g do_sys_openat2 --depth 3 -- cat /etc/hostname     what opening a file takes, and where
  insitu calls -g 'vfs_*' -p 1234 -d 5 -o run.insitu                then insitu report run.insitu --slowest
  insitu calls -f 'ext4_*' -n '*_lock*' --stack -- touch file       each call of functions, with its stack
  insitu calls -f ':mod:ext4' -a -d 1                               each call of a module's functions
  insitu calls --count 'vfs_*' -- find /etc                         calls, self and total time of each function
  insitu calls -f 'parse_*' --user ./prog file.txt                  functions of a program, by uprobes
  insitu calls --library --user ./prog file.txt                     calls of libraries, as ltrace shows them
  insitu calls -c --user ./prog file.txt                            added up by function
"""

import argparse

from insitu.commands import Properties
from insitu.commands._options import Gather, count, duration_option, output_option, pid_list, quiet_option
from insitu.commands.calls_kernel import kernel_options, run_kernel
from insitu.commands.calls_user import run_user, user_options
from insitu.errors import InsituError

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    words_follow=True,
    program_option="--user",
    peer_options={
        "-l": "-f FUNC chooses functions",
        "-e": "-f FUNC chooses functions; insitu events is for events",
        "-F": "use -f FUNC",
        "-N": "use -n FUNC",
        "-D": "use --depth",
        "-x": "use -f FUNC, with --binary FILE for those of a library",
        "-S": "insitu syscalls shows system calls",
        "-P": "use -p",
        "--max-graph-depth": "use --depth",
        "--func-stack": "use --stack",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f",
        "--function",
        action="append",
        default=[],
        metavar="FUNC",
        help="only these functions; without -g: each call as it happens",
    )
    parser.add_argument(
        "-n", "--no-function", action="append", default=[], metavar="FUNC", help="not these functions"
    )
    parser.add_argument("--depth", type=count, default=0, metavar="N", help="calls of N levels (default: all)")
    parser.add_argument(
        "-p", "--pid", type=pid_list, action=Gather, metavar="PID[,PID]", help="trace running processes"
    )
    kernel_options(parser)
    user_options(parser)
    output_option(parser, "record a session instead of printing", metavar="RUN")
    duration_option(parser)
    quiet_option(parser)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run and trace this command")


def run(args: argparse.Namespace) -> int:
    kernel = args.graph or args.count or args.stack
    if args.user is None and (args.library or args.with_library or args.binary or args.summary) and not kernel:
        args.user = ""  # only functions of programs have these
    if args.user is not None:
        return run_user(args)
    user_only = (
        ("--library", args.library),
        ("--with-library", args.with_library),
        ("--binary", args.binary),
        ("-c", args.summary),
    )
    for option, given in user_only:
        if given:
            raise InsituError(f"{option} is for functions of programs, not of the kernel", status=2)
    if not (args.graph or args.function or args.count):
        raise InsituError(
            "calls of what?", remedy="-g, -f or --count FUNC, or --user PROGRAM; see insitu calls --help", status=2
        )
    return run_kernel(args)
