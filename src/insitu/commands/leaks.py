"""Which memory a process has lost: leaks of a program that runs, was never prepared for it, and goes on.

The process is stopped while its memory is copied; then the heap of the C library (glibc) is walked and all pointers
are followed from registers, stacks and data. What nothing leads to is lost, in the classes of valgrind's memcheck.
A command after -- is looked at when it is about to exit, with the report on standard error; its children are not.
Sizes are those that may be used (malloc_usable_size).

examples:
  insitu leaks 1234                      what is lost, by size and content
  insitu leaks --show all 1234           what can be reached, too
  insitu leaks --why 0x55d0c8e2a2a0 1234 the chain of pointers that keeps a block alive
  insitu leaks --dominators 1234         which blocks keep how much alive
  insitu leaks core.1234                 of a core file
  insitu leaks -- ./prog file            run it, and look just before it exits
  insitu leaks -d 60 -- ./server         run it, and look after a minute
  insitu leaks --track -- ./prog file    which stacks lose, how old it is; without root by a preloaded library
  insitu leaks --track -d 60 1234        as root: for a minute trace what allocates; which stacks lose, how old it is
  insitu leaks -o now.insitu 1234        a session with the table heap_block, for insitu sql
"""

import argparse
import sys
from typing import TYPE_CHECKING

from insitu.commands import Properties
from insitu.commands._options import (
    Gather,
    address,
    duration_option,
    json_option,
    limit_option,
    output_option,
    pid_list,
    pids_asked_for,
    quiet_option,
    require_session_name,
    size,
)
from insitu.errors import InsituError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from insitu.inspect.heap.allocations import Allocations
    from insitu.inspect.heap.leaks import Leaks
    from insitu.inspect.variable_names import VariableNames
    from insitu.views.terminal import Screen

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    command_after_dashes=True,
    peer_options={
        "--leak-check": "insitu leaks lists what is lost; --show all the rest",
        "--show-leak-kinds": "--show definite,possible,reachable",
        "--leak-check-heuristics": "--heuristics",
    },
)
_SHOWN = {"definite": 0, "indirect": 1, "possible": 2, "reachable": 3}
_HEURISTICS = ("stdstring", "length64", "newarray", "multipleinheritance")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="?", metavar="PID|CORE", help="a process, or a core file")
    parser.add_argument("-p", "--pid", type=pid_list, action=Gather, metavar="PID", help="the same")
    parser.add_argument("-n", "--comm", metavar="NAME", help="the process of this name")
    duration_option(parser, "look after this time: with --track, or of a command, which is ended")
    parser.add_argument(
        "--track", action="store_true", help="trace allocations: stacks and ages of blocks (a process: needs root)"
    )
    parser.add_argument(
        "--preload", action="store_true", help="with --track, of a command: by a preloaded library, not by uprobes"
    )
    parser.add_argument(
        "--stack", type=size, default=2048, metavar="SIZE", help="with it, kept per call (default 2K)"
    )
    parser.add_argument("--why", type=address, metavar="ADDRESS", help="which pointers lead to the block at ADDRESS")
    parser.add_argument("--dominators", action="store_true", help="which blocks keep how much alive")
    parser.add_argument(
        "--show",
        type=_classes,
        default=("definite", "possible"),
        metavar="CLASSES",
        help="of definite, indirect, possible, reachable, all (default definite,possible)",
    )
    parser.add_argument(
        "--heuristics",
        type=_heuristics,
        default=_HEURISTICS,
        metavar="NAMES",
        help=f"pointers into blocks that count as to their beginning: {', '.join(_HEURISTICS)}; all (default), none",
    )
    parser.add_argument(
        "--max-memory",
        type=size,
        default=0,
        metavar="SIZE",
        help="that the copy may take, and what --preload records (default half of what is free)",
    )
    limit_option(parser, 20, "groups that are listed")
    json_option(parser)
    output_option(parser, "keep a session: the table heap_block", metavar="RUN.insitu")
    quiet_option(parser, "no notes")


def run(args: argparse.Namespace) -> int:
    from insitu.inspect.heap.leaks import examine

    require_session_name(args.output)
    command = args.after_dashes
    if command is not None:
        if args.what is not None or args.pid or args.comm is not None:
            raise InsituError("a process or a command, not both", remedy="insitu leaks PID, or -- COMMAND", status=2)
        if not command:
            raise InsituError("no command after --", remedy="insitu leaks -- COMMAND", status=2)
    if args.preload and not args.track:
        raise InsituError("--preload is for --track", remedy="insitu leaks --track --preload -- COMMAND", status=2)
    if args.track:
        return _tracked(args, command or ())
    if command is not None:
        from insitu.commands.leaks_run import last_moment

        snapshot, status = last_moment(args, command)
        return _report(args, examine(snapshot, args.heuristics), False) or status
    if args.duration:
        raise InsituError("-d is for a command, or --track", remedy="insitu leaks -d SECONDS -- COMMAND", status=2)
    return _report(args, *_examined(args))


def _tracked(args: argparse.Namespace, command: "Sequence[str]") -> int:
    from insitu.capabilities.tracing import privileges
    from insitu.inspect.heap.allocations import joined
    from insitu.inspect.heap.leaks import examine

    may_trace = privileges().available
    if not command and (args.preload or not may_trace):
        raise InsituError(
            "the allocations of a process that runs already can only be traced by root: nothing is loaded into it",
            remedy="sudo insitu leaks --track PID, or start it by insitu leaks --track -- COMMAND",
        )
    if args.preload or not may_trace:
        from insitu.commands.leaks_preload import record

        snapshot, traced, status = record(args, command)
    else:
        from insitu.commands.leaks_track import track

        snapshot, traced, status = track(args, command, 0 if command else _pid(args))
    found = examine(snapshot, args.heuristics)
    kinds = range(len(_SHOWN)) if args.output else [_SHOWN[name] for name in args.show]
    wanted = found.heap.addresses[[each in kinds for each in found.verdicts.kind.tolist()]]
    return _report(args, found, not command, joined(found, traced(wanted))) or status


def _report(args: argparse.Namespace, found: "Leaks", live: bool, allocations: "Allocations | None" = None) -> int:
    from insitu import messages
    from insitu.inspect.heap.allocations import by_stack
    from insitu.inspect.heap.contents import groups
    from insitu.inspect.variable_names import VariableNames
    from insitu.views import leaks as view

    names = VariableNames(found.snapshot.pid if live else 0, found.snapshot.areas, live=live)
    for note in () if args.quiet else found.snapshot.notes:
        messages.note(note)
    _warn_of_damage(found)
    if args.output:
        _save(args, found, names, allocations)
    if args.why is not None:
        return _why(args, found, names)
    if args.dominators:
        return _dominators(args, found, names)
    kinds = [_SHOWN[name] for name in args.show]
    listed = groups(found, kinds, names)
    stacks = by_stack(found, allocations, kinds) if allocations is not None else None
    if args.json:
        from insitu.valid_text import json_document

        print(json_document({"format": "insitu-leaks-1", **view.document(found, listed, stacks)}))
    else:
        _screen(args).write(view.blocks(found, listed, args.limit, stacks))
    return 0


def _screen(args: argparse.Namespace) -> "Screen":
    """Where the report goes: standard output is a command's own."""
    from insitu.views.terminal import Screen

    return Screen.of(sys.stdout if args.after_dashes is None else sys.stderr)


def _examined(args: argparse.Namespace) -> "tuple[Leaks, bool]":
    """The leaks of the process or core file that was asked for, and whether it is a process."""
    from pathlib import Path

    from insitu.inspect.heap.core_file import read_core
    from insitu.inspect.heap.leaks import examine, leaks

    is_file = args.what is not None and not args.what.isdecimal()
    if is_file and not args.pid and args.comm is None:
        path = Path(args.what)
        if not path.is_file():
            raise InsituError(f"{args.what}: no process id and no core file", remedy="insitu leaks PID", status=2)
        return examine(read_core(path, args.max_memory), args.heuristics), False
    return leaks(_pid(args), heuristics=args.heuristics, most_bytes=args.max_memory), True


def _pid(args: argparse.Namespace) -> int:
    """The one process that was asked for."""
    words = [_pids(args.what)] if args.what is not None else []
    pids = pids_asked_for(args, words)
    if len(pids) != 1:
        what = "which process?" if not pids else f"one process at a time, not {len(pids)}"
        raise InsituError(what, remedy="insitu leaks PID, or -n NAME", status=2)
    return pids[0]


def _pids(text: str) -> tuple[int, ...]:
    try:
        return pid_list(text)
    except argparse.ArgumentTypeError as error:
        raise InsituError(str(error), status=2) from None


def _warn_of_damage(found: "Leaks") -> None:
    from insitu import messages

    if damaged := found.heap.damaged:
        first = damaged[0]
        more = f", and {len(damaged) - 1:,} more" if len(damaged) > 1 else ""
        messages.warning(
            f"the heap is damaged: the chunk at {first.address:#x} has the size {first.value:#x}{more}; "
            "what is around is taken for one block each"
        )


def _why(args: argparse.Namespace, found: "Leaks", names: "VariableNames") -> int:
    from insitu.inspect.heap.holders import block_at, why
    from insitu.views import leaks as view

    block = block_at(found, args.why)
    if block < 0:
        raise InsituError(f"{args.why:#x} is in no block that is in use")
    steps = why(found, block, names)
    if args.json:
        from insitu.valid_text import json_document

        print(json_document({"format": "insitu-leaks-why-1", "chain": [step._asdict() for step in steps]}))
    else:
        _screen(args).write(view.chain(found, block, steps))
    return 0


def _dominators(args: argparse.Namespace, found: "Leaks", names: "VariableNames") -> int:
    from insitu.inspect.heap.contents import described
    from insitu.inspect.heap.holders import block_at, dominators, why
    from insitu.views import leaks as view

    every = dominators(found)
    shown = every[: args.limit or None]
    rows = []
    for holder in shown:
        block = block_at(found, holder.address)
        rows.append((holder, described(found, block, names), why(found, block, names)[0].where))
    if args.json:
        from insitu.valid_text import json_document

        documents = [{**holder._asdict(), "content": inside, "held_by": root} for holder, inside, root in rows]
        print(json_document({"format": "insitu-leaks-dominators-1", "holders": documents}))
    else:
        _screen(args).write(view.holders(found, rows, args.limit))
    return 0


def _save(
    args: argparse.Namespace, found: "Leaks", names: "VariableNames", allocations: "Allocations | None"
) -> None:
    from pathlib import Path

    from insitu import messages
    from insitu.commands._output import Displaced
    from insitu.inspect.heap.leaks_session import save

    displaced = Displaced(args.output)
    rows = save(Path(args.output), found, names, allocations)
    if not args.quiet:
        displaced.report()
        messages.note(f"{rows:,} rows of heap_block in {args.output}")


def _classes(text: str) -> tuple[str, ...]:
    return _names(text, tuple(_SHOWN))


def _heuristics(text: str) -> tuple[str, ...]:
    return () if text == "none" else _names(text, _HEURISTICS)


def _names(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    if text == "all":
        return known
    names = tuple(text.split(","))
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}, all")
    return names
