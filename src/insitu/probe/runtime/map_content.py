"""Whole maps read into Python: keys decoded, what each CPU counted put together."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from insitu.kernel.bpf_map import Map, possible_cpus
from insitu.probe.aggregations import (
    Average,
    Count,
    CountAndTotal,
    Maximum,
    Minimum,
    OneNumber,
    Ranges,
    Statistics,
    Sum,
    TimeSeries,
)
from insitu.probe.layout import ARRAY, PER_CPU, PRESENT_BYTES, MapLayout
from insitu.probe.output.time_series import merged
from insitu.probe.runtime.decode import code, decoder
from insitu.probe.types import Integer, Type

__all__ = ["MapContent", "map_content", "read_map", "zero_map"]


_PRESENT = (1).to_bytes(PRESENT_BYTES, "little")


class MapContent(Struct):
    """``rows`` are (key, value): a tuple of the key's parts; a number, text, (count, total), cells or a series."""

    kind: Type
    rows: list[tuple[tuple[Any, ...], Any]]

    def sorted_rows(self) -> list[tuple[tuple[Any, ...], Any]]:
        """In bpftrace's order: numbers by value, the rest by key; ties by key."""
        by_key = sorted(self.rows, key=lambda row: _orderable(row[0]))
        if isinstance(self.kind, OneNumber | Integer):
            return sorted(by_key, key=lambda row: int(row[1]))
        if isinstance(self.kind, Average | Statistics):
            return sorted(by_key, key=lambda row: row[1][1] / max(1, row[1][0]))
        if isinstance(self.kind, Ranges):
            return sorted(by_key, key=lambda row: sum(row[1]))
        return by_key

    @property
    def last_interval(self) -> int:
        """Of time series, the number of the latest interval that any of them has a value of."""
        series = [value for _, value in self.rows if value] if isinstance(self.kind, TimeSeries) else []
        return max((each[-1][0] for each in series), default=0)


def _orderable(key: Any) -> Any:
    if isinstance(key, dict):
        key = tuple(key.values())
    if isinstance(key, tuple | list):
        return tuple(_orderable(part) for part in key)
    return (0, key, "") if isinstance(key, int) else (1, 0, key if isinstance(key, str) else repr(key))


def read_map(layout: MapLayout, source: Map) -> MapContent:
    """Everything in a map of the script."""
    return map_content(layout, source.items(), possible_cpus())


def zero_map(layout: MapLayout, target: Map) -> None:
    """Set every value to zero, as zero() does; what holds nothing stays absent."""
    if layout.key is not None:
        for key, value in target.items():
            target.update(key, bytes(len(value)))
    elif read_map(layout, target).rows:
        ((key, value),) = target.items()
        place = layout.value_size - PRESENT_BYTES
        target.update(key, bytes(place) + _PRESENT + bytes(len(value) - place - PRESENT_BYTES))


def map_content(layout: MapLayout, items: list[tuple[bytes, bytes]], cpus: int) -> MapContent:
    """What keys and values mean that bpf(2) returned on a machine with so many CPUs."""
    assert layout.value is not None
    kind, key = layout.value, _reader(layout.key) if layout.key is not None else lambda data: ()
    value = _merger(kind, layout, cpus) if layout.type in PER_CPU else _reader(kind)
    if layout.type == ARRAY:
        items = [(number, data[:-PRESENT_BYTES]) for number, data in items if any(data[-PRESENT_BYTES:])]
    rows = [(key(number), value(data)) for number, data in items]
    return MapContent(kind, [row for row in rows if row[1] is not None])


def _reader(kind: Type) -> Callable[[bytes], Any]:
    """A function from a type's stored form to its value."""
    shape = struct.Struct(f"<{code(kind)}")
    make = decoder(kind)
    return lambda data: make(shape.unpack(data))


def _merger(kind: Type, layout: MapLayout, cpus: int) -> Callable[[bytes], Any]:
    """A function from what all CPUs hold to one value; None for what a map without a key does not hold."""
    signless = Sum | Minimum | Maximum | CountAndTotal | TimeSeries
    unsigned = isinstance(kind, signless) and not kind.signed
    stored, cells = layout.value_size // 8, kind.size // 8  # with the mark of zero(), and without
    shape = struct.Struct(f"<{cpus * stored}{'Q' if unsigned else 'q'}")

    def merge(data: bytes) -> Any:
        words: Sequence[int] = shape.unpack(data)
        there = layout.key is not None
        if stored > cells:
            there = any(words[cells::stored])
            words = [word for index, word in enumerate(words) if index % stored < cells]
        if isinstance(kind, Count):
            return sum(words[::cells])
        if isinstance(kind, Ranges):
            totals = [sum(words[cell::cells]) for cell in range(cells)]
            return totals if there or any(totals) else None
        if isinstance(kind, TimeSeries):
            return merged(kind, words) or ([] if there else None)
        first, second = words[::cells], words[1::cells]
        if isinstance(kind, Minimum | Maximum):
            choose = min if isinstance(kind, Minimum) else max
            known = [number for number, is_known in zip(first, second, strict=True) if is_known]
            return choose(known, default=0 if there else None)
        if isinstance(kind, Sum):
            return sum(first) if there or any(second) else None
        return (sum(first), sum(second)) if there or any(first) else None

    return merge
