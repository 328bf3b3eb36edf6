"""Decoding of hand-packed perf records."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.convert.formats.perf_records import EventAttr, SampleDecoder
from insitu.convert.formats.perf_stream import walk, walk_chunks, walk_windows
from insitu.convert.formats.side_records import SideRecords
from insitu.kernel.perf_event import Record

from . import perf_bytes as pb

ATTR = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE))


def test_an_attr_names_its_event_and_says_how_samples_are_laid_out():
    attr = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE, kind=1, config=2, flags=pb.SAMPLE_ID_ALL | 1 << 10))
    assert (attr.name, attr.sample_type, attr.freq, attr.sample_id_all) == ("page-faults", pb.SAMPLE_TYPE, True, True)


def test_an_attr_of_an_older_and_shorter_kind_is_read():
    assert EventAttr.parse(pb.attr(pb.SAMPLE_TYPE)[:64]).sample_type == pb.SAMPLE_TYPE


def test_samples_come_out_as_they_were_packed():
    stream = walk(
        pb.sample(0x10, 7, 8, 1000, [pb.CONTEXT_USER, 0x10, 0x20], cpu=1, period=5)
        + pb.comm(7, 8, "prog", 1001)
        + pb.sample(0x30, 9, 9, 1002, [], cpu=0, period=6)
    )
    (batch,) = SampleDecoder([ATTR]).batches(stream)
    assert batch.ip.tolist() == [0x10, 0x30]
    assert (batch.pid.tolist(), batch.tid.tolist()) == ([7, 9], [8, 9])
    assert (batch.ts_ns.tolist(), batch.cpu.tolist(), batch.period.tolist()) == ([1000, 1002], [1, 0], [5, 6])
    assert batch.chain_len.tolist() == [3, 0]
    first = batch.chain_at[0]
    assert batch.words[first : first + 3].tolist() == [pb.CONTEXT_USER, 0x10, 0x20]
    assert batch.malformed == 0


def test_registers_and_stack_copies_are_found_after_variable_fields():
    kind = pb.IP | pb.TID | pb.TIME | pb.CALLCHAIN | pb.RAW | pb.REGS_USER | pb.STACK_USER
    attr = EventAttr.parse(pb.attr(kind, regs=0b1011))
    body = struct.pack("<QiiQ", 1, 2, 2, 3) + struct.pack("<QQQ", 2, 11, 12)
    body += struct.pack("<I", 12) + b"r" * 12
    body += struct.pack("<QQQQ", 2, 101, 102, 103)
    body += struct.pack("<Q", 16) + b"stackcopystackco" + struct.pack("<Q", 8)
    without = struct.pack("<QiiQ", 1, 2, 2, 4) + struct.pack("<Q", 0) + struct.pack("<I", 4) + b"rrrr"
    without += struct.pack("<QQ", 0, 0)  # a kernel thread: no registers, no stack
    (batch,) = SampleDecoder([attr]).batches(walk(pb.record(9, body) + pb.record(9, without)))
    assert batch.malformed == 0
    assert batch.regs_at.tolist()[1] == -1
    assert batch.words[batch.regs_at[0] : batch.regs_at[0] + 3].tolist() == [101, 102, 103]
    at = batch.stack_at[0]
    assert batch.words.view(np.uint8)[at : at + 16].tobytes() == b"stackcopystackco"
    assert batch.stack_size.tolist() == [8, 0]


def test_events_with_different_layouts_are_distinguished_by_their_identifier():
    plain = EventAttr.parse(pb.attr(pb.IDENTIFIER | pb.IP | pb.TIME), "plain", [10, 11])
    timed = EventAttr.parse(pb.attr(pb.IDENTIFIER | pb.IP | pb.TIME | pb.PERIOD), "timed", [20])
    data = pb.record(9, struct.pack("<QQQ", 11, 1, 100)) + pb.record(9, struct.pack("<QQQQ", 20, 2, 200, 9))
    batches = list(SampleDecoder([plain, timed]).batches(walk(data)))
    found = sorted((int(b.event[0]), int(b.ip[0]), int(b.ts_ns[0]), int(b.period[0])) for b in batches)
    assert found == [(0, 1, 100, 1), (1, 2, 200, 9)]


def test_side_records_tell_mappings_names_forks_and_losses_with_their_times():
    build_id = bytes(range(20))
    data = (
        pb.mmap2(5, 0x1000, 0x2000, 0x3000, "/usr/bin/prog", 10, build_id)
        + pb.comm(5, 6, "worker", 11, execed=True)
        + pb.fork(7, 5, 7, 5, 12)
        + pb.lost(33, 13)
        + pb.exited(7, 7, 14)
    )
    mmap, comm, fork, lost, exited = SideRecords(walk(data), [ATTR])
    assert (mmap.pid, mmap.start, mmap.length, mmap.offset) == (5, 0x1000, 0x2000, 0x3000)
    assert (mmap.text, mmap.build_id) == ("/usr/bin/prog", build_id.hex())
    assert (comm.tid, comm.text) == (6, "worker")
    assert (fork.pid, fork.ppid) == (7, 5)
    assert lost.lost == 33
    assert exited.type == Record.EXIT
    assert [record.ts_ns for record in (mmap, comm, fork, lost, exited)] == [10, 11, 12, 13, 14]


def build_id_record(path: str) -> bytes:
    """PERF_RECORD_HEADER_BUILD_ID as perf inject -b writes it: 36 bytes and the path, of any length."""
    body = struct.pack("<i24s", -1, bytes(range(20))) + path.encode() + b"\0"
    return struct.pack("<IHH", 67, 0, 8 + len(body)) + body


def times(streams) -> list[int]:
    decoder = SampleDecoder([ATTR])
    return [ts for stream in streams for batch in decoder.batches(stream) for ts in batch.ts_ns.tolist()]


def test_records_after_one_of_an_odd_size_are_read():
    first, second = pb.sample(0x10, 7, 8, 1000, [1, 2]), pb.sample(0x20, 7, 8, 1001, [3])
    odd = [build_id_record("/bin/a"), build_id_record("/bin/true")]
    stream = walk(first + odd[0] + second + odd[1] + second + b"\1\2\3")
    assert stream.size.tolist() == [len(r) for r in (first, odd[0], second, odd[1], second)]
    (batch,) = SampleDecoder([ATTR]).batches(stream)
    assert (batch.ip.tolist(), batch.ts_ns.tolist()) == ([0x10, 0x20, 0x20], [1000, 1001, 1001])
    at = batch.chain_at[1]
    assert (batch.words[at], stream.torn) == (3, 3)


def test_a_buffer_at_an_odd_address_is_read():
    data = b"x" + pb.sample(0x10, 7, 8, 1000, [1]) + pb.sample(0x20, 7, 8, 1001, [])
    assert times([walk(memoryview(data)[1:])]) == [1000, 1001]


@pytest.mark.parametrize("odd", [False, True])
def test_windows_hold_the_records_of_the_whole_each_once(odd: bool):
    records = [pb.sample(at, 1, 1, at, list(range(at % 90))) for at in range(1, 900)]
    if odd:
        records = [record + build_id_record("x" * (at % 13)) * (at % 5 == 0) for at, record in enumerate(records)]
    data = b"".join(records) + b"torn"
    windows = list(walk_windows(data, 1 << 16))
    assert all(window.words.nbytes <= 1 << 17 for window in windows) and len(windows) > 3
    assert times(windows) == list(range(1, 900))
    assert [window.torn for window in windows] == [0] * (len(windows) - 1) + [4]
    chunks = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    assert times(walk_chunks(chunks)) == list(range(1, 900))


def test_windows_end_at_a_damaged_record_and_count_all_that_follows():
    whole = pb.sample(1, 1, 1, 1, list(range(2000)))
    data = whole * 6 + bytes(8) + whole * 20
    assert sum(window.torn for window in walk_windows(data, 1 << 16)) == 8 + 20 * len(whole)


GROUP = pb.IDENTIFIER | pb.IP | pb.TID | pb.TIME | 1 << 4  # PERF_SAMPLE_READ


def group_attr(*, lost: bool = False) -> bytes:
    """read_format: GROUP | ID | TOTAL_TIME_ENABLED, perhaps LOST."""
    raw = bytearray(pb.attr(GROUP))
    struct.pack_into("<Q", raw, 32, 1 << 3 | 1 << 2 | 1 << 0 | lost << 4)
    return bytes(raw)


def group_sample(ts: int, values: list[tuple[int, int]], *, lost: bool = False) -> bytes:
    body = struct.pack("<QQiiQQQ", values[0][1], 0x10, 7, 7, ts, len(values), 999)
    for value in values:
        body += struct.pack("<QQ", *value) + b"\x55" * (8 * lost)
    return pb.record(9, body)


@pytest.mark.parametrize("lost", [False, True])
def test_each_counter_of_a_sampled_group_is_a_sample_weighted_with_what_it_grew_by(lost: bool):
    attrs = [EventAttr.parse(group_attr(lost=lost), "a", [51]), EventAttr.parse(group_attr(lost=lost), "b", [61])]
    first = [group_sample(1, [(100, 51), (7, 61)], lost=lost), group_sample(2, [(150, 51), (7, 61)], lost=lost)]
    second = [group_sample(3, [(175, 51), (9, 61), (3, 99)], lost=lost)]
    decoder = SampleDecoder(attrs)
    found = [
        row
        for stream in (walk(b"".join(first)), walk(b"".join(second)))
        for batch in decoder.batches(stream)
        for row in zip(batch.ts_ns.tolist(), batch.event.tolist(), batch.period.tolist(), strict=True)
    ]
    # 99 is not an event of this recording; b did not grow between the first two.
    assert found == [(1, 0, 100), (1, 1, 7), (2, 0, 50), (3, 0, 25), (3, 1, 2)]


@pytest.mark.parametrize("cut", [1, 7, 8, 20, 39])
def test_a_torn_tail_record_is_dropped_and_counted(cut: int):
    whole = pb.sample(1, 1, 1, 1, []) + pb.sample(2, 1, 1, 2, [])
    last = len(whole) // 2
    stream = walk(whole[: last + cut])
    assert len(stream.at) == 1
    assert stream.torn == cut


def test_a_chain_longer_than_its_record_makes_the_sample_malformed_not_the_stream():
    bad = bytearray(pb.sample(1, 1, 1, 1, [1, 2]))
    struct.pack_into("<Q", bad, 8 + 40, 999)  # nr of the callchain
    (batch,) = SampleDecoder([ATTR]).batches(walk(bytes(bad) + pb.sample(2, 1, 1, 2, [3])))
    assert batch.malformed == 1
    assert batch.ip.tolist() == [2]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.integers(0, 2**24 - 1), st.integers(0, 31))
def test_any_bytes_decode_to_something_or_nothing(data: bytes, sample_type: int, read_format: int):
    raw = bytearray(pb.attr(sample_type, regs=0xFF))
    struct.pack_into("<Q", raw, 32, read_format)
    attr = EventAttr.parse(bytes(raw))
    # The header of a sample in front makes the bytes reach the decoder.
    stream = walk(pb.record(9, data) + data)
    assert sum(len(batch) + batch.malformed for batch in SampleDecoder([attr]).batches(stream)) <= len(stream.at)
    list(SideRecords(stream, [attr]))
