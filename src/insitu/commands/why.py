"""Say why a program is slow: where all the wall time of its threads goes, adding up to 100 per cent.

Running in user code or in the kernel, ready to run but without a CPU, throttled by a cgroup, or blocked: in which
system call, on which file or peer, by which lock and who held it. Who ended a wait is followed to the thread that was
busy. Needs root (eBPF). Children and new threads are followed. The exit status is the command's.

examples:
  insitu why 1234                        a running process, for 5 seconds
  insitu why -n postgres -d 30           all processes of this name, for half a minute
  insitu why -- make test                a command, until it ends
  insitu why why.insitu                  print a session's report again
  insitu flame why.insitu                its wall-clock flame graph: on and off the CPU in one picture
"""

import argparse
import os
import sys

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import (
    duration_option,
    json_option,
    limit_option,
    output_option,
    pid_list,
    pids_asked_for,
    quiet_option,
    recording_target_options,
)
from insitu.commands._output import recorded, status_of
from insitu.errors import InsituError

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(starts_programs=True, command_after_dashes=True)

_SECONDS = 5.0


def arguments(parser: argparse.ArgumentParser) -> None:
    output_option(parser, "the session to make (default: %(default)s)", metavar="RUN", default="why.insitu")
    duration_option(parser, f"stop after this time (default: {_SECONDS:g} seconds; a command's life)")
    json_option(parser)
    limit_option(parser, 20, "threads that are listed")
    quiet_option(parser, "print nothing but errors; the session is made")
    recording_target_options(parser, "look at")
    parser.add_argument("target", nargs="*", metavar="PID", help="a running process, or a session of insitu why")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    words: list[str] = args.target
    if len(words) == 1 and os.path.exists(f"{words[0]}/session.json"):  # noqa: PTH110 - a start without pathlib
        _print(args, Path(words[0]))
        return 0
    if len(words) == 1 and not os.path.exists(words[0]) and (words[0].endswith(".insitu") or "/" in words[0]):  # noqa: PTH110
        remedy = f"record one with insitu why -o {words[0]} PID"
        raise InsituError(f"{words[0]}: no such session", remedy=remedy)
    from insitu.record.run import Request
    from insitu.record.sources.processes import ProcessesSource
    from insitu.record.sources.wall import WallSource

    command = tuple(args.after_dashes or ())
    pids = pids_asked_for(args, map(_pids, words))
    if not (command or pids or args.all):
        raise InsituError("nothing to look at", remedy="give a PID, a command after --, -n NAME or -a", status=2)
    seconds = args.duration or (None if command else _SECONDS)
    request = Request(command, pids, args.all, seconds)
    path = Path(args.output)
    outcome, manifest = recorded(
        request,
        [ProcessesSource(), WallSource()],  # time is accounted from the start of its source on: the last to start
        path,
        quiet=args.quiet,
        default_table="wall",
    )
    if manifest and not args.quiet:
        _print(args, path)
        messages.note(f"{manifest.lost} lost; insitu flame {path} draws it")
    return status_of(outcome, manifest)


def _pids(word: str) -> tuple[int, ...]:
    try:
        return pid_list(word)
    except argparse.ArgumentTypeError as error:
        raise InsituError(str(error), remedy=f"a command stands after --: insitu why -- {word}", status=2) from None


def _print(args: argparse.Namespace, path: "os.PathLike[str]") -> None:
    from pathlib import Path

    from insitu.convert.open import open_session
    from insitu.views.terminal import Screen
    from insitu.views.why import why_json, why_lines

    with open_session(Path(path)) as session:
        if args.json:
            print(why_json(session))
        else:
            screen = Screen.of(sys.stdout)
            screen.write(why_lines(session, screen, limit=args.limit))
