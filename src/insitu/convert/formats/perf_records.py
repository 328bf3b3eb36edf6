"""PERF_RECORD_* streams into arrays: what the kernel's rings and perf.data files are made of.

Layouts: include/uapi/linux/perf_event.h (enum perf_event_type, struct perf_event_attr) and, for record
types from 64 on, tools/perf/Documentation/perf.data-file-format.txt.

A stream is walked once for the records' places; samples are then decoded field by field for all of them
at once, and the rare other records one by one.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from insitu.kernel.perf_event import Hardware, Misc, ReadFormat, Record, Sample, Software, Type
from insitu.kernel.perf_records import HEADER, LAYOUTS, SideRecord, parse, trailer_fields

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "CONTEXT_MAX",
    "EventAttr",
    "SampleBatch",
    "SideRecord",
    "Stream",
    "ToolRecord",
    "sample_batches",
    "side_records",
    "walk",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
U8 = NDArray[np.uint8]

CONTEXT_MAX: Final = np.uint64(2**64 - 4095)  # PERF_CONTEXT_MAX: callchain entries from here on are markers


class ToolRecord(IntEnum):
    """Record types that perf itself writes, never the kernel (tools/lib/perf/include/perf/event.h)."""

    HEADER_ATTR = 64
    HEADER_TRACING_DATA = 66
    HEADER_BUILD_ID = 67
    AUXTRACE = 71
    HEADER_FEATURE = 80
    COMPRESSED = 81
    COMPRESSED2 = 83


_BRANCH_HW_INDEX = 1 << 17  # PERF_SAMPLE_BRANCH_HW_INDEX
_ATTR = struct.Struct("<IIQQQQQIIQQQQI")  # struct perf_event_attr up to sample_stack_user
_ATTR_SAMPLE_ID_ALL = 1 << 18
_ATTR_FREQ = 1 << 10


@dataclass(frozen=True)
class EventAttr:
    """What decoding needs of a struct perf_event_attr, and the name and ids of its event."""

    name: str
    type: int
    config: int
    sample_period: int  # or the frequency in Hz when `freq`
    sample_type: int
    read_format: int
    flags: int
    branch_sample_type: int = 0
    regs_user: int = 0
    stack_user: int = 0
    ids: tuple[int, ...] = ()

    @classmethod
    def parse(cls, raw: bytes, name: str = "", ids: Sequence[int] = ()) -> "EventAttr":
        """From the bytes of a struct perf_event_attr of any published size (shorter ones are zero-filled)."""
        values = _ATTR.unpack(raw[: _ATTR.size].ljust(_ATTR.size, b"\0"))
        return cls(
            name=name or event_name(values[0], values[2]),
            type=values[0],
            config=values[2],
            sample_period=values[3],
            sample_type=values[4],
            read_format=values[5],
            flags=values[6],
            branch_sample_type=values[11],
            regs_user=values[12],
            stack_user=values[13],
            ids=tuple(ids),
        )

    @property
    def freq(self) -> bool:
        return bool(self.flags & _ATTR_FREQ)

    @property
    def sample_id_all(self) -> bool:
        return bool(self.flags & _ATTR_SAMPLE_ID_ALL)


def event_name(kind: int, config: int) -> str:
    """perf's name of a hardware or software event, else its numbers."""
    names: dict[int, type[IntEnum]] = {Type.HARDWARE: Hardware, Type.SOFTWARE: Software}
    known = names[kind].__members__.values() if kind in names else ()
    name = next((member.name for member in known if member == config), None)
    if name is None:
        return f"type {kind} config {config:#x}"
    return {"CPU_CYCLES": "cycles"}.get(name) or name.lower().replace("_", "-")


@dataclass(frozen=True)
class Stream:
    """Consecutive records in memory: a word view of the bytes and each record's place in it.

    ``words`` (u64) covers the records; ``at`` (i64) is the word index of each record's header;
    ``type``, ``misc`` and ``size`` (bytes) are the header's fields. ``torn`` bytes at the end were dropped.
    """

    words: U64
    at: I64
    type: NDArray[np.uint32]
    misc: NDArray[np.uint16]
    size: NDArray[np.uint16]
    torn: int = 0


def walk(data: "Buffer") -> Stream:
    """Find the records of a buffer that starts at a record's header.

    Records are multiples of 8 bytes (perf_output_begin aligns them); a record whose size is impossible or that
    is cut off ends the walk, and what follows counts as torn.
    """
    view = memoryview(data).cast("B")
    whole = len(view) & ~7
    words = np.frombuffer(view[:whole], dtype="<u8")
    sizes = words.view("<u2")[3::4].data  # struct perf_event_header is {u32 type; u16 misc; u16 size}
    at: list[int] = []
    append = at.append
    position, count = 0, len(words)
    while position < count:
        size = sizes[position]
        step = size >> 3
        if size & 7 or not step or position + step > count:
            break
        append(position)
        position += step
    places = np.array(at, np.int64)
    head = words[places]
    return Stream(
        words,
        places,
        (head & np.uint64(0xFFFFFFFF)).astype(np.uint32),
        ((head >> np.uint64(32)) & np.uint64(0xFFFF)).astype(np.uint16),
        (head >> np.uint64(48)).astype(np.uint16),
        len(view) - position * 8,
    )


@dataclass(frozen=True)
class SampleBatch:
    """n decoded samples of one stream, as arrays of length n.

    ``chain_at``/``chain_len``: each callchain's place in ``words``, leaf first, markers included (len 0: none).
    ``regs_at``: word index of the user registers, -1 where there are none (abi 0); ``stack_at``/``stack_size``:
    byte offset into the same memory and valid length of the user stack copy.
    """

    words: U64
    ts_ns: I64
    pid: I32
    tid: I32
    cpu: I32
    ip: U64
    cpumode: NDArray[np.uint8]
    event: I32
    period: I64
    chain_at: I64
    chain_len: I64
    regs_at: I64
    stack_at: I64
    stack_size: I64
    regs_mask: int = 0
    malformed: int = 0

    def __len__(self) -> int:
        return len(self.ts_ns)


def sample_batches(stream: Stream, attrs: Sequence[EventAttr], limit: int = 1 << 15) -> Iterator[SampleBatch]:
    """Decode the samples of a stream, at most ``limit`` at a time.

    Events with different sample layouts are told apart by PERF_SAMPLE_IDENTIFIER, as perf does.
    """
    rows = np.flatnonzero(stream.type == Record.SAMPLE)
    if not attrs:
        return
    layouts: dict[tuple[int, int, int, int], list[int]] = {}
    for index, attr in enumerate(attrs):
        key = (attr.sample_type, attr.read_format, attr.branch_sample_type, attr.regs_user)
        layouts.setdefault(key, []).append(index)
    ids, owners = _id_table(attrs)
    for first in range(0, len(rows), limit):
        part = rows[first : first + limit]
        if len(layouts) == 1:
            yield _decode(stream, part, attrs, attrs[0], ids, owners)
            continue
        # Only a layout with the identifier in front (or as the only one) can share a stream with others.
        body = stream.at[part] + 1
        identified = stream.words[np.minimum(body, len(stream.words) - 1)]
        event = _look_up(ids, owners, identified)
        for members in layouts.values():
            mine = part[np.isin(event, members)]
            if len(mine):
                yield _decode(stream, mine, attrs, attrs[members[0]], ids, owners)


def _id_table(attrs: Sequence[EventAttr]) -> tuple[U64, I32]:
    pairs = sorted((id_, index) for index, attr in enumerate(attrs) for id_ in attr.ids)
    return (
        np.array([id_ for id_, _ in pairs], np.uint64),
        np.array([index for _, index in pairs], np.int32),
    )


def _look_up(ids: U64, owners: I32, wanted: U64) -> I32:
    """The event of each id; 0, the first event, where the id is not known."""
    if not len(ids):
        return np.zeros(len(wanted), np.int32)
    row = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
    return np.where(ids[row] == wanted, owners[row], 0).astype(np.int32)


class _Cursor:
    """Reads the fields of many records in step: each record's position, and where it ends, in words."""

    def __init__(self, words: U64, at: I64, end: I64) -> None:
        self.words, self.at, self.end = words, at, end
        self.whole = np.ones(len(at), np.bool_)

    def word(self) -> U64:
        """The word at each record's position, stepping over it; a record that ends before it is malformed."""
        value = self.peek()
        self.whole &= self.at < self.end
        self.at = self.at + 1
        return value

    def peek(self) -> U64:
        """The word at each record's position, 0 behind its end."""
        inside = self.at < self.end
        if inside.all():
            return self.words[self.at]
        return np.where(inside, self.words[np.where(inside, self.at, 0)], np.uint64(0))

    def count(self, most: int = 1 << 13) -> I64:
        """A word that counts what follows; a record (64 KiB at most) that claims too much is malformed."""
        value = self.word()
        fits = value <= np.uint64(most)
        if not fits.all():
            self.whole &= fits
            value = np.where(fits, value, np.uint64(0))
        return value.astype(np.int64)

    def skip(self, words: "I64 | int") -> I64:
        """Step over ``words`` words; returns where they began. Records too short for them are malformed."""
        start = self.at
        self.at = start + words
        self.whole &= self.at <= self.end
        return start


def _decode(
    stream: Stream, rows: I64, attrs: Sequence[EventAttr], layout: EventAttr, ids: U64, owners: I32
) -> SampleBatch:
    kind = layout.sample_type
    at = stream.at[rows]
    cursor = _Cursor(stream.words, at + 1, at + (stream.size[rows] >> 3).astype(np.int64))
    n = len(rows)
    zeros = np.zeros(n, np.uint64)
    low = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)

    identifier = cursor.word() if kind & Sample.IDENTIFIER else None
    ip = cursor.word() if kind & Sample.IP else zeros
    tids = cursor.word() if kind & Sample.TID else zeros
    time = cursor.word() if kind & Sample.TIME else zeros
    if kind & Sample.ADDR:
        cursor.skip(1)
    if kind & Sample.ID:
        id_ = cursor.word()
        identifier = id_ if identifier is None else identifier
    if kind & Sample.STREAM_ID:
        cursor.skip(1)
    cpu = cursor.word() & low if kind & Sample.CPU else zeros + low
    period = cursor.word() if kind & Sample.PERIOD else None
    if kind & Sample.READ:
        _skip_read(cursor, layout.read_format)
    chain_at, chain_len = np.zeros(n, np.int64), np.zeros(n, np.int64)
    if kind & Sample.CALLCHAIN:
        chain_len = cursor.count()
        chain_at = cursor.skip(chain_len)
    if kind & Sample.RAW:
        raw_bytes = (cursor.peek() & low).astype(np.int64)
        cursor.skip((raw_bytes + 4 + 7) >> 3)
    if kind & Sample.BRANCH_STACK:
        entries = cursor.count()
        cursor.skip(entries * 3 + (1 if layout.branch_sample_type & _BRANCH_HW_INDEX else 0))
    regs_at = np.full(n, -1, np.int64)
    if kind & Sample.REGS_USER:
        abi = cursor.word()
        regs_at = cursor.skip(np.where(abi != 0, layout.regs_user.bit_count(), 0))
        regs_at = np.where(abi != 0, regs_at, -1)
    stack_at, stack_size = np.zeros(n, np.int64), np.zeros(n, np.int64)
    if kind & Sample.STACK_USER:
        copied = cursor.count(1 << 16)
        stack_at = cursor.skip(copied >> 3)
        # dyn_size, what was really copied, is absent where size is 0.
        stack_size = np.clip(cursor.peek().astype(np.int64), 0, copied)

    batch = SampleBatch(
        words=stream.words,
        ts_ns=time.astype(np.int64),
        pid=(tids & low).astype(np.uint32).view(np.int32),
        tid=(tids >> shift).astype(np.uint32).view(np.int32),
        cpu=cpu.astype(np.uint32).view(np.int32),
        ip=ip,
        cpumode=(stream.misc[rows] & Misc.CPUMODE_MASK).astype(np.uint8),
        event=np.zeros(n, np.int32) if identifier is None else _look_up(ids, owners, identifier),
        period=period.astype(np.int64) if period is not None else _fixed_period(layout, n),
        chain_at=chain_at,
        chain_len=chain_len,
        regs_at=regs_at,
        stack_at=stack_at * 8,
        stack_size=stack_size,
        regs_mask=layout.regs_user,
    )
    return batch if cursor.whole.all() else _only(batch, cursor.whole)


def _fixed_period(layout: EventAttr, n: int) -> I64:
    return np.full(n, 1 if layout.freq else max(1, min(layout.sample_period, 2**62)), np.int64)


def _skip_read(cursor: _Cursor, read_format: int) -> None:
    """Step over struct read_format of a sample."""
    times = bool(read_format & ReadFormat.TOTAL_TIME_ENABLED) + bool(read_format & ReadFormat.TOTAL_TIME_RUNNING)
    per_value = 1 + bool(read_format & ReadFormat.ID) + bool(read_format & ReadFormat.LOST)
    if read_format & ReadFormat.GROUP:
        values = cursor.count()
        cursor.skip(values * per_value + times)
    else:
        cursor.skip(per_value + times)


def _only(batch: SampleBatch, keep: NDArray[np.bool_]) -> SampleBatch:
    """The samples where ``keep`` is set; the others are counted as malformed."""
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    for name, value in fields.items():
        if name != "words" and isinstance(value, np.ndarray):
            fields[name] = value[keep]
    fields["malformed"] = int(len(keep) - keep.sum())
    return SampleBatch(**fields)


def side_records(stream: Stream, attrs: Sequence[EventAttr]) -> Iterator[SideRecord]:
    """The records of a stream that say what samples mean: mappings, names, forks, exits and losses.

    A record too short for its type is passed over.
    """
    trailer = trailer_fields(attrs[0].sample_type) if attrs and attrs[0].sample_id_all else ()
    rows = np.flatnonzero(np.isin(stream.type, list(LAYOUTS)))
    memory = stream.words.view(np.uint8)
    for row in rows.tolist():
        start = int(stream.at[row]) * 8
        body = memory[start + HEADER.size : start + int(stream.size[row])].tobytes()
        record = parse(int(stream.type[row]), int(stream.misc[row]), body, trailer)
        if record is not None:
            yield record
