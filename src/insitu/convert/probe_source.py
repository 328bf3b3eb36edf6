"""The events and maps of a script, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.sources import RawSource, raw_bytes
from insitu.convert.stacks import Chains
from insitu.errors import damaged_recording
from insitu.probe.runtime.capture import EVENTS, MAPS, STACKS
from insitu.probe.runtime.event_columns import CopiedStackColumn, StackColumn
from insitu.probe.runtime.event_decode import EventDecoder
from insitu.probe.runtime.map_records import decode_maps
from insitu.probe.runtime.stack_records import StackContents
from insitu.session.schema import Column, Table, value_type
from insitu.session.writer import SessionWriter

if TYPE_CHECKING:
    from insitu.probe.runtime.event_columns import Column as Values

__all__ = ["convert_source", "decoded_events", "stack_nodes", "table_rows"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_WINDOW_BYTES = 64 << 20
_MOST_NAME = 150  # bytes of what becomes a directory
_HEAD = ("ts_ns", "cpu", "pid", "tid")


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write the tables of a source of kind "probe": event.LABEL and map.NAME.

    Raises InsituError when its layout is damaged.
    """
    decoder = EventDecoder(source.layout)
    names = _Names()
    tables = {
        label: _table(names.free(f"event.{label}"), _told_apart(decoder.empty(label)), events=True)
        for label in decoder.labels
    }
    for table in tables.values():
        writer.append(table, {})
    for events in decoded_events(source, writer):
        for label, columns in events.items():
            writer.append(tables[label], _event_batch(columns, writer, addresses))
    contents = _stack_contents(source)
    for name, columns in decode_maps(_content(source.directory / MAPS), source.layout, stacks=contents).items():
        columns = _told_apart(columns)
        table = _table(names.free(f"map.{name.removeprefix('@') or 'unnamed'}"), columns, events=False)
        writer.append(table, _map_batch(columns, addresses))


def decoded_events(source: RawSource, writer: SessionWriter) -> Iterator[dict[str, dict[str, Values]]]:
    """The events that a script recorded, as columns by label, a window of the file at a time.

    Raises InsituError when the layout is damaged.
    """
    contents = _stack_contents(source)
    decoder = EventDecoder(source.layout)
    file = source.directory / EVENTS
    data = raw_bytes(file) if file.exists() else None
    at = malformed = 0
    while data is not None and at < len(data):
        found = decoder.decode(data[at : at + _WINDOW_BYTES], contents)
        if not found.taken:
            break
        at += found.taken
        malformed += found.malformed
        yield {label: _told_apart(columns) for label, columns in found.tables.items()}
    if data is not None and at < len(data):
        writer.notes.append(source.cut_off(file, at, len(data)))
    writer.lost(f"{source.id}: malformed events", malformed)


def stack_nodes(column: Values, addresses: Addresses, ts_ns: I64) -> I32:
    """The stacks of a column of stacks as ids."""
    assert isinstance(column, StackColumn | CopiedStackColumn)
    epoch = addresses.epochs(column.pid, ts_ns)
    if isinstance(column, CopiedStackColumn):
        offset, address = addresses.unwound(column.user_stacks(epoch))
    else:
        offset, address = column.offset, column.address
    return addresses.nodes(Chains.from_leaf(offset, address), epoch)


def _content(file: Path) -> memoryview | bytes:
    return raw_bytes(file)[:] if file.exists() else b""


def _stack_contents(source: RawSource) -> StackContents:
    raw = _content(source.directory / STACKS)
    names = source.layout.get("stack_maps")
    return StackContents.of([bytes(raw)], names if isinstance(names, dict) else {})


class _Names:
    """Names that differ in more than case, which SQL does not tell apart: the second ``a`` is ``a_2``."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def free(self, name: str) -> str:
        """The name, with a number if it is taken."""
        name = name.encode(errors="replace")[:_MOST_NAME].decode(errors="ignore")
        found, number = name, 1
        while found.casefold() in self._taken:
            number += 1
            found = f"{name}_{number}"
        self._taken.add(found.casefold())
        return found


def _told_apart(columns: Mapping[str, Values]) -> dict[str, Values]:
    """The columns under names that differ in more than case."""
    names = _Names()
    return {names.free(name): column for name, column in columns.items()}


def _table(name: str, columns: Mapping[str, Values], *, events: bool) -> Table:
    """The description of a table with these columns."""
    described = []
    if events:
        described = [Column("ts_ns", "timestamp"), Column("utid", "utid"), Column("cpu", "cpu", default=-1)]
    prefix = name.partition(".")[2] if not events else ""
    has_unit = value_type(prefix, "bigint") != "integer"
    stacks: list[str] = []
    has_stacks = any(isinstance(values, StackColumn | CopiedStackColumn) for values in columns.values())
    for each, values in columns.items():
        if events and each in _HEAD:
            continue
        if isinstance(values, StackColumn | CopiedStackColumn):
            stacks.append(each)
            described.append(Column(each, "stack"))
        else:
            # A map's name gives the unit of its values: @read_bytes[...] = sum(...), @wait_ns = hist(...).
            said = prefix if has_unit and each in ("value", "total", "low", "high") else each
            kind = value_type(said, _storage(values))
            if (
                not events
                and each in ("value", "count", "total")
                and (kind == "integer" or (kind == "unsigned" and has_stacks))
            ):
                kind = "count"
            described.append(Column(each, kind, nullable=True))
    if len(stacks) > 1 and "stack" not in stacks:
        described.append(Column("stack", "stack", "the user stack with the kernel's on top"))
    try:
        return Table(name, "events of a script" if events else "a map of a script at its end", tuple(described))
    except ValueError as error:
        raise damaged_recording("layout.json", str(error)) from None


def _storage(values: Any) -> str:
    """DuckDB's type of a column, "" for lists and structs."""
    if isinstance(values, np.ndarray):
        return {"i": "bigint", "u": "ubigint", "f": "double", "b": "boolean"}.get(values.dtype.kind, "")
    kind = values.dtype
    if kind.is_unsigned_integer():
        return "ubigint"
    if kind.is_integer():
        return "bigint"
    if kind.is_float():
        return "double"
    return {"Boolean": "boolean", "String": "varchar", "Binary": "blob"}.get(str(kind), "")


def _event_batch(columns: Mapping[str, Values], writer: SessionWriter, addresses: Addresses) -> dict[str, Any]:
    ts_ns, pid, tid = (np.asarray(columns[name]) for name in ("ts_ns", "pid", "tid"))
    batch: dict[str, Any] = {"ts_ns": ts_ns, "cpu": columns["cpu"]}
    batch["utid"] = writer.processes.utids(tid, ts_ns, pid)
    values = {name: column for name, column in columns.items() if name not in _HEAD}
    batch.update(_with_stacks(values, addresses, ts_ns))
    return batch


def _map_batch(columns: Mapping[str, Values], addresses: Addresses) -> dict[str, Any]:
    rows = len(next(iter(columns.values()))) if columns else 0
    return _with_stacks(columns, addresses, np.full(rows, 2**62, np.int64))


def _with_stacks(columns: Mapping[str, Values], addresses: Addresses, ts_ns: I64) -> dict[str, Any]:
    """The columns, with stacks as ids; of several stacks also the combined one."""
    batch: dict[str, Any] = {}
    user: Sequence[I32] = []
    kernel: Sequence[I32] = []
    for name, column in columns.items():
        if isinstance(column, StackColumn | CopiedStackColumn):
            batch[name] = stack_nodes(column, addresses, ts_ns)
            if column.pid.any():
                user = [*user, batch[name]]
            else:
                kernel = [*kernel, batch[name]]
        else:
            batch[name] = column
    if len(user) + len(kernel) > 1 and "stack" not in batch:
        outer, *others = [*user, *kernel]
        joint = outer
        for inner in others:
            joint = addresses.joined(joint, inner)
        batch["stack"] = joint
    return batch


def table_rows(columns: Mapping[str, Any] | None, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of some columns, as Python's values; none without a table."""
    if columns is None:
        return iter(())
    found = (columns[name] for name in names)
    lists = (each.tolist() if isinstance(each, np.ndarray) else each.to_list() for each in found)
    return zip(*lists, strict=True)
