"""A session's tables for exporters of whole traces: threads, spans, counters, events, as arrays."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.event_schema import HEAD, field_of
from insitu.convert.trace_events import recorded_formats
from insitu.errors import InsituError, damaged_recording
from insitu.session.machines import machines
from insitu.session.weighted_stacks import MOST_DURATION_NS
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    import polars

    from insitu.session.reader import Session

__all__ = [
    "CounterTrack",
    "Counters",
    "EventRows",
    "Spans",
    "Threads",
    "coded",
    "counters",
    "event_tables",
    "require_trace",
    "spans",
    "threads",
    "within",
]

I64 = NDArray[np.int64]

MACHINE_PIDS: Final = 1 << 23
"""More than the kernel has pids."""
OPEN_NS: Final = 1 << 62
"""The end of a span that was open at the recording's end."""


class Threads(NamedTuple):
    """Threads by utid (``tid``, ``pid``, ``upid``, ``name``), processes by upid (the others).

    Pids and tids of guests are not those of others: see ``_apart()``. The names of their processes begin with theirs.
    """

    tid: I64
    pid: I64
    upid: I64
    name: list[str]
    process_pid: I64
    process_name: list[str]
    cmdline: list[str]


class Spans(NamedTuple):
    """Spans in arrays; ``category`` and ``name`` index ``categories`` and ``names``. Open ones end at OPEN_NS."""

    ts_ns: I64
    end_ns: I64
    utid: I64
    cpu: I64
    depth: I64
    category: I64
    name: I64
    categories: list[str]
    names: list[str]

    @property
    def owner(self) -> I64:
        """The thread of each; of the idle task, which is one for each CPU, -1 - CPU."""
        return np.where(self.utid > 0, self.utid, -1 - np.maximum(self.cpu, 0))


class CounterTrack(NamedTuple):
    """A counter: ``name`` says which CPU it is of; ``utid`` is 0 for one that is of no thread."""

    id: int
    name: str
    unit: str
    utid: int


class Counters(NamedTuple):
    """The counters, and their values in the order of time; ``track`` indexes ``tracks``."""

    tracks: list[CounterTrack]
    ts_ns: I64
    track: I64
    value: NDArray[np.float64]


class EventRows(NamedTuple):
    """The rows of one table of events, in the order of time; ``fields`` are its own columns."""

    table: str
    category: str
    name: str
    ts_ns: I64
    utid: I64
    cpu: I64
    fields: "polars.DataFrame"


def require_trace(session: "Session", name: str, *, samples: bool) -> None:
    """Raise InsituError unless the session has something that the format ``name`` has a place for."""
    own = ("span", "counter", "sample") if samples else ("span", "counter")
    have = [table for table in session.tables if session.database.rows(table)]
    if any(table in own or _is_of_events(session, table) for table in have):
        return
    places = f"spans, counters{', samples' if samples else ''} and events with a time, a thread and a CPU"
    raise InsituError(
        f"{session.name}: {name} holds {places}; the session has none of them",
        remedy="export its samples with --format perfetto or speedscope"
        if "sample" in have
        else "insitu sql --format csv writes any table",
    )


def _is_of_events(session: "Session", table: str) -> bool:
    """Whether a table is one of events, with a time, a thread and a CPU."""
    return table.startswith("event.") and all(map(session.database.table(table).column, HEAD))


def threads(session: "Session") -> Threads:
    """All threads and processes."""
    process, thread = session["process"].sort("upid"), session["thread"].sort("utid")
    all_machines = machines(session)
    for ids in (process["upid"], thread["utid"]):
        if not len(ids) or int(_ints(ids).max()) >= len(ids):
            raise damaged_recording(session.name, "ids of processes or threads have gaps")
    machine = within(_ints(process["machine"]), len(all_machines.name))
    process_pid = _apart(_ints(process["pid"]), machine)
    upid = within(_ints(thread["upid"]), len(process))
    names = _texts(thread["name"])
    tid = _apart(_ints(thread["tid"]), machine[upid])
    main = {int(u): name for u, t, name in zip(upid, tid, names, strict=True) if process_pid[u] == t}
    exe = [path.rpartition("/")[2] for path in _texts(process["exe"])]
    shown = [exe[at] or main.get(at, "") for at in range(len(exe))]
    return Threads(
        tid,
        process_pid[upid],
        upid,
        names,
        process_pid,
        [all_machines.labelled(name, of) for name, of in zip(shown, machine.tolist(), strict=True)],
        _texts(process["cmdline"]),
    )


def _apart(ids: I64, machine: I64 | int) -> I64:
    """Pids or tids that differ between machines, for formats that know one: those of a guest are beyond all pids."""
    return np.where((ids > 0) & (ids < MACHINE_PIDS), ids + machine * MACHINE_PIDS, ids)


def spans(session: "Session", threads: int) -> Spans | None:
    """All spans by their begins, of so many threads; None without any."""
    if "span" not in session.tables:
        return None
    found = session.sql("select ts_ns, dur_ns, utid, cpu, depth, category, name from span order by ts_ns, depth")
    ts_ns = _ints(found["ts_ns"])
    duration = _ints(found["dur_ns"].fill_null(-1))
    category, categories = coded(found["category"])
    name, names = coded(found["name"])
    longest = int(duration.max(initial=0))
    if len(ts_ns) and (longest > MOST_DURATION_NS or ts_ns.max() > OPEN_NS or ts_ns.min() < -OPEN_NS):
        raise damaged_recording(session.name, "times or durations of table span that cannot be")
    end_ns = np.where(duration < 0, OPEN_NS, ts_ns + duration)
    return Spans(
        ts_ns,
        end_ns,
        within(_ints(found["utid"]), threads),
        _ints(found["cpu"]),
        _ints(found["depth"]),
        category,
        name,
        categories,
        names,
    )


def counters(session: "Session", threads: int) -> Counters | None:
    """All counters, of so many threads; None without any."""
    if not {"counter", "track"} <= set(session.tables):
        return None
    tracks = []
    cpus = machines(session).cpu
    for number, name, unit, utid, cpu in session.sql("select id, name, unit, utid, cpu from track").rows():
        utid = utid if utid and 0 < utid < threads else 0
        label = name if utid or cpu is None else f"{name}, {cpus(cpu)}"
        tracks.append(CounterTrack(number, valid_text(label), valid_text(unit), utid))
    place = {each.id: at for at, each in enumerate(tracks)}
    found = session.sql("select ts_ns, track, value from counter where value is not null order by ts_ns")
    track = np.array([place.get(number, -1) for number in found["track"].to_list()], np.int64)
    known = track >= 0
    values = found["value"].to_numpy().astype(np.float64)
    return Counters(tracks, _ints(found["ts_ns"])[known], track[known], values[known])


def event_tables(session: "Session", threads: int) -> Iterator[EventRows]:
    """Every table of events that has rows, one at a time, of so many threads."""
    kinds = recorded_formats(session)
    all_machines = machines(session)
    for table in session.tables:
        if not _is_of_events(session, table):
            continue
        found = session[table].sort("ts_ns")
        if not len(found):
            continue
        category, name, _ = kinds.get(table, ("event", table.rpartition(".")[2], ""))
        columns = session.database.table(table).columns
        stacks = [column.name for column in columns if column.type == "stack"]
        if machine := all_machines.of_table(table):
            tids = [
                column.name for column in columns if column.type == "tid" and found[column.name].dtype.is_integer()
            ]
            # Wider: that of a guest may not fit into the column's own type.
            moved = [_moved(found[name], machine) for name in tids]
            found = found.with_columns(moved)
        ts_ns, utid, cpu = (_ints(found[each]) for each in HEAD)
        fields = found.drop(*HEAD, *stacks)
        fields = fields.rename({column: field_of(column) for column in fields.columns})
        yield EventRows(table, category, name, ts_ns, within(utid, threads), cpu, fields)


def coded(texts: "polars.Series") -> tuple[I64, list[str]]:
    """(code of each row, the distinct texts)."""
    distinct = texts.unique(maintain_order=True)
    lookup = distinct.to_frame("text").with_row_index("code")
    rows = texts.to_frame("text").join(lookup, on="text", how="left", maintain_order="left", nulls_equal=True)
    return _ints(rows["code"]), _texts(distinct)


def within(ids: I64, count: int) -> I64:
    """Ids below ``count``; others, of a damaged session, are 0."""
    return np.where((ids >= 0) & (ids < count), ids, 0)


def _moved(tid: "polars.Series", machine: int) -> "polars.Series":
    import polars

    return polars.Series(tid.name, _apart(_ints(tid), machine))


def _ints(column: "polars.Series") -> I64:
    return column.fill_null(0).to_numpy().astype(np.int64)


def _texts(column: "polars.Series") -> list[str]:
    values: list[Any] = column.to_list()
    return [valid_text(value) if value is not None else "" for value in values]
