"""Whole maps read into Python: keys decoded, what each CPU counted put together."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from insitu.kernel.bpf_map import Map
from insitu.probe.decode import code, decoder
from insitu.probe.layout import ARRAY, MapLayout
from insitu.probe.types import (
    Average,
    Count,
    Histogram,
    Integer,
    LinearHistogram,
    Maximum,
    Minimum,
    Statistics,
    Sum,
    Type,
)

__all__ = ["MapContent", "read_map"]


@dataclass
class MapContent:
    """``rows`` are (key, value): the key a tuple of its parts, the value a number, text, (count, total) or cells."""

    kind: Type
    rows: list[tuple[tuple[Any, ...], Any]]

    def sorted_rows(self) -> list[tuple[tuple[Any, ...], Any]]:
        """In bpftrace's order: numbers by value, the rest by key; ties by key."""
        by_key = sorted(self.rows, key=lambda row: _orderable(row[0]))
        if isinstance(self.kind, Count | Sum | Minimum | Maximum | Integer):
            return sorted(by_key, key=lambda row: int(row[1]))
        if isinstance(self.kind, Average):
            return sorted(by_key, key=lambda row: row[1][1] / max(1, row[1][0]))
        if isinstance(self.kind, Statistics):
            return sorted(by_key, key=lambda row: row[1][1])
        if isinstance(self.kind, Histogram | LinearHistogram):
            return sorted(by_key, key=lambda row: int(row[1].sum()))
        return by_key


def _orderable(key: Any) -> Any:
    if isinstance(key, tuple | list):
        return tuple(_orderable(part) for part in key)
    return (0, key, "") if isinstance(key, int) else (1, 0, key if isinstance(key, str) else repr(key))


def read_map(layout: MapLayout, source: Map) -> MapContent:
    """Everything in a map of the script."""
    assert layout.value is not None
    kind = layout.value
    keys, values = source.items()
    if layout.key is None:
        decoded: list[tuple[Any, ...]] = [()] * len(keys)
    else:
        shape = struct.Struct(f"<{code(layout.key)}")
        make = decoder(layout.key)
        decoded = [make(shape.unpack(key.tobytes())) for key in keys]
    if layout.type == ARRAY:
        present = values[:, layout.value_size - 8]
        decoded, values = (decoded, values[:, : layout.value_size - 8]) if present[0] else ([], values[:0])
    if values.ndim == 2:
        shape = struct.Struct(f"<{code(kind)}")
        make = decoder(kind)
        return MapContent(
            kind, [(key, make(shape.unpack(value.tobytes()))) for key, value in zip(decoded, values, strict=True)]
        )
    unkeyed = layout.key is None
    rows = list(zip(decoded, _reduced(kind, np.ascontiguousarray(values), unkeyed), strict=True))
    return MapContent(kind, [row for row in rows if row[1] is not None])


def _reduced(kind: Type, values: np.ndarray[Any, Any], unkeyed: bool) -> list[Any]:
    """One value of all CPUs' for each element; None for what a map without a key does not hold."""
    unsigned = isinstance(kind, Sum | Minimum | Maximum | Average | Statistics) and not kind.signed
    cells = values.view(np.uint64 if unsigned else np.int64)  # (elements, CPUs, cells)
    if isinstance(kind, Count):
        return [int(n) for n in cells[:, :, 0].sum(axis=1)]
    if isinstance(kind, Histogram | LinearHistogram):
        totals = cells.sum(axis=1)
        return [None if unkeyed and not row.any() else row for row in totals]
    if isinstance(kind, Minimum | Maximum):
        choose = min if isinstance(kind, Minimum) else max
        return [
            choose((int(v) for v, there in element if there), default=None if unkeyed else 0) for element in cells
        ]
    if isinstance(kind, Sum):
        there = (cells[:, :, 1] != 0).sum(axis=1)
        totals = cells[:, :, 0].sum(axis=1)
        return [int(n) if t or not unkeyed else None for n, t in zip(totals, there, strict=True)]
    counts, totals = cells[:, :, 0].sum(axis=1), cells[:, :, 1].sum(axis=1)
    return [(int(c), int(t)) if c or not unkeyed else None for c, t in zip(counts, totals, strict=True)]
