"""What delays processes: waits for a CPU, block I/O, swap, reclaim, thrashing, compaction, interrupts; pressure.

Of each process, its threads summed: time on a CPU, and delays with their number, as the kernel accounts them
(taskstats). Below, for how much of the time tasks waited for a resource (PSI), on the machine and in the processes'
cgroups, and how often a CPU limit throttled these.

PIDs alone: since each process started. With -d, a command or -o: what is added meanwhile.

examples:
  insitu delays 1234                     since it started
  insitu delays 1234 -d 10               in ten seconds
  insitu delays -a -d 5 --limit 10       all processes
  insitu delays -- tar xf big.tar        of a command, and of all that it starts
  insitu delays -a -d 60 -o run.insitu   each second, as the table delay of a session
"""

import argparse
import sys
from typing import TYPE_CHECKING

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
    require_session_name,
)

if TYPE_CHECKING:
    from insitu.record.run import Request
    from insitu.record.sources.delays import DelaysSource
    from insitu.views.delays import Machine

__all__ = ["PROPERTIES", "arguments", "run"]

PROPERTIES = Properties(
    starts_programs=True,
    command_after_dashes=True,
    peer_options={
        "-t": "give the process: insitu delays PID; its threads are summed",
        "-c": "use -- COMMAND",
        "-l": "use -a -d SECONDS",
        "-C": "the processes' cgroups are shown with them: insitu delays PID",
        "-i": "block I/O is among the columns",
        "-u": "name the processes, which pgrep lists: insitu delays PID,PID",
        "--interval": "with -o RUN.insitu there is a row a second; insitu top is live",
    },
)
_MOST_CGROUPS = 5  # that are shown


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("pids", nargs="*", type=pid_list, metavar="PID", help="processes")
    recording_target_options(parser, "show", whole_system="all processes")
    duration_option(parser, "what is added in this time, not since the processes started")
    limit_option(parser, 20, "processes")
    json_option(parser)
    output_option(parser, "record a session: the table delay, with a row a second for each process")
    quiet_option(parser, "no notes")


def run(args: argparse.Namespace) -> int:
    """Do what the options say; returns the exit status."""
    from insitu.errors import InsituError
    from insitu.record.run import Request, processes_of
    from insitu.record.sources.delays import DelaysSource
    from insitu.views import delays as view
    from insitu.views.terminal import Screen

    pids = processes_of(pids_asked_for(args, args.pids))
    request = Request(tuple(args.after_dashes or ()), pids, args.all, args.duration)
    require_session_name(args.output)
    if args.all and request.command:
        raise InsituError("a command cannot be combined with -a", status=2)
    request.check()
    source = DelaysSource()
    before = _machine(pids)
    status = _record(args, request, source)
    if not source.accounts_all and not args.quiet:
        from insitu import messages

        remedy = "sysctl kernel.task_delayacct=1, then start the program"
        messages.note(f"only waits for a CPU are known: delay accounting is off ({remedy})")
    is_run = bool(args.duration or request.command or args.output)
    machine = _machine(pids, before if is_run else None)
    if args.json:
        import json

        print(json.dumps(view.document(source.added, source.names, machine), indent=1))
    else:
        Screen.of(sys.stdout).write(view.blocks(source.added, source.names, machine, args.limit))
    return status


def _record(args: argparse.Namespace, request: "Request", source: "DelaysSource") -> int:
    """Let the source sample once, or during a run; returns the exit status."""
    from insitu.record.run import Destination, run
    from insitu.record.source import Target

    if args.output:
        from pathlib import Path

        from insitu.commands._output import recorded, status_of
        from insitu.record.sources.processes import ProcessesSource

        path = Path(args.output)
        outcome, manifest = recorded(request, [source, ProcessesSource(mappings=False)], path, quiet=args.quiet)
        return status_of(outcome, manifest)
    if request.command or request.seconds:
        return run(request, [source], Destination()).exit_status
    source.open(Target(pids=request.pids, whole_system=request.whole_system))
    source.drain()
    source.close()
    return 0


def _machine(pids: tuple[int, ...], before: "Machine | None" = None) -> "Machine":
    """What is shown besides processes: now, or what has been added since."""
    from insitu.kernel.pressure import Throttled, cgroup_directory, pressure, steal_ns, throttled
    from insitu.views.delays import Machine

    groups = list(dict.fromkeys(filter(None, map(cgroup_directory, pids))))[:_MOST_CGROUPS]
    limits = {group: limit for group in groups if (limit := throttled(group)) is not None}
    steal = steal_ns()
    if before is not None:
        earlier = {group: before.throttled.get(group, Throttled(0, 0)) for group in limits}
        limits = {g: Throttled(n.times - earlier[g].times, n.ns - earlier[g].ns) for g, n in limits.items()}
        steal -= before.steal_ns
    stalls = {group: found for group in ("", *groups) if (found := pressure(group))}
    return Machine(stalls, limits, steal)
