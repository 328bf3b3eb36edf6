"""Trace calls of functions: with duration and self time, arguments and results.

User functions of a program by uprobes: nothing is recompiled. Children and threads are followed. The exit status is
the command's.

examples:
  insitu calls --user ./prog -f 'parse_*' file.txt   functions of a program, each call as it ends
  insitu calls --user ./prog --library file.txt      calls of libraries through the PLT, as ltrace shows them
  insitu calls --user ./prog -c                      count, self and total time of each function
  insitu calls --user -p 1234 -d 10 -o run.insitu    of a running process, into a session
  insitu flame run.insitu                            the calls as a flame graph
"""

import argparse

from insitu.commands import Properties
from insitu.commands.calls_user import run_user, user_options
from insitu.errors import InsituError

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    words_follow=True,
    peer_options={
        "-S": "insitu syscalls traces system calls",
        "-e": "-f PATTERN chooses functions",
        "-D": "use --depth",
        "-F": "use -f",
        "-N": "use -n",
        "-P": "use -f",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    user_options(parser)


def run(args: argparse.Namespace) -> int:
    if args.user is None:
        raise InsituError("calls of what?", remedy="--user PROGRAM traces functions of a program", status=2)
    return run_user(args)
