"""perf.data files written byte by byte (tools/perf/Documentation/perf.data-file-format.txt)."""

import struct
from pathlib import Path

import pytest

from insitu.convert.formats.perf_data import open_perf_data, read_perf_data

from . import perf_bytes as pb
from .imported import imported


def written(path: Path, records: bytes) -> Path:
    path.write_bytes(pb.perf_data(records))
    return path


def test_the_idle_task_is_called_swapper(tmp_path: Path):
    records = pb.comm(5, 5, "prog", 1) + pb.sample(1, 5, 5, 2, []) + pb.sample(2, 0, 0, 3, [])
    assert imported(written(tmp_path / "perf.data", records)).comms() == ["prog", "swapper"]


def test_a_thread_that_renames_itself_keeps_each_name_from_its_time_on(tmp_path: Path):
    records = pb.comm(5, 5, "start", 1) + pb.sample(1, 5, 5, 2, [])
    records += pb.comm(5, 5, "worker", 10) + pb.sample(1, 5, 5, 11, []) + pb.sample(1, 5, 5, 12, [])
    assert imported(written(tmp_path / "perf.data", records)).comms() == ["start", "worker", "worker"]


def test_build_ids_between_records_of_a_file_are_taken_in(tmp_path: Path):
    body = struct.pack("<i24s", -1, bytes(range(20))) + b"/bin/prog\0"
    odd = struct.pack("<IHH", 67, 0, 8 + len(body)) + body
    recording = read_perf_data(written(tmp_path / "perf.data", odd + pb.sample(1, 5, 5, 2, [])))
    (window,) = recording.streams[0]
    assert (window.type.tolist(), recording.build_ids) == ([67, 9], {"/bin/prog": bytes(range(20)).hex()})


def test_windows_of_a_file_are_bounded_and_complete(tmp_path: Path):
    records = b"".join(pb.sample(1, 5, 5, ts, list(range(100))) for ts in range(1, 1001))
    data = open_perf_data(written(tmp_path / "perf.data", records))
    windows = list(data.windows(1 << 17))
    assert sum(len(window.at) for window in windows) == 1000
    assert all(window.words.nbytes <= 1 << 17 for window in windows) and len(windows) >= 6


@pytest.mark.parametrize("name", ["dir", "dir/data"])
def test_the_files_of_a_directory_of_perf_record_threads_are_read_together(tmp_path: Path, name: str):
    (tmp_path / "dir").mkdir()
    main = bytearray(pb.perf_data(pb.comm(5, 5, "prog", 1)))
    main[72 + 24 // 8] |= 1 << 24 % 8  # HEADER_DIR_FORMAT in adds_features
    (tmp_path / "dir" / "data").write_bytes(main)
    for number in (0, 2, 10):
        (tmp_path / "dir" / f"data.{number}").write_bytes(pb.sample(1, 5, 5, 2 + number, []))
    (tmp_path / "dir" / "data.1").write_bytes(b"")
    (tmp_path / "dir" / "data.bak").write_bytes(b"not a part of it")
    assert imported(tmp_path / name).column("ts_ns") == [2, 4, 12]


def test_samples_of_several_threads_files_come_in_the_order_of_time(tmp_path: Path):
    main = bytearray(pb.perf_data(b""))
    main[72 + 24 // 8] |= 1 << 24 % 8
    (tmp_path / "data").write_bytes(main)
    for number in range(3):
        (tmp_path / f"data.{number}").write_bytes(
            b"".join(pb.sample(1, 5, 5, ts, []) for ts in range(1 + number, 300, 3))
        )
    assert imported(tmp_path).column("ts_ns") == list(range(1, 300))


def test_a_file_whose_recorder_was_killed_says_so(tmp_path: Path):
    data = bytearray(pb.perf_data(pb.sample(1, 5, 5, 2, []) + b"torn"))
    struct.pack_into("<Q", data, 48, 0)  # the header's size of the data
    (tmp_path / "perf.data").write_bytes(data)
    read = imported(tmp_path / "perf.data")
    assert read.column("ts_ns") == [2]
    assert any("was killed" in note for note in read.notes) and any("4 bytes" in note for note in read.notes)


def test_a_file_whose_samples_are_all_malformed_counts_them_as_lost(tmp_path: Path):
    bad = bytearray(pb.sample(1, 5, 5, 2, [1, 2]))
    struct.pack_into("<Q", bad, 8 + 40, 999)  # the callchain's length
    read = imported(written(tmp_path / "perf.data", pb.comm(5, 5, "prog", 1) + bytes(bad) * 3))
    assert (read.column("ts_ns"), read.writer.losses_by_source()) == ([], {"malformed samples": 3})
