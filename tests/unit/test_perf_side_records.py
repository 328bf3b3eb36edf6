"""Records that are not samples: what we write is what perf reads, and any bytes are read or refused."""

import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.kernel.perf_event import Misc, Record, Sample
from insitu.kernel.perf_records import LAYOUTS, SideRecord, pack, parse, records, sample_id, trailer_fields
from insitu.kernel.procfs import Area
from insitu.record.synthesized import Synthesized

from .symbols_peer import needs

KIND = Sample.IP | Sample.TID | Sample.TIME | Sample.CPU | Sample.IDENTIFIER


def perf_script(directory: Path, data: bytes, *options: str) -> str:
    """What perf script prints of records in a file whose only event is a timer with KIND."""
    flags = 1 << 8 | 1 << 9 | 1 << 13 | 1 << 18 | 1 << 23  # mmap, comm, task, sample_id_all, mmap2
    attr = struct.pack("<IIQQQQQ", 1, 128, 0, 1000, KIND, 0, flags).ljust(128, b"\0")
    ids, start = 104, 104 + 8
    header = struct.pack("<8Q", 104, 144, start, 144, start + 144, len(data), 0, 0)
    path = directory / "records.data"
    sections = struct.pack("<Q", 7) + attr + struct.pack("<QQ", ids, 8)
    path.write_bytes(b"PERFILE2" + header + b"\0" * 32 + sections + data)
    words = ["perf", "script", "-i", str(path), "--ns", *options]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@needs("perf")
def test_perf_reads_the_records_that_we_write(tmp_path: Path) -> None:
    made = Synthesized(KIND, 7, 5_000_000_123)
    area = Area(0x1000, 0x3000, "r-xp", 0x500, 8, 1, 42, b"/opt/my prog")
    sample = struct.pack("<QQIIQII", 7, 0x1234, 11, 12, 6_000_000_000, 1, 0)
    data = made.fork(11, 10, 11, 10) + made.comm(11, 11, b"my name") + made.mmap2(11, area)
    data += struct.pack("<IHH", 9, 2, 8 + len(sample)) + sample
    text = perf_script(tmp_path, data, "--show-task-events", "--show-mmap-events")
    assert "PERF_RECORD_FORK(11:11):(10:10)" in text
    assert "PERF_RECORD_COMM: my name:11/11" in text
    mapped = re.search(r"5\.000000123: PERF_RECORD_MMAP2 11/11: (.*)", text)
    assert mapped is not None
    assert mapped[1] == "[0x1000(0x2000) @ 0x500 08:01 42 0]: --xp /opt/my prog"
    assert "6.000000000: " in text


def test_a_record_comes_back_as_it_was_written() -> None:
    trailer = trailer_fields(KIND)
    ended = sample_id(KIND, pid=5, tid=6, time_ns=77, event_id=9, cpu=3)
    data = pack(Record.COMM, Misc.COMM_EXEC, b"name", ended, pid=5, tid=6) + pack(
        Record.LOST, 0, trailer=ended, id=9, lost=13
    )
    (comm, lost) = [parse(*record, trailer) for record in records(data)]
    assert comm == SideRecord(Record.COMM, 77, 3, Misc.COMM_EXEC, 5, 6, text="name")
    assert lost is not None and (lost.type, lost.lost, lost.ts_ns) == (Record.LOST, 13, 77)


def test_a_build_id_stands_where_device_and_inode_are_without_it() -> None:
    body = struct.pack("<iiQQQ", 5, 5, 0x1000, 0x2000, 0) + struct.pack("<BBH20sII", 20, 0, 0, bytes(range(20)), 5, 2)
    record = parse(Record.MMAP2, Misc.MMAP_BUILD_ID, body + b"/a\0\0\0\0\0\0")
    assert record is not None
    assert (record.build_id, record.inode, record.text) == (bytes(range(20)).hex(), (0, 0, 0), "/a")


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_a_record_that_is_too_short_for_its_type_is_none(kind: Record) -> None:
    size = LAYOUTS[kind].struct.size
    assert parse(kind, 0, bytes(size)) is not None
    assert parse(kind, 0, bytes(size - 1)) is None
    assert parse(kind, 0, bytes(size + 7), (Sample.TIME,)) is None


@given(st.binary(max_size=200), st.sampled_from(sorted(LAYOUTS)), st.integers(0, 2**16 - 1))
def test_any_bytes_are_read_or_refused(data: bytes, kind: Record, misc: int) -> None:
    parse(kind, misc, data, trailer_fields(KIND))
    assert sum(len(body) + 8 for _, _, body in records(data)) <= len(data)
