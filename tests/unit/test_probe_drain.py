"""Records leave the ring in their order, each for its handler; what is discarded or unfinished does not."""

import struct
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.kernel.ring_buffer import BUSY, DISCARDED, RingBuffer
from insitu.probe.runtime.drain import FIELDS, drain_records, record_shape

_CODES = {1: "", 2: "Q", 3: "q16s", 9: "Q"}  # two kinds of equal length among them

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
    drain_records(cast(RingBuffer, ring), {kind: (record_shape(codes), note) for kind, codes in _CODES.items()})
    expected = [(kind, number if _CODES[kind] else None) for kind, number, flag in records if not flag]
    assert seen == expected
    assert len(ring.content) - ring.advanced == 32  # the unfinished one, and what came after it
