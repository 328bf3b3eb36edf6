"""Pages of the kernel's trace ring buffer (trace_pipe_raw, trace.dat), as arrays of records and of their fields.

The format: include/linux/ring_buffer.h, and the kernel's own description in events/header_page and header_event.
Records of a page follow each other without an index. They are walked in all pages of a batch at once: step n looks at
record n of every page.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Container, Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.kernel.tracefs import Field
from insitu.session.coded_texts import CodedTexts
from insitu.session.distinct import distinct

__all__ = [
    "END_NS",
    "TASK",
    "PageLayout",
    "TraceRecords",
    "decode_pages",
    "field_values",
    "page_layout",
    "records_of",
    "texts",
    "values_of",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]
U32 = NDArray[np.uint32]
U64 = NDArray[np.uint64]

END_NS: Final = 2**63 - 1
"""After all times."""
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
_STEPS: Final = (
    136  # records of a page that there is room for at first; of a power of 2, pages would share cache sets
)
_PAGE_SIZES: Final = range(64, (1 << 22) + 1)
_MOST_TEXT: Final = 4096
_MOST_WHOLE: Final = 256  # bytes of a record that are copied though some may not be asked for
_SHORT_TEXT: Final = 64
_NAME: Final = 16  # TASK_COMM_LEN
_FIRST_BYTES: Final = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
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
    until_ns: int
    """Of the pages of a window: no later window has records from before this time."""

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


def decode_pages(memory: U8, cpu_of_page: I32, layout: PageLayout, until_ns: int = END_NS) -> TraceRecords:
    """The records of whole pages, which ``memory`` holds one after another; ``cpu_of_page`` has one element for each.

    ``until_ns``: no page to come has a record from before.
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
    return TraceRecords(memory, ts_ns, cpu_of_record, event, at, size, page, lost, pages_after, damaged, until_ns)


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
        lane = np.flatnonzero(self._at + 4 <= self._end)  # a page that has not been read to its end
        at, end, now = (each[lane] for each in (self._at >> 2, self._end >> 2, self._start_ns))  # words
        found = np.zeros(
            (3, len(self._at), _STEPS), np.int64
        )  # of each page and step: ts_ns, at, size (0: no record)
        step = 0
        while len(lane):
            if step == found.shape[2]:
                found = np.concatenate([found, np.zeros_like(found)], axis=2)
            head = self._words[at].astype(np.int64)
            kind = head & 31
            following = at + kind + 1
            now += head >> 5
            size, data_at = kind << 2, at + 1
            # Nearly always all are records whose size is in their kind.
            if int(kind.min()) < 1 or int(kind.max()) >= _PADDING or bool((following > end).any()):
                now, size, data_at, following = self._others(head, at, end, now)
            rows = slice(None) if len(lane) == len(self._at) else lane
            found[0, rows, step], found[1, rows, step], found[2, rows, step] = now, data_at << 2, size
            step += 1
            at = following
            alive = at < end
            if not alive.all():
                lane, at, end, now = lane[alive], at[alive], end[alive], now[alive]
        is_record = found[2] > 0
        page = np.repeat(self._number, np.count_nonzero(is_record, axis=1))
        return found[0][is_record], found[1][is_record], found[2][is_record], page

    def _others(self, head: I64, at: I64, end: I64, now: I64) -> tuple[I64, I64, I64, I64]:
        """Time, size, first word and following word of records of any kind; a size of 0: it is none.

        ``now`` are the times before, each with its record's delta.
        """
        kind, delta = head & 31, head >> 5
        second = self._words[np.minimum(at + 1, len(self._words) - 1)].astype(np.int64)
        is_long, is_padding, is_time = kind == 0, kind == _PADDING, kind >= _TIME_EXTEND
        size = np.where(is_long, second - 4, kind << 2)
        words = np.where(is_long | is_padding, second + 7 >> 2, kind + 1)
        words = np.where(is_time, 2, words)
        extended = (second << _DELTA_BITS) + delta
        now = now + np.where(is_time, np.where(kind == _TIME_EXTEND, extended, 0) - delta, 0)
        now -= is_padding & (delta == 1)  # the 1 only says that the record is not the page's end
        is_stamp = kind == _TIME_STAMP
        if is_stamp.any():
            now = np.where(is_stamp, _absolute(extended, now), now)
        over = is_padding & (delta == 0)
        broken = ~over & ((words < 1) | (at + words > end) | (is_long & (size < 0)))
        self.damaged += int(broken.sum())
        size = np.where(is_padding | is_time | broken | (size < 2), 0, size)
        return now, size, at + 1 + is_long, np.where(over | broken, end, at + words)


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


def field_values(records: TraceRecords, rows: Any, field: Field) -> Any:
    """The values of one field, see ``values_of``."""
    return values_of(records, rows, [field])[0]


def values_of(records: TraceRecords, rows: Any, fields: Sequence[Field], raw: Container[str] = ()) -> list[Any]:
    """The values of each field in these rows, whose records are of an event that has them.

    An integer array of the field's width, of two dimensions where the field is an array of several bytes each;
    for text ``CodedTexts``, or rows of 16 bytes where it is that short and called as in ``raw``; for others a list
    of bytes. A field that reaches beyond its record is 0, or empty: raises InsituError where that is so of an array
    in most records.
    """
    found = _Rows(records.memory, records.at[rows], records.size[rows], fields)
    return [_values(found, field, raw) for field in fields]


def _values(rows: _Rows, field: Field, raw: Container[str]) -> Any:
    at, size = rows.at, rows.size
    is_text = field.declaration.removeprefix("const ") in _CHARACTERS or field.declaration == "char *"

    def read(memory: U8, start: I64, length: I64) -> Any:
        if is_text:
            return _texts_at(memory, start, length, raw=field.name in raw)
        return _pieces(memory, start, length)

    if field.location:
        where = rows.gathered(field.offset, 4, "<u4").astype(np.int64)
        start, length = where & 0xFFFF, where >> 16
        if field.location == "relative":
            start = start + field.offset + 4
        inside = start + length <= size
        return read(rows.memory, at + np.where(inside, start, 0), np.where(inside, length, 0))
    if field.count is not None:
        width = field.size or None
        if is_text and width is not None:
            characters = rows.gathered(field.offset, width, None)
            return characters if width == _NAME and field.name in raw else texts(characters)
        if width is not None and (code := _TYPES.get((width // max(field.count, 1), field.signed))) and width > 1:
            rows_of_bytes = rows.gathered(field.offset, width, None)
            if code[-1] != "1":
                return np.ascontiguousarray(rows_of_bytes).view(code)
        start = np.full(len(at), field.offset, np.int64)
        length = np.maximum(np.minimum(size - start, width if width is not None else 1 << 20), 0)
        return read(rows.memory, at + start, length)
    code = _TYPES.get((field.size, field.signed))
    if code is None:
        length = np.where(size >= field.offset + field.size, field.size, 0)
        return _pieces(rows.memory, at + field.offset, length)
    return rows.gathered(field.offset, field.size, code)


class _Rows:
    """Records of one kind. Where all have all fields, the beginnings of the records are copied once."""

    def __init__(self, memory: U8, at: I64, size: I64, fields: Sequence[Field]) -> None:
        self.memory, self.at, self.size = memory, at, size
        self._width = max(each.offset + (4 if each.location else each.size) for each in fields)
        self._whole: U8 | None = None
        if 0 < self._width <= min(_MOST_WHOLE, int(size.min(initial=0x7FFF))) and len(fields) > 1 and len(at):
            self._whole = _every(memory, f"V{self._width}")[at].view(np.uint8)

    def gathered(self, offset: int, width: int, code: str | None) -> NDArray[Any]:
        """``width`` bytes at ``offset`` of each record, as numbers of type ``code`` or rows of bytes; 0 outside."""
        rows = len(self.at)
        if width > 8 and rows * width > len(self.memory):  # a forged format: records do not overlap
            raise InsituError(f"a field of {width} bytes in records that are shorter")
        kind = np.dtype(code or f"V{width}")
        if not width or width > len(self.memory):
            values = np.zeros(rows, kind)
        elif self._whole is not None:
            there = np.ndarray(rows, kind, self._whole.data, offset=offset, strides=(self._width,))
            values = np.ascontiguousarray(there)
        else:
            inside = self.size >= offset + width
            values = _every(self.memory, kind)[np.where(inside, self.at + offset, 0)]
            if not inside.all():
                values[~inside] = np.zeros((), kind)
        return values if code else values.view(np.uint8).reshape(rows, width)


def _every(memory: U8, kind: Any) -> NDArray[Any]:
    """All places where such a value could begin, of which some are copied: no index for each byte."""
    kind = np.dtype(kind)
    return np.ndarray(len(memory) - kind.itemsize + 1, kind, memory.data, strides=(1,))


def _pieces(memory: U8, start: I64, length: I64) -> list[bytes]:
    raw = memory.data
    ends = (start + length).tolist()
    return [bytes(raw[low:high]) for low, high in zip(start.tolist(), ends, strict=True)]


def _texts_at(memory: U8, start: I64, length: I64, *, raw: bool) -> Any:
    """Texts of these lengths, that end before if they have a NUL; ``raw``: as rows of 16 bytes, if all are short."""
    width = int(length.max(initial=0)) + 7 & ~7
    raw = raw and width <= _NAME
    if width > _SHORT_TEXT or len(memory) < 8:
        return _each_text(_pieces(memory, start, length))
    words = np.empty((len(start), (_NAME if raw else width) >> 3), "<u8")
    last, eights = len(memory) - 8, np.ndarray(len(memory) - 7, "<u8", memory.data, strides=(1,))
    is_inside = int(start.max(initial=0)) + 8 * words.shape[1] <= len(memory)
    for column in range(words.shape[1]):
        at = start + 8 * column
        first = _FIRST_BYTES[np.clip(length - 8 * column, 0, 8)]
        if is_inside:
            words[:, column] = eights[at] & first
        else:
            there = np.minimum(at, last)
            shift = np.minimum((at - there) << 3, 63).astype(np.uint64)
            words[:, column] = (eights[there] >> shift) & first
    return words.view(np.uint8) if raw else texts(words.view(np.uint8))


def _text(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0][:_MOST_TEXT].decode("utf-8", "replace")


def _each_text(found: list[bytes]) -> CodedTexts:
    known: dict[bytes, int] = {}
    codes = [known.setdefault(each, len(known)) for each in found]
    return CodedTexts(np.array(codes, np.int32), [_text(each) for each in known])


def texts(rows: U8) -> CodedTexts:
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
            return CodedTexts(inverse, [_text(row.tobytes()) for row in raw[example]])
    whole = raw.tobytes()
    return _each_text([whole[at : at + width] for at in range(0, len(whole), width)] if width else [b""] * len(rows))
