"""Events of a text as rows of ``event.NAME`` tables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from insitu.session.schema import Column, Table
from insitu.session.writer import SessionWriter

__all__ = ["TextRows"]

Head = tuple[int, int, int]
"""Time (ns), utid, CPU."""

_ROWS: Final = 1 << 15  # of an event, gathered before they are written; the first decide on its columns
_MOST_BYTES: Final = 64 << 20
_MOST_EVENTS: Final = 4096
_MOST_FIELDS: Final = 256
_KEY: Final = re.compile(r"(?:^|(?<=[\s,(]))([A-Za-z_]\w{0,63})=", re.ASCII)
_DECIMAL: Final = re.compile(r"-?\d{1,18}", re.ASCII)
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,16}", re.ASCII)
_HEAD: Final = ("ts_ns", "utid", "cpu", "stack")
# prev_state as sched_switch prints it (include/trace/events/sched.h); "+": preempted.
_STATES: Final = {"R": 0, "S": 1, "D": 2, "T": 4, "t": 8, "X": 0x10, "Z": 0x20, "P": 0x40, "I": 0x80}
_PREEMPTED: Final = 0x100


@dataclass
class _Event:
    heads: list[Head] = field(default_factory=list)
    stacks: list[int] = field(default_factory=list)
    values: list[dict[str, str]] = field(default_factory=list)
    table: Table | None = None
    keys: dict[str, str] = field(default_factory=dict)
    rows: int = 0


class TextRows:
    """Gathers the rows of every event, and writes them in batches."""

    def __init__(self, writer: SessionWriter) -> None:
        self._writer = writer
        self._events: dict[str, _Event] = {}
        self._cased: dict[str, str] = {}
        self._threads: dict[int, int] = {0: 0}
        self._last: _Event | None = None
        self._bytes = 0  # of rows that wait, about
        self._first_ns, self._last_ns = 1 << 62, 0

    def thread(self, found: Mapping[str, str | None]) -> int:
        """The utid of a line's thread, by the words ``comm``, ``tid`` and ``tgid``; they may change."""
        tid, comm, tgid = int(found["tid"] or 0), (found["comm"] or "").strip(), found.get("tgid") or ""
        who = self._writer.processes
        utid = self._threads.get(tid)
        if utid is None:
            pid = int(tgid) if tgid.isdecimal() else tid
            utid = self._threads[tid] = who.thread(tid, who.process_of(pid)) if tid < 1 << 31 else 0
        if utid and comm != "<...>":
            who.renamed(utid, 0 if not who.label(utid)[2] else self._last_ns, comm)
        return utid

    def add(self, event: str, head: Head, text: str) -> None:
        """A row whose fields are the NAME=VALUE words of ``text``; other text becomes the field ``text``."""
        keys = list(_KEY.finditer(text))[:_MOST_FIELDS]
        values: dict[str, str] = {}
        for at, key in enumerate(keys):
            end = keys[at + 1].start() if at + 1 < len(keys) else len(text)
            values.setdefault(key[1], text[key.end() : end].strip().removesuffix(" ==>").strip(","))
        if not keys or text[: keys[0].start()].strip():
            values["text"] = text
        if event.endswith("sched_switch") and (state := values.get("prev_state")):
            values["prev_state"] = str(_state(state))
        self.add_values(event, head, values)

    def add_values(self, event: str, head: Head, values: dict[str, str]) -> None:
        """A row with these fields."""
        name = self._cased.setdefault(event.casefold(), event)
        if name not in self._events and len(self._events) >= _MOST_EVENTS:
            name, values = "other", {"text": f"{event}: {values}"}
        found = self._last = self._events.setdefault(name, _Event())
        self._bytes += 100 + sum(map(len, values.values()))
        if self._bytes > _MOST_BYTES:
            for each, event_rows in self._events.items():
                self._flush(each, event_rows)
            self._bytes = 0
        elif len(found.heads) >= _ROWS:
            self._flush(name, found)
        found.heads.append(head)
        found.stacks.append(0)
        found.values.append(values)
        self._first_ns, self._last_ns = min(self._first_ns, head[0]), max(self._last_ns, head[0])

    def set_stack(self, stack: int) -> None:
        """Set the stack of the row that was added last."""
        if self._last is not None and self._last.stacks:
            self._last.stacks[-1] = stack

    def finish(self) -> int:
        """Write the rest; the number of rows of all events."""
        for name, event in self._events.items():
            self._flush(name, event)
        rows = sum(event.rows for event in self._events.values())
        if rows:
            self._writer.manifest = self._writer.manifest.changed(start_ns=self._first_ns, end_ns=self._last_ns)
        return rows

    def _flush(self, name: str, event: _Event) -> None:
        if not event.heads:
            return
        if event.table is None:
            event.table, event.keys = _table(name, event)
        ts_ns, utid, cpu = zip(*event.heads, strict=True)
        batch: dict[str, Any] = {"ts_ns": ts_ns, "utid": utid, "cpu": cpu, "stack": event.stacks}
        for column in event.table.columns:
            if column.name in event.keys:
                texts = [values.get(event.keys[column.name]) for values in event.values]
                batch[column.name] = [_read(text, column.type) for text in texts]
        self._writer.append(event.table, batch)
        event.rows += len(event.heads)
        event.heads.clear()
        event.stacks.clear()
        event.values.clear()


def _table(name: str, event: _Event) -> tuple[Table, dict[str, str]]:
    """The table, and of its columns for fields their names in the text."""
    columns = [Column("ts_ns", "timestamp"), Column("utid", "utid"), Column("cpu", "cpu", default=-1)]
    taken, keys = set(_HEAD), {}
    for key in dict.fromkeys(key for values in event.values for key in values):
        column = f"event_{key}" if key.casefold() in _HEAD else key
        if column.casefold() in taken or len(columns) > _MOST_FIELDS:
            continue
        taken.add(column.casefold())
        keys[column] = key
        columns.append(
            Column(column, _type([values[key] for values in event.values if key in values]), nullable=True)
        )
    if any(event.stacks):
        columns.append(Column("stack", "stack"))
    return Table(f"event.{name}", f"the event {name} of a trace's text", tuple(columns)), keys


def _type(texts: list[str]) -> str:
    if all(_DECIMAL.fullmatch(text) for text in texts):
        return "integer"
    if all(_DECIMAL.fullmatch(text) or _HEX.fullmatch(text) for text in texts):
        return "unsigned"
    return "text"


def _read(text: str | None, kind: str) -> int | str | None:
    if text is None or kind == "text":
        return text
    if _DECIMAL.fullmatch(text):
        return int(text) if kind == "integer" or text[0] != "-" else None
    return int(text, 16) if kind == "unsigned" and _HEX.fullmatch(text) else None


def _state(text: str) -> int:
    return sum(_STATES.get(each, 0) for each in text) | (_PREEMPTED if "+" in text else 0)
