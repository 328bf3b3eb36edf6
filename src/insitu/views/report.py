"""What a report of a CPU profile says: hottest functions, lines and threads, the call tree, losses; and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from insitu.session.distinct import distinct
from insitu.session.duration import duration_ns
from insitu.session.profile import CallTree, Profile, Value, is_clock
from insitu.views.functions import function_costs
from insitu.views.losses import lost_by_source
from insitu.views.selection import value_of

__all__ = ["FunctionRow", "LineRow", "Report", "ThreadRow", "build_report", "percent", "to_json"]

Sort = Literal["self", "total"]


class FunctionRow(NamedTuple):
    """``own`` and ``total`` are in the report's unit; ``total`` counts a sample once however deep the recursion."""

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
    """A thread's weight; ``cpu_share`` is its part of one CPU over the recording, None where that is not known."""

    comm: str
    tid: int
    pid: int
    own: int
    cpu_share: float | None


@dataclass(frozen=True)
class Report:
    """All parts of a report; weights are in ``unit`` ("samples", "ns" or an event's name) and add up to ``total``."""

    unit: str
    total: int
    samples: int
    event: str
    duration_ns: int
    info: dict[str, object]
    functions: list[FunctionRow]
    threads: list[ThreadRow]
    tree: CallTree
    lost: dict[str, int] = field(default_factory=dict)
    lines: list[LineRow] | None = None
    reverse: bool = False


def build_report(
    profile: Profile,
    *,
    value: Value | None = None,
    sort: Sort = "self",
    reverse: bool = False,
    lines: bool = False,
    addresses: bool = False,
) -> Report:
    """Report on a profile of one event (see views.selection); nothing is cut off, that is left to who shows it.

    ``reverse`` roots the call tree in the functions that were running; ``lines`` adds the hottest source lines;
    ``addresses`` keeps apart, among the functions, addresses that no symbol covers (the tree always does).
    """
    value = value_of(profile, value)
    tree = profile.tree(value=value)
    costs = function_costs(tree, addresses=addresses)
    keys = (costs.own, costs.total) if sort == "self" else (costs.total, costs.own)
    order = np.lexsort((-keys[1], -keys[0]))
    seen = order[costs.total[order] > 0]
    functions = [
        FunctionRow(costs.functions[f].name, costs.functions[f].module, costs.kinds[f], own, total)
        for f, own, total in zip(seen.tolist(), costs.own[seen].tolist(), costs.total[seen].tolist(), strict=True)
    ]
    return Report(
        unit=tree.unit,
        total=int(tree.total[0]),
        samples=len(profile),
        event=profile.events[0] if profile.events else "",
        duration_ns=duration_ns(profile),
        info=profile.info,
        functions=functions,
        threads=_threads(profile, value),
        tree=profile.tree(value=value, reverse=True) if reverse else tree,
        lost=lost_by_source(profile.lost),
        lines=_lines(profile, value) if lines else None,
        reverse=reverse,
    )


def percent(part: int, whole: int) -> float:
    """``part`` of ``whole`` in per cent; 0 of nothing."""
    return 100.0 * part / whole if whole else 0.0


def _threads(profile: Profile, value: Value) -> list[ThreadRow]:
    tids, of_sample = distinct(profile.tid)
    weights = profile.weight if value == "weight" else None
    own = np.bincount(of_sample, weights=weights, minlength=len(tids)).astype(np.int64)
    length = duration_ns(profile)
    shares: list[float | None] = [None] * len(tids)
    if length and profile.events and is_clock(profile.events[0]):
        shares = list(np.bincount(of_sample, weights=profile.weight, minlength=len(tids)) / length)
    pids = {thread.tid: thread.pid for thread in profile.threads}
    rows = [
        ThreadRow(comm, int(tid), pids.get(int(tid), 0), int(weight), share)
        for comm, tid, weight, share in zip(profile.comms(tids), tids, own, shares, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row.own, row.tid))


def _lines(profile: Profile, value: Value) -> list[LineRow]:
    weights = profile.weight if value == "weight" else None
    of_stack = np.bincount(profile.stack, weights=weights, minlength=len(profile.stack_parent)).astype(np.int64)
    running = profile.stack_frame >= 0
    of_frame = np.bincount(profile.stack_frame[running], weights=of_stack[running], minlength=len(profile.frames))
    sums: dict[tuple[str, int, str], int] = {}
    for at in np.flatnonzero(of_frame).tolist():
        frame = profile.frames[at]
        if frame.line > 0:
            key = (frame.file, frame.line, frame.function)
            sums[key] = sums.get(key, 0) + int(of_frame[at])
    return [LineRow(*key, own) for key, own in sorted(sums.items(), key=lambda item: (-item[1], item[0]))]


def to_json(report: Report, *, limit: int = 0, min_percent: float = 0.0, tree: bool = True) -> str:
    """The report as one JSON document; docs/report.md describes its fields. ``limit`` 0 keeps all rows."""
    most = limit or None
    document: dict[str, object] = {
        "format": "insitu-report-1",
        "unit": report.unit,
        "total": report.total,
        "samples": report.samples,
        "event": report.event,
        "duration_ns": report.duration_ns,
        "info": report.info,
        "lost": report.lost,
        "functions": _rows(report.functions[:most], report.total),
        "threads": _rows(report.threads, report.total),
    }
    if report.lines is not None:
        document["lines"] = _rows(report.lines[:most], report.total)
    if tree:
        document["tree"] = _nodes(report.tree, min_percent)
        document["tree_of"] = "callers" if report.reverse else "callees"
    return json.dumps(document, indent=1, default=str)


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
    keep = np.flatnonzero(tree.total >= min_percent / 100 * tree.total[0])[1:]
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
            }
        )
    return nodes
