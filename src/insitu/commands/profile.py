"""Record where the CPU time of a program, of processes or of the whole machine goes.

Samples are taken -F times a second on each CPU that runs the target: from the hardware's cycle counter where
there is one, else from a timer. Children and threads are followed. The exit status is the command's.

examples:
  insitu profile -- make -j2                      a command, into profile.insitu
  insitu profile -p 1234 -d 10 -o slow.insitu     a running process, for ten seconds
  insitu profile -F 999 --stacks dwarf -- ./prog  finer, and for programs built without frame pointers
  insitu report profile.insitu                    what it found
"""

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.run import Outcome, Request
    from insitu.record.sources.perf import PerfOptions
    from insitu.session.manifest import Manifest


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", default="profile.insitu", metavar="RUN", help="the session to make (%(default)s)"
    )
    parser.add_argument("-p", "--pid", metavar="PID[,PID]", help="profile running processes, all their threads")
    parser.add_argument("-a", "--all", action="store_true", help="profile the whole machine")
    parser.add_argument("-d", "--duration", type=float, metavar="SECONDS", help="stop after this time")
    parser.add_argument(
        "-F", "--frequency", type=int, default=99, metavar="HZ", help="samples a second (%(default)s)"
    )
    side = parser.add_mutually_exclusive_group()
    side.add_argument("--user", action="store_true", help="time in user code only")
    side.add_argument("--kernel", action="store_true", help="time in the kernel only")
    parser.add_argument(
        "--stacks",
        default="fp",
        metavar="fp|dwarf[,BYTES]|none",
        help="find callers by frame pointers, by copies of the stack (8192 bytes) unwound afterwards, or not at all",
    )
    parser.add_argument("-e", "--event", metavar="NAME[,NAME]", help="sample on other events; '-e list' names them")
    parser.add_argument(
        "-m", "--pages", type=int, metavar="N", help="memory pages of each CPU's ring, a power of two"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="run and profile this")


def run(args: argparse.Namespace) -> int:
    from pathlib import Path

    from insitu.record.events import EVENTS
    from insitu.record.run import record
    from insitu.record.sources.perf import PerfSource

    if args.event == "list":
        print("\n".join(EVENTS))
        return 0
    path = Path(args.output)
    outcome = record(_request(args), [PerfSource(_options(args))], path)
    if not args.quiet:
        for note in outcome.notes:
            _say(note)
    if outcome.abandoned:
        _say(f"left unconverted: {path} is made ready when it is opened")
        return outcome.exit_status
    if outcome.failure:
        _say(outcome.failure)
    manifest = _finish(path)
    if manifest and not args.quiet:
        _say(_summary(path, manifest, outcome))
    return outcome.exit_status or (0 if manifest and not outcome.failure else 1)


def _request(args: argparse.Namespace) -> "Request":
    from insitu.errors import InsituError
    from insitu.record.run import Request

    try:
        pids = tuple(int(pid) for pid in args.pid.split(",")) if args.pid else ()
    except ValueError:
        raise InsituError(f"-p {args.pid!r} is not a list of process numbers", status=2) from None
    command = tuple(args.command[1:] if args.command[:1] == ["--"] else args.command)
    return Request(command, pids, args.all, args.duration)


def _options(args: argparse.Namespace) -> "PerfOptions":
    from insitu.errors import InsituError
    from insitu.record.sources.perf import PerfOptions

    kind, _, size = args.stacks.partition(",")
    if kind not in ("fp", "dwarf", "none") or (size and not (kind == "dwarf" and size.isdecimal())):
        raise InsituError(f"--stacks {args.stacks!r}: choose fp, dwarf, dwarf,BYTES or none", status=2)
    return PerfOptions(
        frequency=args.frequency,
        events=tuple(args.event.split(",")) if args.event else (),
        stacks=kind,
        stack_bytes=int(size or 8192),
        user=not args.kernel,
        kernel=not args.user,
        ring_pages=args.pages,
    )


def _finish(path: "Path") -> "Manifest | None":
    """Convert and symbolize; None where that failed, which is reported and loses nothing."""
    import signal

    from insitu.convert.sources import finish

    # Ctrl-C ends the program at once: the raw records stay until all is converted.
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        return finish(path)
    except OSError as error:
        _say(f"{path} is not converted: {error.strerror}; its raw records are kept (make room, then open it)")
        return None
    finally:
        signal.signal(signal.SIGINT, before)


def _summary(path: "Path", manifest: "Manifest", outcome: "Outcome") -> str:
    samples = manifest.tables["sample"]["rows"]
    line = f"{samples} samples ({outcome.bytes_written / 1e6:.1f} MB), {manifest.lost} lost, in {path}"
    if not samples:
        line += ": the command was too short to be sampled; try -F 9999"
    return line


def _say(line: str) -> None:
    print(f"insitu: {line}", file=sys.stderr)
