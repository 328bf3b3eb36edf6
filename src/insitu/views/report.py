"""A report on weighted stacks: hottest functions, lines and threads, the call tree, losses; and the same as JSON."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session import core_tables
from insitu.session.manifest import Manifest
from insitu.session.weighted_stacks import Value, WeightedStacks
from insitu.symbols.frame import WAKER
from insitu.valid_text import json_document
from insitu.views.call_tree import CallTree, below_wakers, call_tree
from insitu.views.functions import function_costs
from insitu.views.hints import hints
from insitu.views.quantity import percent

__all__ = [
    "FunctionRow",
    "LineRow",
    "Report",
    "ThreadRow",
    "build_report",
    "recorded_tables",
    "recorded_target",
    "to_json",
]

# What other tables refer to, by itself of no interest.
SHARED: Final = frozenset(
    table.name
    for table in (
        core_tables.MACHINE,
        core_tables.PROCESS,
        core_tables.THREAD,
        core_tables.THREAD_NAME,
        core_tables.MODULE,
        core_tables.MAPPING,
        core_tables.FRAME,
        core_tables.STACK,
        core_tables.EVENT_TYPE,
        core_tables.TRACK,
        core_tables.LOST,
    )
)

Sort = Literal["self", "total"]


class FunctionRow(NamedTuple):
    """``own`` and ``total`` are in the report's unit; ``total`` counts a sample once, however deep the recursion."""

    function: str
    module: str
    kind: str
    own: int
    total: int


class LineRow(NamedTuple):
    """A source line and the weight of the samples taken in it."""

    file: str
    line: int
    function: str
    own: int


class ThreadRow(NamedTuple):
    """A thread's weight under one of its names; ``cpu_share``: CPU time by duration, None where that is not known."""

    comm: str
    tid: int
    pid: int
    own: int
    cpu_share: float | None


@dataclass(frozen=True)
class Report:
    """All parts of a report. Weights are in ``unit`` and add up to ``total``; ``samples`` counts rows of ``table``.

    ``counted`` says what these rows are ("samples", "events"), ``event`` what was sampled or what the table records.
    ``info`` is what the recording says of itself: command, target, host, kernel, source, frequency_hz, notes.
    """

    unit: str
    total: int
    samples: int
    event: str
    duration_ns: int
    info: dict[str, object]
    functions: list[FunctionRow]
    threads: list[ThreadRow]
    tree: CallTree
    table: str = "sample"
    counted: str = "samples"
    lost: dict[str, int] = field(default_factory=dict)
    lines: list[LineRow] | None = None
    reverse: bool = False
    also: dict[str, int] = field(default_factory=dict)
    """Other tables of the recording that hold events, spans or maps, and their rows."""


def build_report(
    stacks: WeightedStacks,
    *,
    value: Value | None = None,
    sort: Sort = "self",
    reverse: bool = False,
    lines: bool = False,
    addresses: bool = False,
    duration_ns: int | None = None,
) -> Report:
    """The report on weighted stacks; nothing is cut off, that is left to what shows it.

    ``reverse`` roots the call tree in the functions that were running; ``lines`` adds the hottest source lines;
    ``addresses`` keeps addresses without a symbol apart. ``duration_ns`` is of the part that was selected (default:
    all).
    """
    duration_ns = stacks.duration_ns if duration_ns is None else duration_ns
    value = value or stacks.preferred
    tree = call_tree(stacks, value=value, addresses=addresses)
    costs = function_costs(tree)
    keys = (costs.own, costs.total) if sort == "self" else (costs.total, costs.own)
    # What is equal stands in the order of names, as on the pages.
    by_name = np.argsort(np.array([function.name for function in costs.functions], object), kind="stable")
    order = by_name[np.lexsort((-keys[1][by_name], -keys[0][by_name]))]
    seen = order[costs.total[order] > 0]
    functions = [
        FunctionRow(costs.functions[f].name, costs.functions[f].module, costs.kinds[f], own, total)
        for f, own, total in zip(seen.tolist(), costs.own[seen].tolist(), costs.total[seen].tolist(), strict=True)
    ]
    return Report(
        unit=tree.unit,
        total=int(tree.total[0]),
        samples=stacks.total_count,
        event=stacks.event,
        duration_ns=duration_ns,
        info=_info(stacks),
        functions=functions,
        threads=_threads(stacks, value, duration_ns),
        tree=call_tree(stacks, value=value, reverse=True, addresses=addresses) if reverse else tree,
        table=stacks.table,
        counted=stacks.counted,
        lost=stacks.losses,
        lines=_lines(stacks, value) if lines else None,
        reverse=reverse,
        also={
            name: rows
            for name, rows in recorded_tables(stacks.manifest).items()
            if name not in stacks.table.split("+")
        },
    )


def recorded_target(stacks: WeightedStacks) -> str:
    """Which processes were recorded, by pid and name; empty where it was a command."""
    manifest = stacks.manifest
    if manifest.whole_system:
        return "the whole machine"
    names = {thread.pid: thread.name for thread in stacks.threads if thread.tid == thread.pid}
    return ", ".join(f"process {pid}{f' ({names[pid]})' if names.get(pid) else ''}" for pid in manifest.pids)


def recorded_tables(manifest: Manifest) -> dict[str, int]:
    """The tables of a recording with rows of their own (not what rows refer to), and how many."""
    found = {}
    for name, entry in manifest.tables.items():
        rows = entry.get("rows")
        if name not in SHARED and isinstance(rows, int) and rows:
            found[name] = rows
    return found


def _info(stacks: WeightedStacks) -> dict[str, object]:
    manifest = stacks.manifest
    info: dict[str, object] = {
        "command": manifest.command,
        "target": recorded_target(stacks),
        "host": manifest.host,
        "kernel": manifest.kernel,
        "source": manifest.imported_from,
        "frequency_hz": stacks.frequency_hz,
        "notes": [*stacks.notes, *hints(stacks)],
    }
    return {key: value for key, value in info.items() if value}


def _threads(stacks: WeightedStacks, value: Value, duration_ns: int) -> list[ThreadRow]:
    """Threads by falling weight; none where the table has no threads."""
    if not any(thread.name or thread.tid for thread in stacks.threads):
        return []
    count = len(stacks.threads)
    own = _summed(stacks.thread, stacks.values(value), count)
    rows = np.bincount(stacks.thread, minlength=count)
    shares: list[float | None] = [None] * count
    if stacks.is_cpu_time and duration_ns:
        shares = list(_summed(stacks.thread, stacks.weight, count) / duration_ns)
    found = [
        ThreadRow(thread.name, thread.tid, thread.pid, int(own[at]), shares[at])
        for at, thread in enumerate(stacks.threads)
        if rows[at]
    ]
    return sorted(found, key=lambda row: (-row.own, row.tid))


def _lines(stacks: WeightedStacks, value: Value) -> list[LineRow]:
    running = stacks.frame >= 0
    is_waker = running & np.array([*(frame.kind == WAKER for frame in stacks.frames), False], np.bool_)[stacks.frame]
    leaf = below_wakers(stacks.parent, is_waker)[stacks.stack]
    of_stack = _summed(leaf, stacks.values(value), len(stacks.parent))
    of_frame = _summed(stacks.frame[running], of_stack[running], len(stacks.frames))
    sums: dict[tuple[str, int, str], int] = {}
    for at in np.flatnonzero(of_frame).tolist():
        frame = stacks.frames[at]
        if frame.line > 0:
            key = (frame.file, frame.line, frame.function)
            sums[key] = sums.get(key, 0) + int(of_frame[at])
    return [LineRow(*key, own) for key, own in sorted(sums.items(), key=lambda item: (-item[1], item[0]))]


def _summed(key: NDArray[np.int32], weight: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    # bincount sums in double precision: exact up to 2**53, that is 104 days of nanoseconds.
    return np.bincount(key, weights=weight, minlength=count).astype(np.int64)


def to_json(
    report: Report,
    *,
    limit: int = 0,
    min_percent: float = 0.0,
    tree: bool = True,
    calls: Sequence[NamedTuple] | None = None,
) -> str:
    """The report as one JSON document; docs/report.md describes its fields. ``limit`` 0 keeps all rows.

    ``calls``: the functions of a recording of calls, with how their durations are spread.
    """
    most = limit or None
    document: dict[str, object] = {
        "format": "insitu-report-1",
        "unit": report.unit,
        "total": report.total,
        "samples": report.samples,
        "counted": report.counted,
        "table": report.table,
        "event": report.event,
        "duration_ns": report.duration_ns,
        "info": report.info,
        "lost": report.lost,
        "functions": _rows(report.functions[:most], report.total),
        "threads": _rows(report.threads, report.total),
    }
    if calls is not None:
        document["calls"] = [row._asdict() for row in calls[:most]]
    if report.lines is not None:
        document["lines"] = _rows(report.lines[:most], report.total)
    if tree:
        document["tree"] = _nodes(report.tree, min_percent)
        document["tree_of"] = "callers" if report.reverse else "callees"
        document["tree_omitted"] = _omitted(report.tree, _kept(report.tree, min_percent))[0].item()
    return json_document(document)


def _rows(rows: Sequence[FunctionRow | LineRow | ThreadRow], whole: int) -> list[dict[str, object]]:
    named = []
    for row in rows:
        fields = {("self" if name == "own" else name): value for name, value in row._asdict().items()}
        fields["self_percent"] = round(percent(row.own, whole), 4)
        if isinstance(row, FunctionRow):
            fields["total_percent"] = round(percent(row.total, whole), 4)
        named.append(fields)
    return named


def _nodes(tree: CallTree, min_percent: float) -> list[dict[str, object]]:
    """The nodes above ``min_percent``, parents first, each with its parent's index in this list (-1: the root's)."""
    keep = _kept(tree, min_percent)
    omitted = _omitted(tree, keep)
    index = np.full(len(tree), -1, np.int64)
    index[keep] = np.arange(len(keep))
    nodes: list[dict[str, object]] = []
    for at in keep.tolist():
        name = tree.names[tree.name[at]]
        own, total = int(tree.own[at]), int(tree.total[at])
        nodes.append(
            {
                "parent": int(index[tree.parent[at]]),
                "function": name.function,
                "module": name.module,
                "kind": name.kind,
                "inlined": name.inlined,
                "self": own,
                "total": total,
                "omitted": int(omitted[at]),
            }
        )
    return nodes


def _kept(tree: CallTree, min_percent: float) -> NDArray[np.int64]:
    return np.flatnonzero(tree.total >= min_percent / 100 * tree.total[0])[1:]


def _omitted(tree: CallTree, keep: NDArray[np.int64]) -> NDArray[np.int64]:
    """The weight below each node that no node in ``keep`` shows."""
    omitted = tree.total - tree.own
    np.subtract.at(omitted, tree.parent[keep], tree.total[keep])
    return omitted
