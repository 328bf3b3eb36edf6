"""What `insitu stat` counts and where, by its options."""

from __future__ import annotations

import argparse

from insitu.errors import InsituError
from insitu.kernel import procfs, topology
from insitu.kernel.perf_event import Type
from insitu.record.counters import choose_counted
from insitu.record.default_events import default_events
from insitu.record.event_names import NamedEvent, all_events
from insitu.record.run import Request
from insitu.record.sources.counting import CountingOptions

__all__ = ["counting_options", "counts_every_thread"]


def counts_every_thread(args: argparse.Namespace) -> bool:
    """Whether all threads of the machine are counted, each by itself, and not its CPUs."""
    return bool(args.all and args.per_thread) and not (args.cpu or args.cgroup or args.for_each_cgroup)


def counting_options(args: argparse.Namespace, request: Request) -> tuple[CountingOptions, list[str]]:
    """What the options ask to count, and notes about what of it cannot be counted here. Raises InsituError."""
    every_thread = counts_every_thread(args)
    whole = request.whole_system and not every_thread
    events = _events(args, whole_system=whole)
    if args.all_user:
        events = [event._replace(kernel=False) for event in events]
    if args.all_kernel:
        events = [event._replace(user=False) for event in events]
    cgroups = (args.cgroup or "").split(",")
    if args.for_each_cgroup is not None:
        names = args.for_each_cgroup.split(",")
        if not all(names):
            raise InsituError("--for-each-cgroup: the name of a cgroup is empty", status=2)
        cgroups = [name for name in names for _ in events]
        events = [event for _ in names for event in events]
    chosen, notes = choose_counted(events, cgroups, whole_system=whole)
    cpus = _online_of(args.cpu) if whole else None
    options = CountingOptions(
        chosen,
        per="cpu" if args.no_aggr else "thread" if args.per_thread else "domain" if args.domain else "all",
        cpus=cpus,
        domains=topology.domains(args.domain, cpus or ()) if args.domain else {},
        tids=args.tid or (),
        every_thread=every_thread,
        inherit=not args.no_inherit,
        delay_s=args.delay / 1000,
        interval_s=(args.interval_print or 0) / 1000,
        interval_count=args.interval_count or 0,
    )
    return options, notes


def _events(args: argparse.Namespace, *, whole_system: bool) -> list[NamedEvent]:
    if args.null:
        return []
    found: list[NamedEvent] = []
    for number, text in enumerate(args.event or ()):
        filter_text = args.filters.get(number, "")
        for event in all_events(text):
            if filter_text and event.type != Type.TRACEPOINT:
                raise InsituError(f"--filter {filter_text}: {event.name} is not a tracepoint", status=2)
            found.append(event._replace(group=_apart(event.group, number), filter=filter_text))
    if args.metrics:
        from insitu.record.count_metrics import metric_events

        metrics = ",".join(args.metrics)
        names = metric_events(metrics)
        try:
            needed = all_events(names)
        except InsituError as error:
            raise InsituError(f"-M {metrics}: this machine's PMU cannot: {error.message}", status=2) from None
        found += [each._replace(group=_apart(each.group, len(args.event or ()))) for each in needed]
    if args.event and not found:
        raise InsituError("-e names no event", remedy="-n counts nothing", status=2)
    return found or default_events(args.detailed, whole_system=whole_system)


def _apart(group: int, number: int) -> int:
    """Groups of several -e have different numbers."""
    return group if group < 0 else group + number * 1000


def _online_of(text: str | None) -> list[int]:
    """The online CPUs of a list such as 0-3,8; None: all. Raises InsituError."""
    online = procfs.online_cpus()
    if text is None:
        return online
    try:
        wanted = procfs.cpu_list(text, most=max(online) + 1)
    except ValueError:
        raise InsituError(f"-C {text}: not a list of CPUs such as 0-3,8", status=2) from None
    if not wanted or not set(wanted) <= set(online):
        raise InsituError(f"-C {text}: online are {procfs.text('/sys/devices/system/cpu/online')}", status=2)
    return wanted
