"""Show calls of kernel functions: with durations and what they call in turn (-g), or each as it happens (-f).

FUNC is a name, a glob such as 'vfs_*', or either with :mod:MODULE. Children and new threads are followed. Needs root.
Without -o calls are printed; self is a call's time without the functions that it calls.

examples:
  insitu calls -g do_sys_openat2 --depth 3 -- cat /etc/hostname    what opening a file takes, and where
  insitu calls -g 'vfs_*' -p 1234 -d 5 -o run.insitu               record; insitu report run.insitu shows where time goes
  insitu calls -f 'ext4_*:mod:ext4' --stack -- touch file          each call of a module's functions, with its stack
  insitu calls --count 'vfs_*' -a -d 5                             count, total, self, mean and deviation by function
"""

import argparse
from typing import TYPE_CHECKING

from insitu.commands import Properties
from insitu.commands._options import (
    count,
    duration_option,
    limit_option,
    json_option,
    output_option,
    pids_asked_for,
    quiet_option,
    recording_target_options,
    size,
)

if TYPE_CHECKING:
    from insitu.record.run import Request
    from insitu.record.sources.trace_pages import Tracing

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(starts_programs=True, command_after_dashes=True)


def arguments(parser: argparse.ArgumentParser) -> None:
    kind = parser.add_argument_group("which calls")
    kind.add_argument("-g", "--graph", action="append", metavar="FUNC", help="these functions and all that they call")
    kind.add_argument("-f", "--function", action="append", metavar="FUNC", help="these functions, without durations")
    kind.add_argument("--count", action="append", metavar="FUNC", help="a table of these functions instead of calls")
    kind.add_argument("-N", "--notrace", action="append", default=[], metavar="FUNC", help="not these functions")
    kind.add_argument("--depth", type=count, default=0, metavar="N", help="-g: at most N levels of calls")
    kind.add_argument("--stack", action="store_true", help="-f: the kernel's stack of each call")
    form = parser.add_argument_group("output")
    output_option(parser, "record a session instead of printing", metavar="RUN")
    json_option(form, "a line of JSON for each call")
    limit_option(parser, 30, "rows of --count")
    duration_option(parser)
    parser.add_argument("-b", "--buffer", type=size, metavar="SIZE", help="buffer for each CPU (default 4M)")
    quiet_option(parser)
    recording_target_options(parser, "trace")


def run(args: argparse.Namespace) -> int:
    from insitu.commands.calls_run import run_calls

    return run_calls(args)
