"""Ticks as plain text, as top -b prints them, and as lines of JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from insitu.record.top.functions import Functions, recent, stacks_of
from insitu.record.top.tick import Process, Tick
from insitu.terminal_text import printable
from insitu.views.table import Column, Line, Table, plain_lines
from insitu.views.top.columns import COLUMNS, Shown, percent, processes
from insitu.views.top.summary import clock, summary

__all__ = ["as_json", "functions_json", "look_json", "plain"]

_MOST_FUNCTIONS = 20
_MOST_COSTS = 500


def plain(tick: Tick, shown: Shown, limit: int, note: str = "") -> list[str]:
    """Returns the lines of a tick; ``limit`` rows of the table, 0 for all."""
    rows = shown.rows(tick.processes)
    head = f"{clock(tick.time_ns)}  {processes(len(rows))} in {tick.dur_s:.1f} s, own CPU {percent(tick.own_cpu)} %"
    lines: list[Line] = [[(head, "")]]
    if note:
        lines.append([(f"({note})", "")])
    lines += summary([tick], None)
    columns = [Column(each.title, "right" if each.width else "left") for each in COLUMNS]
    cells = [[(column.text(row), "") for column in COLUMNS] for row in rows[: limit or len(rows)]]
    lines += plain_lines(Table(columns, cells))
    if tick.hidden:
        lines.append([(f"# {tick.hidden} more processes are not read", "")])
    return ["".join(text for text, _ in line).rstrip() for line in lines]


def as_json(tick: Tick, shown: Shown, limit: int, functions: Functions) -> str:
    """Returns one line of JSON: rates per second, shares of one CPU."""
    rows = shown.rows(tick.processes)
    return json.dumps(
        {
            "number": tick.number,
            "time_ns": tick.time_ns,
            "dur_s": round(tick.dur_s, 6),
            "own_cpu": round(tick.own_cpu, 4),
            "calls": _rounded(tick.calls),
            "block": tick.block._asdict() if tick.block is not None else None,
            "machine": _machine(tick),
            "processes": [_process(row) for row in rows[: limit or len(rows)]],
            "hidden": tick.hidden,
            "functions": functions_json([tick], functions),
        }
    )


def functions_json(ticks: Sequence[Tick], functions: Functions) -> list[dict[str, Any]]:
    """Returns the functions with the most samples of some ticks, with their share of all samples."""
    stacks = stacks_of(ticks, 0, 0, waits=False)
    whole = sum(stacks.values())
    return [
        {"function": printable(cost.function), "module": printable(cost.module), "share": round(cost.own / whole, 4)}
        for cost in functions.own_costs(stacks)[:_MOST_FUNCTIONS]
    ]


def look_json(
    ticks: Sequence[Tick],
    functions: Functions,
    pid: int,
    tid: int,
    through: tuple[str, str] | None,
    *,
    waits: bool,
) -> str:
    """Returns the threads of a process at the last of some ticks, and its functions and stacks of the last 20 s.

    ``pid`` 0: the machine's; ``tid`` 0: of all threads; ``through``: only the stacks with this function. Costs
    are samples, with ``waits`` nanoseconds off the CPU.
    """
    stacks = stacks_of(recent(ticks), pid, tid, waits=waits)
    costs = functions.costs(stacks)
    names = {(printable(each.function), printable(each.module)): (each.function, each.module) for each in costs}
    return json.dumps(
        {
            "threads": [_process(row) for row in ticks[-1].threads if row.parent == pid] if ticks else [],
            "whole": sum(stacks.values()),
            "functions": [[*map(printable, cost[:2]), cost.own, cost.total] for cost in costs[:_MOST_COSTS]],
            "stacks": [
                [value, [[*map(printable, frame)] for frame in frames]]
                for frames, value in functions.merged(stacks, through and names.get(through, through))
            ],
        }
    )


def _machine(tick: Tick) -> dict[str, Any]:
    found = tick.machine._asdict()
    found["cpus"] = {
        str(cpu): {name: round(share, 4) for name, share in use._asdict().items()}
        for cpu, use in tick.machine.cpus.items()
    }
    found["disks"] = {name: _rounded(value) for name, value in tick.machine.disks._asdict().items()}
    found["pressure"] = {name: round(share, 4) for name, share in tick.machine.pressure.items()}
    return {name: _rounded(value) if isinstance(value, float) else value for name, value in found.items()}


def _process(row: Process) -> dict[str, Any]:
    found = {name: _rounded(value) if isinstance(value, float) else value for name, value in row._asdict().items()}
    return {**found, "name": printable(row.name)}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
