"""Rows written one at a time (record/row_log.py), as columns of their table."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from insitu.convert.addresses import Addresses
from insitu.convert.formats.perf_stream import WINDOW_BYTES
from insitu.convert.row_format import CODES, HEADER, NUMPY, VARIABLE
from insitu.convert.sources import RawSource, raw_bytes
from insitu.convert.stacks import Chains
from insitu.errors import damaged_recording
from insitu.session.distinct import offsets_of, ranges
from insitu.session.schema import Column, Table, described
from insitu.session.writer import SessionWriter

__all__ = ["convert_source"]

I64 = NDArray[np.int64]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]
U64 = NDArray[np.uint64]


def convert_source(source: RawSource, writer: SessionWriter, addresses: Addresses) -> None:
    """Write the rows of a source of kind "rows"; its layout has the "table". Raises InsituError if it is damaged."""
    try:
        table = described(source.layout.get("table"))
    except ValueError:
        raise damaged_recording(source.directory / "layout.json", "no table description") from None
    writer.append(table, {})
    decoder = _Decoder(table, writer, addresses)
    for file in source.files:
        data = raw_bytes(file)
        at = 0
        while at < len(data):
            window = data[at : at + WINDOW_BYTES]
            rows = _walk(window)
            if not len(rows):
                writer.notes.append(source.cut_off(file, at, len(data)))
                break
            decoder.write(window, rows)
            last = int(rows[-1])
            at += last + HEADER.unpack_from(window, last)[0]
    writer.lost(f"{source.id}: malformed rows", decoder.malformed)


def _walk(data: memoryview) -> I64:
    """Offsets of the complete rows of a window."""
    at, starts = 0, []
    unpack, end = HEADER.unpack_from, len(data)
    while at + HEADER.size <= end:
        size = unpack(data, at)[0]
        if size < HEADER.size or size % 8 or at + size > end:
            break
        starts.append(at)
        at += size
    return np.array(starts, np.int64)


class _Decoder:
    def __init__(self, table: Table, writer: SessionWriter, addresses: Addresses) -> None:
        self._table = table
        self._writer = writer
        self._addresses = addresses
        self._columns = [column for column in table.columns if column.semantic.storage or column.type == "stack"]
        self.malformed = 0

    def write(self, data: memoryview, rows: I64) -> None:
        """Append the rows that begin at these offsets."""
        memory = np.frombuffer(data[: len(data) & ~7], np.uint8)
        words = memory.view("<u8")
        head = rows >> 3
        size = (words[head] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        fixed = 8 * len(self._columns)
        whole = size >= HEADER.size + fixed
        start = np.full(len(rows), HEADER.size + fixed, np.int64)
        places: dict[str, tuple[I64, I64]] = {}
        for index, column in enumerate(self._columns):
            if column.type in VARIABLE:
                length = words[np.minimum(head + 1 + index, len(words) - 1)]
                whole &= length <= size.astype(np.uint64)
                length = np.minimum(length, size.astype(np.uint64)).astype(np.int64)
                places[column.name] = (start, length)
                start = start + ((length + 7) & ~7)
        whole &= start == size
        self.malformed += int(len(rows) - whole.sum())
        rows, head = rows[whole], head[whole]
        if not len(rows):
            return
        places = {name: (rows + at[whole], length[whole]) for name, (at, length) in places.items()}
        null = words[head] >> np.uint64(32)
        batch = {
            column.name: _with_nulls(
                self._column(column, words[head + 1 + index], places.get(column.name), memory),
                (null >> np.uint64(index)) & np.uint64(column.nullable) != 0,
            )
            for index, column in enumerate(self._columns)
            if column.type not in ("utid", "stack")
        }
        ts = self._table.of_type("timestamp")
        ts_ns = batch[ts.name] if ts is not None else np.zeros(len(rows), np.int64)
        pid = np.zeros(len(rows), np.int32)
        for index, column in enumerate(self._columns):
            if column.type == "utid":
                pair = words[head + 1 + index]
                pid = (pair & np.uint64(0xFFFFFFFF)).astype(np.int32)
                tid = (pair >> np.uint64(32)).astype(np.int32)
                batch[column.name] = self._writer.processes.utids(tid, ts_ns, pid)
        for column in self._columns:
            if column.type == "stack":
                batch[column.name] = self._stacks(words, *places[column.name], pid, ts_ns)
        self._writer.append(self._table, batch)

    def _column(self, column: Column, word: U64, place: tuple[I64, I64] | None, memory: U8) -> Any:
        if place is None:
            return np.ascontiguousarray(word).view(NUMPY[CODES.get(column.type, "q")])
        raw = memory.data
        parts = [
            bytes(raw[at : at + length]) for at, length in zip(place[0].tolist(), place[1].tolist(), strict=True)
        ]
        return parts if column.type == "blob" else [part.decode("utf-8", "replace") for part in parts]

    def _stacks(self, words: U64, at: I64, length: I64, pid: I32, ts_ns: I64) -> I32:
        count = length >> 3
        address = words[ranges(at >> 3, count)]
        return self._addresses.nodes(Chains.from_leaf(offsets_of(count), address), self._addresses.epochs(pid, ts_ns))


def _with_nulls(values: Any, null: NDArray[np.bool_]) -> Any:
    if not null.any():
        return values
    if isinstance(values, list):
        return [None if absent else value for value, absent in zip(values, null.tolist(), strict=True)]
    return np.ma.masked_array(values, null)
