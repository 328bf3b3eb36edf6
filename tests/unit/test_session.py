"""Sessions on disk: written, read back, asked in SQL, damaged, recovered."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import insitu
from insitu.convert.build import Built
from insitu.convert.convert import save
from insitu.convert.open import load_profile, open_session
from insitu.convert.processes import Processes
from insitu.errors import InsituError
from insitu.session import store
from insitu.session.profile import Lost, Thread
from insitu.symbols.process_map import ProcessMap

from . import perf_bytes as pb
from .test_profile import paths, profile_of


def written(path: Path):
    profile = profile_of(
        [(["main", "a"], 1, 10), (["main", "b"], 2, 30), (["main", "a"], 1, 10)], (Thread(1, 1, 0, "x"), Thread(2, 1))
    )
    profile.lost = [Lost(5, "ring buffer", 0, 7)]
    store.create(path, {"command": ["x"]})
    save(path, Built(profile, Processes(ProcessMap())))
    return profile


def test_a_profile_comes_back_as_it_was_written(tmp_path: Path):
    profile = written(tmp_path / "s.insitu")
    again = load_profile(tmp_path / "s.insitu")
    assert again.frames == profile.frames
    assert again.threads == profile.threads
    assert again.lost == profile.lost
    assert again.events == profile.events
    for column in ("stack_parent", "stack_frame", "ts_ns", "cpu", "tid", "stack", "event", "weight"):
        np.testing.assert_array_equal(getattr(again, column), getattr(profile, column))
    assert paths(again.tree()) == paths(profile.tree())
    assert again.info["samples"] == 3 and again.info["lost"] == 7 and again.info["state"] == "complete"


def test_tables_are_polars_frames_and_answer_sql(tmp_path: Path):
    written(tmp_path / "s.insitu")
    session = insitu.open(tmp_path / "s.insitu")
    assert session["sample"].height == 3
    answer = session.sql("select tid, sum(weight) as w from sample group by tid order by tid")
    assert answer.rows() == [(1, 20), (2, 30)]
    functions = session.sql(
        "select function, count(*) n from sample"
        " join stack on stack.id = stack join frame on frame.id = frame group by function"
    )
    assert sorted(functions.rows()) == [("a", 2), ("b", 1)]


def test_tables_that_a_session_does_not_have_are_empty_in_sql(tmp_path: Path):
    written(tmp_path / "s.insitu")
    assert insitu.open(tmp_path / "s.insitu").sql("select * from span").height == 0


@pytest.mark.parametrize("query", ["selct", "select * from nowhere", "copy sample to 'x.csv'", "install httpfs"])
def test_a_query_that_cannot_be_run_is_an_error_of_one_line(tmp_path: Path, query: str):
    written(tmp_path / "s.insitu")
    with pytest.raises(InsituError) as error:
        insitu.open(tmp_path / "s.insitu").sql(query)
    assert "\n" not in str(error.value)


def test_event_and_map_tables_are_reached_by_their_names(tmp_path: Path):
    written(tmp_path / "s.insitu")
    store.write_table(tmp_path / "s.insitu", "event.open", pl.DataFrame({"ts_ns": [1], "file": ["x"]}))
    assert insitu.open(tmp_path / "s.insitu").sql("select file from event.open").item() == "x"


def test_an_older_session_is_kept_aside(tmp_path: Path):
    written(tmp_path / "s.insitu")
    store.create(tmp_path / "s.insitu", {})
    assert load_profile(tmp_path / "s.insitu.old").info["samples"] == 3


def test_what_is_not_a_session_is_never_replaced(tmp_path: Path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    with pytest.raises(InsituError):
        store.create(tmp_path / "precious", {})
    assert (tmp_path / "precious" / "thesis.txt").exists()


def raw_session(path: Path, data: bytes) -> None:
    """A session as a recorder that was killed leaves it."""
    attr = pb.attr(pb.SAMPLE_TYPE)
    store.create(path, {"events": [{"name": "cpu-clock", "attr": attr.hex(), "ids": []}]})
    (path / "raw" / "cpu0.records").write_bytes(data)
    info = json.loads((path / "session.json").read_text())
    (path / "session.json").write_text(json.dumps({**info, "recorder_pid": 2**22 + 1}))


def test_a_session_whose_recorder_died_is_converted_and_its_torn_tail_counted(tmp_path: Path):
    records = pb.comm(5, 5, "prog", 1) + b"".join(pb.sample(0x10, 5, 5, 2 + i, [0x10]) for i in range(4))
    raw_session(tmp_path / "s.insitu", records[:-3])
    session = open_session(tmp_path / "s.insitu")
    assert len(session.profile) == 3
    assert session.info["state"] == "complete"
    assert any("dropped" in note for note in session.info["notes"])
    assert not (tmp_path / "s.insitu" / "raw").exists()


def test_a_session_with_nothing_recorded_opens_empty(tmp_path: Path):
    raw_session(tmp_path / "s.insitu", b"")
    assert len(load_profile(tmp_path / "s.insitu")) == 0


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 99}', b"[" * 100_000, b"\xff"])
def test_a_damaged_description_is_an_error(tmp_path: Path, content: bytes):
    written(tmp_path / "s.insitu")
    (tmp_path / "s.insitu" / "session.json").write_bytes(content)
    with pytest.raises(InsituError):
        load_profile(tmp_path / "s.insitu")


@pytest.mark.parametrize("cut", [0, 3, 50, 400])
def test_a_truncated_table_is_an_error(tmp_path: Path, cut: int):
    written(tmp_path / "s.insitu")
    table = tmp_path / "s.insitu" / "tables" / "sample" / "0.parquet"
    table.write_bytes(table.read_bytes()[:cut])
    with pytest.raises(InsituError):
        load_profile(tmp_path / "s.insitu")
    with pytest.raises(InsituError):
        insitu.open(tmp_path / "s.insitu").sql("select count(*) from sample")


def test_stacks_that_point_outside_their_tables_are_an_error(tmp_path: Path):
    written(tmp_path / "s.insitu")
    stack = insitu.open(tmp_path / "s.insitu")["stack"]
    for column, value in (("parent", 99), ("frame", 99), ("parent", -5)):
        store.write_table(tmp_path / "s.insitu", "stack", stack.with_columns(pl.lit(value, pl.Int32).alias(column)))
        with pytest.raises(InsituError):
            load_profile(tmp_path / "s.insitu")


@pytest.mark.parametrize("name", ["absent", "empty", "binary"])
def test_what_is_no_recording_is_an_error(tmp_path: Path, name: str):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(InsituError):
        load_profile(tmp_path / name)


def test_a_session_that_another_process_records_is_not_moved_away(tmp_path: Path):
    """Told by process number and start time, as numbers are used again."""
    path = tmp_path / "s.insitu"
    started = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    store.create(path, {"recorder_pid": 1, "recorder_start": started})
    with pytest.raises(InsituError, match="still being recorded by process 1"):
        store.create(path, {})
    store.update(path, recorder_start=started + 1)
    store.create(path, {})
    assert (tmp_path / "s.insitu.old").is_dir()


def test_a_table_that_makes_polars_panic_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path / "s.insitu")

    def panic(*words: object, **options: object):
        raise pl.exceptions.PanicException("assertion failed")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(InsituError, match="cannot read this table: assertion failed"):
        load_profile(tmp_path / "s.insitu")


def test_a_session_without_samples_is_shown_by_every_view(tmp_path: Path):
    profile = profile_of([], (Thread(1, 1, 0, "x", "/bin/x", 5, 9),))
    store.create(tmp_path / "s.insitu", {"start_monotonic_ns": 5, "end_monotonic_ns": 9})
    save(tmp_path / "s.insitu", Built(profile, Processes(ProcessMap())))
    for words in (
        ["report"],
        ["report", "--json"],
        ["report", "--folded"],
        ["flame", "-o", "-"],
        ["heatmap", "-o", "-"],
    ):
        command = [sys.executable, "-m", "insitu", *words, str(tmp_path / "s.insitu")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), words


def test_a_session_that_cannot_be_made_leaves_nothing_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*words: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "s.insitu"
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(InsituError, match=f"cannot make the session {path}: No space left"):
        store.create(path, {})
    with pytest.raises(InsituError, match=f"cannot make the session {path}: No space"), store.created_whole(path, {}):
        pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_refused_and_a_directory_of_such_a_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(InsituError, match="not a name in UTF-8"):
        store.create(strange, {})
    strange.mkdir()
    monkeypatch.chdir(strange)
    written(Path("s.insitu"))
    assert insitu.open("s.insitu").sql("select count(*) n from sample").rows() == [(3,)]


def test_the_current_directory_is_not_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "s.insitu")
    monkeypatch.chdir(tmp_path / "s.insitu")
    with pytest.raises(InsituError, match="the current directory"):
        store.create(Path(), {})
    assert len(load_profile(Path())) == 3
