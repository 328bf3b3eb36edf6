"""Decodes PERF_RECORD_* streams (kernel rings, perf.data files) into arrays.

Layouts: include/uapi/linux/perf_event.h (enum perf_event_type, struct perf_event_attr).

Samples are decoded field by field for all of a stream at once; for other records see side_records.py.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.perf_stream import Stream
from insitu.kernel.perf_event import Hardware, Misc, ReadFormat, Record, Sample, Software, Type
from insitu.session.distinct import groups, ranges

__all__ = [
    "CONTEXT_MAX",
    "EventAttr",
    "SampleBatch",
    "SampleDecoder",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

CONTEXT_MAX: Final = np.uint64(2**64 - 4095)  # PERF_CONTEXT_MAX: callchain entries from here on are markers

_BRANCH_HW_INDEX = 1 << 17  # PERF_SAMPLE_BRANCH_HW_INDEX
_ATTR = struct.Struct("<IIQQQQQIIQQQQI")  # struct perf_event_attr up to sample_stack_user
_ATTR_INHERIT = 1 << 1
_ATTR_SAMPLE_ID_ALL = 1 << 18
_ATTR_FREQ = 1 << 10


class EventAttr(NamedTuple):
    """The fields of struct perf_event_attr needed for decoding, and the name and ids of its event."""

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
    def inherit(self) -> bool:
        return bool(self.flags & _ATTR_INHERIT)

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


class SampleDecoder:
    """Decodes the samples of a recording's streams.

    One decoder takes the windows of a stream in order, since samples with counter values (PERF_SAMPLE_READ, which
    ``perf record -e '{a,b}:S'`` asks for) count from the sample before. Several streams may take turns: an event's
    id belongs to one of them.
    """

    def __init__(self, attrs: Sequence[EventAttr]) -> None:
        self._attrs = attrs
        pairs = sorted((id_, index) for index, attr in enumerate(attrs) for id_ in attr.ids)
        self._ids = np.array([id_ for id_, _ in pairs], np.uint64)
        self._owners = np.array([index for _, index in pairs], np.int32)
        self._layouts: dict[tuple[int, int, int, int], list[int]] = {}
        for index, attr in enumerate(attrs):
            key = (attr.sample_type, attr.read_format, attr.branch_sample_type, attr.regs_user)
            self._layouts.setdefault(key, []).append(index)
        self._counters: dict[int, int] = {}  # last value, by index into _ids and thread id (see _counted)

    def batches(self, stream: Stream, limit: int = 1 << 14) -> Iterator[SampleBatch]:
        """The samples of a stream, decoded from at most ``limit`` records at a time.

        Events with different sample layouts are distinguished by PERF_SAMPLE_IDENTIFIER, as perf does.
        """
        if not self._attrs:
            return
        rows = np.flatnonzero(stream.type == Record.SAMPLE)
        for first in range(0, len(rows), limit):
            part = rows[first : first + limit]
            if len(self._layouts) == 1:
                yield self._decode(stream, part, self._attrs[0])
                continue
            # Only a layout with the identifier in front (or as the only one) can share a stream with others.
            event = self._event(_second_words(stream, part))
            for members in self._layouts.values():
                mine = part[np.isin(event, members)]
                if len(mine):
                    yield self._decode(stream, mine, self._attrs[members[0]])

    def _event(self, ids: U64) -> I32:
        """The event of each id; 0, the first event, for an unknown id."""
        row, known = self._row(ids)
        return np.where(known, self._owners[row], 0).astype(np.int32) if len(self._owners) else row.astype(np.int32)

    def _row(self, ids: U64) -> tuple[I64, NDArray[np.bool_]]:
        """The index of each id in ``_ids``, and whether it is known."""
        if not len(self._ids):
            return np.zeros(len(ids), np.int64), np.zeros(len(ids), np.bool_)
        row = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        return row, self._ids[row] == ids

    def _decode(self, stream: Stream, rows: I64, layout: EventAttr) -> SampleBatch:
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
        counters = None
        if kind & Sample.READ:
            counters = _read_counters(cursor, layout.read_format)
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
            event=np.zeros(n, np.int32) if identifier is None else self._event(identifier),
            period=period.astype(np.int64) if period is not None else _fixed_period(layout, n),
            chain_at=chain_at,
            chain_len=chain_len,
            regs_at=regs_at,
            stack_at=stack_at * 8,
            stack_size=stack_size,
            regs_mask=layout.regs_user,
        )
        if counters is not None and len(self._ids):
            return self._counted(batch, cursor.whole, counters, layout)
        if cursor.whole.all():
            return batch
        return _rows(batch, np.flatnonzero(cursor.whole), malformed=int(n - cursor.whole.sum()))

    def _counted(
        self, batch: SampleBatch, whole: NDArray[np.bool_], counters: "_Counters", layout: EventAttr
    ) -> SampleBatch:
        """A sample for each counter value that its record carries, weighted with what was counted since the last one.

        As perf delivers them (deliver_sample_group in tools/perf/util/session.c): a value that did not grow makes no
        sample, and neither does one of an unknown event. Inherited events count each thread by itself.
        """
        owner = np.repeat(np.arange(len(batch)), counters.count)
        if counters.id is None:
            return _rows(batch, np.flatnonzero(whole), malformed=int(len(batch) - whole.sum()))
        row, known = self._row(counters.id)
        usable = np.flatnonzero(known & whole[owner])
        owner, row, value = owner[usable], row[usable], counters.value[usable]
        thread = batch.tid[owner].astype(np.int64) & 0xFFFFFFFF if layout.inherit else np.zeros(len(owner), np.int64)
        grown = np.zeros(len(owner), np.int64)
        for key, mine in groups(row << 32 | thread):
            values = value[mine]
            before = np.concatenate([np.array([self._counters.get(key, 0)], np.uint64), values[:-1]])
            # A counter that decreased was reset: its value is the count since then.
            since = np.where(values >= before, values - before, values)
            grown[mine] = np.minimum(since, np.uint64(2**62)).astype(np.int64)
            self._counters[key] = int(values[-1])
        kept = np.flatnonzero(grown)
        delivered = _rows(batch, owner[kept], malformed=int(len(batch) - whole.sum()))
        return replace(delivered, event=self._owners[row[kept]], period=grown[kept])


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
        """The word at each record's position, 0 after its end."""
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


def _fixed_period(layout: EventAttr, n: int) -> I64:
    return np.full(n, 1 if layout.freq else max(1, min(layout.sample_period, 2**62)), np.int64)


@dataclass(frozen=True)
class _Counters:
    """The counter values of samples: ``count`` of each sample; all samples' ``value`` and ``id``, one after another.

    ``id`` is None where the format has none.
    """

    count: I64
    value: U64
    id: U64 | None


def _read_counters(cursor: _Cursor, read_format: int) -> _Counters:
    """Read struct read_format of each sample; none of one that is cut off."""
    times = bool(read_format & ReadFormat.TOTAL_TIME_ENABLED) + bool(read_format & ReadFormat.TOTAL_TIME_RUNNING)
    has_id = bool(read_format & ReadFormat.ID)
    width = 1 + has_id + bool(read_format & ReadFormat.LOST)
    if read_format & ReadFormat.GROUP:
        count = cursor.count()
        cursor.skip(times)
        start = cursor.skip(count * width)
        id_offset = 1
    else:
        count = np.ones(len(cursor.at), np.int64)
        start = cursor.skip(width + times)  # the value, the times, the id
        id_offset = 1 + times
    count = np.where(cursor.whole, count, 0)
    at = np.repeat(start, count) + width * ranges(np.zeros(len(count), np.int64), count)
    return _Counters(count, cursor.words[at], cursor.words[at + id_offset] if has_id else None)


def _rows(batch: SampleBatch, rows: I64, *, malformed: int) -> SampleBatch:
    """The samples ``rows`` of a batch, in that order."""
    fields = {name: getattr(batch, name) for name in batch.__dataclass_fields__}
    for name, value in fields.items():
        if name != "words" and isinstance(value, np.ndarray):
            fields[name] = value[rows]
    return SampleBatch(**{**fields, "malformed": malformed})


def _second_words(stream: Stream, rows: I64) -> U64:
    """The first word after the header of each record; of an empty record at the end, its header."""
    return stream.words[np.minimum(stream.at[rows] + 1, len(stream.words) - 1)]
