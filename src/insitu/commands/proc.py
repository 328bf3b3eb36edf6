"""One process, explained: what it has open and how near the limit, its memory, threads, rights and surroundings.

Descriptors by kind, with states of sockets, other ends of pipes and sockets, and what epoll, eventfd and the like are
about. Nothing is traced but with --watch: then, as root, also where descriptors are made that stay open.

examples:
  insitu proc 1234                   what it is, and its descriptors by kind
  insitu proc -l 1234                each descriptor
  insitu proc -n nginx               all processes of this name
  insitu proc --maps 1234            resident pages of each mapping, and who shares them
  insitu proc --threads 1234         state, wait channel, CPU, policy, affinity and signals of each thread
  insitu proc --at 7f31c2a4 1234     what an address belongs to: function, variable, frame of a stack, physical page
  insitu proc --pages 7f31c2a4000 1234    page by page: what is there, private, shared, swapped, the page of zeros
  insitu proc -o now.insitu 1234     a session: insitu diff of two shows what grew
  insitu proc --watch -d 30 1234     "Too many open files": which kind grows, and which stacks open and never close
"""

import argparse
import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import (
    address,
    duration,
    duration_option,
    json_option,
    limit_option,
    output_option,
    pids_asked_for,
    process_options,
    quiet_option,
    require_session_name,
)
from insitu.commands._proc_memory import address_range, show_pages, show_places
from insitu.errors import InsituError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from insitu.inspect.environment import Environment
    from insitu.inspect.memory_map import MemoryMap
    from insitu.inspect.process_session import Held
    from insitu.views.process import Open
    from insitu.views.terminal import Screen

__all__ = ["PROPERTIES", "arguments", "run"]

_PR_SET_PDEATHSIG: Final = 1
_ENDS_WITHIN_S: Final = 20

PROPERTIES = Properties(
    peer_options={
        "-i": "internet sockets are among the descriptors: insitu proc -l PID",
        "-c": "-n NAME",
        "+fg": "the flags are among the columns of -l",
    }
)


def arguments(parser: argparse.ArgumentParser) -> None:
    process_options(parser)
    parser.add_argument("-l", "--list", action="store_true", help="list each descriptor")
    parser.add_argument("--maps", action="store_true", help="its memory: what is behind each mapping")
    parser.add_argument("--threads", action="store_true", help="its threads: state, CPU, policy, signals")
    parser.add_argument("--stacks", action="store_true", help="its threads with their stacks, as insitu stacks")
    parser.add_argument(
        "--at", type=address, action="append", metavar="ADDRESS", help="what an address belongs to (hexadecimal)"
    )
    parser.add_argument(
        "--pages", type=address_range, metavar="START[-END]", help="the pages of a range, or of the mapping at START"
    )
    parser.add_argument("--watch", action="store_true", help="show each --interval what of descriptors grows")
    parser.add_argument("--interval", type=duration, default=1.0, metavar="SECONDS", help="of --watch (default 1)")
    duration_option(parser, "how long to watch (default: until Ctrl-C)")
    limit_option(parser, 50, "descriptors, mappings and threads that are listed")
    json_option(parser)
    output_option(parser, "keep a session: the tables page_range, fd and thread", metavar="RUN.insitu")
    quiet_option(parser, "no notes")


def run(args: argparse.Namespace) -> int:
    from insitu.inspect.process_facts import facts_of
    from insitu.inspect.process_session import Held
    from insitu.inspect.threads import threads_of
    from insitu.views import process as view
    from insitu.views import threads as thread_view
    from insitu.views.memory import blocks as memory_blocks
    from insitu.views.memory import document as memory_document
    from insitu.views.terminal import Screen

    pids = pids_asked_for(args, args.pids)
    if not pids:
        raise InsituError("which process?", remedy="insitu proc PID, or -n NAME", status=2)
    if args.duration and not args.watch:
        raise InsituError("-d is for --watch", status=2)
    if args.json and args.watch:
        raise InsituError("--watch writes lines, no JSON", remedy="insitu proc --json PID, twice", status=2)
    require_session_name(args.output)
    one = {"--watch": (args.watch, _watch), "--at": (args.at, show_places), "--pages": (args.pages, show_pages)}
    for name, (asked, show) in one.items():
        if asked:
            if len(pids) > 1:
                raise InsituError(f"{name} looks at one process", status=2)
            return show(args, pids[0])
    documents, kept, screen = [], [], Screen.of(sys.stdout)
    for number, pid in enumerate(pids):
        facts = facts_of(pid)
        needs_descriptors = args.output or not (args.maps or args.threads or args.stacks)
        found = _open_if_allowed(pid, ends=args.list or args.json) if needs_descriptors else None
        memory = _memory(args, pid) if args.maps or args.output else None
        threads = threads_of(pid) if args.threads or args.stacks or args.json else None
        kept.append(Held(pid, memory, found.descriptors if found else None))
        if args.json:
            others = {
                "mappings": memory_document(memory) if memory else None,
                "threads": thread_view.document(threads or ()),
            }
            documents.append(view.document(facts, _environment(pid), found, others))
            continue
        screen.write([[]] if number else [])
        if args.maps and memory:
            screen.write(memory_blocks(memory, args.limit))
        if threads is not None:
            screen.write([[(f"threads of {facts.name} ({pid})", "bold")], *thread_view.blocks(threads, args.limit)])
        if args.stacks:
            _show_stacks(args, pid, screen)
        if not (args.maps or args.threads or args.stacks):
            screen.write(view.blocks(facts, _environment(pid), found, args.limit, listed=args.list))
    if args.json:
        from insitu.valid_text import json_document

        print(json_document({"format": "insitu-proc-1", "processes": documents}))
    if args.output:
        _save(args, kept)
    return 0


def _environment(pid: int) -> "Environment | None":
    """The environment; None if it may not be seen."""
    from insitu.inspect.environment import environment

    try:
        return environment(pid)
    except OSError:
        return None


def _show_stacks(args: argparse.Namespace, pid: int, screen: "Screen") -> None:
    """The stacks of all threads, the kernel's functions too where they may be seen."""
    import os

    from insitu.inspect.lock_waits import cycles, waits
    from insitu.inspect.stacks import stacks
    from insitu.views.stacks import blocks

    process = stacks(pid, kernel=os.geteuid() == 0)
    waiting = waits(process)
    screen.write([[]])
    screen.write(blocks(process, waiting, cycles(waiting), group=True, most=64))
    for note in () if args.quiet else process.notes:
        messages.note(note)


def _open_if_allowed(pid: int, *, ends: bool) -> "Open | None":
    """The descriptors; None with a warning if they may not be seen: what else is known is shown."""
    try:
        return _open(pid, ends=ends)
    except InsituError as error:
        messages.warning(str(error))
        return None


def _memory(args: argparse.Namespace, pid: int) -> "MemoryMap | None":
    """The memory. Raises InsituError where nothing else is asked for."""
    from insitu.inspect.memory_map import memory

    try:
        found = memory(pid)
    except InsituError as error:
        if args.maps:
            raise
        messages.warning(str(error))
        return None
    for note in () if args.quiet else found.notes:
        messages.note(note)
    return found


def _save(args: argparse.Namespace, processes: "Sequence[Held]") -> None:
    from pathlib import Path

    from insitu.commands._output import Displaced
    from insitu.inspect.process_session import save

    displaced = Displaced(args.output)
    save(Path(args.output), processes)
    if not args.quiet:
        displaced.report()
        messages.note(f"kept in {args.output}; insitu diff compares two")


def _open(pid: int, *, ends: bool = False) -> "Open":
    from insitu.inspect.descriptors import descriptor_limit, descriptors, ends_of
    from insitu.views.process import Open

    found = descriptors(pid)
    return Open(found, ends_of(pid, found) if ends else {}, descriptor_limit(pid)[0])


def _watch(args: argparse.Namespace, pid: int) -> int:
    import os

    from insitu.views import process as view
    from insitu.views.terminal import Prose, Screen

    screen = Screen.of(sys.stdout)
    first = last = _open(pid)
    start = time.monotonic()
    screen.write([view.growth_title(), view.first_line(first)])
    sys.stdout.flush()
    with _traced(pid) if os.geteuid() == 0 else contextlib.nullcontext() as leaks:
        with contextlib.suppress(KeyboardInterrupt):
            while not args.duration or time.monotonic() - start < args.duration:
                left = start + args.duration - time.monotonic() if args.duration else args.interval
                time.sleep(max(0.0, min(args.interval, left)))
                try:
                    now = _open(pid)
                except InsituError:
                    messages.note(f"process {pid} has ended")
                    break
                screen.write([view.growth_line(time.monotonic() - start, last, now)])
                sys.stdout.flush()
                last = now
        change = len(last.descriptors) - len(first.descriptors)
        if change > 0:
            what, number = view.grown(first, last)[0]
            screen.write([[], Prose([(f"{change:+,} descriptors: most are {what} ({number:+,})", "bold")])])
        if leaks is not None:
            for line in leaks.ended():
                screen.write([[(line, "")]])
        elif not args.quiet:
            messages.note("where they are opened needs root: sudo insitu proc --watch ...")
    return 0


@contextlib.contextmanager
def _traced(pid: int) -> "Iterator[_Leaks]":
    """The ready program fdleak runs meanwhile."""
    from insitu.probe.bpftrace.scripts import PROGRAMS

    # By its path, as a file of that name may be in the current directory, and with -P as "insitu" may be one, too.
    command = [sys.executable, "-P", "-m", "insitu", "trace", "-q", str(PROGRAMS / "fdleak.bt"), str(pid)]
    # In a process group of its own: Ctrl-C ends the watching, which ends it.
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, process_group=0, preexec_fn=_ends_with_us) as process:
        try:
            yield _Leaks(process)
        finally:
            process.kill()


def _ends_with_us() -> None:
    """In a new process: it ends when the one that started it does, also after a kill -9."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class _Leaks:
    """What fdleak has seen when it is ended."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def ended(self) -> "Iterator[str]":
        """The stacks that have made descriptors which are still open."""
        self._process.terminate()  # SIGINT may be ignored, as by what a shell runs in the background
        try:
            output, errors = self._process.communicate(timeout=_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            output, errors = self._process.communicate()
        _, found, stacks = output.decode(errors="replace").partition("@made[")
        if found:
            yield ""
            yield "Made meanwhile and still open, by stack:"
            yield from f"@made[{stacks}".rstrip().split("\n")
        elif self._process.returncode not in (0, 128 + signal.SIGTERM):
            why = errors.decode(errors="replace").strip() or "the watch was too short: -d SECONDS"
            messages.warning(f"where they are opened is not known: {why}")
