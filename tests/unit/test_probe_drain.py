"""Records leave the ring in their order, each for its handler; what is discarded or unfinished does not."""

import struct
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.kernel.ring_buffer import BUSY, DISCARDED, RingBuffer
from insitu.probe.runtime.drain import FIELDS, Handler, RecordReader, record_shape
from insitu.probe.types import UINT64, Buffer, String, Tuple, Variable

_CODES = {1: "", 2: "Q", 3: "q16s", 9: "Q"}  # two kinds of equal length among them
_FIELDS = {1: Tuple(()), 2: Tuple((UINT64,)), 3: Tuple((Buffer(16),)), 9: Tuple((UINT64,))}

_RECORD = st.tuples(st.sampled_from(sorted(_CODES)), st.integers(0, 127), st.sampled_from([0, 0, 0, DISCARDED]))


class _Ring:
    """What a ring holds, as kernel/bpf/ringbuf.c writes it."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.advanced = 0

    def add(self, kind: int, number: int, flag: int) -> None:
        data = struct.pack("<Q", kind) + bytes([number]) * struct.calcsize(f"<{_CODES[kind]}")
        self.content += struct.pack("<II", len(data) | flag, 7) + data

    def waiting(self) -> memoryview:
        return memoryview(bytes(self.content))[self.advanced :]

    def advance(self, taken_bytes: int) -> None:
        self.advanced += taken_bytes


def _reader(ring: _Ring, handler: Handler) -> RecordReader:
    handlers = {kind: (record_shape(fields), handler) for kind, fields in _FIELDS.items()}
    return RecordReader(cast(RingBuffer, ring), handlers)


@given(st.lists(st.tuples(st.binary(max_size=30), st.integers(0, 255), st.binary(max_size=30)), max_size=5))
@settings(deadline=None, max_examples=100)
def test_parts_behind_the_fields_have_their_own_lengths(records: list[tuple[bytes, int, bytes]]) -> None:
    ring, seen = _Ring(), []
    for first, number, second in records:
        data = struct.pack("<QQQQ", 5, len(first), number, len(second))
        for part in (first, second):
            data += part + bytes(-len(part) % 8)
        ring.content += struct.pack("<II", len(data), 7) + data
    shape = record_shape(Tuple((Variable(String(64)), UINT64, Variable(String(64)))))
    reader = RecordReader(cast(RingBuffer, ring), {5: (shape, lambda pieces: seen.append(pieces[FIELDS:]))})
    reader.take()
    reader.handle()
    assert seen == records and reader.done


def _drain(ring: _Ring, handler: Handler) -> None:
    reader = _reader(ring, handler)
    reader.take()
    reader.handle()
    assert reader.done


@given(st.lists(_RECORD))
@settings(deadline=None, max_examples=100)
def test_records_come_in_order_to_the_handlers_of_their_kinds(records: list[tuple[int, int, int]]) -> None:
    ring, seen = _Ring(), []

    def note(pieces: tuple[Any, ...]) -> None:
        first = pieces[FIELDS] & 0xFF if len(pieces) > FIELDS else None
        seen.append((pieces[1], first))

    for record in records:
        ring.add(*record)
    ring.add(1, 0, BUSY)
    ring.add(1, 0, 0)
    _drain(ring, note)
    expected = [(kind, number if _CODES[kind] else None) for kind, number, flag in records if not flag]
    assert seen == expected
    assert len(ring.content) - ring.advanced == 32  # the unfinished one, and what came after it


def test_handling_stops_after_a_record_that_took_long_and_goes_on_from_there() -> None:
    ring, seen = _Ring(), []

    def slow(pieces: tuple[Any, ...]) -> bool:
        seen.append(pieces[FIELDS] & 0xFF)
        return True

    for number in (1, 2, 3):
        ring.add(2, number, 0)
    reader = _reader(ring, slow)
    for handled in (1, 2, 3):
        reader.take()
        reader.handle()
        assert seen == [1, 2, 3][:handled]
        assert reader.done == (handled == 3)
        ring.add(9, 9, 0)  # what comes meanwhile waits in the ring
    reader.take()
    reader.handle()
    assert seen == [1, 2, 3, 9]
