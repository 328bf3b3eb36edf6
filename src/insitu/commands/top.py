"""Show what the machine and its processes do now: CPU, run queue, system calls, waits, I/O, memory, functions.

Keys: up and down choose, Enter goes from a process to its threads, functions and stacks, Escape back; space freezes,
left and right go through the last minutes; / filters; c w o s i m p n sort; r saves what is shown; ? help; q quits.

As root (or with CAP_BPF, CAP_PERFMON and CAP_DAC_READ_SEARCH) a BPF program counts system calls, waits and samples
of functions in the kernel; else only what /proc has is shown.

examples:
  insitu top                          the whole machine
  insitu top 1234                     a process and its children; also -n NAME
  insitu top -- ./prog                a command, while it runs
  insitu top --batch --ticks 3        plain text, three times
  insitu top --json | jq .machine.pressure
  insitu top --web                    in a browser on this machine
"""

import argparse
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from insitu.commands import Properties
from insitu.commands._options import (
    count,
    duration,
    duration_option,
    json_option,
    limit_option,
    output_option,
    pid_list,
    pids_asked_for,
    positive,
    recording_target_options,
    require_session_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from insitu.record.run import Request
    from insitu.record.top.sampler import Sampler
    from insitu.record.top.tick import Process, Tick
    from insitu.views.top.columns import Shown

__all__ = ["PROPERTIES", "arguments", "run"]

_LEAST_INTERVAL_S = 0.1

PROPERTIES = Properties(
    starts_programs=True,
    command_after_dashes=True,
    peer_options={
        "--iterations": "use --ticks N",
        "--delay": "use --interval SECONDS",
        "-s": "use --interval SECONDS",
        **dict.fromkeys(("-u", "-U", "--user"), "name the processes, which pgrep lists: insitu top PID,PID"),
        **dict.fromkeys(("-H", "--threads"), "Enter on a process shows its threads"),
        **dict.fromkeys(("-t", "--tree", "--forest"), "insitu top PID shows a process with its children"),
        "-i": "idle processes come last: --limit N",
        "-c": "names are shown; ps prints the command line",
        "-1": "each CPU is shown",
        **dict.fromkeys(("-e", "--event"), "insitu profile samples events"),
        **dict.fromkeys(("-F", "--freq"), "insitu profile samples as often as you like"),
        **dict.fromkeys(("-g", "-G", "--call-graph"), "press f for functions, Enter for their stacks"),
        **dict.fromkeys(("-C", "--cpu"), "all CPUs are shown"),
        **dict.fromkeys(("-E", "-w"), "sizes and widths fit themselves"),
        "-S": "figures are of each tick; since their start: insitu delays PID",
        "--sort-key": "use --sort COLUMN",
        "--no-color": "set NO_COLOR=1",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "pids", nargs="*", type=pid_list, metavar="PID", help="running processes, with their children"
    )
    recording_target_options(parser, "show", whole_system="the whole machine (the default)")
    parser.add_argument(
        "--interval", type=duration, default=2.0, metavar="SECONDS", help="time between ticks (default %(default)s)"
    )
    parser.add_argument("--ticks", type=positive, metavar="N", help="stop after N ticks")
    duration_option(parser)
    parser.add_argument("--no-bpf", action="store_true", help="load no BPF program: /proc only")
    group = parser.add_argument_group("output")
    group.add_argument("-b", "--batch", action="store_true", help="plain text (the default without a terminal)")
    json_option(group, "a line of JSON per tick")
    group.add_argument("--web", action="store_true", help="in a browser: prints an address of this machine")
    group.add_argument("--port", type=count, default=0, help="port of --web (default: a free one)")
    group.add_argument(
        "--sort", metavar="COLUMN", default="cpu", help="pid, cpu (default), wait, off, calls, read, rss or name"
    )
    group.add_argument("--filter", metavar="TEXT", default="", help="only processes with TEXT in their name")
    limit_option(parser, 20, "processes of --batch and --json")
    output_option(parser, "session that r makes (default: %(default)s)", metavar="RUN", default="top.insitu")


def run(args: argparse.Namespace) -> int:
    """Show it until the user, the target or a limit ends it."""
    from insitu import messages
    from insitu.errors import InsituError
    from insitu.quick_imports import QuickImports

    if args.interval < _LEAST_INTERVAL_S:
        raise InsituError(f"--interval must be at least {_LEAST_INTERVAL_S} s", status=2)
    with QuickImports():
        from insitu.record.top.sampler import Sampler
        from insitu.views.top.columns import SORTED_BY, Shown
    if args.sort not in SORTED_BY:
        raise InsituError(f"--sort {args.sort}: no such column", remedy=", ".join(SORTED_BY), status=2)
    shown = Shown(SORTED_BY[args.sort], filter=args.filter)
    request = _request(args)
    sampler = Sampler(args.interval, uses_bpf=not args.no_bpf, most=args.ticks)
    if args.web:
        status = _served(args, request, sampler)
    elif args.batch or args.json or not all(map(_is_terminal, (sys.stdin, sys.stdout))):
        status = _printed(args, request, sampler, shown)
    else:
        status = _on_screen(args, request, sampler, shown)
    for loss in sampler.losses():
        messages.note(f"lost {loss.number} {loss.what}")
    return status


def _served(args: argparse.Namespace, request: "Request", sampler: "Sampler") -> int:
    """In browsers, until Ctrl-C or the target's end."""
    import contextlib

    from insitu import messages
    from insitu.record.run import Destination, run
    from insitu.views.top.web import TopServer

    server = TopServer(args.port, title=f"insitu top: {_target(request)}", sampler=sampler)
    with contextlib.closing(server):
        print(server.address, flush=True)
        messages.note("only browsers of this machine can open it; Ctrl-C ends it")
        return run(request, [sampler], Destination()).exit_status


def _target(request: "Request") -> str:
    return " ".join(request.command) or ", ".join(map(str, request.pids)) or "whole machine"


def _is_terminal(stream: Any) -> bool:
    from insitu.terminal_text import is_plain

    return stream is not None and not is_plain(stream)


def _on_screen(args: argparse.Namespace, request: "Request", sampler: "Sampler", shown: "Shown") -> int:
    """The screen in this thread, the sampler in another."""
    import contextlib
    import threading
    from pathlib import Path

    from insitu.errors import InsituError
    from insitu.record.run import Destination, Run
    from insitu.record.top.save import save
    from insitu.views.top.screen import TopScreen

    with contextlib.closing(Run(request, [sampler], Destination())) as running:
        with _away_from_the_terminal(bool(request.command)):
            running.open()

        def save_session(ticks: "Sequence[Tick]", wanted: "Callable[[Process], bool]") -> str:
            try:
                return save(Path(args.output), ticks, wanted, sampler.functions)
            except (InsituError, OSError) as error:
                return str(error)

        screen = TopScreen(sampler, shown, target=_target(request), save=save_session)
        statuses: list[int] = []
        failures: list[Exception] = []

        def sample() -> None:
            try:
                running.start()
                while running.turn():
                    pass
                statuses.append(running.finish().exit_status)
                ends = f"the command has ended, status {statuses[0]}" if request.command else "sampling has ended"
            except Exception as error:
                failures.append(error)
                ends = "sampling has failed"
            if screen.is_running and not sampler.stopping:
                screen.call_from_thread(screen.ended, f"{ends}; q quits")

        thread = threading.Thread(target=sample, daemon=True)
        thread.start()
        try:
            with _screen_on_standard_output():
                screen.run()
        finally:
            sampler.stop_soon()
            thread.join()
    if failures:
        raise failures[0]
    return statuses[0]


@contextmanager
def _screen_on_standard_output() -> "Iterator[None]":
    """textual draws on what standard error was at the start, which may be a file."""
    before = sys.__stderr__
    sys.__stderr__ = sys.__stdout__  # type: ignore[misc]
    try:
        yield
    finally:
        sys.__stderr__ = before  # type: ignore[misc]


@contextmanager
def _away_from_the_terminal(away: bool) -> "Iterator[None]":
    """A command that is started here reads nothing from the terminal, and writes nothing into the screen."""
    if not away:
        yield
        return
    kept = [os.dup(fd) for fd in range(3)]
    null = os.open(os.devnull, os.O_RDWR)
    try:
        for fd in range(3):
            os.dup2(null, fd)
        yield
    finally:
        for fd, old in enumerate(kept):
            os.dup2(old, fd)
            os.close(old)
        os.close(null)


def _printed(args: argparse.Namespace, request: "Request", sampler: "Sampler", shown: "Shown") -> int:
    """Print each tick."""
    from insitu.record.run import Destination, run
    from insitu.views.top.text import as_json, plain

    def show(tick: "Tick") -> None:
        if args.json:
            print(as_json(tick, shown, args.limit, sampler.functions), flush=True)
            return
        first = tick.number == 1
        lines = plain(tick, shown, args.limit, note=" ".join(sampler.notes) if first else "")
        print("\n".join([*([] if first else [""]), *lines]), flush=True)

    sampler.on_tick = show
    return run(request, [sampler], Destination()).exit_status


def _request(args: argparse.Namespace) -> "Request":
    from insitu.errors import InsituError
    from insitu.record.run import Request

    require_session_name(args.output, remedy="--sort COLUMN sorts")
    if args.comm and args.comm.isdecimal():
        raise InsituError(f"-n {args.comm}: a name is expected", remedy=f"--ticks {args.comm}", status=2)
    pids = pids_asked_for(args, args.pids)
    command = tuple(args.after_dashes or ())
    if args.after_dashes is not None and not any(command):
        raise InsituError("the command after -- is empty", status=2)
    if args.all and (pids or command):
        raise InsituError(
            "-a cannot be combined with processes or a command", remedy="leave one of them out", status=2
        )
    return Request(command, pids, whole_system=not (pids or command), seconds=args.duration)
