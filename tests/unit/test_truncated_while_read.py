"""Files that lose bytes while they are read: what is still there is kept, and the rest is noted."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.unit.perf_bytes import CONTEXT_USER, comm, perf_data, sample

import insitu
from insitu.convert import raw, rows
from insitu.convert.file_bytes import FileBytes
from insitu.convert.formats import perf_stream
from insitu.convert.formats.side_records import SideRecords
from insitu.convert.open import import_file
from insitu.convert.sources import LAYOUT
from insitu.kernel import procfs
from insitu.record.row_log import RowLog
from insitu.session.directory import create
from insitu.session.manifest import RECORDING, Manifest
from insitu.session.schema import Column, Table

SAMPLES = 40_000
REQUEST = Table("event.request", "", (Column("ts_ns", "timestamp"), Column("took_ns", "duration")))


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raw, "_IN_MEMORY_BYTES", 1 << 20)


def test_a_part_that_is_gone_is_short_and_the_length_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 8192)
    with path.open("rb") as file:
        data = FileBytes(file)
        assert (len(data), bytes(data[255:258]), bytes(data[5:2])) == (1 << 21, b"\xff\x00\x01", b"")
        part = data.part(256, 1 << 20)
        assert (len(part), bytes(part[1:3]), len(part[(1 << 20) - 300 :])) == ((1 << 20) - 256, b"\x01\x02", 44)
        os.truncate(path, 1000)
        assert (len(data), len(data[900:2000]), len(data[2000:3000])) == (1 << 21, 100, 0)
        assert len(part[:]) == 1000 - 256


@pytest.mark.parametrize("mode", ["file", "pipe"])
def test_perf_data_gives_the_samples_that_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    one = sample(0x1000, 7, 7, 5, [CONTEXT_USER, 0x1000, 0x2000])
    records = comm(7, 7, "server", 1) + one * SAMPLES
    content = perf_data(records)
    if mode == "pipe":
        attr = content[104 : 104 + 128]
        head = b"PERFILE2" + (16).to_bytes(8, "little")
        size = (8 + len(attr)).to_bytes(2, "little")
        content = head + (64).to_bytes(4, "little") + b"\0\0" + size + attr + records
    path = tmp_path / "perf.data"
    path.write_bytes(content)
    left = SAMPLES // 3
    add = SideRecords.add
    whole = len(content) - len(one) * SAMPLES

    def truncating(self: SideRecords, *words: Any) -> None:
        add(self, *words)
        os.truncate(path, whole + left * len(one) + 20)

    monkeypatch.setattr(SideRecords, "add", truncating)
    import_file(path, tmp_path / "s.insitu")
    with insitu.open(tmp_path / "s.insitu") as session:
        assert session.stacks().total_count == left
        lost = len(one) * (SAMPLES - left)
        assert session.manifest.notes == [f"incomplete records dropped ({lost} bytes)"]


def test_rows_of_a_recorder_that_are_left_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "WINDOW_BYTES", 1 << 20)
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs, state=RECORDING, recorder_pid=2**22 + 1), procfs)
    source = path / "raw/requests"
    source.mkdir()
    log = RowLog(REQUEST)
    (source / LAYOUT).write_text(json.dumps(log.layout))
    log.open(source)
    for number in range(3 << 16):
        log.append(ts_ns=number, took_ns=number)
    log.write()
    log.close()
    (file,) = source.glob("*.records")
    size = file.stat().st_size // (3 << 16)
    write = rows._Decoder.write

    def truncating(self: Any, *words: Any) -> None:
        write(self, *words)
        os.truncate(file, size * 100_000)

    monkeypatch.setattr(rows._Decoder, "write", truncating)
    with insitu.open(path) as session:
        assert session.sql('select count(*) n, max(took_ns) m from "event"."request"').rows() == [(100_000, 99_999)]
        assert any("incomplete record at byte" in note for note in session.manifest.notes)


def test_windows_of_a_file_end_where_it_ends_now(tmp_path: Path) -> None:
    one = comm(7, 7, "server", 1)
    path = tmp_path / "records"
    count = (4 << 20) // len(one)
    path.write_bytes(one * count)
    with path.open("rb") as file:
        found = 0
        torn = 0
        for stream in perf_stream.walk_windows(FileBytes(file), 1 << 20):
            found += len(stream.at)
            torn = stream.torn
            os.truncate(path, (2 << 20) + 3)
        assert (found, torn) == (((2 << 20) + 3) // len(one), len(one) * (count - ((2 << 20) + 3) // len(one)))
