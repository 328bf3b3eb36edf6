"""Weighted stacks of a session on disk: added up by DuckDB, so that memory does not grow with the recording."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.session.core_tables import EVENT_TYPE, FRAME, LOST, PROCESS, SAMPLE, STACK, THREAD, THREAD_NAME
from insitu.session.distinct import distinct
from insitu.session.manifest import Manifest
from insitu.session.query import Database
from insitu.session.schema import Table, quoted
from insitu.session.weighted_stacks import (
    Selection,
    ThreadLabel,
    WeightedStacks,
    check_ids,
    chosen,
    event_named,
    names_between,
    preferred_of,
    together,
)
from insitu.symbols.frame import Frame

__all__ = ["load_stacks", "tables_with_stacks"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


def load_stacks(
    database: Database, manifest: Manifest, want: Selection, *, times: bool = False, since: int | None = None
) -> WeightedStacks:
    """The weighted stacks of a session on disk; ``times`` keeps every row, in the order of time.

    Raises InsituError, naming what there is, when nothing is selected, and where tables are damaged.
    """
    asked = want.table or ("" if want.event else manifest.default_table)
    if "+" in asked:
        return _union(database, manifest, want, asked.split("+"), times=times)
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
    first = first if since is None else since
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
        event=event or table.name.removeprefix("event."),
        unit=unit or counted,
        counted=counted,
        squares=rows.get("squares"),
        ts_ns=rows["ts_ns"] if times else None,
        first_ns=first,
        last_ns=last,
        manifest=manifest,
        losses=_losses(database),
        notes=(*manifest.notes, *notes),
        preferred="weight" if table.name != SAMPLE.name and weight is not None else preferred_of(manifest),
    )
    check_ids(stacks, str(manifest.imported_from or table.name))
    return chosen(stacks, want)


def _union(
    database: Database, manifest: Manifest, want: Selection, names: Sequence[str], *, times: bool
) -> WeightedStacks:
    """The rows of several tables. What is selected of them is so of all together."""
    if len(set(names)) < len(names):
        raise InsituError(f"--table {want.table}: a table is named twice", status=2)
    for name in names:
        _table(database, name or "+")
    whole = want._replace(tid=None, comm=None, start_s=None, end_s=None)
    parts = [load_stacks(database, manifest, whole._replace(table=name), times=times) for name in names]
    if len({part.unit for part in parts}) > 1 and not want.table:  # nobody asked for them together
        note = f"{names[1]} counts {parts[1].unit} and is not shown with {names[0]}; --table shows it"
        return chosen(replace(parts[0], notes=(*parts[0].notes, note)), want)
    if want.start_s is not None or want.end_s is not None:
        since = min((part.first_ns for part in parts if part.first_ns), default=0)
        ranged = whole._replace(start_s=want.start_s, end_s=want.end_s)
        parts = [
            load_stacks(database, manifest, ranged._replace(table=name), times=times, since=since) for name in names
        ]
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


def _event(database: Database, table: Table, want: Selection) -> tuple[str, str, str, list[str]]:
    """The condition that selects one event's rows, the event's name and unit, and notes."""
    column = table.of_type("event_type")
    if column is None:
        return "true", "", "", []
    kind = quoted(column.name)
    rows = database.all(
        f"select id, name, unit from {database.relation(EVENT_TYPE.name)} order by id",
    )
    source = database.relation(table.name)
    if len(rows) > 1:
        present = {row[0] for row in database.all(f"select distinct {kind} from {source}")}
        rows = [row for row in rows if row[0] in present] or rows[:1]
    named = event_named(rows, want.event)
    if named is None:
        return "true", "", "", []
    others = [name for _, name, _ in rows if name != named[1]]
    notes = [f"also recorded: {', '.join(others)}; --event selects"] if others else []
    where = f"{kind} = {int(named[0])}" if others else "true"
    return where, str(named[1]), str(named[2]), notes


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


def _threads(database: Database) -> dict[int, tuple[int, int, str]]:
    """utid -> tid, pid, its last name."""
    rows = database.all(
        f"select t.utid, t.tid, coalesce(p.pid, 0), t.name from {database.relation(THREAD.name)} t"
        f" left join {database.relation(PROCESS.name)} p on p.upid = t.upid"
    )
    return {int(utid): (int(tid), int(pid), str(name)) for utid, tid, pid, name in rows}


def _tree(database: Database) -> tuple[I32, I32, list[Frame]]:
    stack = database.fetch(f"select id, parent, frame from {database.relation(STACK.name)} order by id")
    names = ", ".join(Frame._fields)
    fields = database.fetch(f"select {names} from {database.relation(FRAME.name)} order by id")
    frames = [*map(Frame._make, zip(*(fields[name].tolist() for name in Frame._fields), strict=True))]
    parent, frame = stack["parent"].astype(np.int32), stack["frame"].astype(np.int32)
    if not len(parent):
        parent, frame = np.zeros(1, np.int32), np.full(1, -1, np.int32)
    return parent, frame, frames


def _losses(database: Database) -> dict[str, int]:
    rows = database.all(
        f"select source, sum(count)::bigint from {database.relation(LOST.name)} group by source order by min(ts_ns)"
    )
    return {str(source): int(count) for source, count in rows}
