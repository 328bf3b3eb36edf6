"""What a script's maps hold at the end of a run as bytes, and those bytes as columns by map.

A record of a map is a u32 with our number of it, a u32 that is zero, the key padded to 8 bytes, and the value as
bpf(2) returns it: of a map per CPU, one for each CPU. What they mean is in the layout (event_layout.py).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from insitu.errors import damaged_recording
from insitu.kernel.bpf_map import Map
from insitu.probe.aggregations import CountAndTotal, OneNumber, Ranges, TimeSeries
from insitu.probe.layout import PER_CPU, Layout, MapLayout
from insitu.probe.runtime.event_columns import StackColumn
from insitu.probe.runtime.event_decode import layout_formatter
from insitu.probe.runtime.frames import map_columns
from insitu.probe.runtime.map_content import MapContent, map_content
from insitu.probe.runtime.record_walk import record_offsets
from insitu.probe.runtime.stack_records import StackContents, framed
from insitu.probe.runtime.type_json import type_from_json
from insitu.probe.types import Array, Buffer, Integer, Pointer, Record, Stack, Tuple, Type
from insitu.session.distinct import offsets_of

if TYPE_CHECKING:
    from typing_extensions import Buffer as Bytes

    from insitu.probe.runtime.event_columns import Column, Texts

__all__ = ["decode_maps", "map_records"]

_HEAD = struct.Struct("<II")
_LENGTH = struct.Struct("<I4x")
_MAX_BYTES = 1 << 24


def map_records(layout: Layout, maps: Mapping[int, Map]) -> bytes:
    """All that the script's maps hold now."""
    found = []
    for number, each in enumerate(layout.maps):
        if each.is_script_map:
            for key, value in maps[number].items():
                found.append(framed(_HEAD.pack(number, 0) + key + bytes(-len(key) % 8) + value))
    return b"".join(found)


def decode_maps(
    data: Bytes, layout: Mapping[str, Any], *, stacks: StackContents | None = None, text: Texts | None = None
) -> dict[str, dict[str, Column]]:
    """The maps in ``data``, which map_records() made: columns by the names that the script has for them.

    The columns are those of trace().maps; stacks in keys and values are addresses, those of ``stacks``.

    Raises InsituError for a layout that is damaged.
    """
    try:
        layouts = {int(number): _map_layout(content) for number, content in layout["maps"].items()}
        cpus = int(layout["cpus"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise damaged_recording("the layout of the recording", "maps") from None
    items: dict[int, list[tuple[bytes, bytes]]] = {number: [] for number in layouts}
    offsets, _ = record_offsets(data)
    view = memoryview(data)
    for at in offsets.tolist():
        (length,) = _LENGTH.unpack_from(view, at)
        content = bytes(view[at + 8 : at + 8 + length])
        if length < _HEAD.size:
            continue
        found = layouts.get(_HEAD.unpack_from(content)[0])
        if found is None:
            continue
        value_at = _HEAD.size + -(-found.key_size // 8) * 8
        key, value = content[_HEAD.size : _HEAD.size + found.key_size], content[value_at:]
        if len(value) == _value_bytes(found, cpus):
            items[_HEAD.unpack_from(content)[0]].append((key, value))
    text = text or layout_formatter(layout).text
    return {each.name: _table(each, map_content(each, items[n], cpus), text, stacks) for n, each in layouts.items()}


def _map_layout(content: Mapping[str, Any]) -> MapLayout:
    key = type_from_json(content["key"]) if content["key"] is not None else None
    sizes = int(content["key_size"]), int(content["value_size"])
    if not (key is None or isinstance(key, Tuple)) or not all(0 <= size <= _MAX_BYTES for size in sizes):
        raise ValueError(content["name"])
    value = type_from_json(content["value"])
    return MapLayout(str(content["name"]), int(content["type"]), *sizes, 0, key, value)


def _value_bytes(layout: MapLayout, cpus: int) -> int:
    """Bytes of a value as bpf(2) returns it."""
    size = max(8, layout.value_size)
    return -(-size // 8) * 8 * cpus if layout.type in PER_CPU else size


def _table(layout: MapLayout, content: MapContent, text: Texts, stacks: StackContents | None) -> dict[str, Column]:
    import polars

    columns, which = map_columns(layout, content, text)
    rows = content.sorted_rows()
    types = _column_types(layout)
    found: dict[str, Column] = {
        name: polars.Series(column, dtype=types.get(name), strict=False) for name, column in columns.items()
    }
    kinds = layout.key.elements if layout.key else ()
    for index, kind in enumerate(kinds):
        if isinstance(kind, Stack):
            name = "key" if len(kinds) == 1 else f"key{index}"
            found[name] = _stacks([rows[row][0][index] for row in which], kind, stacks)
    if isinstance(layout.value, Stack):
        found["value"] = _stacks([rows[row][1] for row in which], layout.value, stacks)
    return found


def _column_types(layout: MapLayout) -> dict[str, Any]:
    """Polars' types of the columns, which an empty map has too; None where values say more than the kind does."""
    import polars

    kinds = layout.key.elements if layout.key else ()
    found = {"key" if len(kinds) == 1 else f"key{index}": _column_type(kind) for index, kind in enumerate(kinds)}
    value = layout.value
    assert value is not None
    if isinstance(value, Ranges):
        # The last range of hist() ends at 2**63: without an end, in 64 bits.
        return {**found, "low": polars.Int64, "high": polars.Int64, "count": polars.Int64}
    number = polars.Int64 if getattr(value, "signed", True) else polars.UInt64
    if isinstance(value, TimeSeries):
        return {**found, "start_ns": polars.Int64, "value": number}
    if isinstance(value, CountAndTotal):
        return {**found, "value": polars.Float64, "count": polars.Int64, "total": number}
    return {**found, "value": number if isinstance(value, OneNumber) else _column_type(value)}


def _column_type(kind: Type) -> Any:
    """Polars' type of a column of plain values; None for what it has to find out by itself."""
    import polars

    if isinstance(kind, Integer) and kind.enum == "bool":
        return polars.Boolean
    if isinstance(kind, Integer | Pointer):
        return polars.Int64 if isinstance(kind, Integer) and kind.signed else polars.UInt64
    if isinstance(kind, Buffer):
        return polars.Binary
    return None if isinstance(kind, Tuple | Record | Array) else polars.String


def _stacks(values: list[tuple[int, int]], kind: Stack, stacks: StackContents | None) -> StackColumn:
    """A column of stacks from their ids and pids."""
    ids = np.array([number for number, _ in values], np.int64)
    pid = np.array([pid for _, pid in values], np.int32)
    if stacks is None:
        lengths, address = np.zeros(len(ids), np.int64), np.zeros(0, np.uint64)
    else:
        lengths, address = stacks.find(kind.map, ids)
    return StackColumn(offsets_of(lengths), address, pid, kind.mode)
