"""From a session's tables, whatever it has of them, to the arrays of its timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError, damaged_recording
from insitu.session.core_tables import COUNTER, LOST, SAMPLE, SPAN, SYSCALL, THREAD_STATE
from insitu.session.machines import machines
from insitu.session.parquet import literal
from insitu.session.reader import Session
from insitu.session.schema import Table, quoted, quoted_table
from insitu.session.stack_query import stack_tree
from insitu.session.weighted_stacks import MOST_DURATION_NS
from insitu.views.page_data import TIMELINE_ARRAYS, TimelineMeta
from insitu.views.timeline.states import off_cpu_states
from insitu.views.timeline.threads import number_threads

if TYPE_CHECKING:
    import polars

__all__ = ["MOST_ROWS", "Timeline", "timeline"]

I64 = NDArray[np.int64]

MOST_ROWS: Final = 12_000_000
"""That a browser takes in one file."""

_MOST_TEXT: Final = 64 << 20
"""Characters of arguments and fields of events in a page; the rows after that have none."""
_SCHEDULER: Final = ("sched_switch", "sched_waking", "sched_wakeup", "sched_wakeup_new")
_WAITS: Final = "('off-cpu', 'run-queue')"
_SECOND: Final = 1_000_000_000
_MOST_CPUS: Final = 8192  # CONFIG_NR_CPUS of the largest kernels; each gets a track


class Timeline(NamedTuple):
    """What the page is drawn from: see views/page_data.py."""

    meta: TimelineMeta
    arrays: dict[str, NDArray[Any]]

    @property
    def rows(self) -> int:
        """States, spans, samples, events and values of counters."""
        return sum(len(array) for name, array in self.arrays.items() if name.endswith("Time"))


class _Texts:
    """Texts, once each, up to a number of characters in all. Text 0 is empty."""

    def __init__(self) -> None:
        self.texts = [""]
        self.left = _MOST_TEXT
        self.without = 0

    def numbers(self, column: polars.Series) -> I64:
        """The number of each text of a column."""
        import polars as pl

        distinct = column.drop_nulls().unique(maintain_order=True)
        room = distinct.str.len_chars().cum_sum() <= self.left
        kept = distinct.filter(room)
        self.left -= int(kept.str.len_chars().sum() or 0)
        number = pl.DataFrame({"text": kept, "number": np.arange(len(kept)) + len(self.texts)})
        self.texts += kept.to_list()
        found = column.to_frame("text").join(number, on="text", how="left", maintain_order="left")["number"]
        self.without += found.null_count() - column.null_count()
        return found.fill_null(0).to_numpy().astype(np.int64)


def timeline(session: Session, *, title: str = "", seconds: tuple[float, float] | None = None) -> Timeline:
    """The timeline of a session, or of a range of ``seconds`` since its first row.

    Raises InsituError when the session has nothing with a time, or nothing in the range.
    """
    events = _event_tables(session)
    first, last = _extent(session, events)
    origin, end = first, last
    if seconds is not None:
        origin, end = (min(first + round(each * _SECOND), last) for each in seconds)
        if origin >= last:
            raise InsituError(
                f"nothing was recorded from second {seconds[0]:g} on",
                remedy=f"all is in 0-{(last - first) / _SECOND:.3f}",
            )
    query = _Query(session, origin, end)
    texts = _Texts()
    arrays: dict[str, NDArray[Any]] = {array.name: np.zeros(0, np.int64) for array in TIMELINE_ARRAYS}
    meta: Any = {"states": [], "names": [], "categories": [], "events": [], "sampled": []}
    meta["counters"] = {"name": [], "unit": [], "thread": [], "cpu": []}
    notes = list(session.manifest.notes)
    waits = _add_states(query, arrays, meta)
    _add_spans(query, arrays, meta, texts, without=_WAITS if waits else "('')")
    _add_samples(query, arrays, meta)
    _add_events(query, events, arrays, meta, texts)
    _add_counters(query, arrays, meta)
    _number_stacks(session, arrays, meta)
    number_threads(session, arrays, meta)
    if texts.without:
        notes.append(f"{texts.without:,} rows are shown without arguments and fields: --range shows them")
    losses = session.sql(f"select source, sum(count)::bigint from {LOST.name} group by source order by min(ts_ns)")
    manifest = session.manifest
    meta |= {
        "mode": "timeline",
        "title": title,
        "subtitle": "",
        "notes": notes,
        "losses": dict(losses.rows()),
        "endNs": end - origin,
        "texts": texts.texts,
    }
    made = Timeline(meta, arrays)
    words = [f"{made.rows:,} rows over {(end - origin) / _SECOND:.6g} s", manifest.host, manifest.kernel]
    meta["subtitle"] = " · ".join(filter(None, words))
    return made


class _Query:
    """Rows of tables with times, cut to a range of time."""

    def __init__(self, session: Session, origin: int, end: int) -> None:
        self.session, self.origin, self.end = session, origin, end
        self.tables = set(session.tables)

    def rows(self, columns: str, source: str, where: str = "true", order: str = "ts_ns") -> polars.DataFrame:
        """Columns of the rows of ``source`` that begin in the range."""
        return self.session.sql(
            f"select {columns} from {source} where ts_ns >= {self.origin} and ts_ns <= {self.end} and {where}"
            f" order by {order}"
        )

    def intervals(self, columns: str, source: str, where: str = "true", *, coded: Sequence[str]) -> polars.DataFrame:
        """``columns``, start and duration within the range of the rows of ``source`` that lie in it at least in part.

        One without an end lasts to the end of the range. The texts of the columns ``coded`` are an Enum.
        """
        low, high = f"greatest(ts_ns, {self.origin})", f"least(coalesce(ts_ns + dur_ns, {self.end}), {self.end})"
        found = self.session.sql(
            f"select {low} - {self.origin} as time, greatest({high} - {low}, 0) as duration, {columns} from {source}"
            f" where ts_ns <= {self.end} and coalesce(ts_ns + dur_ns, {self.end}) >= {self.origin} and {where}"
        )
        # A column at a time, texts as codes: to sort the frame, or in the query, takes twice the memory of all.
        for index, name in enumerate(found.columns):
            if name in coded:
                found.replace_column(index, _as_enum(found[name]))
        order = np.lexsort((-found["duration"].to_numpy(), found["time"].to_numpy()))
        for index, name in enumerate(found.columns):
            found.replace_column(index, found[name].gather(order))
        return found


def _event_tables(session: Session) -> list[Table]:
    """The event.* tables with times; not those of which the thread states were made."""
    prefixes = machines(session).events if session.database.rows(THREAD_STATE.name) else []
    skipped = {f"event.{prefix}{name}" for prefix in prefixes for name in _SCHEDULER}
    found = [session.database.table(name) for name in session.tables if name.startswith("event.")]
    return [table for table in found if table.name not in skipped and table.column("ts_ns")]


def _extent(session: Session, events: Sequence[Table]) -> tuple[int, int]:
    """The first time, and the last."""
    with_times = [table for table in (THREAD_STATE, SPAN, SAMPLE, COUNTER) if table.name in session.tables]
    terms = [
        f"select min(ts_ns) as low, max(ts_ns{' + coalesce(dur_ns, 0)' if has_duration else ''}) as high,"
        f" {'max(dur_ns)' if has_duration else 'null'} as longest, {literal(table.name)} as name"
        f" from {quoted_table(table.name)}"
        for table in (*with_times, *events)
        for has_duration in [table.column("dur_ns") is not None]
    ]
    low: Any = None
    high: Any = None
    if terms:
        low, high, longest, name = session.sql(
            f"select min(low), max(high), max(longest), arg_max(name, longest) from ({' union all '.join(terms)})"
        ).row(0)
        if longest is not None and longest > MOST_DURATION_NS:
            raise damaged_recording(session.name, f"a duration of table {name} that cannot be")
    if low is None:
        raise InsituError(
            f"{session.name}: nothing in it has a time",
            remedy="a timeline needs samples, spans, system calls, thread states or events",
        )
    return int(low), max(int(high), session.manifest.end_ns, int(low) + 1)


def _as_enum(column: polars.Series) -> polars.Series:
    """Texts as an Enum of the distinct ones, sorted."""
    import polars as pl

    column = column.fill_null("")
    return column.cast(pl.Enum(column.unique().sort()))


def _coded(column: polars.Series) -> tuple[list[str], NDArray[Any]]:
    """The distinct texts of a column that is an Enum, and of each row an index into them."""
    categories: Any = column.dtype
    return categories.categories.to_list(), column.to_physical().to_numpy()


def _numbers(frame: polars.DataFrame, name: str, missing: int = 0) -> NDArray[Any]:
    return np.asarray(frame[name].fill_null(missing).to_numpy())


def _cpus(frame: polars.DataFrame) -> NDArray[Any]:
    """The numbers of CPUs plus one; 0 for those that no machine has."""
    cpu = _numbers(frame, "cpu", -1)
    return np.where((cpu >= 0) & (cpu < _MOST_CPUS), cpu + 1, 0)


def _add_states(query: _Query, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> bool:
    """Add the thread states; returns whether they were made of spans, as there is no table of them."""
    made = not query.session.database.rows(THREAD_STATE.name)
    if made and SPAN.name not in query.tables:
        return False
    columns = "utid, state, cpu, waker, stack"
    frame = query.intervals(columns, off_cpu_states() if made else THREAD_STATE.name, coded=["state"])
    meta["states"], what = _coded(frame["state"])
    arrays |= {
        "stateTime": _numbers(frame, "time"),
        "stateDuration": _numbers(frame, "duration"),
        "stateThread": _numbers(frame, "utid"),
        "stateWhat": what,
        "stateCpu": _cpus(frame),
        "stateWaker": _numbers(frame, "waker"),
        "stateStack": _numbers(frame, "stack"),
    }
    return made and len(frame) > 0


def _add_spans(
    query: _Query, arrays: dict[str, NDArray[Any]], meta: dict[str, Any], texts: _Texts, *, without: str
) -> None:
    """Add the spans of other categories than ``without``; system calls with their arguments and results."""
    if SPAN.name not in query.tables:
        return
    text, source = "null::varchar", "span s left join thread t using (utid)"
    has_texts = query.session.database.rows(SYSCALL.name) > 0
    if has_texts:
        source += " left join syscall c on c.span_id = s.id and s.category = 'syscall'"
        error = "case when c.errno > 0 then ' errno ' || c.errno else '' end"
        text = f"'(' || c.arguments || ')' || coalesce(' = ' || c.ret || {error}, '')"
    # What a thread was in when it ended lasted until then.
    duration = "coalesce(s.dur_ns, greatest(t.end_ns - s.ts_ns, 0)) as dur_ns"
    columns = f"s.ts_ns, {duration}, s.utid, s.name, s.category, s.stack, {text} as text"
    wanted = "utid, name, category, stack, text" if has_texts else "utid, name, category, stack"
    source = f"(select {columns} from {source})"
    frame = query.intervals(wanted, source, f"category not in {without}", coded=["name", "category"])
    meta["names"], name = _coded(frame["name"])
    meta["categories"], category = _coded(frame["category"])
    arrays |= {
        "spanTime": _numbers(frame, "time"),
        "spanDuration": _numbers(frame, "duration"),
        "spanThread": _numbers(frame, "utid"),
        "spanName": name,
        "spanCategory": category,
        "spanText": texts.numbers(frame["text"]) if has_texts else np.zeros(len(frame), np.int64),
        "spanStack": _numbers(frame, "stack"),
    }


def _add_samples(query: _Query, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    if SAMPLE.name not in query.tables:
        return
    frame = query.rows("*", SAMPLE.name)
    meta["sampled"] = query.session.sql("select name from event_type order by id")["name"].to_list()
    arrays |= {
        "sampleTime": _numbers(frame, "ts_ns") - query.origin,
        "sampleThread": _numbers(frame, "utid"),
        "sampleCpu": _cpus(frame),
        "sampleType": np.clip(_numbers(frame, "event_type"), 0, max(len(meta["sampled"]) - 1, 0)),
        "sampleStack": _numbers(frame, "stack"),
    }


def _add_events(
    query: _Query, tables: Sequence[Table], arrays: dict[str, NDArray[Any]], meta: dict[str, Any], texts: _Texts
) -> None:
    """Add the rows of ``tables``, their own fields as text."""
    if not tables:
        return
    meta["events"] = [table.name.removeprefix("event.") for table in tables]
    parts = []
    for number, table in enumerate(tables):  # one after another: their texts take more memory than all else
        frame = query.rows("*", _event_sql(number, table))
        parts.append(
            {
                "eventTime": _numbers(frame, "ts_ns") - query.origin,
                "eventThread": _numbers(frame, "utid"),
                "eventCpu": _cpus(frame).astype(np.int16),
                "eventType": _numbers(frame, "type"),
                "eventText": texts.numbers(frame["text"]).astype(np.int32),
                "eventStack": _numbers(frame, "stack"),
            }
        )
    order = np.argsort(np.concatenate([part["eventTime"] for part in parts]), kind="stable")
    arrays |= {name: np.concatenate([part.pop(name) for part in parts])[order] for name in [*parts[0]]}


def _event_sql(number: int, table: Table) -> str:
    shared = {
        name: name if table.column(name) else missing
        for name, missing in (("ts_ns", "0"), ("utid", "0"), ("cpu", "-1"))
    }
    stack = quoted(table.stack.name) if table.stack else "0"
    fields = []
    for column in table.columns:
        if column.name in shared or column.type == "stack":
            continue
        value = f"{quoted(column.name)}::varchar"
        if column.type in ("kernel_address", "user_address"):
            value = f"printf('0x%x', {quoted(column.name)})"
        label = (column.name + "=").replace("'", "''")
        fields.append(f"'{label}' || {value}")
    text = f"concat_ws(' ', {', '.join(fields)})" if fields else "''"
    columns = ", ".join(f"{value} as {name}" for name, value in shared.items())
    return f"(select {columns}, {number} as type, {stack} as stack, {text} as text from {quoted_table(table.name)})"


def _add_counters(query: _Query, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    if not {COUNTER.name, "track"} <= query.tables:
        return
    tracks = query.session.sql("select * from track order by id")
    device = [f" {each}" if each else "" for each in tracks["device"]]
    meta["counters"] = {
        "name": [f"{name}{where}" for name, where in zip(tracks["name"], device, strict=True)],
        "unit": tracks["unit"].to_list(),
        "thread": [each or 0 for each in tracks["utid"]],
        "cpu": [-1 if each is None else each for each in tracks["cpu"]],
    }
    frame = query.rows("ts_ns, track, value", COUNTER.name, "track in (select id from track)")
    arrays |= {
        "counterTime": _numbers(frame, "ts_ns") - query.origin,
        "counterTrack": np.searchsorted(tracks["id"].to_numpy(), _numbers(frame, "track")),
        "counterValue": np.nan_to_num(_numbers(frame, "value").astype(np.float64)),
    }


def _number_stacks(session: Session, arrays: dict[str, NDArray[Any]], meta: dict[str, Any]) -> None:
    """Keep the stacks that rows have, and their callers."""
    parent, frame, frames = stack_tree(session.database)
    used = np.zeros(len(parent), np.bool_)
    used[0] = True
    columns = ("stateStack", "spanStack", "sampleStack", "eventStack")
    for name in columns:
        arrays[name] = np.where((arrays[name] > 0) & (arrays[name] < len(parent)), arrays[name], 0)
    fresh = np.unique(np.concatenate([arrays[name] for name in columns]))
    while len(fresh := fresh[~used[fresh]]):
        used[fresh] = True
        fresh = np.unique(parent[fresh])
    number = np.cumsum(used) - 1
    for name in columns:
        arrays[name] = number[arrays[name]]
    ids, function = np.unique(np.where(used, frame, -1)[used], return_inverse=True)
    shown = [frames[each] if each >= 0 else None for each in ids.tolist()]
    meta["functions"] = {
        "name": [each.function if each else "" for each in shown],
        "module": [each.module if each else "" for each in shown],
        "kind": [each.kind if each else "" for each in shown],
    }
    arrays["stackParent"], arrays["stackFunction"] = number[parent[used]], function
