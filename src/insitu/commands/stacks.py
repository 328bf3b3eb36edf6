"""What every thread of a process does now: its stack, the system call it waits in, and which thread it waits for.

The process is stopped for some milliseconds, while registers and stacks are copied; it runs on whatever happens to
insitu. Functions of Python (3.11 to 3.13) are shown in place of the interpreter's, and those of JIT compilers that
write a map (node --perf-basic-prof, /tmp/perf-PID.map). Threads that wait for each other's mutexes are found: a
deadlock. Root is needed for other users' processes and for --kernel.

examples:
  insitu stacks 1234                     all threads; equal stacks once
  insitu stacks -n nginx                 of all processes of this name
  insitu stacks --deadlock 1234          only who waits for whom; status 1 if there is a deadlock
  insitu stacks --kernel 1234            the kernel's functions too
  insitu stacks -o now.insitu 1234       a session: insitu flame now.insitu draws the threads
"""

import argparse
import sys
from typing import TYPE_CHECKING

from insitu.commands import Properties
from insitu.commands._options import (
    count,
    json_option,
    output_option,
    pids_asked_for,
    process_options,
    quiet_option,
    require_session_name,
)
from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.inspect.stacks import Process

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    peer_options={
        "-l": "insitu stacks shows lines and modules",
        "-s": "insitu stacks shows source lines",
        "-i": "insitu stacks shows inlined functions",
        "-m": "insitu stacks shows the module where no line is known",
        "--core": "insitu stacks is for running processes",
    }
)


def arguments(parser: argparse.ArgumentParser) -> None:
    process_options(parser)
    parser.add_argument("--kernel", action="store_true", help="the kernel's functions too, which needs root")
    parser.add_argument(
        "--native", action="store_true", help="the interpreter's own functions instead of those of Python"
    )
    parser.add_argument("--deadlock", action="store_true", help="only threads that wait for others; 1 for a deadlock")
    parser.add_argument("--each", action="store_true", help="each thread by itself, also those with equal stacks")
    parser.add_argument("--max-frames", type=count, default=64, metavar="N", help="of a stack, 0: all (default 64)")
    json_option(parser)
    output_option(parser, "make a session, with each thread's stack as a sample", metavar="RUN.insitu")
    quiet_option(parser, "no notes")


def run(args: argparse.Namespace) -> int:
    from insitu import messages
    from insitu.inspect.lock_waits import cycles, unowned, waits
    from insitu.inspect.stacks import stacks
    from insitu.views import stacks as view
    from insitu.views.terminal import Screen

    pids = pids_asked_for(args, args.pids)
    if not pids:
        raise InsituError("which process?", remedy="insitu stacks PID, or -n NAME", status=2)
    require_session_name(args.output)
    found, documents, screen, stuck = [], [], Screen.of(sys.stdout), False
    for number, pid in enumerate(pids):
        process = stacks(pid, kernel=args.kernel, python=not args.native)
        waiting = waits(process)
        circles, others = cycles(waiting), unowned(process, waiting)
        stuck = stuck or bool(circles)
        if args.deadlock:
            involved = {wait.waiter.tid for wait in waiting} | {wait.owner.tid for wait in waiting}
            process = process._replace(threads=[each for each in process.threads if each.tid in involved])
        found.append(process)
        if args.json:
            documents.append(view.document(process, waiting, circles))
        else:
            screen.write([[]] if number else [])
            if args.deadlock and not waiting:
                screen.write([view.without_owners(process, others)])
            else:
                screen.write(view.blocks(process, waiting, circles, group=not args.each, most=args.max_frames))
        for note in () if args.quiet else process.notes:
            messages.note(note)
    if args.json:
        from insitu.valid_text import json_document

        print(json_document({"format": "insitu-stacks-1", "processes": documents}))
    if args.output:
        _save(args, found)
    return int(args.deadlock and stuck)


def _save(args: argparse.Namespace, processes: "list[Process]") -> None:
    from pathlib import Path

    from insitu import messages
    from insitu.commands._output import Displaced
    from insitu.inspect.stacks_session import save
    from insitu.plurals import counted

    displaced = Displaced(args.output)
    threads = save(Path(args.output), processes)
    if not args.quiet:
        displaced.report()
        messages.note(f"{counted(threads, 'thread')} in {args.output}; insitu flame {args.output} draws them")
