"""Pages of the kernel's trace ring buffer (trace_pipe_raw, trace.dat), as arrays of records and of their fields.

The format: include/linux/ring_buffer.h, and the kernel's own description in events/header_page and header_event.
Records of a page follow each other without an index. They are walked in all pages of a batch at once: step n looks at
record n of every page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.kernel.tracefs import Field
from insitu.session.distinct import distinct

__all__ = [
    "TASK",
    "PageLayout",
    "TraceRecords",
    "decode_pages",
    "field_values",
    "page_layout",
    "records_of",
    "texts",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

TASK: Final = Field("common_pid", "int", 4, 4, True)
"""Where every record has the thread that it happened in: at offset 4 (struct trace_entry)."""
_PADDING: Final = 29
_TIME_EXTEND: Final = 30
_TIME_STAMP: Final = 31
_DELTA_BITS: Final = 27
_COMMIT_MASK: Final = (1 << 20) - 1  # RB_WRITE_MASK
_MISSED_EVENTS: Final = 1 << 31
_MISSED_STORED: Final = 1 << 30
_TOP_BITS: Final = np.int64(-(1 << 59))  # the five bits that a TIME_STAMP has no room for
_PAGES_AT_ONCE: Final = 2048
_PAGE_SIZES: Final = range(64, (1 << 22) + 1)
_MOST_TEXT: Final = 4096
_MIXER: Final = np.uint64(0x9E3779B97F4A7C15)

_HEADER_FIELD: Final = re.compile(r"field:\s*[^;]*?(\w+);\s*offset:(\d+);\s*size:(\d+)")


class PageLayout(NamedTuple):
    """Where a page has what, in bytes."""

    page_bytes: int
    timestamp_at: int = 0
    commit_at: int = 8
    commit_bytes: int = 8
    data_at: int = 16


class TraceRecords(NamedTuple):
    """Records, in the order of the pages and of the records in each: arrays of equal length.

    ``at`` is the offset in ``memory`` of a record's bytes, which begin with the event's number (``event``), and
    ``size`` their number. ``page`` counts the pages of ``memory``. ``ts_ns`` is in the unit of the buffer's clock.
    """

    memory: U8
    ts_ns: I64
    cpu: I32
    event: I32
    at: I64
    size: I64
    page: I64
    lost: dict[int, int]
    """CPU -> records that the kernel says were overwritten before a page."""
    missed: I64
    """These pages."""
    damaged: int
    """Pages whose rest could not be read."""

    def __len__(self) -> int:
        return len(self.ts_ns)


def page_layout(header_page: str, page_bytes: int) -> PageLayout:
    """The layout by the text of events/header_page. Raises InsituError if it is not one."""
    found = {name: (int(at), int(size)) for name, at, size in _HEADER_FIELD.findall(header_page)}
    try:
        (timestamp_at, _), (commit_at, commit_bytes), (data_at, _) = (
            found[name] for name in ("timestamp", "commit", "data")
        )
    except KeyError as error:
        raise InsituError(f"header_page: no field {error.args[0]}") from None
    layout = PageLayout(page_bytes, timestamp_at, commit_at, commit_bytes, data_at)
    if (
        page_bytes not in _PAGE_SIZES
        or page_bytes % 8
        or commit_bytes not in (4, 8)
        or timestamp_at % 4
        or commit_at % 4
        or data_at % 4
        or max(timestamp_at + 8, commit_at + commit_bytes, data_at) > page_bytes
    ):
        raise InsituError(f"header_page: a layout that no kernel has, in pages of {page_bytes} bytes")
    return layout


def decode_pages(memory: U8, cpu_of_page: I32, layout: PageLayout) -> TraceRecords:
    """The records of whole pages, which ``memory`` holds one after another; ``cpu_of_page`` has one element for each.

    Little-endian. Nothing in a page is trusted: where its records cannot be followed its rest counts as damaged.
    """
    if sys.byteorder != "little":
        raise InsituError("trace pages can be read on little-endian machines only")
    pages = min(len(memory) // layout.page_bytes, len(cpu_of_page))
    words = memory[: pages * layout.page_bytes].view("<u4")
    lost: dict[int, int] = {}
    missed: list[int] = []
    damaged = 0
    parts: list[tuple[I64, ...]] = []
    for first in range(0, pages, _PAGES_AT_ONCE):
        number = np.arange(first, min(pages, first + _PAGES_AT_ONCE), dtype=np.int64)
        walk = _Walk(words, number, layout)
        for index, count in walk.missed():
            missed.append(index)
            cpu = int(cpu_of_page[index])
            lost[cpu] = lost.get(cpu, 0) + count
        parts.append(walk.records())
        damaged += walk.damaged
    ts_ns, at, size, page = (
        np.concatenate([part[index] for part in parts]) if parts else np.zeros(0, np.int64) for index in range(4)
    )
    event = (words[at >> 2] & np.uint32(0xFFFF)).astype(np.int32) if len(at) else np.zeros(0, np.int32)
    cpu_of_record = cpu_of_page[page].astype(np.int32)
    pages_after = np.array(missed, np.int64)
    return TraceRecords(memory, ts_ns, cpu_of_record, event, at, size, page, lost, pages_after, damaged)


def records_of(pages: Sequence[tuple[int, bytes]], layout: PageLayout) -> TraceRecords:
    """The records of (CPU, page) pairs, see ``decode_pages``."""
    memory = np.frombuffer(b"".join(page for _, page in pages), np.uint8)
    return decode_pages(memory, np.array([cpu for cpu, _ in pages], np.int32), layout)


class _Walk:
    """The records of some pages."""

    def __init__(self, words: U32, number: I64, layout: PageLayout) -> None:
        self._words = words
        self._number = number
        base = number * layout.page_bytes
        low, high = (words[(base + layout.timestamp_at + part) >> 2].astype(np.int64) for part in (0, 4))
        self._start_ns = high << 32 | low
        self._commit = words[(base + layout.commit_at) >> 2].astype(np.int64)
        self._at = base + layout.data_at
        self._end = self._at + np.minimum(self._commit & _COMMIT_MASK, layout.page_bytes - layout.data_at)
        self._page_end = base + layout.page_bytes
        self.damaged = 0

    def missed(self) -> Iterator[tuple[int, int]]:
        """(page, records overwritten before it); 1 where the page does not say how many."""
        for index in np.flatnonzero(self._commit & _MISSED_EVENTS).tolist():
            count, end = 1, int(self._end[index]) + 3 & ~3
            if self._commit[index] & _MISSED_STORED and end + 8 <= self._page_end[index]:
                low, high = self._words[end >> 2 : (end >> 2) + 2].tolist()
                count = high << 32 | low
                count = count if 0 < count < 1 << 62 else 1
            yield int(self._number[index]), count

    def records(self) -> tuple[I64, ...]:
        """ts_ns, at, size and page of each record."""
        words, last = self._words, len(self._words) - 1
        columns: list[tuple[I64, I64, I64, I64]] = []
        at, end, now, page = self._at, self._end, self._start_ns, self._number
        while len(at):
            alive = at + 4 <= end
            if not alive.all():
                at, end, now, page = at[alive], end[alive], now[alive], page[alive]
                if not len(at):
                    break
            head = words[at >> 2].astype(np.int64)
            following = words[np.minimum((at >> 2) + 1, last)].astype(np.int64)
            kind, delta = head & 31, head >> 5
            is_long = kind == 0
            is_padding = kind == _PADDING
            is_time = kind >= _TIME_EXTEND
            data_at = at + 4 + (is_long << 2)
            size = np.where(is_long, following - 4, kind << 2)
            step = np.where(is_long | is_padding, following + 4, 4 + (kind << 2))
            step = np.where(is_time, 8, step)
            extended = (following << _DELTA_BITS) + delta
            now = now + np.where(is_time, np.where(kind == _TIME_EXTEND, extended, 0), delta)
            if is_padding.any():
                now = now - (is_padding & (delta == 1))  # the 1 only says that the record is not the page's end
            is_stamp = kind == _TIME_STAMP
            if is_stamp.any():
                now = np.where(is_stamp, _absolute(extended, now), now)
            step = step + 3 & ~3
            over = is_padding & (delta == 0)
            broken = ~over & ((step < 4) | (at + step > end) | (is_long & (size < 0)))
            self.damaged += int(broken.sum())
            is_record = ~(is_padding | is_time | broken) & (size >= 2)
            columns.append((now[is_record], data_at[is_record], size[is_record], page[is_record]))
            at = np.where(over | broken, end, at + step)
        joined = tuple(
            np.concatenate([column[index] for column in columns]) if columns else np.zeros(0, np.int64)
            for index in range(4)
        )
        order = np.argsort(joined[3], kind="stable")
        return tuple(values[order] for values in joined)


def _absolute(stamp: I64, now: I64) -> I64:
    """A TIME_STAMP's 59 bits with the top bits of the time before (rb_fix_abs_ts)."""
    fixed = stamp | (now & _TOP_BITS)
    return np.where(fixed < now, fixed + (np.int64(1) << 59), fixed) if (now & _TOP_BITS).any() else fixed


_TYPES: Final = {
    (1, False): "<u1",
    (1, True): "<i1",
    (2, False): "<u2",
    (2, True): "<i2",
    (4, False): "<u4",
    (4, True): "<i4",
    (8, False): "<u8",
    (8, True): "<i8",
}
_CHARACTERS: Final = {"char", "unsigned char", "signed char", "const char"}


def field_values(records: TraceRecords, rows: I64, field: Field) -> Any:
    """The values of a field in these rows, whose records are of an event that has it.

    An integer array of the field's width, of two dimensions where the field is an array of several bytes each; for
    text a list of str; for others a list of bytes. A field that reaches beyond its record is 0, or empty.
    Raises InsituError where that is so of an array in most records.
    """
    at, size = records.at[rows], records.size[rows]
    is_text = field.declaration.removeprefix("const ") in _CHARACTERS or field.declaration == "char *"
    if field.location:
        where = _gathered(records.memory, at, size, field.offset, 4, "<u4").astype(np.int64)
        start, length = where & 0xFFFF, where >> 16
        if field.location == "relative":
            start = start + field.offset + 4
        inside = start + length <= size
        found = _pieces(records.memory, at + np.where(inside, start, 0), np.where(inside, length, 0))
        return _plain_text(found) if is_text else found
    if field.count is not None:
        width = field.size or None
        if is_text and width is not None:
            return texts(_gathered(records.memory, at, size, field.offset, width, None))
        if width is not None and (code := _TYPES.get((width // max(field.count, 1), field.signed))) and width > 1:
            rows_of_bytes = _gathered(records.memory, at, size, field.offset, width, None)
            if code[-1] != "1":
                return np.ascontiguousarray(rows_of_bytes).view(code)
        start = np.full(len(at), field.offset, np.int64)
        length = np.maximum(np.minimum(size - start, width if width is not None else 1 << 20), 0)
        found = _pieces(records.memory, at + start, length)
        return _plain_text(found) if is_text else found
    code = _TYPES.get((field.size, field.signed))
    if code is None:
        length = np.where(size >= field.offset + field.size, field.size, 0)
        return _pieces(records.memory, at + field.offset, length)
    return _gathered(records.memory, at, size, field.offset, field.size, code)


def _gathered(memory: U8, at: I64, size: I64, offset: int, width: int, code: str | None) -> NDArray[Any]:
    """``width`` bytes at ``offset`` of each record, as numbers of type ``code`` or as rows of bytes; 0 outside."""
    if width > 8 and len(at) * width > len(memory):  # a forged format: records do not overlap
        raise InsituError(f"a field of {width} bytes in records that are shorter")
    kind = np.dtype(code or f"V{width}")
    if not width or width > len(memory):
        values = np.zeros(len(at), kind)
    else:
        inside = size >= offset + width
        start = np.where(inside, at + offset, 0)
        # All places where such a value could begin, of which some are copied: no index for each byte.
        values = np.ndarray(len(memory) - width + 1, kind, memory.data, strides=(1,))[start]
        if not inside.all():
            values[~inside] = np.zeros((), kind)
    return values if code else values.view(np.uint8).reshape(len(at), width)


def _pieces(memory: U8, start: I64, length: I64) -> list[bytes]:
    raw = memory.data
    ends = (start + length).tolist()
    return [bytes(raw[low:high]) for low, high in zip(start.tolist(), ends, strict=True)]


def _plain_text(found: list[bytes]) -> list[str]:
    known: dict[bytes, str] = {}
    for each in found:
        if each not in known:
            known[each] = each.split(b"\0", 1)[0][:_MOST_TEXT].decode("utf-8", "replace")
    return [known[each] for each in found]


def texts(rows: U8) -> list[str]:
    """Texts that end at a NUL or with their row, of rows of bytes: each distinct one is decoded once."""
    width = rows.shape[1]
    raw = np.ascontiguousarray(rows)
    if width and width % 8 == 0 and len(rows):  # names of threads
        words = raw.view("<u8")
        key = words[:, 0]
        for column in range(1, words.shape[1]):
            key = key * _MIXER ^ words[:, column]
        found, inverse = distinct(key)
        example = np.zeros(len(found), np.int64)
        example[inverse] = np.arange(len(rows))
        if (words[example][inverse] == words).all():
            known = _plain_text([row.tobytes() for row in raw[example]])
            return [known[index] for index in inverse.tolist()]
    whole = raw.tobytes()
    return _plain_text([whole[at : at + width] for at in range(0, len(whole), width)] if width else [b""] * len(rows))
