"""The tables of trace events: their names, and their columns, which are the fields of the event's format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from insitu.errors import damaged_recording
from insitu.kernel.tracefs import EventFormat, Field
from insitu.session.coded_texts import CodedTexts
from insitu.session.schema import Column, Table

__all__ = [
    "HEAD",
    "EventKind",
    "column_of",
    "field_of",
    "free_name",
    "is_code",
    "table_names",
    "table_of",
    "tables_of",
]

HEAD: Final = ("ts_ns", "utid", "cpu")
"""The columns that every table of events has."""

_INTEGER_BYTES: Final = (1, 2, 4, 8)
_CODE: Final = frozenset({"ip", "parent_ip", "call_site", "caller", "func", "function", "callsite", "location"})
_POINTERS: Final = frozenset({"unsigned long", "u64", "void *", "const void *"})
_COMMS: Final = frozenset({"comm", "prev_comm", "next_comm"})
_PIDS: Final = frozenset({"pid", "prev_pid", "next_pid", "parent_pid", "child_pid", "old_pid"})


class EventKind(NamedTuple):
    """A kind of event: its category and name, and its format."""

    category: str
    name: str
    format: EventFormat
    text: str
    """The format file."""

    @property
    def label(self) -> str:
        """``CATEGORY:NAME``."""
        return f"{self.category}:{self.name}"


def table_names(kinds: Iterable[EventKind], prefix: str = "") -> dict[str, str]:
    """The table of each kind: ``event.PREFIXNAME``, with the category where several have an event of that name."""
    found = list(kinds)
    tables = tables_of([(kind.category, kind.name) for kind in found], prefix)
    return {kind.label: table for kind, table in zip(found, tables, strict=True)}


def tables_of(events: Sequence[tuple[str, str]], prefix: str = "") -> list[str]:
    """The same by (category, name)."""
    many = Counter(name.casefold() for _, name in events)
    return [
        f"event.{prefix}{name if many[name.casefold()] == 1 else f'{category}_{name}'}" for category, name in events
    ]


def table_of(table: str, kind: EventKind, batch: Mapping[str, Any]) -> Table:
    """The table of a kind's rows, by the columns of its first batch. Raises InsituError for a damaged format."""
    fields = {column_of(field.name): field for field in kind.format.fields}
    columns = [Column("ts_ns", "timestamp"), Column("utid", "utid"), Column("cpu", "cpu", default=-1)]
    taken = set(HEAD)
    for name, values in batch.items():
        if name.casefold() in taken:
            continue
        taken.add(name.casefold())
        field = fields.get(name)
        if field is None:
            columns.append(_own_column(name, values))
        elif isinstance(values, (list, CodedTexts)):
            is_bytes = bool(values) and isinstance(values[0], bytes)
            columns.append(Column(name, "blob" if is_bytes else _semantic(field) or "text", field.declaration))
        else:
            kind_of = values.dtype.kind if values.ndim == 1 else "nested"
            plain = {"u": "unsigned", "i": "integer"}.get(kind_of, "nested")
            columns.append(Column(name, _semantic(field) or plain, field.declaration))
    try:
        return Table(table, f"the kernel's trace event {kind.label}", tuple(columns))
    except ValueError as error:
        raise damaged_recording(f"the format of {kind.category}:{kind.name}", str(error)) from None


def _own_column(name: str, values: Any) -> Column:
    """A column that no field is: the event's stack, and of an address of code the function and the offset in it."""
    if isinstance(values, CodedTexts):
        return Column(name, "name", "the kernel function")
    if name.startswith("stack"):
        return Column(name, "stack")
    return Column(name, "integer", "bytes from the function's start")


def column_of(name: str) -> str:
    """A field's column, where the name is that of one of ours: ``cpu`` of an event is ``event_cpu``."""
    return f"event_{name}" if name.casefold() in HEAD else name


def field_of(column: str) -> str:
    """The field of a column, see ``column_of``."""
    name = column.removeprefix("event_")
    return name if name.casefold() in HEAD else column


def free_name(name: str, taken: Mapping[str, Any]) -> str:
    """The name of a column of ours that no field has."""
    while name in taken:
        name += "_"
    return name


def is_code(field: Field) -> bool:
    """Whether a field is the address of an instruction, of which the function is a column."""
    return field.name in _CODE and _semantic(field) == "kernel_address"


def _semantic(field: Field) -> str:
    """The semantic type of a field's column; "" for what has none of its own."""
    if field.count is not None or field.location:
        return "name" if field.name in _COMMS else ""
    is_address = field.declaration.endswith("*") or (field.name in _CODE and field.declaration in _POINTERS)
    if is_address and field.size == 8:
        return "kernel_address"
    return "tid" if field.name in _PIDS and field.size in _INTEGER_BYTES else ""
