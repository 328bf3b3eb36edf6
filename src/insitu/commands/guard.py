"""Catch the access that corrupts a program's heap, at the instruction that does it; or watch an address.

The program runs with an allocator that puts each block against an inaccessible page. An overrun, an underrun or a use
after free ends it there and then, as any bad access does; what it was, with the stacks of the access, of the
allocation and of the free, is reported on standard error. Double, invalid and mismatched frees are reported too. No
privilege is needed, no other build; debug information (-g) gives source lines. Set-uid programs, static
programs (most of Go) and programs with their own allocator cannot be guarded. Processes that the command leaves in
the background are named, not waited for.

With -p and --watch, each write of an address of a running process is printed, with its stack and with what the
memory held before and after, by a watchpoint of the processor; that needs root.

examples:
  insitu guard -- ./prog file                   every block
  insitu guard --exact -- ./prog                also overruns by less than 16 bytes at the instruction
  insitu guard --before -- ./prog               underruns at the instruction
  insitu guard --sample 1000 -- ./server        one block of a thousand, for long runs
  insitu guard --size 24-32 --site parse -- ./prog   only blocks of 24 to 32 bytes that parse() allocates
  insitu guard -o faults.insitu -- make check   a session; insitu report faults.insitu shows it
  insitu guard -p 1234 --watch 0x55d0c0a01040:8
"""

import argparse
import re
from typing import TYPE_CHECKING

from insitu.commands import Properties
from insitu.commands._options import (
    Gather,
    command_words,
    count,
    duration_option,
    json_option,
    output_option,
    pid_list,
    positive,
    quiet_option,
    size,
)
from insitu.errors import InsituError

if TYPE_CHECKING:
    from insitu.debug.guard import Guarded
    from insitu.debug.guard_faults import Fault
    from insitu.debug.guard_program import Settings
    from insitu.debug.guard_records import Counts

__all__ = ["PROPERTIES", "arguments", "run"]

# By signals that end a program without a fault that was reported: what is not looked at, and what it may come of.
_UNTOLD = {
    **dict.fromkeys(("SIGABRT", "SIGFPE", "SIGILL", "SIGTRAP"), " of the heap"),
    **dict.fromkeys(("SIGSEGV", "SIGBUS"), " was reported"),
}
_CAUSES = {
    **dict.fromkeys(
        ("SIGSEGV", "SIGBUS"),
        ": its stack was full, it ignores the signal, or could write no report (chroot, limits, seccomp)",
    ),
    "SIGSYS": ": perhaps a seccomp filter forbids what guarding needs, such as madvise(2)",
}

PROPERTIES = Properties(
    starts_programs=True,
    peer_options={
        "--tool": "insitu guard is for memory errors, insitu leaks for leaks",
        "--leak-check": "insitu leaks finds leaks",
        "--error-exitcode": "the exit status is 1 where faults were found in a program that ended with 0",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    which = parser.add_argument_group("which blocks (default: every one)")
    which.add_argument("--sample", type=positive, default=1, metavar="N", help="one of N, at random")
    which.add_argument("--size", type=_sizes, default=None, metavar="A[-B]", help="of A to B bytes")
    which.add_argument(
        "--site", action="append", default=[], metavar="[FILE:]FUNCTION", help="that this function allocates itself"
    )
    how = parser.add_argument_group("how")
    place = how.add_mutually_exclusive_group()
    place.add_argument("--before", action="store_true", help="the inaccessible page before the block: underruns")
    place.add_argument("--exact", action="store_true", help="end blocks exactly at the page, not aligned to 16")
    how.add_argument(
        "--quarantine", type=count, default=16384, metavar="N", help="freed blocks kept inaccessible (default 16384)"
    )
    how.add_argument(
        "--memory", type=size, metavar="SIZE", help="for guarded blocks at most (default: half of what is available)"
    )
    how.add_argument("--stack", type=size, default=2048, metavar="SIZE", help="stack kept per call (default 2K)")
    how.add_argument("--mprotect", action="store_true", help="do not use guard pages (Linux 6.13), but mappings")
    how.add_argument("--raise-map-count", type=positive, metavar="N", help="vm.max_map_count meanwhile (needs root)")
    how.add_argument("--core", action="store_true", help="raise the limit on the size of core files")
    watch = parser.add_argument_group("watching an address")
    watch.add_argument("-p", "--pid", type=pid_list, action=Gather, metavar="PID", help="of this process")
    watch.add_argument(
        "--watch", metavar="ADDRESS[:SIZE]", help="print each write of SIZE bytes (1, 2, 4 or 8; default 8)"
    )
    duration_option(watch, "watch for so long")
    parser.add_argument("--max-frames", type=count, default=32, metavar="N", help="of a stack, 0: all (default 32)")
    json_option(parser, "write one JSON document to standard output at the end instead")
    output_option(
        parser,
        "make a session with a row for each fault, or with FILE.json the document of --json",
        metavar="RUN.insitu",
    )
    quiet_option(parser, "only faults and errors, no summary")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run and guard this command")


def _sizes(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,18})(?:-([0-9]{1,18}))?", text)
    if not found or int(found[1]) > int(found[2] or found[1]):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 24, or sizes such as 24-32")
    return int(found[1]), int(found[2] or found[1])


def run(args: argparse.Namespace) -> int:
    command = command_words(args)
    if args.watch or args.pid:
        if command or not (args.watch and args.pid):
            raise InsituError(
                "--watch and -p belong together, without a command", remedy="-p PID --watch ADDRESS", status=2
            )
        from insitu.commands.guard_watch import watch

        return watch(args)
    if not command:
        raise InsituError("nothing to guard", remedy="give a command after --, or -p PID --watch ADDRESS", status=2)
    if args.output and not args.output.endswith((".insitu", ".json")):
        raise InsituError(f"-o {args.output}: a session's name ends in .insitu, a document's in .json", status=2)
    return _guard(args, command)


def _guard(args: argparse.Namespace, command: list[str]) -> int:
    import time
    from pathlib import Path

    from insitu import messages
    from insitu.debug.guard import guard
    from insitu.kernel import procfs
    from insitu.record.bare_run import run_command
    from insitu.record.launcher import executable
    from insitu.session.directory import refuse_in_the_way

    executable(command)
    session = args.output if args.output and args.output.endswith(".insitu") else None
    if session:
        refuse_in_the_way(Path(session), procfs)
    if args.core:
        _allow_core()
    start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    found = guard(command, _settings(args), sites=args.site, max_map_count=args.raise_map_count, run=run_command)
    _report(args, found)
    if args.output and not session:
        from insitu.views.output import write_file

        write_file(Path(args.output), f"{_document(found)}\n".encode())
    if session:
        from insitu.commands._output import Displaced
        from insitu.debug.guard_session import save

        displaced = Displaced(session)
        save(Path(session), command, found.faults, found.notes, start_ns)
        if not args.quiet:
            displaced.report()
    for note in found.notes:
        messages.warning(note)
    if not args.quiet:
        messages.note(_summary(found.counts, found.faults, found.status))
    return found.status or int(bool(found.faults))


def _settings(args: argparse.Namespace) -> "Settings":
    from insitu.debug.guard_program import Settings

    low, high = args.size or (0, Settings().max)
    return Settings(
        sample=args.sample,
        memory=args.memory or 0,
        quarantine=args.quarantine,
        min=low,
        max=high,
        stack=args.stack,
        before=int(args.before),
        exact=int(args.exact),
        mprotect=int(args.mprotect),
    )


def _allow_core() -> None:
    import resource

    from insitu import messages
    from insitu.kernel import procfs

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    if hard == 0:
        messages.warning("--core: the hard limit on core files is 0 (ulimit -Hc)")
    else:
        messages.note(f"core files go where kernel.core_pattern says: {procfs.sysctl('kernel.core_pattern') or '?'}")


def _report(args: argparse.Namespace, found: "Guarded") -> None:
    import sys

    from insitu.views import guard as view
    from insitu.views.terminal import Screen

    if args.json and not (args.output or "").endswith(".json"):
        print(_document(found))
        return
    screen = Screen.of(sys.stderr)
    for fault in found.faults:
        screen.write(view.blocks(fault, most=args.max_frames))


def _document(found: "Guarded") -> str:
    from insitu.valid_text import json_document
    from insitu.views import guard as view

    documents = [view.document(fault) for fault in found.faults]
    counts = [each._asdict() for each in found.counts]
    return json_document({"format": "insitu-guard-1", "faults": documents, "processes": counts, "notes": found.notes})


def _summary(counts: "list[Counts]", faults: "list[Fault]", status: int) -> str:
    import signal

    from insitu.plurals import counted
    from insitu.views.quantity import size as sized

    found = counted(len(faults), "fault") if faults else "no fault"
    causes = ""
    if not faults and status - 128 in set(signal.Signals):
        number = signal.Signals(status - 128)
        causes = _CAUSES.get(number.name, "")
        found += f"{_UNTOLD.get(number.name, '')}, but exit status {status} ({number.name}{causes})"
    if not counts:
        why = "" if causes else ": all were killed, started without the loader, or could write no report"
        return f"{found}; no process has reported what was guarded{why}"
    guarded, blocks = sum(each.guarded for each in counts), sum(each.blocks for each in counts)
    who = counted(len(counts), "process", "processes")
    most = max(each.bytes_most for each in counts)
    how = "guard pages" if all(each.guard_pages for each in counts) else "mprotect"
    return f"{found}; guarded {guarded:,} of {blocks:,} blocks in {who}, at most {sized(most)} at a time, by {how}"
