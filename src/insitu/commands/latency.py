"""Find the longest latencies of this machine, and where they come from, by ftrace's latency tracers.

  irqsoff, preemptoff, preemptirqsoff   the longest section with interrupts (preemption, either) disabled
  wakeup, wakeup_rt, wakeup_dl          the longest time from a task's wakeup until it runs
  osnoise, timerlat                     what interferes with a busy thread; how late timers are
  hwlat                                 time that firmware or a hypervisor takes
  stack                                 the deepest kernel stack

The whole machine is traced, for -d seconds, while COMMAND runs, or until Ctrl-C. osnoise, timerlat and hwlat keep the
CPUs busy. Needs root, and a kernel with the tracer: insitu lab build makes one.

examples:
  insitu latency irqsoff -d 10             with the task and the stack
  insitu latency wakeup_rt -- ./load       while a command runs
  insitu latency timerlat --threshold 500  stop at the first timer that is 500 us late
"""

import argparse

from insitu import messages
from insitu.commands import Properties
from insitu.commands._options import duration_option, json_option, output_option, positive, quiet_option
from insitu.errors import InsituError

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(starts_programs=True, command_after_dashes=True)
_TRACERS = (
    *("irqsoff", "preemptoff", "preemptirqsoff", "wakeup", "wakeup_rt", "wakeup_dl"),
    *("hwlat", "osnoise", "timerlat", "stack"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tracer", choices=_TRACERS, metavar="TRACER", help=f"one of {', '.join(_TRACERS)}")
    parser.add_argument(
        "-t",
        "--threshold",
        type=positive,
        default=0,
        metavar="US",
        help="microseconds: less is not looked at; osnoise and timerlat stop at the first that is more",
    )
    duration_option(parser)
    output_option(parser, "record a session, too: the table latency", metavar="RUN")
    json_option(parser)
    quiet_option(parser)


def run(args: argparse.Namespace) -> int:
    import sys
    from pathlib import Path

    from insitu.commands._output import recorded, status_of
    from insitu.kernel.tracefs import Tracefs
    from insitu.record.ftrace.latency import LatencySource
    from insitu.record.run import Destination, Request
    from insitu.record.run import run as run_sources
    from insitu.views.latency_tracers import latency_blocks, latency_json
    from insitu.views.terminal import Screen

    request = Request(tuple(args.after_dashes or ()), whole_system=True, seconds=args.duration)
    request.check()
    if args.threshold and args.tracer == "stack":
        raise InsituError("--threshold is not for stack", status=2)
    tracefs = Tracefs.open()
    try:
        source = LatencySource(tracefs, args.tracer, args.threshold)
        if args.output is None:
            status = run_sources(request, [source], Destination()).exit_status
            for note in source.notes:
                messages.note(note)
        else:
            path = Path(args.output)
            status = status_of(*recorded(request, [source], path, quiet=args.quiet, default_table="latency"))
    finally:
        tracefs.close()
    if args.json:
        print(latency_json(source.result))
    elif not args.quiet:
        Screen.of(sys.stdout).write(latency_blocks(source.result))
    return status
