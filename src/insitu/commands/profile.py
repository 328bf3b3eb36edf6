"""Record where the CPU time of a program, of processes or of the whole machine goes.

Samples are taken -F times a second on each CPU that runs the target: by the hardware's cycle counter where
there is one, else by a timer. Children and threads are followed. The exit status is the command's.

examples:
  insitu profile -- make -j2                      a command, into profile.insitu
  insitu profile -p 1234 -d 10 -o slow.insitu     a running process, for ten seconds
  insitu profile -F 999 --stacks dwarf -- ./prog  999 Hz; DWARF unwinding for code without frame pointers
  insitu report                                   what it found
"""

import argparse
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import (
    command_words,
    duration_option,
    frequency,
    output_option,
    pages,
    pids_asked_for,
    positive,
    quiet_option,
    recording_target_options,
)
from insitu.commands._output import recorded, status_of
from insitu.plurals import counted

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.run import Outcome, Request
    from insitu.record.sources.perf import PerfOptions
    from insitu.session.manifest import Manifest

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    words_follow=True,
    peer_options={
        "-g": "call stacks are recorded by default; --stacks chooses how",
        "--call-graph": "use --stacks fp or --stacks dwarf",
        "-f": "children are recorded by default",
        "-i": "use -F for the frequency",
        "-t": "-p records all threads of a process; --thread of a view chooses one",
    },
)


def arguments(parser: argparse.ArgumentParser) -> None:
    output_option(parser, "the session to make (default: %(default)s)", metavar="RUN", default="profile.insitu")
    duration_option(parser)
    parser.add_argument(
        "-F",
        "--frequency",
        type=frequency,
        metavar="HZ",
        help="samples a second, on each CPU (default: 99; each fault, switch and tracepoint is a sample)",
    )
    parser.add_argument("-c", "--period", type=_period, metavar="N", help="a sample of every N events instead")
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--user", action="store_true", help="user code only")
    side.add_argument("--kernel", action="store_true", help="kernel code only")
    parser.add_argument(
        "--stacks",
        default="fp",
        type=_stacks,
        metavar="fp|dwarf[,N]|none",
        help="call stacks: frame pointers (fp, default), DWARF unwinding of N (8192) bytes of stack (dwarf), or none",
    )
    parser.add_argument(
        "-e",
        "--event",
        action="append",
        metavar="NAME[:ukp][,NAME]",
        help="sample on these events instead, also tracepoints (sched:sched_switch); '-e list' lists them",
    )
    parser.add_argument(
        "-m", "--pages", type=pages, metavar="N", help="ring buffer size per CPU, in pages (a power of two)"
    )
    parser.add_argument(
        "--off-cpu",
        action="store_true",
        help="also when and where threads wait (tracepoints through eBPF; needs root)",
    )
    parser.add_argument(
        "--max-stack", type=positive, default=127, metavar="N", help="DWARF unwinding: at most N frames (%(default)s)"
    )
    quiet_option(parser)
    recording_target_options(parser, "profile")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run and profile this command"
    )


def _period(text: str) -> int:
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error} (events for each sample; a command stands after --)") from None


def _stacks(text: str) -> tuple[str, int]:
    """How call stacks are recorded, and how many bytes of each stack are copied for DWARF unwinding."""
    kind, comma, size = text.partition(",")
    if kind not in ("fp", "dwarf", "none") or (
        comma and not (kind == "dwarf" and size.isascii() and size.isdecimal())
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not one of fp, dwarf, dwarf,BYTES and none")
    return kind, int(size or 8192)


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.record.event_names import listed_events
    from insitu.record.source import Source
    from insitu.record.sources.perf import PerfSource

    if args.event == ["list"]:
        print("\n".join([*listed_events(), "CATEGORY:NAME  a tracepoint: insitu trace -l 'tracepoint:*' lists them"]))
        return 0
    path = Path(args.output)
    request = _request(args)
    options = _options(args)
    if args.off_cpu and not options.events:
        options = options._replace(events="cpu-clock")  # in ns, as waits are
    sources: list[Source] = [PerfSource(options)]
    if args.off_cpu:
        from insitu.record.sources.off_cpu import OffCpuSource

        sources.append(OffCpuSource(dwarf_bytes=options.stack_bytes if options.stacks == "dwarf" else 0))
    table = "sample+span" if args.off_cpu else ""
    outcome, manifest = recorded(request, sources, path, quiet=args.quiet, default_table=table)
    if manifest and not args.quiet:
        messages.note(_summary(request, path, manifest, outcome))
    return status_of(outcome, manifest)


def _request(args: argparse.Namespace) -> "Request":
    from insitu.errors import InsituError
    from insitu.record.run import Request

    command = tuple(command_words(args))
    pids = pids_asked_for(args)
    if not (command or pids or args.all):
        raise InsituError("nothing to profile", remedy="give a command after --, -p PID, or -a", status=2)
    return Request(command, pids, args.all, args.duration)


def _options(args: argparse.Namespace) -> "PerfOptions":
    from insitu.record.sources.perf import PerfOptions

    kind, stack_bytes = args.stacks
    return PerfOptions(
        frequency=args.frequency,
        period=args.period,
        events=",".join(args.event or ()),
        stacks=kind,
        stack_bytes=stack_bytes,
        user=not args.kernel,
        kernel=not args.user,
        ring_pages=args.pages,
        max_stack=args.max_stack,
    )


def _summary(request: "Request", path: "Path", manifest: "Manifest", outcome: "Outcome") -> str:
    from insitu.convert.perf_source import RING_TOO_SMALL
    from insitu.views.quantity import size

    samples = manifest.tables["sample"]["rows"]
    off_cpu = manifest.tables.get("span")  # --off-cpu
    waits = f" and {counted(off_cpu['rows'], 'wait')}" if off_cpu else ""
    line = f"{counted(samples, 'sample')}{waits} ({size(outcome.bytes_written)}), {manifest.lost} lost, in {path}"
    too_small = next((note for note in manifest.notes if note.startswith(RING_TOO_SMALL)), "")
    if too_small:
        line += f": {too_small}"
    elif not samples and not manifest.lost:
        short = request.command and manifest.end_ns - manifest.start_ns < 10**9
        what = "the command was too short" if short else "the target used too little CPU time"
        instead = "" if short or off_cpu else ", or --off-cpu for where it waits"
        line += f": {what} to be sampled; try -F 9999{instead}"
    return line
