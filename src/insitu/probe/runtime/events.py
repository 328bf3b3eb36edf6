"""Typed events: what emit() sends, gathered as whole arrays and turned into columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.kernel.ring_buffer import RingBuffer
from insitu.probe.layout import RecordLayout
from insitu.probe.runtime.decode import code, decoder
from insitu.probe.runtime.struct_columns import memory_column, texts
from insitu.probe.types import Array, Integer, Pointer, Record, String, Tuple, Type, stored_size

if TYPE_CHECKING:
    import polars

    from insitu.probe.output.formatting import Formatter

__all__ = ["EventTable"]


class EventTable:
    """All events of one label: ``ts_ns`` (CLOCK_MONOTONIC), ``cpu``, ``tid`` and the script's own fields."""

    def __init__(self, layout: RecordLayout) -> None:
        self.layout = layout
        self.count = 0
        self._chunks: list[npt.NDArray[np.uint8]] = []

    def drain(self, ring: RingBuffer) -> None:
        """Take over what the ring holds: one copy for everything."""
        while True:
            rows = ring.equal_records(self.layout.size)
            if not len(rows):
                ring.release()
                return
            self._chunks.append(rows.copy())
            self.count += len(rows)
            ring.release()

    @property
    def pending(self) -> int:
        """How many records take() would answer."""
        return sum(map(len, self._chunks))

    def take(self) -> npt.NDArray[np.uint8]:
        """All records so far, (n, bytes of a record); they are forgotten here."""
        chunks, self._chunks = self._chunks, []
        if not chunks:
            return np.empty((0, self.layout.size), np.uint8)
        return np.concatenate(chunks)

    def columns(self, rows: npt.NDArray[np.uint8], formatter: Formatter) -> dict[str, Any]:
        """Columns of records by name: arrays of numbers, else Polars series or lists of text."""
        found: dict[str, Any] = {}
        offset = 8
        for name, kind in zip(self.layout.names, self.layout.fields.elements, strict=True):
            data = np.ascontiguousarray(rows[:, offset : offset + stored_size(kind)])
            found[name] = _column(data, kind, formatter)
            offset += stored_size(kind)
        return found

    def frame(self, formatter: Formatter) -> polars.DataFrame:
        """All events so far as a Polars frame."""
        import polars

        rows = self.take()
        self._chunks.append(rows)
        return polars.DataFrame(self.columns(rows, formatter))


def _column(data: npt.NDArray[np.uint8], kind: Type, formatter: Formatter) -> Any:
    """A column of values in their stored form."""
    if isinstance(kind, Integer | Pointer):
        signed = isinstance(kind, Integer) and kind.signed
        return data.view(np.int64 if signed else np.uint64).reshape(-1)
    if isinstance(kind, String):
        return texts(data)
    if isinstance(kind, Record | Array):
        return memory_column(data, kind)
    if isinstance(kind, Tuple) and kind.elements:
        return _struct(data, kind, formatter)
    import struct

    shape = struct.Struct(f"<{code(kind)}")
    value = decoder(kind)
    return [formatter.text(kind, value(shape.unpack(row.tobytes()))) for row in data]


def _struct(data: npt.NDArray[np.uint8], kind: Tuple, formatter: Formatter) -> polars.Series:
    """A tuple's elements, by their names or numbers."""
    import polars

    columns: dict[str, Any] = {}
    for index, element in enumerate(kind.elements):
        name = kind.names[index] if kind.names else str(index)
        at = kind.offset(index)
        part = np.ascontiguousarray(data[:, at : at + stored_size(element)])
        columns[name] = _column(part, element, formatter)
    return polars.DataFrame(columns).to_struct()
