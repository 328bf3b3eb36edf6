"""Records of trace pages as tables: one ``event.NAME`` for each kind of event, with its own fields.

A kind's records are decoded together, a column at a time. Stacks that the kernel records after an event (ftrace's
kernel_stack and user_stack) become the event's ``stack``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.ahead import ahead
from insitu.convert.call_spans import CallCost
from insitu.convert.event_schema import EventKind, column_of, free_name, is_code, table_names, table_of
from insitu.convert.sources import RawSource, raw_bytes
from insitu.convert.syscall_events import SyscallEvents
from insitu.convert.thread_names import ThreadNames
from insitu.convert.thread_states import WAKINGS, SchedulerEvents
from insitu.convert.trace_calls import ENTRIES, EXITS, CallSpans, call_cost
from insitu.convert.trace_pages import (
    TASK,
    PageLayout,
    TraceRecords,
    page_layout,
    texts,
    values_of,
)
from insitu.convert.trace_stacks import KERNEL_STACK, USER_STACK, TraceStacks
from insitu.convert.trace_windows import windows
from insitu.errors import InsituError, damaged_recording
from insitu.kernel.tracefs import EventFormat, parse_format
from insitu.session.coded_texts import CodedTexts
from insitu.session.distinct import groups, time_order
from insitu.session.schema import Table
from insitu.session.special_tables import EVENT_FORMAT
from insitu.session.writer import SessionWriter

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = [
    "EventWriter",
    "convert_source",
    "described",
    "event_columns",
    "event_kinds",
    "recorded_formats",
]


I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_TID: Final = TASK.name
_FLAGS: Final = "common_flags"
_HARDIRQ_OR_NMI: Final = 0x48
"""TRACE_FLAG_HARDIRQ, TRACE_FLAG_NMI (include/linux/trace_events.h): of the thread that a hard interrupt interrupted.

That thread knows nothing of what happens there. A softirq may be its own doing: what it sends to itself over the
loopback device.
"""
_OTHERS: Final = (KERNEL_STACK, USER_STACK, *ENTRIES, *EXITS)
_NAMES: Final = {"prev_comm": "prev_pid", "next_comm": "next_pid", "comm": "pid"}
_INTEGERS: Final = ("common_type", _FLAGS, "common_preempt_count", _TID)
_INTEGERS_OF: Final[Mapping[str, Sequence[str]]] = {
    KERNEL_STACK: ("size",),
    USER_STACK: ("tgid",),
    "sched:sched_switch": ("prev_pid", "prev_state", "next_pid"),
    **dict.fromkeys(WAKINGS, ("pid",)),
    **dict.fromkeys((*ENTRIES, *EXITS), ("func", "depth", "calltime", "rettime", "overrun", "retval")),
}


def event_kinds(formats: Sequence[Sequence[str]]) -> dict[int, EventKind]:
    """The kinds by number, of (category, name, text of the format file). Raises InsituError if one is damaged."""
    found = {}
    for category, name, text in formats:
        shape = parse_format(str(text), f"{category}:{name}")
        _refuse_strange(shape)
        if shape.id <= 0xFFFF:
            found[shape.id] = EventKind(str(category), str(name), shape, str(text))
    return found


def described(layout: Mapping[str, Any]) -> tuple[PageLayout, dict[int, EventKind]]:
    """How to read the pages of a source of kind "trace_pages", by its layout. Raises InsituError when damaged."""
    page = page_layout(str(layout["header_page"]), int(layout["page_bytes"]))
    return page, event_kinds(layout["formats"])


def _refuse_strange(shape: EventFormat) -> None:
    """Raise InsituError for a format in which a field that is computed with is not a plain integer."""
    names = {field.name for field in shape.fields}
    if shape.name in (*ENTRIES, *EXITS) and not {"func", "depth"} <= names:
        raise damaged_recording(f"the format of {shape.name}", "no function or depth")
    computed = (*_INTEGERS, *_INTEGERS_OF.get(shape.name, ()))
    for field in (*shape.common, *shape.fields):
        is_plain = field.count is None and not field.location and field.size in (1, 2, 4, 8)
        if field.name in computed and not is_plain:
            raise damaged_recording(f"the format of {shape.name}", f"{field.name} is not an integer")


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write the tables of a source of kind "trace_pages". Raises InsituError when its layout is damaged."""
    layout, kinds = described(source.layout)
    events = EventWriter(kinds, writer, addresses, name=source.id, cost=call_cost(source))
    files = {}
    for file in source.files:
        number = file.name.removeprefix("cpu").partition(".")[0]
        if number.isdecimal() and len(number) < 6:
            files[int(number)] = data = raw_bytes(file)
            if torn := len(data) % layout.page_bytes:
                writer.notes.append(source.cut_off(file, len(data) - torn, len(data)))
    for records in ahead(windows(files, layout)):
        events.add(records)
    events.finish(known_losses=bool(source.losses))


class EventWriter:
    """Writes decoded records to a session's tables: those of functions that were traced to ``span``.

    ``prefix`` is put before the names of the other tables; ``cost`` is what tracing a call has cost; ``states`` and
    ``syscalls``: whether switches make rows of ``thread_state`` and system calls spans, which only one of several
    buffers of the same threads may. ``architecture`` (uname -m) is that of the machine; default: the manifest's.
    """

    def __init__(
        self,
        kinds: Mapping[int, EventKind],
        writer: SessionWriter,
        addresses: Addresses,
        *,
        name: str = "trace",
        prefix: str = "",
        cost: CallCost | None = None,
        states: bool = True,
        syscalls: bool = True,
        architecture: str = "",
    ) -> None:
        self._kinds = kinds
        self._writer = writer
        self._addresses = addresses
        self._name = name
        formats = {number: kind.format for number, kind in kinds.items()}
        self._calls = CallSpans(formats, writer, addresses, cost or CallCost())
        self._tables: dict[str, Table] = {}
        self._names = table_names(kinds.values(), prefix)
        self._stacks = TraceStacks(kinds, writer, addresses)
        self._thread_names = ThreadNames()
        traced = {life.tid for life in addresses.processes.lives}
        whole = writer.manifest.whole_system or not traced
        self._scheduler = SchedulerEvents(writer, None if whole else traced) if states else None
        self._syscalls = SyscallEvents(writer, architecture or writer.manifest.machine) if syscalls else None
        self._lost: dict[int, int] = {}
        self._damaged = self._unknown = 0

    def add(self, records: TraceRecords) -> None:
        """Write the records of some pages. Raises OSError when the disk is full."""
        for cpu, count in records.lost.items():
            self._lost[cpu] = self._lost.get(cpu, 0) + count
        self._damaged += records.damaged
        stacks = self._stacks.after(records)
        for number, rows in groups(records.event):
            kind = self._kinds.get(number)
            if kind is None:
                self._unknown += len(rows)
            elif kind.label not in _OTHERS:
                self._write(kind, records, rows[time_order(records.ts_ns[rows])], stacks)
        self._calls.add(records)
        if self._scheduler is not None:
            self._scheduler.advance(records.until_ns)
        if self._syscalls is not None:
            self._syscalls.write(records.until_ns - 1)

    @property
    def has_syscalls(self) -> bool:
        """Whether spans of system calls were written."""
        return self._syscalls is not None and self._syscalls.written > 0

    def finish(self, *, known_losses: bool) -> None:
        """Keep the formats, and what was lost: as the pages say it, unless the recorder has counted it."""
        self._calls.finish()
        if self._syscalls is not None:
            self._syscalls.finish()
        if self._calls.written and not self._writer.manifest.default_table:
            self._writer.manifest = self._writer.manifest.changed(default_table="span")
        written = [kind for kind in self._kinds.values() if kind.label in self._tables]
        columns = {
            "table": [self._names[kind.label].removeprefix("event.") for kind in written],
            "category": [kind.category for kind in written],
            "name": [kind.name for kind in written],
            "format": [kind.text for kind in written],
        }
        if self._scheduler is not None:
            self._scheduler.finish()
        self._writer.append(EVENT_FORMAT, columns if written else {})
        self._writer.processes.name_unnamed(self._thread_names.first)
        if not known_losses:
            for cpu, count in self._lost.items():
                self._writer.lost("events overwritten before they were read", count, cpu=cpu)
        self._writer.lost(f"{self._name}: pages with damaged records", self._damaged)
        self._writer.lost(f"{self._name}: records of unknown events", self._unknown)

    def _write(self, kind: EventKind, records: TraceRecords, rows: I64, stacks: I32 | None) -> None:
        common = (_TID, _FLAGS) if kind.label in WAKINGS else (_TID,)
        columns = event_columns(records, rows, kind.format, common=common, names=self._thread_names)
        tid = columns.pop(_TID).astype(np.int32)
        flags = columns.pop(_FLAGS, None)
        batch: dict[str, Any] = {
            "ts_ns": records.ts_ns[rows],
            "utid": self._writer.processes.utids(tid, records.ts_ns[rows]),
            "cpu": records.cpu[rows],
            **columns,
        }
        if self._syscalls is not None:
            self._syscalls.add(kind.label, batch, tid)
        if kind.label in WAKINGS and flags is not None:
            tid = np.where((flags & _HARDIRQ_OR_NMI) != 0, 0, tid)
        if self._scheduler is not None:
            self._scheduler.add(kind.label, batch, tid, stacks[rows] if stacks is not None else None)
        for field in kind.format.fields:
            if is_code(field):
                address = np.asarray(batch[column_of(field.name)])
                batch[free_name(f"{field.name}_function", batch)] = self._stacks.functions(address)
                batch[free_name(f"{field.name}_offset", batch)] = self._stacks.offsets(address)
        if stacks is not None:
            batch[free_name("stack", batch)] = stacks[rows]
        table = self._tables.get(kind.label)
        if table is None:
            table = self._tables[kind.label] = table_of(self._names[kind.label], kind, batch)
        self._writer.append(table, batch)


def event_columns(
    records: TraceRecords,
    rows: I64,
    shape: EventFormat,
    *,
    common: Sequence[str] = (_TID,),
    renamed: bool = True,
    names: ThreadNames | None = None,
) -> dict[str, Any]:
    """The columns of some records of one kind: the fields ``common`` of all events and the event's own, by name.

    Not ``renamed``: also fields that are called as columns of ours have their own names. ``names`` finds and learns
    the names of threads.
    """
    wanted = [field for field in shape.common if field.name in common] + list(shape.fields)
    own = column_of if renamed else str
    columns = (own(field.name) for field in wanted)
    found = dict(zip(columns, values_of(records, rows, wanted, () if names is None else _NAMES), strict=True))
    if _TID not in found:
        raise InsituError(f"{shape.name}: a format without {_TID}")
    if names is not None:
        for comm, pid in _NAMES.items():
            _name(found, comm, pid, names)
    return found


def _name(columns: dict[str, Any], comm: str, pid: str, names: ThreadNames) -> None:
    """Make texts of names of threads that are rows of bytes, and learn them."""
    found: Any = columns.get(comm)
    tid: Any = columns.get(pid)
    is_tid = isinstance(tid, np.ndarray) and tid.ndim == 1
    if isinstance(found, np.ndarray) and found.dtype == np.uint8 and found.ndim == 2:
        columns[comm] = names.coded(tid, found) if is_tid else texts(found)
    elif isinstance(found, CodedTexts) and is_tid:
        names.seen(tid, found)


def recorded_formats(session: Session) -> dict[str, tuple[str, str, str]]:
    """The formats that a session keeps: table -> category, name and text of the format file."""
    if EVENT_FORMAT.name not in session.tables:
        return {}
    rows = session[EVENT_FORMAT.name].select("table", "category", "name", "format").rows()
    return {f"event.{table}": (category, name, text) for table, category, name, text in rows}
