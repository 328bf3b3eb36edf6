"""The threads of a process as a table."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from insitu.inspect.threads import ThreadFacts
from insitu.views.quantity import duration, rest
from insitu.views.surroundings import signal_names
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block

__all__ = ["blocks", "document"]

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def blocks(found: Sequence[ThreadFacts], limit: int) -> Iterator[Block]:
    """The threads, ``limit`` of them. Columns that are the same for all are left out, if that is the default."""
    affinities = {tuple(each.affinity) for each in found}
    has_signals = any(each.pending or each.blocked for each in found)
    columns = [Column("tid"), Column("state", "left"), Column("waits in", "left"), Column("cpu")]
    columns += [Column("policy", "left", spare=True), Column("cpu time", spare=True)]
    columns += [Column("may run on", "left", spare=True)] if len(affinities) > 1 else []
    columns += [Column("signals", "left", spare=True)] if has_signals else []
    columns.append(Column("name", "left"))
    rows = []
    for each in found[: limit or None]:
        row: list[Cell] = [(str(each.tid), ""), (each.state, ""), (each.wait_channel, ""), (str(each.cpu), "")]
        row += [(_policy(each), ""), (duration(each.cpu_ticks * _TICK_NS), "")]
        row += [(cpu_ranges(each.affinity), "")] if len(affinities) > 1 else []
        row += [(_signals(each), "")] if has_signals else []
        rows.append([*row, (each.name, "")])
    yield Table(columns, rows)
    if len(affinities) == 1:
        yield [(f"  may run on the CPUs {cpu_ranges(next(iter(affinities)))}", "dim")]
    if limit and len(found) > limit:
        yield [(rest(len(found) - limit, "thread", "threads"), "dim")]


def _policy(each: ThreadFacts) -> str:
    if each.priority:
        return f"{each.policy} {each.priority}"
    return f"{each.policy}, nice {each.nice}" if each.nice else each.policy


def _signals(each: ThreadFacts) -> str:
    words = []
    for name, mask in (("pending", each.pending), ("blocked", each.blocked)):
        names = signal_names(mask)
        if len(names) > 4:
            words.append(f"{name} {len(names)}")
        elif names:
            words.append(f"{name} {', '.join(names)}")
    return "; ".join(words)


def cpu_ranges(cpus: Sequence[int]) -> str:
    """CPUs in the kernel's notation: "0-3,8"."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def document(found: Sequence[ThreadFacts]) -> list[dict[str, Any]]:
    """The same for JSON; signals by name."""
    return [
        {
            **each._asdict(),
            "affinity": list(each.affinity),
            "cpu_ns": each.cpu_ticks * _TICK_NS,
            "pending": signal_names(each.pending),
            "blocked": signal_names(each.blocked),
        }
        for each in found
    ]
