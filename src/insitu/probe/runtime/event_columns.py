"""Values of many records as columns: numbers as arrays, text as Polars series, stacks as addresses."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.probe.runtime.decode import code, decoder
from insitu.probe.runtime.struct_columns import memory_column, texts
from insitu.probe.types import (
    Array,
    Buffer,
    Integer,
    Pointer,
    Record,
    Stack,
    String,
    Tuple,
    Type,
    stored_size,
)
from insitu.session.distinct import offsets_of, ranges

if TYPE_CHECKING:
    import polars

    from insitu.probe.runtime.stack_records import StackContents
    from insitu.symbols.user_stacks import UserStacks

__all__ = ["Column", "CopiedStackColumn", "Rows", "StackColumn", "Texts", "fixed_column", "joined", "variable_column"]

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U64 = npt.NDArray[np.uint64]
# Text of a value of a type that has no form of its own in tables.
Texts = Callable[[Type, Any], str]


@dataclass(frozen=True)
class StackColumn:
    """n stacks: ``address[offset[i]:offset[i + 1]]``, leaf first; ``pid`` of user stacks, 0 for the kernel's."""

    offset: I64
    address: U64
    pid: I32
    mode: str = "bpftrace"

    def __len__(self) -> int:
        return len(self.pid)

    @property
    def lengths(self) -> I64:
        """(n,) number of frames."""
        return np.diff(self.offset)

    def take(self, rows: I64) -> StackColumn:
        """The stacks of ``rows``, in that order."""
        lengths = self.lengths[rows]
        at = ranges(self.offset[:-1][rows], lengths)
        return StackColumn(offsets_of(lengths), self.address[at], self.pid[rows], self.mode)


@dataclass(frozen=True)
class CopiedStackColumn:
    """n user stacks that are still to be unwound: registers, and copies of what lay above the stack pointer.

    ``registers`` is (n, R) in the order of the bits of ``mask`` (perf_event_attr.sample_regs_user). The copies are
    ``size`` bytes from ``start`` of ``stack`` on; where nothing was copied (kernel threads) the size is 0.
    """

    registers: U64
    mask: int
    stack: U8
    start: I64
    size: I64
    pid: I32

    def __len__(self) -> int:
        return len(self.pid)

    def take(self, rows: I64) -> CopiedStackColumn:
        """The stacks of ``rows``, in that order."""
        return CopiedStackColumn(
            self.registers[rows], self.mask, self.stack, self.start[rows], self.size[rows], self.pid[rows]
        )

    def user_stacks(self, epoch: I32) -> UserStacks:
        """What symbols.unwind takes; ``epoch`` is that of each one's address space."""
        from insitu.symbols.user_stacks import UserStacks

        return UserStacks(self.registers, self.mask, self.stack, self.start, self.size, epoch)


if TYPE_CHECKING:
    Column = npt.NDArray[Any] | polars.Series | StackColumn | CopiedStackColumn


class Rows:
    """Records of one kind in the bytes of a ring. ``at`` are the offsets after their headers, multiples of 8."""

    def __init__(self, data: U8, at: I64) -> None:
        self.data, self.at = data, at
        self._words = data[: len(data) & ~7].view("<u8")
        self._table: U64 | None = None
        if len(at) > 1:
            step = int(at[1] - at[0])
            if int(at[-1] - at[0]) == step * (len(at) - 1) and bool((np.diff(at) == step).all()):
                # One after the other: columns are slices, where others have to be gathered.
                first = int(at[0]) >> 3
                table = self._words[first : first + len(at) * (step >> 3)]
                if len(table) == len(at) * (step >> 3):
                    self._table = table.reshape(len(at), step >> 3)

    def __len__(self) -> int:
        return len(self.at)

    def words(self, offset: int) -> U64:
        """(n,) the u64 at an offset in each record, a multiple of 8."""
        if self._table is not None:
            return np.ascontiguousarray(self._table[:, offset >> 3])
        found: U64 = self._words[(self.at + offset) >> 3]
        return found

    def bytes(self, offset: int, size: int) -> U8:
        """(n, size) bytes at an offset in each record, both multiples of 8."""
        if self._table is not None:
            part = np.ascontiguousarray(self._table[:, offset >> 3 : (offset + size) >> 3])
        else:
            part = self._words[((self.at + offset) >> 3)[:, None] + np.arange(size >> 3)]
        return part.view(np.uint8).reshape(len(self), size)

    def numbers(self, offset: int, kind: str) -> npt.NDArray[Any]:
        """(n,) numbers of a type that numpy names, at an offset in each record."""
        width = np.dtype(kind).itemsize
        if width == 8:
            return self.words(offset).view(kind)
        word = self.words(offset & ~7)
        return word.view(kind)[(offset & 7) // width :: 8 // width].copy()

    def take(self, kept: npt.NDArray[np.bool_]) -> Rows:
        """The records where ``kept`` is set."""
        return self if kept.all() else Rows(self.data, self.at[kept])


def fixed_column(rows: Rows, offset: int, kind: Type, text: Texts, stacks: StackContents | None) -> Column:
    """A column of values in their stored form, at an offset in each record."""
    if isinstance(kind, Integer | Pointer):
        signed = isinstance(kind, Integer) and kind.signed
        return rows.words(offset).view(np.int64 if signed else np.uint64)
    if isinstance(kind, Stack):
        return _stacks_by_id(rows, offset, kind, stacks)
    if isinstance(kind, Buffer):
        length = np.minimum(rows.words(offset), np.uint64(kind.capacity)).astype(np.int64)
        return binaries(rows.data, rows.at + offset + 8, length)
    if isinstance(kind, Tuple) and kind.elements:
        return _struct(rows, offset, kind, text, stacks)
    data = rows.bytes(offset, stored_size(kind))
    if isinstance(kind, String):
        return texts(data)
    if isinstance(kind, Record | Array):
        return memory_column(data, kind)
    return _named(data, kind, text)


def variable_column(rows: Rows, start: I64, length: I64, kind: Type, pid: I32, mask: int, count: int) -> Column:
    """A column of values that take ``length`` bytes from ``start`` of the data on, a multiple of 8.

    ``mask`` and ``count`` are those of the registers that stacks of mode dwarf begin with.
    """
    if isinstance(kind, String):
        return strings(rows.data, start, length)
    if isinstance(kind, Buffer):
        return binaries(rows.data, start, length)
    assert isinstance(kind, Stack)
    words = rows.data[: len(rows.data) & ~7].view("<u8")
    if kind.mode == "dwarf":
        copied = length >= 8 * count
        first = np.where(copied, start >> 3, 0)
        registers = np.zeros((len(rows), count), np.uint64)
        registers[copied] = words[first[copied, None] + np.arange(count)]
        size = np.where(copied, length - 8 * count, 0)
        return CopiedStackColumn(registers, mask, rows.data, start + 8 * count, size, pid)
    frames = length >> 3
    address = words[ranges(start >> 3, frames)]
    if not address.all():
        # Walks by frame pointers may end in a zero, which is where stacks of stack maps end.
        rows_of = np.repeat(np.arange(len(rows)), frames)
        ends = np.flatnonzero(address == 0)[::-1]
        frames[rows_of[ends]] = ends - (np.cumsum(frames) - frames)[rows_of[ends]]
        address = words[ranges(start >> 3, frames)]
    return StackColumn(offsets_of(frames), address, pid if kind.user else np.zeros_like(pid), kind.mode)


def strings(data: U8, start: I64, length: I64) -> polars.Series:
    """Texts of these lengths, from offsets (multiples of 8) of ``data`` on, as a column."""
    return _split(_separated(data, start, length).decode("utf-8", "replace"), len(start))


def binaries(data: U8, start: I64, length: I64) -> polars.Series:
    """Bytes of these lengths, from offsets of ``data`` on, as a column."""
    raw = data[ranges(start, length)]
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    pairs = np.stack([digits[raw >> 4], digits[raw & 15]], axis=1).reshape(-1)
    ends = 2 * np.cumsum(length)
    whole = np.zeros(2 * len(raw) + len(start), np.uint8)
    at = np.ones(len(whole), np.bool_)
    at[ends + np.arange(len(start))] = False
    whole[at] = pairs
    return _split(whole.tobytes().decode(), len(start)).str.decode("hex")


def _separated(data: U8, start: I64, length: I64) -> bytes:
    """Texts one after the other, each followed by a zero."""
    words = data[: len(data) & ~7].view("<u8")
    count = (length >> 3) + 1
    # A text that fills its last word is followed by one that is not its own, perhaps not even of the data.
    at = np.minimum(ranges(start >> 3, count), max(len(words) - 1, 0))
    found = words[at].view(np.uint8)
    begins = 8 * (np.cumsum(count) - count)
    kept = np.zeros(len(found) + 1, np.int8)
    kept[begins] += 1
    kept[begins + length + 1] -= 1
    found[begins + length] = 0
    found = found[np.cumsum(kept[:-1], dtype=np.int8).view(np.bool_)]
    zeros = found == 0
    if int(np.count_nonzero(zeros)) != len(start):  # damaged: texts have none
        zeros[np.cumsum(length + 1) - 1] = False
        found[zeros] = 0xFF
    return found.tobytes()


def _split(text: str, count: int) -> polars.Series:
    """The texts that zeros separate, as a column; the last one is followed by a zero, too."""
    import polars

    if not count:
        return polars.Series([], dtype=polars.String)
    found: polars.Series = polars.Series([text[:-1]]).str.split("\0").explode()
    return found


def _stacks_by_id(rows: Rows, offset: int, kind: Stack, stacks: StackContents | None) -> StackColumn:
    ids = rows.words(offset).view(np.int64)
    pid = rows.words(offset + 8).astype(np.int32)
    if stacks is None:
        return StackColumn(np.zeros(len(rows) + 1, np.int64), np.zeros(0, np.uint64), pid, kind.mode)
    lengths, address = stacks.find(kind.map, ids)
    return StackColumn(offsets_of(lengths), address, pid, kind.mode)


def _struct(rows: Rows, offset: int, kind: Tuple, text: Texts, stacks: StackContents | None) -> polars.Series:
    """A tuple's elements, by their names or numbers."""
    import polars

    columns: dict[str, Any] = {}
    for index, element in enumerate(kind.elements):
        name = kind.names[index] if kind.names else str(index)
        column = fixed_column(rows, offset + kind.offset(index), element, text, stacks)
        if isinstance(column, StackColumn | CopiedStackColumn):
            column = stack_lists(column)
        columns[name] = column
    return polars.DataFrame(columns).to_struct()


def stack_lists(column: StackColumn | CopiedStackColumn) -> polars.Series:
    """Stacks inside of tuples: lists of addresses."""
    import polars

    address = column.address if isinstance(column, StackColumn) else np.zeros(0, np.uint64)
    lengths = column.lengths if isinstance(column, StackColumn) else np.zeros(len(column), np.int64)
    ends = np.cumsum(lengths)
    lists = [address[end - length : end].tolist() for end, length in zip(ends, lengths, strict=True)]
    return polars.Series(lists, dtype=polars.List(polars.UInt64))


def _named(data: U8, kind: Type, text: Texts) -> polars.Series:
    """Text for values that mean something else than they are. Each distinct one is looked up once."""
    import polars

    if not data.size:
        return polars.Series([""] * len(data), dtype=polars.String)
    shape, value = struct.Struct(f"<{code(kind)}"), decoder(kind)
    distinct, which = np.unique(data.view(f"V{data.shape[1]}").reshape(-1), return_inverse=True)
    found = [text(kind, value(shape.unpack(each.tobytes()))) for each in distinct]
    return polars.Series(found, dtype=polars.String).gather(which)


def joined(parts: Sequence[Column], order: I64 | None) -> Column:
    """Columns of several kinds of one label put together; ``order`` brings their rows into that of the records."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, StackColumn):
        stacks = [part for part in parts if isinstance(part, StackColumn)]
        whole = StackColumn(
            offsets_of(np.concatenate([part.lengths for part in stacks])),
            np.concatenate([part.address for part in stacks]),
            np.concatenate([part.pid for part in stacks]),
            first.mode,
        )
        return whole if order is None else whole.take(order)
    if isinstance(first, CopiedStackColumn):
        copies = [part for part in parts if isinstance(part, CopiedStackColumn)]
        together = CopiedStackColumn(
            np.concatenate([part.registers for part in copies]),
            first.mask,
            first.stack,
            np.concatenate([part.start for part in copies]),
            np.concatenate([part.size for part in copies]),
            np.concatenate([part.pid for part in copies]),
        )
        return together if order is None else together.take(order)
    if isinstance(first, np.ndarray):
        # A sign that differs is that of the first, as in maps.
        numbers = np.concatenate([np.asarray(part).view(first.dtype) for part in parts])
        return numbers if order is None else numbers[order]
    import polars

    series = polars.concat([part for part in parts if isinstance(part, polars.Series)])
    return series if order is None else series.gather(order)
