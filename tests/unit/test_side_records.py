"""Side-band records: packed from any number of streams, parsed in the order of time."""

import random

import pytest

from insitu.convert.formats import side_records
from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import walk
from insitu.convert.formats.side_records import SideRecords

from . import perf_bytes as pb

ATTR = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE))


@pytest.mark.parametrize("packed", [1, 7, 1 << 15])
def test_records_of_several_streams_come_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch, packed: int) -> None:
    monkeypatch.setattr(side_records, "_PACKED", packed)
    chance = random.Random(3)
    times = chance.sample(range(1000), 60)
    streams = [b"", b"", b""]
    for ts_ns in times:
        at = chance.randrange(3)
        streams[at] += pb.comm(ts_ns, ts_ns + 1, "x" * (ts_ns % 16), ts_ns)
        streams[at] += pb.sample(1, 1, 1, ts_ns, [])  # which are no side-band records
    found = SideRecords()
    for stream in streams:
        found.add(walk(stream), [ATTR])
    expected = [(ts_ns, ts_ns, ts_ns + 1, "x" * (ts_ns % 16)) for ts_ns in sorted(times)]
    assert [(each.ts_ns, each.pid, each.tid, each.text) for each in found] == expected


def test_records_of_one_time_and_those_without_times_keep_their_order() -> None:
    names = ["c", "a", "b"]
    data = b"".join(pb.comm(1, 1, name, 5) for name in names)
    assert [record.text for record in SideRecords(walk(data), [ATTR])] == names
    untimed = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE, flags=0))
    found = list(SideRecords(walk(data), [untimed]))
    assert [(record.ts_ns, record.text) for record in found] == [(0, name) for name in names]


def test_a_record_of_an_odd_size_has_the_time_at_its_end() -> None:
    # perf inject -b writes records whose size is no multiple of 8; walk() moves them to whole words.
    body = pb.comm(1, 2, "name", 0)[8 : 8 + 8 + 5] + pb.trailer(1, 2, 77)
    data = pb.record(3, body)
    odd = data[:6] + (8 + len(body)).to_bytes(2, "little") + body
    found = list(SideRecords(walk(odd + pb.comm(3, 3, "later", 99)), [ATTR]))
    assert [(record.ts_ns, record.text) for record in found] == [(77, "name"), (99, "later")]
