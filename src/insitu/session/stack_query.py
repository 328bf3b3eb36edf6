"""Weighted stacks of a session on disk: added up by DuckDB, so that memory does not grow with the recording."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError, damaged_recording
from insitu.session.call_table import has_calls
from insitu.session.core_tables import EVENT_TYPE, FRAME, LOST, PROCESS, SAMPLE, SPAN, STACK, THREAD, THREAD_NAME
from insitu.session.distinct import distinct
from insitu.session.manifest import Manifest
from insitu.session.query import Database
from insitu.session.schema import Column, Table, quoted
from insitu.session.weighted_stacks import (
    MOST_DURATION_NS,
    MOST_WEIGHT,
    Selection,
    ThreadLabel,
    TimedRows,
    Value,
    WeightedStacks,
    check_rows,
    check_tree,
    chosen,
    event_chosen,
    names_between,
    preferred_of,
    together,
)
from insitu.symbols.frame import Frame

__all__ = ["load_stacks", "rows_in_time", "stack_tree", "tables_with_stacks"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_BATCH_ROWS: Final = 1 << 20
_WINDOW_SLOTS: Final = 4096
_MOST_STACKS: Final = 1 << 25


def load_stacks(
    database: Database,
    manifest: Manifest,
    want: Selection,
    *,
    times: bool = False,
    by_thread: bool = True,
    extent: tuple[int, int] | None = None,
) -> WeightedStacks:
    """The weighted stacks of a session on disk; ``times`` keeps every row, in the order of time.

    Without ``by_thread`` rows of different threads may be added up, under any of them; ``threads`` are all of them.
    ``extent`` are the first and the last time of what the rows belong to (default: of the rows' event).

    Raises InsituError, naming what there is, when nothing is selected, and where tables are damaged.
    """
    asked = want.table or ("" if want.event else manifest.default_table)
    if "+" in asked:
        return _union(database, manifest, want, asked.split("+"), times=times, by_thread=by_thread)
    rows = _Rows(database, _table(database, asked), want, extent)
    if times:
        in_order = manifest.tables.get(rows.table.name, {}).get("sorted_by") == rows.time_column.name
        found = rows.each(ordered=not in_order)
    else:
        found = rows.summed(by_thread=by_thread or want.tid is not None or want.comm is not None)
    threads, thread = rows.labelled(found)
    count = np.ones(len(thread), np.int64) if times else found["count"].astype(np.int64)
    parent, frame, frames = stack_tree(database)
    table, weight = rows.table, rows.weight
    counted = "samples" if table.name == SAMPLE.name else "events"
    stacks = WeightedStacks(
        parent=parent,
        frame=frame,
        frames=frames,
        stack=found["stack"].astype(np.int32, copy=False),
        thread=thread,
        count=count,
        weight=found["weight"].astype(np.int64, copy=False) if weight is not None else count,
        threads=threads,
        table=table.name,
        event=rows.event or table.name.removeprefix("event."),
        unit=rows.unit or counted,
        period=rows.period,
        counted=counted,
        squares=found.get("squares"),
        ts_ns=found["ts_ns"] if times else None,
        first_ns=rows.first_ns,
        last_ns=rows.last_ns,
        manifest=manifest,
        losses=_losses(database),
        notes=(*manifest.notes, *rows.notes),
        preferred="weight" if table.name != SAMPLE.name and weight is not None else preferred_of(manifest),
    )
    check_rows(stacks, database.called[0])
    return chosen(stacks, want)


def rows_in_time(database: Database, want: Selection, stacks: WeightedStacks, value: Value) -> Iterator[TimedRows]:
    """The rows that ``stacks`` (of the same selection, without ``ts_ns``) adds up, each with its time and ``value``.

    They come in batches of about a million; every row of a batch is before those of the next. Raises as load_stacks.
    """
    tables = [
        _Rows(database, _table(database, name), want, (stacks.first_ns, stacks.last_ns))
        for name in stacks.table.split("+")
    ]
    for rows in tables:
        _ = rows.time_column
    return _batches(tables, want, stacks, value)


def _batches(tables: Sequence[_Rows], want: Selection, stacks: WeightedStacks, value: Value) -> Iterator[TimedRows]:
    index = {label: at for at, label in enumerate(stacks.threads)}
    # By label, since a thread that got an earlier name back has two equal ones.
    chosen_labels = {stacks.threads[at] for at in np.unique(stacks.thread).tolist()}
    every = want.tid is None and want.comm is None
    selected = np.array([every or label in chosen_labels for label in stacks.threads], np.bool_)
    for window in _windows(tables, stacks.first_ns, stacks.last_ns):
        parts = [rows.in_time(window, index, value) for rows in tables]
        batch = parts[0] if len(parts) == 1 else TimedRows(*map(np.concatenate, zip(*parts, strict=True)))
        mask = selected[batch.thread]
        yield batch if mask.all() else batch.only(mask)


def _windows(tables: Sequence[_Rows], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Ranges of time, both ends included, of about _BATCH_ROWS rows each."""
    step = (last - first) // _WINDOW_SLOTS + 1
    rows = np.zeros(_WINDOW_SLOTS, np.int64)
    for table in tables:
        found = table.histogram(first, step)
        rows[np.clip(found["slot"], 0, _WINDOW_SLOTS - 1)] += found["count"]
    low = held = 0
    for slot, count in enumerate(rows.tolist()):
        held += count
        if held >= _BATCH_ROWS:
            yield first + low * step, first + (slot + 1) * step - 1
            low, held = slot + 1, 0
    if held:
        yield first + low * step, last


class _Rows:
    """The rows of one table that are asked for, and how SQL reads them."""

    def __init__(self, database: Database, table: Table, want: Selection, extent: tuple[int, int] | None) -> None:
        self.database = database
        self.table = table
        assert table.stack is not None
        self.where, self.event, self.unit, self.period, self.notes = _event(database, table, want)
        self.weight = _weight(database, table, want.weight)
        if self.weight is not None and self.weight.semantic.unit != "*":
            self.unit = self.weight.semantic.unit
        self.ts, utid = table.of_type("timestamp"), table.of_type("utid")
        source = database.relation(table.name)
        self.first_ns, self.last_ns = self._extent(source) if extent is None else extent
        if want.start_s is not None or want.end_s is not None:
            self.where += _range(self.ts, self.first_ns, want)
        self._lives = _lives(database, source, self.where, self.ts, utid)
        self._keys = {"stack": quoted(table.stack.name)}
        if utid is not None:
            self._keys["utid"] = f"coalesce({quoted(utid.name)}, 0)"
            if any(len(names) > 1 for names in self._lives.values()):
                self._keys["life"] = _life_sql(self._keys["utid"], self.ts, self._lives)
        self._threads = _threads(database)

    def _extent(self, source: str) -> tuple[int, int]:
        if self.ts is None:
            return 0, 0
        ts = quoted(self.ts.name)
        found = self.database.fetch(f"select min({ts}) as low, max({ts}) as high from {source} where {self.where}")
        return int(found["low"][0]), int(found["high"][0])

    @property
    def time_column(self) -> Column:
        """The column of timestamps. Raises InsituError where the table has none."""
        if self.ts is None:
            raise InsituError(f"{self.table.name}: rows without timestamps", remedy="choose another --table")
        return self.ts

    def summed(self, *, by_thread: bool) -> dict[str, Any]:
        """The sums of rows by stack and, with ``by_thread``, thread and its name."""
        keys = self._keys if by_thread else {"stack": self._keys["stack"]}
        terms = {**keys, "count": "count(*)"}
        if self.weight is not None:
            own = _weight_sql(self.weight)
            # One that cannot be is there for check_rows(), whatever else is added to it.
            terms["weight"] = (
                f"case when min({own}) < 0 then -1 else least(sum({own}), {2 * MOST_WEIGHT})::bigint end"
            )
            if self.weight.semantic.unit != "*":
                terms["squares"] = f"sum(pow({own}, 2))"
        columns = ", ".join(str(at + 1) for at in range(len(keys)))
        return self._fetched(terms, self.database.relation(self.table.name), f"group by {columns}")

    def each(
        self, window: tuple[int, int] | None = None, *, ordered: bool = False, weights: bool = True
    ) -> dict[str, Any]:
        """Every row, or those of times in a window (both ends included); ``ordered`` by time."""
        terms = {**self._keys, "ts_ns": quoted(self.time_column.name)}
        if self.weight is not None and weights:
            terms["weight"] = _weight_sql(self.weight)
        if window is None:
            source = self.database.bounded(self.table.name, texts=False)
        else:
            source = self.database.between(self.table.name, self.time_column, *window)
        return self._fetched(terms, source, f"order by {terms['ts_ns']}" if ordered else "")

    def in_time(self, window: tuple[int, int], index: Mapping[ThreadLabel, int], value: Value) -> TimedRows:
        """The rows of a window; ``index`` has the number of each thread."""
        found = self.each(window, weights=value == "weight")
        labels, thread = self.labelled(found)
        number = np.array([index[label] for label in labels], np.int32)
        amount = found["weight"] if "weight" in found else np.ones(len(thread), np.int64)
        return TimedRows(found["ts_ns"], found["stack"], number[thread], amount)

    def histogram(self, first: int, step: int) -> dict[str, Any]:
        """The number of rows by time: ``step`` nanoseconds since ``first`` each."""
        terms = {"slot": f"({quoted(self.time_column.name)} - {first}) // {step}", "count": "count(*)"}
        return self._fetched(terms, self.database.relation(self.table.name), "group by 1")

    def _fetched(self, terms: Mapping[str, str], source: str, end: str) -> dict[str, Any]:
        selected = ", ".join(f"{term} as {quoted(name)}" for name, term in terms.items())
        return self.database.fetch(f"select {selected} from {source} where {self.where} {end}")

    def labelled(self, found: Mapping[str, Any]) -> tuple[list[ThreadLabel], I32]:
        """Threads under each name that they had, and the index there of each row."""
        unknown = np.zeros(len(found["stack"]), np.int32)
        if "utid" not in self._keys:
            return [ThreadLabel(0, 0, 0, "")], unknown
        if "utid" not in found:
            terms = {name: term for name, term in self._keys.items() if name != "stack"}
            threads = self._fetched(terms, self.database.relation(self.table.name), "group by all")
            return self.labelled({"stack": threads["utid"], **threads})[0], unknown
        return _labelled(self._threads, found["utid"], found.get("life"), self._lives)


def _union(
    database: Database, manifest: Manifest, want: Selection, names: Sequence[str], *, times: bool, by_thread: bool
) -> WeightedStacks:
    """The rows of several tables. What is selected of them is so of all together."""
    if len(set(names)) < len(names):
        raise InsituError(f"--table {want.table}: a table is named twice", status=2)
    for name in names:
        _table(database, name or "+")
    whole = want._replace(tid=None, comm=None, start_s=None, end_s=None)
    by_thread |= want.tid is not None or want.comm is not None
    load = partial(load_stacks, database, manifest, times=times, by_thread=by_thread)
    parts = [load(whole._replace(table=name)) for name in names]
    if len({part.unit for part in parts}) > 1 and not want.table:  # nobody asked for them together
        note = f"{names[1]} counts {parts[1].unit} and is not shown with {names[0]}; --table shows it"
        return chosen(replace(parts[0], notes=(*parts[0].notes, note)), want)
    if want.start_s is not None or want.end_s is not None:
        first = min((part.first_ns for part in parts if part.first_ns), default=0)
        extent = first, max(part.last_ns for part in parts)
        ranged = whole._replace(start_s=want.start_s, end_s=want.end_s)
        parts = [load(ranged._replace(table=name), extent=extent) for name in names]
    return chosen(together(parts), want)


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


def _event(database: Database, table: Table, want: Selection) -> tuple[str, str, str, int, list[str]]:
    """The condition that selects one event's rows, the event's name, unit and period, and notes."""
    column = table.of_type("event_type")
    if column is None:
        return "true", "", "", 0, []
    kind, source = quoted(column.name), database.relation(table.name)
    rows = database.all(f"select id, name, unit, period from {database.loadable(EVENT_TYPE.name)} order by id")
    named, notes = event_chosen(
        rows, lambda: {row[0] for row in database.all(f"select distinct {kind} from {source}")}, want.event
    )
    if named is None:
        return "true", "", "", 0, []
    where = f"{kind} = {int(named[0])}" if notes else "true"
    return where, str(named[1]), str(named[2]), int(named[3]), notes


def _weight(database: Database, table: Table, asked: str) -> Any:
    if asked:
        column = table.column(asked)
        if column is None or not column.semantic.unit:
            names = ", ".join(each.name for each in table.weights)
            raise InsituError(f"{asked}: not a column with a unit", remedy=f"columns: {names or 'none'}")
        return column
    if table.name == SPAN.name and has_calls(database):
        return table.column("self_ns")  # durations have those of callees in them
    return table.weights[0] if table.weights else None


def _weight_sql(column: Column) -> str:
    """What a row weighs, 0 for null; -1, which no row may weigh, for a duration that cannot be."""
    own = f"coalesce({quoted(column.name)}, 0)"
    return f"case when {own} > {MOST_DURATION_NS} then -1 else {own} end" if column.type == "duration" else own


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
        f"select utid, ts_ns, name from {database.loadable(THREAD_NAME.name)} where utid in (select utid from"
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
    threads = [(0, "0")]
    for one, names in sorted(lives.items()):
        if len(names) > 1:
            inner = _from_bounds(quoted(ts.name), [(start, str(at)) for at, (start, _) in enumerate(names)])
            threads += [(one, inner), (one + 1, "0")]
    return _from_bounds(utid, list(dict(threads).items()))


def _from_bounds(column: str, values: Sequence[tuple[int, str]]) -> str:
    """The value of the last bound that the column has reached, or the first; by halves, as there may be many."""
    if len(values) == 1:
        return values[0][1]
    middle = len(values) // 2
    later, earlier = _from_bounds(column, values[middle:]), _from_bounds(column, values[:middle])
    return f"case when {column} >= {values[middle][0]} then {later} else {earlier} end"


def _labelled(
    known: Mapping[int, tuple[int, int, str]],
    utid: I32,
    life: I32 | None,
    lives: Mapping[int, Sequence[tuple[int, str]]],
) -> tuple[list[ThreadLabel], I32]:
    """Threads under each name that they had, and the index there of each row."""
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


def _threads(database: Database) -> dict[int, tuple[int, int, str]]:
    """utid -> tid, pid, its last name."""
    rows = database.all(
        f"select t.utid, t.tid, coalesce(p.pid, 0), t.name from {database.loadable(THREAD.name)} t left join"
        f" (select upid, any_value(pid) as pid from {database.relation(PROCESS.name)} group by upid) p"
        " on p.upid = t.upid"
    )
    return {int(utid): (int(tid), int(pid), str(name)) for utid, tid, pid, name in rows}


def stack_tree(database: Database) -> tuple[I32, I32, list[Frame]]:
    """Parent and frame of each stack, and the frames. Raises InsituError for damaged tables."""
    stack = database.fetch(f"select id, parent, frame from {database.loadable(STACK.name, _MOST_STACKS)} order by id")
    names = ", ".join(Frame._fields)
    fields = database.fetch(f"select id, {names} from {database.loadable(FRAME.name)} order by id")
    for table, ids in ((STACK.name, stack["id"]), (FRAME.name, fields["id"])):
        if not np.array_equal(ids, np.arange(len(ids))):
            raise damaged_recording(database.called[0], f"the ids of table {table} are not 0 to {len(ids) - 1}")
    frames = [*map(Frame._make, zip(*(fields[name].tolist() for name in Frame._fields), strict=True))]
    parent, frame = stack["parent"].astype(np.int32), stack["frame"].astype(np.int32)
    if not len(parent):
        parent, frame = np.zeros(1, np.int32), np.full(1, -1, np.int32)
    check_tree(parent, frame, frames, database.called[0])
    return parent, frame, frames


def _losses(database: Database) -> dict[str, int]:
    rows = database.all(
        f"select source, sum(count)::bigint from {database.loadable(LOST.name)} group by source order by min(ts_ns)"
    )
    return {str(source): int(count) for source, count in rows}
