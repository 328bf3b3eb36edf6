"""Weighted stacks: what flame graphs, call graphs, reports, diffs and exports of stacks are functions of.

Every table with a stack column is weighted stacks: samples with their weights, waits with their durations,
allocations with their sizes. Rows of one stack and thread are added up as they are read, so that a view's memory
depends on how many different stacks there are and not on the recording's length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.core_tables import EVENT_TYPE, FRAME, LOST, PROCESS, SAMPLE, STACK, THREAD, THREAD_NAME
from insitu.session.distinct import distinct, groups
from insitu.session.manifest import Manifest
from insitu.session.query import Database
from insitu.session.schema import Table, quoted
from insitu.session.writer import MemoryTables
from insitu.symbols.frame import Frame

__all__ = [
    "Selection",
    "ThreadLabel",
    "Value",
    "WeightedStacks",
    "load_stacks",
    "stacks_in_memory",
    "tables_with_stacks",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

Value = Literal["count", "weight"]


class ThreadLabel(NamedTuple):
    """A thread under one of its names."""

    utid: int
    tid: int
    pid: int
    name: str


class Selection(NamedTuple):
    """The part of a recording that is asked for. Empty: all of it, of the first event that has samples."""

    table: str = ""
    """Which table with stacks: by default the recorder's choice, else ``sample`` if it has rows, else the first that
    has. Several of the same unit, joined by "+", are shown together."""
    event: str = ""
    """Which event of ``sample``; modifiers (":u") may be left out."""
    weight: str = ""
    """Which column is the weight, where the table has several."""
    tid: int | None = None
    comm: str | None = None
    start_s: float | None = None
    """Seconds since the first row, inclusive."""
    end_s: float | None = None
    """Seconds since the first row, exclusive."""


@dataclass(frozen=True)
class WeightedStacks:
    """n rows of stacks with what they weigh; equal (stack, thread) are one row, unless ``ts_ns`` is there.

    Stacks are a tree: ``parent[i]`` (i32) is the caller's stack, always smaller than i; stack 0 is the root, without
    a frame; ``frame[i]`` indexes ``frames``. Per row: ``stack`` (i32), ``thread`` (i32, index into ``threads``),
    ``count`` (i64: samples, spans, events) and ``weight`` (i64, in ``unit``).
    """

    parent: I32
    frame: I32
    frames: list[Frame]
    stack: I32
    thread: I32
    count: I64
    weight: I64
    threads: list[ThreadLabel]
    table: str = "sample"
    event: str = ""
    """The event that was sampled, or what the rows are ("offcpu")."""
    unit: str = "samples"
    """What weights count: "ns", "bytes", or an event's name."""
    counted: str = "samples"
    """What ``count`` counts: "samples" or "events"."""
    ts_ns: I64 | None = None
    """Per row the time (i64, CLOCK_MONOTONIC), where it was asked for: then a row is one sample or event."""
    first_ns: int = 0
    last_ns: int = 0
    manifest: Manifest = field(default_factory=Manifest)
    losses: dict[str, int] = field(default_factory=dict)
    """Lost records by source."""
    notes: tuple[str, ...] = ()
    squares: NDArray[np.float64] | None = None
    """Per row the sum of squared weights, where events have weights of their own (durations, sizes)."""
    preferred: Value = "count"
    """What views add up by default: durations or sizes where rows have them, else the number of samples."""

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def total_count(self) -> int:
        """The number of samples or events."""
        return int(self.values(self.counting).sum())

    @property
    def counting(self) -> Value:
        """Which of ``values`` is the number of samples or events: weights, where imported rows are sums of them."""
        return "weight" if self.preferred == "weight" and self.unit == self.counted else "count"

    def values(self, value: Value) -> I64:
        """What to add up: ``count`` or ``weight`` of each row."""
        return self.count if value == "count" else self.weight

    def unit_of(self, value: Value) -> str:
        """What the sums of ``values`` count."""
        return self.counted if value == "count" else self.unit

    @property
    def is_cpu_time(self) -> bool:
        """Whether weights are nanoseconds of CPU time: then their share of the duration means a share of a CPU."""
        return self.table == "sample" and self.unit == "ns"

    @property
    def duration_ns(self) -> int:
        """Nanoseconds as the recorder says, else from the first row to the last; 0 if neither is known."""
        return self.manifest.duration_ns or self.last_ns - self.first_ns

    def only(self, mask: NDArray[np.bool_]) -> WeightedStacks:
        """The rows of a mask."""
        return replace(
            self,
            stack=self.stack[mask],
            thread=self.thread[mask],
            count=self.count[mask],
            weight=self.weight[mask],
            squares=None if self.squares is None else self.squares[mask],
            ts_ns=None if self.ts_ns is None else self.ts_ns[mask],
        )


def load_stacks(database: Database, manifest: Manifest, want: Selection, *, times: bool = False) -> WeightedStacks:
    """The weighted stacks of a session on disk; ``times`` keeps every row, in the order of time.

    Raises InsituError, naming what there is, when nothing is selected, and where tables are damaged.
    """
    asked = want.table or ("" if want.event else manifest.default_table)
    if "+" in asked:
        return _together(
            [load_stacks(database, manifest, want._replace(table=each), times=times) for each in asked.split("+")]
        )
    table = _table(database, asked)
    source = database.relation(table.name)
    where, event, unit, notes = _event(database, table, want)
    weight = _weight(table, want.weight)
    if weight is not None and weight.semantic.unit != "*":
        unit = weight.semantic.unit
    ts, utid = table.of_type("timestamp"), table.of_type("utid")
    extent = {"low": np.zeros(1, np.int64), "high": np.zeros(1, np.int64)}
    if ts is not None:
        extent = database.fetch(
            f"select min({quoted(ts.name)}) as low, max({quoted(ts.name)}) as high from {source} where {where}"
        )
    first, last = int(extent["low"][0]), int(extent["high"][0])
    if want.start_s is not None or want.end_s is not None:
        where += _range(ts, first, want)
    assert table.stack is not None
    lives = _lives(database, source, where, ts, utid)
    terms = {
        "stack": quoted(table.stack.name),
        "utid": f"coalesce({quoted(utid.name)}, 0)" if utid is not None else "0",
    }
    if any(len(names) > 1 for names in lives.values()):
        terms["life"] = _life_sql(terms["utid"], ts, lives)
    keys = len(terms)
    if times:
        if ts is None:
            raise InsituError(f"{table.name}: rows without timestamps", remedy="choose another --table")
        terms["ts_ns"] = quoted(ts.name)
    else:
        terms["count"] = "count(*)"
    varies = weight is not None and weight.semantic.unit != "*"
    if weight is not None:
        terms["weight"] = _summed(weight, times)
        if varies and not times:
            terms["squares"] = f"sum(pow(coalesce({quoted(weight.name)}, 0), 2))"
    selected = ", ".join(f"{term} as {quoted(name)}" for name, term in terms.items())
    end = f"group by {', '.join(map(str, range(1, keys + 1)))}"
    if times:
        ordered = manifest.tables.get(table.name, {}).get("sorted_by") == terms["ts_ns"].strip('"')
        end = "" if ordered else f"order by {terms['ts_ns']}"
    rows = database.fetch(f"select {selected} from {source} where {where} {end}")
    if utid is None:
        threads, thread = [ThreadLabel(0, 0, 0, "")], np.zeros(len(rows["utid"]), np.int32)
    else:
        threads, thread = _labelled(database, rows["utid"], rows.get("life"), lives)
    count = np.ones(len(thread), np.int64) if times else rows["count"].astype(np.int64)
    parent, frame, frames = _tree(database)
    counted = "samples" if table.name == SAMPLE.name else "events"
    stacks = WeightedStacks(
        parent=parent,
        frame=frame,
        frames=frames,
        stack=rows["stack"].astype(np.int32, copy=False),
        thread=thread,
        count=count,
        weight=rows["weight"].astype(np.int64, copy=False) if weight is not None else count,
        threads=threads,
        table=table.name,
        event=event or table.name.removeprefix("event.").removeprefix("map."),
        unit=unit or counted,
        counted=counted,
        squares=rows.get("squares"),
        ts_ns=rows["ts_ns"] if times else None,
        first_ns=first,
        last_ns=last,
        manifest=manifest,
        losses=_losses(database),
        notes=(*manifest.notes, *notes),
        preferred="weight" if table.name != SAMPLE.name and weight is not None else _preferred(manifest),
    )
    _check(stacks, str(manifest.imported_from or table.name))
    return _chosen(stacks, want)


def _together(parts: Sequence[WeightedStacks]) -> WeightedStacks:
    """Rows of several tables of one session as one. Raises InsituError where they count different things."""
    first = parts[0]
    units = {part.unit for part in parts}
    if len(units) > 1:
        raise InsituError(f"--table: different units ({', '.join(sorted(units))})", remedy="choose one table")
    base = np.cumsum([0, *(len(part.threads) for part in parts)])
    thread = np.concatenate([part.thread + at for part, at in zip(parts, base[:-1].tolist(), strict=True)])
    threads: dict[ThreadLabel, int] = {}
    index = [threads.setdefault(label, len(threads)) for part in parts for label in part.threads]
    ts_ns = None
    if first.ts_ns is not None:
        ts_ns = np.concatenate([part.ts_ns for part in parts if part.ts_ns is not None])
    whole = replace(
        first,
        stack=np.concatenate([part.stack for part in parts]),
        thread=np.array(index, np.int32)[thread],
        count=np.concatenate([part.count for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        threads=list(threads),
        squares=None if ts_ns is not None else np.concatenate([_squares(part) for part in parts]),
        table="+".join(part.table for part in parts),
        event=" + ".join(part.event for part in parts),
        counted="events",
        ts_ns=ts_ns,
        first_ns=min((part.first_ns for part in parts if part.first_ns), default=0),
        last_ns=max(part.last_ns for part in parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        preferred="weight",
    )
    if ts_ns is None:
        return whole
    order = np.argsort(ts_ns, kind="stable")
    taken = {name: getattr(whole, name)[order] for name in ("stack", "thread", "count", "weight")}
    return replace(whole, ts_ns=ts_ns[order], **taken)


def _squares(stacks: WeightedStacks) -> NDArray[np.float64]:
    """Per row the sum of squared weights; those of samples are all the same."""
    if stacks.squares is not None:
        return stacks.squares
    return stacks.weight.astype(np.float64) ** 2 / np.maximum(stacks.count, 1)


def _preferred(manifest: Manifest) -> Value:
    """Imports whose lines are sums have samples that are none: see convert/formats/folded.py."""
    return "weight" if any(source.get("value") == "weight" for source in manifest.sources) else "count"


def tables_with_stacks(database: Database) -> list[Table]:
    """The tables of a session whose rows have stacks, ``sample`` first."""
    names = dict.fromkeys([SAMPLE.name, *database.names])
    tables = [database.table(name) for name in names if name != STACK.name and name in database.names]
    return [table for table in tables if table.stack is not None]


def _table(database: Database, asked: str) -> Table:
    with_stacks = tables_with_stacks(database)
    if asked:
        table = next((each for each in with_stacks if each.name == asked), None)
        if table is None:
            names = ", ".join(each.name for each in with_stacks)
            what = f"table {asked} has no stacks" if asked in database.names else f"no table {asked}"
            raise InsituError(what, remedy=f"tables with stacks: {names or 'none'}")
        return table
    for table in with_stacks:
        if len(with_stacks) == 1 or database.rows(table.name):
            return table
    if with_stacks:
        return with_stacks[0]
    there = ", ".join(name for name in database.names if name.partition(".")[0] in ("event", "map"))
    if there:
        raise InsituError(
            f"no CPU samples: this is a trace (tables: {there})", remedy="see insitu report or insitu sql"
        )
    raise InsituError("no stacks in this recording", remedy="insitu report shows its tables")


def _event(database: Database, table: Table, want: Selection) -> tuple[str, str, str, list[str]]:
    """The condition that selects one event's rows, the event's name and unit, and notes."""
    if table.of_type("event_type") is None:
        return "true", "", "", []
    rows = database.all(
        f"select id, name, unit from {database.relation(EVENT_TYPE.name)} order by id",
    )
    source = database.relation(table.name)
    if len(rows) > 1:
        present = {row[0] for row in database.all(f"select distinct event_type from {source}")}
        rows = [row for row in rows if row[0] in present] or rows[:1]
    chosen = _named(rows, want.event)
    if chosen is None:
        return "true", "", "", []
    others = [name for _, name, _ in rows if name != chosen[1]]
    notes = [f"also recorded: {', '.join(others)}; --event selects"] if others else []
    where = f"event_type = {int(chosen[0])}" if others else "true"
    return where, str(chosen[1]), str(chosen[2]), notes


def _named(rows: Sequence[tuple[Any, ...]], asked: str) -> tuple[Any, ...] | None:
    if not asked:
        return rows[0] if rows else None
    matches = [row for row in rows if row[1] == asked] or [r for r in rows if r[1].partition(":")[0] == asked]
    if not matches:
        names = ", ".join(str(row[1]) for row in rows)
        raise InsituError(f"no samples of event {asked!r}", remedy=f"events: {names}")
    return matches[0]


def _weight(table: Table, asked: str) -> Any:
    if asked:
        column = table.column(asked)
        if column is None or not column.semantic.unit:
            names = ", ".join(each.name for each in table.weights)
            raise InsituError(f"{asked}: not a column with a unit", remedy=f"columns: {names or 'none'}")
        return column
    return table.weights[0] if table.weights else None


def _summed(column: Any, each: bool) -> str:
    own = f"coalesce({quoted(column.name)}, 0)"
    return own if each else f"sum({own})::bigint"


def _range(ts: Any, first: int, want: Selection) -> str:
    if ts is None:
        raise InsituError("--range: the rows of this table have no timestamps")
    terms = ""
    if want.start_s is not None:
        terms += f" and {quoted(ts.name)} >= {first + round(want.start_s * 1e9)}"
    if want.end_s is not None:
        terms += f" and {quoted(ts.name)} < {first + round(want.end_s * 1e9)}"
    return terms


def _lives(database: Database, source: str, where: str, ts: Any, utid: Any) -> dict[int, list[tuple[int, str]]]:
    """The names, and from when on, of each thread that had several while rows were recorded."""
    if utid is None or ts is None:
        return {}
    column = quoted(utid.name)
    several: dict[int, list[tuple[int, str]]] = {}
    for one, start, name in database.all(
        f"select utid, ts_ns, name from {database.relation(THREAD_NAME.name)} where utid in (select utid from"
        f" {database.relation(THREAD_NAME.name)} group by utid having count(*) > 1) order by utid, ts_ns"
    ):
        several.setdefault(int(one), []).append((int(start), str(name)))
    if not several:
        return {}
    extents = database.all(
        f"select {column}, min({quoted(ts.name)}), max({quoted(ts.name)}) from {source} where {where}"
        f" and {column} in ({', '.join(map(str, several))}) group by 1"
    )
    return {int(one): names_between(several[int(one)], int(low), int(high)) for one, low, high in extents}


def _life_sql(utid: str, ts: Any, lives: Mapping[int, Sequence[tuple[int, str]]]) -> str:
    """An expression for which of its names a row's thread had: 0, 1 and so on."""
    cases = []
    for one, names in lives.items():
        later = [(start, at) for at, (start, _) in enumerate(names)][:0:-1]
        inner = " ".join(f"when {quoted(ts.name)} >= {start} then {at}" for start, at in later)
        if inner:
            cases.append(f"when {one} then case {inner} else 0 end")
    return f"case {utid} {' '.join(cases)} else 0 end"


def _labelled(
    database: Database, utid: I32, life: I32 | None, lives: Mapping[int, Sequence[tuple[int, str]]]
) -> tuple[list[ThreadLabel], I32]:
    """Threads under each name that they had, and the index there of each row."""
    known = _threads(database)
    labels: list[ThreadLabel] = []
    used, row = distinct(utid)
    first = np.zeros(len(used), np.int32)
    for at, one in enumerate(used.tolist()):
        tid, pid, last = known.get(one, (0, 0, ""))
        first[at] = len(labels)
        names = [name for _, name in lives.get(one, ())] or [last]
        labels += [ThreadLabel(one, tid, pid, name or (f":{tid}" if tid else "")) for name in names]
    thread = first[row]
    if life is not None:
        thread += life.astype(np.int32)
    return labels or [ThreadLabel(0, 0, 0, "")], thread


def names_between(names: Sequence[tuple[int, str]], low: int, high: int) -> list[tuple[int, str]]:
    """Those of a thread's names (from when, name; ascending) that it had at some time in [low, high]."""
    kept: list[tuple[int, str]] = []
    for at, (start, name) in enumerate(names):
        end = names[at + 1][0] if at + 1 < len(names) else high + 1
        if (end > low or at + 1 == len(names)) and (start <= high or not kept):
            kept.append((start, name))
    return kept


def _threads(database: Database) -> dict[int, tuple[int, int, str]]:
    """utid -> tid, pid, its last name."""
    rows = database.all(
        f"select t.utid, t.tid, coalesce(p.pid, 0), t.name from {database.relation(THREAD.name)} t"
        f" left join {database.relation(PROCESS.name)} p on p.upid = t.upid"
    )
    return {int(utid): (int(tid), int(pid), str(name)) for utid, tid, pid, name in rows}


def _tree(database: Database) -> tuple[I32, I32, list[Frame]]:
    stack = database.fetch(f"select id, parent, frame from {database.relation(STACK.name)} order by id")
    fields = ", ".join(Frame._fields)
    frames = [
        Frame(*row) for row in database.all(f"select {fields} from {database.relation(FRAME.name)} order by id")
    ]
    parent, frame = stack["parent"].astype(np.int32), stack["frame"].astype(np.int32)
    if not len(parent):
        parent, frame = np.zeros(1, np.int32), np.full(1, -1, np.int32)
    return parent, frame, frames


def _losses(database: Database) -> dict[str, int]:
    rows = database.all(
        f"select source, sum(count)::bigint from {database.relation(LOST.name)} group by source order by min(ts_ns)"
    )
    return {str(source): int(count) for source, count in rows}


def _check(stacks: WeightedStacks, name: str) -> None:
    """Ids that point outside their tables (a damaged or forged session) must not reach the views."""
    nodes = len(stacks.parent)
    inside = (
        (stacks.parent[1:] < np.arange(1, nodes)).all()
        and (stacks.parent >= 0).all()
        and (stacks.frame < len(stacks.frames)).all()
        and (stacks.frame[1:] >= 0).all()
        and (stacks.parent[0] == 0)
        and (not len(stacks) or (stacks.stack.min() >= 0 and stacks.stack.max() < nodes))
        and (not len(stacks) or (stacks.thread.min() >= 0 and stacks.thread.max() < len(stacks.threads)))
    )
    if not inside:
        raise InsituError(f"{name}: damaged: stacks refer to missing frames or stacks")


def _chosen(stacks: WeightedStacks, want: Selection) -> WeightedStacks:
    """The rows of one thread or command."""
    if want.tid is None and want.comm is None:
        return stacks
    labels = np.ones(len(stacks.threads), np.bool_)
    if want.tid is not None:
        labels &= np.array([label.tid == want.tid for label in stacks.threads], np.bool_)
    if want.comm is not None:
        names = list(dict.fromkeys(label.name for label in stacks.threads))
        if want.comm not in names:
            raise InsituError(f"no samples of command {want.comm!r}", remedy=f"commands: {', '.join(names[:8])}")
        labels &= np.array([label.name == want.comm for label in stacks.threads], np.bool_)
    mask = labels[stacks.thread]
    if not mask.any():
        asked = [f"thread {want.tid}"] * (want.tid is not None) + [f"command {want.comm!r}"] * (want.comm is not None)
        raise InsituError(f"no samples of {' and '.join(asked)}", remedy="insitu report lists threads")
    return stacks.only(mask)


def stacks_in_memory(tables: MemoryTables, writer: Any, want: Selection, *, times: bool = False) -> WeightedStacks:
    """The same of tables in memory, which ``writer`` has filled: for files that are looked at once.

    Only the ``sample`` table is there then. Raises InsituError as load_stacks does.
    """
    manifest: Manifest = writer.manifest
    types = writer.event_types
    names = [SAMPLE.name] if SAMPLE.name in tables.tables else []
    if want.table and want.table not in names:
        raise InsituError(f"no table {want.table}", remedy=f"tables: {', '.join(names)}")
    column = {
        each: np.asarray(tables.column(SAMPLE.name, each)) if names else np.zeros(0, np.int64)
        for each in ("ts_ns", "utid", "event_type", "stack", "weight")
    }
    rows = [(at, name, unit) for at, (name, unit, *_) in enumerate(types)]
    notes: list[str] = []
    if len(rows) > 1:
        present = set(np.unique(column["event_type"]).tolist())
        rows = [row for row in rows if row[0] in present] or rows[:1]
    chosen = _named(rows, want.event)
    if chosen is not None and len(rows) > 1:
        others = [name for at, name, _ in rows if at != chosen[0]]
        notes = [f"also recorded: {', '.join(others)}; --event selects"]
        column = {each: values[column["event_type"] == chosen[0]] for each, values in column.items()}
    ts_ns = column["ts_ns"]
    first, last = (int(ts_ns.min()), int(ts_ns.max())) if len(ts_ns) else (0, 0)
    if want.start_s is not None or want.end_s is not None:
        low = first + round((want.start_s or 0) * 1e9)
        high = first + round(want.end_s * 1e9) if want.end_s is not None else last + 1
        inside = (ts_ns >= low) & (ts_ns < high)
        column = {each: values[inside] for each, values in column.items()}
    threads, thread = _labels_in_memory(writer, column["utid"], column["ts_ns"])
    tree = writer.stacks
    stack, count, weight = column["stack"], np.ones(len(thread), np.int64), column["weight"]
    kept: I64 | None = None
    if times:
        order = np.argsort(column["ts_ns"], kind="stable")
        stack, thread, weight, kept = stack[order], thread[order], weight[order], column["ts_ns"][order]
    else:
        keys, inverse = distinct(thread.astype(np.int64) * len(tree) + stack)
        count = np.bincount(inverse, minlength=len(keys)).astype(np.int64)
        # bincount sums in double precision: exact up to 2**53, that is 104 days of nanoseconds.
        weight = np.bincount(inverse, weights=weight, minlength=len(keys)).astype(np.int64)
        thread, stack = keys // len(tree), keys % len(tree)
    stacks = WeightedStacks(
        parent=tree.parent,
        frame=tree.frame,
        frames=writer.frames.frames,
        stack=stack.astype(np.int32),
        thread=thread.astype(np.int32),
        count=count,
        weight=weight.astype(np.int64),
        threads=threads,
        event=str(chosen[1]) if chosen else "",
        unit=(str(chosen[2]) if chosen else "") or "samples",
        ts_ns=kept,
        first_ns=first,
        last_ns=last,
        manifest=manifest,
        losses=writer.losses_by_source(),
        notes=(*writer.notes, *notes),
        preferred=_preferred(manifest),
    )
    return _chosen(stacks, want)


def _labels_in_memory(writer: Any, utid: I64, ts_ns: I64) -> tuple[list[ThreadLabel], I32]:
    labels: list[ThreadLabel] = []
    thread = np.zeros(len(utid), np.int32)
    for one, rows in groups(utid):
        tid, pid, names = writer.processes.label(one)
        lives = names_between(names, int(ts_ns[rows].min()), int(ts_ns[rows].max())) or [(0, "")]
        starts = np.array([start for start, _ in lives], np.int64)
        at = np.maximum(np.searchsorted(starts, ts_ns[rows], side="right") - 1, 0)
        thread[rows] = len(labels) + at
        labels += [ThreadLabel(one, tid, pid, name or f":{tid}") for _, name in lives]
    return labels or [ThreadLabel(0, 0, 0, "")], thread
