"""Chrome's JSON trace format ("Trace Event Format"), for chrome://tracing, ui.perfetto.dev and speedscope.

Spans are complete events (X) on their thread where they nest, asynchronous ones (b, e) where they do not; counters
are C, events are instants (i) with their fields, names metadata (M). What ran on each CPU, from
sched:sched_switch, is a process of its own with a thread for each CPU. Times are microseconds with three decimals.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from insitu.convert.formats.registry import ExportOptions
from insitu.convert.formats.span_order import lanes
from insitu.convert.formats.trace_tables import (
    OPEN_NS,
    EventRows,
    Threads,
    counters,
    event_tables,
    require_trace,
    spans,
    threads,
)
from insitu.session.machines import machines
from insitu.valid_text import json_line, valid_text

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["export_chrome"]

_PIECE: Final = 1 << 14  # events encoded at once
_CPUS_PID: Final = (1 << 31) - 1  # beyond the kernel's pids
_SWITCHED: Final = ("next_pid", "next_comm", "prev_pid", "prev_state")


def export_chrome(session: "Session", options: ExportOptions) -> Iterator[bytes]:
    """The document of a session's threads, spans, counters and events, in pieces. Raises InsituError without any."""
    require_trace(session, "chrome", samples=False)
    head = {"title": valid_text(options.title), "kernel": valid_text(session.manifest.kernel), "clock": "monotonic"}
    yield f'{{"displayTimeUnit":"ns","otherData":{json_line(head)},"traceEvents":['.encode()
    waiting: list[str] = []
    before = "\n"
    for event in _events(session):
        waiting.append(json_line(event))
        if len(waiting) >= _PIECE:
            yield (before + ",\n".join(waiting)).encode()
            waiting, before = [], ",\n"
    yield (before + ",\n".join(waiting) + "\n]}\n" if waiting else "\n]}\n").encode()


def _events(session: "Session") -> Iterator[dict[str, Any]]:
    who = threads(session)
    cpu_name = machines(session).cpu
    yield from _names(who)
    yield from _spans(session, who)
    yield from _counters(session, who)
    for events in event_tables(session, len(who.tid)):
        if events.name == "sched_switch" and set(_SWITCHED) <= set(events.fields.columns):
            yield from _running(events, cpu_name)
        else:
            yield from _instants(events, who)


def _names(who: Threads) -> Iterator[dict[str, Any]]:
    for pid, name in zip(who.process_pid.tolist(), who.process_name, strict=True):
        yield {"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": name}}
    for pid, tid, name in zip(who.pid.tolist(), who.tid.tolist(), who.name, strict=True):
        yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": {"name": name}}


def _spans(session: "Session", who: Threads) -> Iterator[dict[str, Any]]:
    found = spans(session, len(who.tid))
    if found is None:
        return
    lane = lanes(found.owner, found.ts_ns, found.end_ns, found.depth)
    order = np.lexsort((found.depth, -found.end_ns, found.ts_ns))
    tids = np.where(who.tid[found.utid] != 0, who.tid[found.utid], np.maximum(found.cpu, 0))
    columns = (found.ts_ns, found.end_ns, who.pid[found.utid], tids, found.category, found.name, lane)
    rows = zip(order.tolist(), *(column[order].tolist() for column in columns), strict=True)
    for number, ts, end, pid, tid, category, name, apart in rows:
        event: dict[str, Any] = {"name": found.names[name], "cat": found.categories[category], "ts": ts / 1000}
        event |= {"pid": pid, "tid": tid}
        if apart:
            yield {**event, "ph": "b", "id": number}
            if end < OPEN_NS:
                yield {**event, "ph": "e", "id": number, "ts": end / 1000}
        elif end < OPEN_NS:
            yield {**event, "ph": "X", "dur": (end - ts) / 1000}
        else:
            yield {**event, "ph": "B"}


def _counters(session: "Session", who: Threads) -> Iterator[dict[str, Any]]:
    found = counters(session, len(who.tid))
    if found is None:
        return
    tracks = [
        ({"ph": "C", "name": each.name, "pid": int(who.pid[each.utid])}, each.unit or "value")
        for each in found.tracks
    ]
    for ts, track, value in zip(found.ts_ns.tolist(), found.track.tolist(), found.value.tolist(), strict=True):
        event, unit = tracks[track]
        yield {**event, "ts": ts / 1000, "args": {unit: value}}


def _instants(events: EventRows, who: Threads) -> Iterator[dict[str, Any]]:
    fields = events.fields.columns
    columns = (events.ts_ns, who.pid[events.utid], who.tid[events.utid], events.cpu)
    heads = zip(*(column.tolist() for column in columns), strict=True)
    for (ts, pid, tid, cpu), values in zip(heads, events.fields.iter_rows(), strict=True):
        args = {name: _plain(value) for name, value in zip(fields, values, strict=True) if value is not None}
        event = {"ph": "i", "s": "t", "name": events.name, "cat": events.category, "ts": ts / 1000}
        yield {**event, "pid": pid, "tid": tid, "args": {"cpu": cpu, **args}}


def _running(events: EventRows, cpu_name: Callable[[int], str]) -> Iterator[dict[str, Any]]:
    """What ran on each CPU from one switch to the next; the idle task is left out."""
    yield {"ph": "M", "name": "process_name", "pid": _CPUS_PID, "tid": 0, "args": {"name": "CPUs"}}
    columns = (events.fields[name].to_list() for name in _SWITCHED)
    since: dict[int, tuple[int, int, str]] = {}
    for ts, cpu, to, name, tid, state in zip(events.ts_ns.tolist(), events.cpu.tolist(), *columns, strict=True):
        begun = since.get(cpu)
        if begun is None:
            yield {"ph": "M", "name": "thread_name", "pid": _CPUS_PID, "tid": cpu, "args": {"name": cpu_name(cpu)}}
        elif begun[1] == tid and tid:
            event = {"ph": "X", "name": valid_text(begun[2]), "cat": "sched", "pid": _CPUS_PID, "tid": cpu}
            args = {"tid": tid, "state": state}
            yield {**event, "ts": begun[0] / 1000, "dur": (ts - begun[0]) / 1000, "args": args}
        since[cpu] = (ts, to, name)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value if isinstance(value, int | float | str) else str(value)
