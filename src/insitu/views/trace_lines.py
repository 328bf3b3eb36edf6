"""Trace events as lines in the order of time: the thread, the CPU, the time, the event and its fields."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import dropwhile
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from insitu.convert.event_schema import EventKind, column_of
from insitu.convert.print_format import Printer, printer
from insitu.convert.trace_events import event_columns, recorded_formats
from insitu.convert.trace_pages import TASK, PageLayout, TraceRecords, field_values, records_of
from insitu.convert.trace_stacks import KERNEL_STACK, USER_STACK, stack_addresses
from insitu.convert.tracing_frames import is_tracing
from insitu.kernel.tracefs import EventFormat, parse_format
from insitu.session.distinct import groups
from insitu.session.machines import machines
from insitu.session.schema import quoted_table
from insitu.terminal_text import printable
from insitu.views.held_lines import HeldLines

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["RecordedEvent", "TraceLines", "event_line", "recorded_events", "session_lines"]

_SHOWN_BYTES = 64
_ROWS_AT_ONCE = 100_000


def event_line(ts_ns: int, thread: str, tid: int, cpu: int, event: str, text: str) -> str:
    """One event as the kernel's own text has it; the time is in seconds of the clock."""
    seconds, microseconds = divmod((ts_ns + 500) // 1000, 10**6)
    time = f"{seconds:>6}.{microseconds:06d}"
    return printable(f"{thread:>16}-{tid:<7} [{cpu:03d}] {time}: {event + ':':<20} {text}")


class TraceLines:
    """Prints pages of a trace buffer as they come, each event as the kernel would print it."""

    def __init__(
        self,
        layout: PageLayout,
        kinds: Mapping[int, EventKind],
        out: TextIO,
        *,
        thread: Callable[[int], str],
        symbol: Callable[[int], str],
        user_symbol: Callable[[int, int], str],
        constant: Callable[[str], int | None],
    ) -> None:
        """``thread`` names a thread, ``symbol`` a kernel address, ``user_symbol`` one of a process (by its pid),
        ``constant`` gives an enumerator's value."""
        self._layout = layout
        self._kinds = kinds
        self._thread, self._symbol, self._user_symbol, self._constant = thread, symbol, user_symbol, constant
        self._printers: dict[str, Printer | None] = {}
        self._held = HeldLines(out)
        self._seen = 0

    @property
    def lines(self) -> int:
        """How many events have been printed."""
        return self._held.written

    def add(self, pages: list[tuple[int, bytes]], until_ns: int) -> None:
        """Take (CPU, page) pairs, and print what happened until a time; what came later waits for other CPUs.

        Raises BrokenPipeError when the reader has gone.
        """
        if pages:
            self._held.hold(self._lines(records_of(pages, self._layout)))
        self._held.write(until_ns)

    def _lines(self, records: TraceRecords) -> Iterator[tuple[int, int, str]]:
        """Time, place among the records of that time, and line of each."""
        first, self._seen = self._seen, self._seen + len(records)
        for number, rows in groups(records.event):
            kind = self._kinds.get(number)
            if kind is None:
                continue
            if kind.label in (KERNEL_STACK, USER_STACK):
                yield from self._stacks(records, rows, kind, first)
                continue
            columns = event_columns(records, rows, kind.format, renamed=False)
            tids = _list(columns.pop("common_pid"))
            names, lists = list(columns), [_list(values) for values in columns.values()]
            text_of = self._printer(kind) or _plain
            for row, ts_ns, cpu, tid, *values in zip(
                rows.tolist(), records.ts_ns[rows].tolist(), records.cpu[rows].tolist(), tids, *lists, strict=True
            ):
                text = text_of(dict(zip(names, values, strict=True)))
                yield ts_ns, first + row, event_line(ts_ns, self._thread(tid), tid, cpu, kind.name, text)

    def _stacks(
        self, records: TraceRecords, rows: NDArray[np.int64], kind: EventKind, first: int
    ) -> Iterator[tuple[int, int, str]]:
        """The stack of the event before it, a function a line."""
        is_kernel = kind.label == KERNEL_STACK
        offset, address = stack_addresses(records, rows, kind.format, is_kernel=is_kernel)
        tgid = next((field for field in kind.format.fields if field.name == "tgid"), TASK)
        pids = field_values(records, rows, tgid).tolist()
        for at, (row, ts_ns, pid) in enumerate(zip(rows.tolist(), records.ts_ns[rows].tolist(), pids, strict=True)):
            stack = address[offset[at] : offset[at + 1]].tolist()
            if is_kernel:
                functions = list(dropwhile(is_tracing, map(self._symbol, stack)))
            else:
                functions = [self._user_symbol(pid, each) for each in stack]
            shown = [f" => {printable(each)}" for each in functions or ["unknown"]]
            yield ts_ns, first + row, "\n".join(shown)

    def _printer(self, kind: EventKind) -> Printer | None:
        if kind.label not in self._printers:
            self._printers[kind.label] = printer(kind.format.print_format, self._symbol, self._constant)
        return self._printers[kind.label]


class _Threads:
    """Names and tids of a session's threads; a name is that of a time."""

    def __init__(self, session: Session) -> None:
        self._tids = dict(session.sql("select utid, tid from thread").iter_rows())
        self._names: dict[int, tuple[list[int], list[str]]] = {}
        for utid, ts_ns, name in session.sql("select utid, ts_ns, name from thread_name order by ts_ns").iter_rows():
            times, names = self._names.setdefault(utid, ([], []))
            times.append(ts_ns)
            names.append(name)

    def at(self, utid: int, ts_ns: int) -> tuple[str, int]:
        """Name and tid."""
        tid = self._tids.get(utid, 0)
        if not tid:
            return "<idle>", 0
        times, names = self._names.get(utid, ([], []))
        return (names[max(bisect_right(times, ts_ns) - 1, 0)] if names else "<...>"), tid


class _Stacks:
    """The functions of a session's stacks."""

    def __init__(self, session: Session) -> None:
        frames = dict(session.sql("select id, function from frame").iter_rows())
        self._nodes = {
            node: (parent, frames.get(frame, ""))
            for node, parent, frame in session.sql("select id, parent, frame from stack where id > 0").iter_rows()
        }

    def functions(self, stack: int) -> Iterator[str]:
        """The functions of one stack, innermost first. Parents precede children, so that it ends."""
        while stack in self._nodes:
            parent, function = self._nodes[stack]
            yield function
            if parent >= stack:
                return
            stack = parent


class RecordedEvent(NamedTuple):
    """A trace event that a session has records of; one that several buffers have is there for each."""

    label: str
    """``CATEGORY:NAME``."""
    table: str
    format: EventFormat


def recorded_events(session: Session) -> list[RecordedEvent]:
    """The trace events that a session has records of."""
    return [
        RecordedEvent(f"{category}:{name}", table, parse_format(text, f"{category}:{name}"))
        for table, (category, name, text) in recorded_formats(session).items()
        if table in session.tables
    ]


def session_lines(session: Session, events: Sequence[RecordedEvent]) -> Iterator[str]:
    """These events of a session (some of ``recorded_events``), in the order of time.

    Of those of a guest its name comes before the event's, and CPUs have their numbers there.
    Memory is bounded by the events of a slice of time; the more rows, the more slices.
    """
    places = {each.table: quoted_table(each.table) for each in events}
    if not places:
        return
    bounds = " union all ".join(f"select min(ts_ns), max(ts_ns), count(*) from {place}" for place in places.values())
    found = [row for row in session.sql(bounds).rows() if row[2]]
    if not found:
        return
    first, last, rows = min(row[0] for row in found), max(row[1] for row in found), sum(row[2] for row in found)
    step = max((last - first) * _ROWS_AT_ONCE // rows, 1) + 1
    threads, stacks, known = _Threads(session), _Stacks(session), machines(session)
    functions: dict[int, str] = {}

    def symbol(address: int) -> str:
        return functions.get(address) or hex(address)

    printers = {each.table: printer(each.format.print_format, symbol) or _plain for each in events}
    for low in range(first, last + 1, step):
        lines: list[tuple[int, str]] = []
        for label, table, shape in events:
            machine = known.of_table(table)
            name = known.labelled(label.partition(":")[2], machine)
            part = session.sql(
                f"from {places[table]} where ts_ns >= ? and ts_ns < ? order by ts_ns", [low, low + step]
            )
            named = [each for each in part.columns if f"{each}_function" in part.columns]
            for row in part.iter_rows(named=True):
                ts_ns, utid, cpu, stack = row.pop("ts_ns"), row.pop("utid"), row.pop("cpu"), row.pop("stack", 0)
                for field in named:
                    place = row[f"{field}_function"]
                    functions[row[field]] = f"{place}+{row.get(f'{field}_offset', 0):#x}" if place else ""
                cpu -= known.first_cpu[machine]
                values = {field.name: row.get(column_of(field.name)) for field in shape.fields}
                line = event_line(ts_ns, *threads.at(utid, ts_ns), cpu, name, printers[table](values))
                lines.append((ts_ns, "\n => ".join([line, *map(printable, stacks.functions(stack))])))
        lines.sort(key=lambda each: each[0])
        yield from (line for _, line in lines)


def _plain(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={_value(value)}" for name, value in values.items())


def _list(values: Any) -> list[Any]:
    found: list[Any] = values if isinstance(values, list) else values.tolist()
    return found


def _value(value: Any) -> str:
    if isinstance(value, bytes):
        return value[:_SHOWN_BYTES].hex() + ("..." if len(value) > _SHOWN_BYTES else "")
    return str(value)
