"""What delays processes, as a table; below it the pressure on the machine and on cgroups."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, NamedTuple

from insitu.kernel.pressure import Stall, Throttled
from insitu.kernel.taskstats import KINDS, Delays
from insitu.plurals import plural
from insitu.views.quantity import duration
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block

__all__ = ["Machine", "blocks", "document"]

_TITLES = {"freepages": "reclaim"}
_ALWAYS = ("cpu", "blkio")
"""Columns that are shown even if they are empty."""


class Machine(NamedTuple):
    """What is shown below the processes; ``pressure`` and ``throttled`` by cgroup, "" for the whole machine."""

    pressure: Mapping[str, Mapping[str, Mapping[str, Stall]]]
    throttled: Mapping[str, Throttled]
    steal_ns: int


def blocks(delays: Mapping[int, Delays], names: Mapping[int, str], machine: Machine, limit: int) -> Iterator[Block]:
    """A line for each process, those that were delayed longest first, and what else has happened on the machine."""
    shown = sorted(delays, key=lambda pid: -sum(delays[pid].delay_ns.values()))
    kinds = [kind for kind in KINDS if kind in _ALWAYS or any(found.times.get(kind) for found in delays.values())]
    columns = [Column("pid"), Column("name", "left"), Column("running")]
    columns += [Column(_TITLES.get(kind, kind), spare=kind not in _ALWAYS) for kind in kinds]
    lines = [(str(pid), names.get(pid, ""), delays[pid]) for pid in shown[: limit or None]]
    if len(delays) > 1:
        lines.append(("all", f"{len(delays):,} {plural(len(delays), 'process', 'processes')}", _sum(delays.values())))
    rows: list[Sequence[Cell]] = []
    for number, name, found in lines:
        times = [_time(found.delay_ns.get(kind), found.times.get(kind, 0)) for kind in kinds]
        rows.append([(number, ""), (name, ""), (duration(found.run_ns), ""), *times])
    yield Table(columns, rows)
    if limit and len(shown) > limit:
        yield [(f"# {len(shown) - limit} more; --limit 0 shows all", "dim")]
    known = {kind for found in delays.values() for kind in found.times}
    for what, others in (("none by", known.difference(kinds)), ("not known", set(KINDS).difference(known, _ALWAYS))):
        if others and delays:
            yield [(f"# {what}: {', '.join(_TITLES.get(kind, kind) for kind in KINDS if kind in others)}", "dim")]
    for group, resources in machine.pressure.items():
        yield []
        yield [(f"# pressure {'on ' + group if group else 'on the machine'}, % of the time", "bold")]
        yield Table(
            [Column("resource", "left"), Column("tasks", "left"), *map(Column, ("10 s", "60 s", "300 s"))],
            [
                [(resource, ""), (kind, ""), *((f"{value:.2f}", "") for value in stall[:3])]
                for resource, stalls in resources.items()
                for kind, stall in stalls.items()
            ],
        )
    for group, limited in machine.throttled.items():
        if limited.times:
            yield []
            yield [
                (f"# {group} was throttled {limited.times:,} times (cpu.max), {duration(limited.ns)} in all", "bold")
            ]
    if machine.steal_ns:
        yield []
        yield [(f"# the hypervisor did not let CPUs run for {duration(machine.steal_ns)} (steal, all CPUs)", "bold")]


def _sum(delays: Iterable[Delays]) -> Delays:
    """What all of them ran and were delayed."""
    first, *others = delays
    return reduce(Delays.with_, others, first)


def _time(ns: int | None, count: int) -> Cell:
    """A delay in all, and how many there were; "-" if it is not known."""
    if ns is None:
        return "-", "dim"
    return (f"{duration(ns)} ({count:,})", "") if count else ("0", "dim")


def document(delays: Mapping[int, Delays], names: Mapping[int, str], machine: Machine) -> dict[str, Any]:
    """The same for JSON; what is not known is null."""
    return {
        "processes": [
            {
                "pid": pid,
                "name": names.get(pid, ""),
                "run_ns": found.run_ns,
                "delays": {
                    kind: {"ns": found.delay_ns[kind], "count": found.times[kind]} if kind in found.times else None
                    for kind in KINDS
                },
            }
            for pid, found in delays.items()
        ],
        "pressure": {
            group: {name: {kind: stall._asdict() for kind, stall in each.items()} for name, each in found.items()}
            for group, found in machine.pressure.items()
        },
        "throttled": {group: found._asdict() for group, found in machine.throttled.items()},
        "steal_ns": machine.steal_ns,
    }
