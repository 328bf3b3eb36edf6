"""Sessions on disk: written, read back, asked in SQL, recovered, refused."""

import errno
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import insitu
from insitu.convert.formats.folded import folded_counts
from insitu.convert.open import load_stacks, open_session
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.record.session_destination import SessionDestination
from insitu.session.core_tables import SAMPLE, SPAN
from insitu.session.directory import create, created_whole, settle
from insitu.session.manifest import Manifest
from insitu.session.query import Database
from insitu.session.schema import TABLES, Column, Table, described, description, register, value_type
from insitu.session.weighted_stacks import Selection
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame

from . import perf_bytes as pb

I32, I64 = np.int32, np.int64


def written(path: Path) -> Path:
    """Three samples of threads 11 and 12 of process 10; thread 11 is called sh, from 25 ns on ls."""
    create(path, Manifest.here(procfs, command=["x"]), procfs)
    with SessionWriter.on_disk(path) as writer:
        process = writer.processes.process(10, exe="/bin/ls")
        first = writer.processes.thread(11, process, name="sh")
        writer.processes.renamed(first, 25, "ls")
        second = writer.processes.thread(12, process, name="worker")
        clock = writer.event_type("cpu-clock", "ns")
        a, b = (writer.intern_stack([Frame(leaf, "/bin/ls"), Frame("main", "/bin/ls")]) for leaf in "ab")
        batch = {
            "ts_ns": np.array([10, 20, 30]),
            "utid": np.array([first, second, first]),
            "cpu": np.array([0, 1, 0]),
            "event_type": np.full(3, clock),
            "stack": np.array([a, b, a]),
            "weight": np.array([100, 30, 100]),
        }
        writer.append(SAMPLE, batch)
        writer.lost("ring buffer", 7, cpu=0, ts_ns=5)
        writer.finish(end_ns=Manifest.read(path).start_ns + 1000)
    return path


def test_weighted_stacks_come_back_as_they_were_written(tmp_path: Path):
    stacks = load_stacks(written(tmp_path / "s.insitu"))
    assert folded_counts(stacks) == {"sh;main;a": 1, "ls;main;a": 1, "worker;main;b": 1}
    assert folded_counts(stacks, value="weight") == {"sh;main;a": 100, "ls;main;a": 100, "worker;main;b": 30}
    assert (stacks.event, stacks.unit, stacks.counted, stacks.losses) == (
        "cpu-clock",
        "ns",
        "samples",
        {"ring buffer": 7},
    )
    assert (stacks.first_ns, stacks.last_ns, stacks.duration_ns) == (10, 30, 1000)
    assert {(label.tid, label.pid, label.name) for label in stacks.threads} == {
        (11, 10, "sh"),
        (11, 10, "ls"),
        (12, 10, "worker"),
    }


@pytest.mark.parametrize("lost", ["tables/sample", "tables/stack/0.parquet", "tables"])
def test_a_session_copied_in_part_is_refused(tmp_path: Path, lost: str):
    path = written(tmp_path / "s.insitu")
    gone = path / lost
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    with pytest.raises(InsituError, match=r"0 of the 1 files of table \w+ exist"):
        load_stacks(path)


def test_threads_of_many_names_are_distinguished_at_every_change(tmp_path: Path):
    names = {1: 400, 2: 1, 3: 300, 7: 500}  # of the threads with these tids
    create(tmp_path / "s.insitu", Manifest.here(procfs, command=["x"]), procfs)
    with SessionWriter.on_disk(tmp_path / "s.insitu") as writer:
        process = writer.processes.process(10)
        ts_ns, utids = [], []
        for tid in range(1, 9):
            utid = writer.processes.thread(tid, process)
            for at in range(names.get(tid, 1)):
                writer.processes.renamed(utid, at * 1000, f"t{tid}.{at}")
                ts_ns += [at * 1000, at * 1000 + 999]
                utids += [utid, utid]
        clock = writer.event_type("cpu-clock", "ns")
        stack = writer.intern_stack([Frame("main", "/bin/ls")])
        order = np.argsort(ts_ns, kind="stable")
        columns = {"ts_ns": np.array(ts_ns)[order], "utid": np.array(utids)[order]}
        alike = {"cpu": 0, "event_type": clock, "stack": stack, "weight": 1}
        writer.append(SAMPLE, columns | {name: np.full(len(order), value) for name, value in alike.items()})
        writer.finish(end_ns=Manifest.read(tmp_path / "s.insitu").start_ns + 1_000_000)
    expected = {f"t{tid}.{at};main": 2 for tid in range(1, 9) for at in range(names.get(tid, 1))}
    assert folded_counts(load_stacks(tmp_path / "s.insitu")) == expected


def test_a_thread_that_nobody_announced_belongs_to_the_process_of_its_time(tmp_path: Path):
    create(tmp_path / "s.insitu", Manifest.here(procfs, command=["x"]), procfs)
    with SessionWriter.on_disk(tmp_path / "s.insitu") as writer:
        who = writer.processes
        upids = [who.process(10, 100), who.process(10, 200)]
        found = who.utids(np.array([11, 12, 13], I32), np.array([150, 250, 50], I64), np.full(3, 10, I32))
        owner = {utid: upid for utid, upid, *_ in who.thread_rows()}
        assert [owner[int(utid)] for utid in found] == [upids[0], upids[1], upids[0]]
        writer.finish(end_ns=Manifest.read(tmp_path / "s.insitu").start_ns + 1000)


def test_rows_with_their_times_are_one_each(tmp_path: Path):
    stacks = load_stacks(written(tmp_path / "s.insitu"), times=True)
    assert stacks.ts_ns is not None and stacks.ts_ns.tolist() == [10, 20, 30]
    assert stacks.count.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("want", "counts"),
    [
        (Selection(tid=12), {"worker;main;b": 1}),
        (Selection(comm="ls"), {"ls;main;a": 1}),
        (Selection(start_s=5e-9), {"worker;main;b": 1, "ls;main;a": 1}),
        (Selection(end_s=15e-9, start_s=0), {"sh;main;a": 1, "worker;main;b": 1}),
        (Selection(event="cpu-clock"), {"sh;main;a": 1, "ls;main;a": 1, "worker;main;b": 1}),
    ],
)
def test_a_part_is_selected(tmp_path: Path, want: Selection, counts: dict[str, int]):
    assert folded_counts(load_stacks(written(tmp_path / "s.insitu"), want)) == counts


@pytest.mark.parametrize(
    "want",
    [
        Selection(event="cycles"),
        Selection(tid=9),
        Selection(comm="cat"),
        Selection(table="thread"),
        Selection(table="x"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_what_is(tmp_path: Path, want: Selection):
    with pytest.raises(InsituError) as error:
        load_stacks(written(tmp_path / "s.insitu"), want)
    assert error.value.remedy


def test_joining_threads_multiplies_no_row(tmp_path: Path):
    """Thread 11 has had two names, and its number another life."""
    path = written(tmp_path / "s.insitu")
    with insitu.open(path) as session:
        assert session.sql("select count(*) from sample join thread using (utid)").item() == 3


def test_tables_are_polars_frames_and_sql_takes_parameters(tmp_path: Path):
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        assert session["sample"].height == 3
        answer = session.sql(
            "select tid, sum(weight) as w from sample join thread using (utid) where weight > ? group by tid", [50]
        )
        assert answer.rows() == [(11, 200)]
        functions = session.sql(
            "select function, count(*) n from sample"
            " join stack on stack.id = stack join frame on frame.id = frame group by function"
        )
        assert sorted(functions.rows()) == [("a", 2), ("b", 1)]
        with pytest.raises(KeyError):
            session["nowhere"]


def test_documented_tables_that_a_session_lacks_are_empty_in_sql(tmp_path: Path):
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        assert session.sql("select dur_ns, stack from span").height == 0


@pytest.mark.parametrize(
    "query", ["selct", "select * from nowhere", "copy sample to 'x.csv'", "install httpfs", "set threads = 9"]
)
def test_a_query_that_cannot_be_run_is_an_error_of_one_line(tmp_path: Path, query: str):
    with insitu.open(written(tmp_path / "s.insitu")) as session, pytest.raises(InsituError) as error:
        session.sql(query)
    assert "\n" not in str(error.value)


def test_several_sessions_are_asked_at_once(tmp_path: Path):
    one, two = written(tmp_path / "one.insitu"), written(tmp_path / "two.insitu")
    database = Database(one, two)
    rows = database.sql("select session, count(*) n from sample group by session order by session").rows()
    database.close()
    assert rows == [("one", 3), ("two", 3)]


def test_a_table_of_another_module_is_described_by_its_files(tmp_path: Path):
    """A reader need not know the recorder: names, types, nulls and defaults travel with the table."""
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs), procfs)
    table = Table(
        "event.open",
        "A file was opened.",
        (
            Column("ts_ns", "timestamp"),
            Column("file", "path"),
            Column("err", "errno", nullable=True),
            Column("took_ns", "duration"),
            Column("stack", "stack"),
            Column("parts", "nested"),
        ),
    )
    with SessionWriter.on_disk(path) as writer:
        stack = writer.intern_stack([Frame("open")])
        batch = {"ts_ns": [1, 2], "file": ["a\0b", "caf\udce9"], "err": [None, 2], "took_ns": [5, 6]}
        writer.append(table, {**batch, "stack": [stack, stack], "parts": [[1], [2, 3]]})
        writer.finish()
    with insitu.open(path) as session:
        assert session.database.table("event.open") == table
        assert session.sql("select file, err, took_ns, parts from event.open").rows() == [
            ("a\0b", None, 5, [1]),
            ("caf\ufffd", 2, 6, [2, 3]),
        ]
        stacks = session.stacks()
    assert (stacks.table, stacks.event, stacks.unit, stacks.preferred) == ("event.open", "open", "ns", "weight")
    assert folded_counts(stacks) == {"open": 11}


def test_texts_of_any_characters_keep_their_rows(tmp_path: Path):
    table = Table("note", "", (Column("a", "text", nullable=True), Column("b", "text"), Column("raw", "blob")))
    random = np.random.default_rng(2)
    choices = ["", "x", "\0", "\0\0", "\1\n\x1f", "\1z\1y", "\0\1z", "'", "\U0010ffff", "é", "caf\udce9", None]
    for rows in (0, 1, 4096, 9000):
        path = tmp_path / f"{rows}.insitu"
        create(path, Manifest.here(procfs), procfs)
        a = [choices[at] for at in random.integers(0, len(choices), rows)]
        b = [str(at) * (at % 3) for at in range(rows)]
        with SessionWriter.on_disk(path) as writer:
            writer.append(table, {"a": a, "b": b, "raw": [each.encode() for each in b]})
            writer.finish()
        shown = [text if text is None else text.replace("\udce9", "\ufffd") for text in a]
        with open_session(path) as session:
            found = session.sql("select a, b, raw from note").rows()
        assert found == list(zip(shown, b, (each.encode() for each in b), strict=True))


def test_columns_that_a_recording_lacks_take_their_defaults(tmp_path: Path):
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs), procfs)
    older = Table("sample", "", tuple(column for column in SAMPLE.columns if column.name not in ("cpu", "weight")))
    with SessionWriter.on_disk(path) as writer:
        stack = writer.intern_stack([Frame("f")])
        zero = np.zeros(2, I32)
        writer.append(older, {"ts_ns": np.array([1, 2]), "utid": zero, "event_type": zero, "stack": zero + stack})
        writer.event_type("cycles", "cycles")
        writer.finish()
    with insitu.open(path) as session:
        assert session.sql("select cpu, weight from sample").rows() == [(-1, 1), (-1, 1)]


def test_open_ends_are_null_and_count_for_nothing(tmp_path: Path):
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(path) as writer:
        stack = writer.intern_stack([Frame("read")])
        rows = {"id": [1, 2], "ts_ns": [5, 6], "dur_ns": [40, None], "utid": [0, 0], "category": ["syscall"] * 2}
        writer.append(SPAN, {**rows, "name": ["read"] * 2, "stack": [stack, stack]})
        writer.finish()
    stacks = load_stacks(path)
    assert (stacks.table, stacks.unit, stacks.total_count, int(stacks.weight.sum())) == ("span", "ns", 2, 40)


def test_an_event_type_says_what_weights_count(tmp_path: Path):
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(path) as writer:
        stack = writer.intern_stack([Frame("f")])
        for number, (name, unit) in enumerate((("task-clock:u", "ns"), ("cpu-clockwork", "wheels"))):
            kind = writer.event_type(name, unit)
            writer.append(SAMPLE, {"ts_ns": [number], "utid": [0], "event_type": [kind], "stack": [stack]})
        writer.finish()
    stacks = load_stacks(path, Selection(event="cpu-clockwork"))
    assert (stacks.unit, stacks.is_cpu_time, stacks.total_count) == ("wheels", False, 1)
    first = load_stacks(path)
    assert (first.event, first.unit, first.is_cpu_time) == ("task-clock:u", "ns", True)
    assert any("cpu-clockwork" in note for note in first.notes)


def test_parts_are_written_when_enough_has_gathered_and_their_order_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("insitu.session.writer._PART_ROWS", 1000)
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(path) as writer:
        for start in range(0, 5000, 500):
            zero = np.zeros(500, I32)
            writer.append(
                SAMPLE, {"ts_ns": np.arange(start, start + 500), "utid": zero, "event_type": zero, "stack": zero}
            )
        manifest = writer.finish()
    assert manifest.tables["sample"] == {"version": 1, "rows": 5000, "parts": 5, "sorted_by": "ts_ns"}
    with insitu.open(path) as session:
        assert session.sql("select sum(ts_ns)::bigint from sample").item() == 5000 * 4999 // 2


def test_a_table_registered_twice_must_be_the_same():
    table = Table("of_this_test", "", (Column("n", "count"),))
    assert register(table) is register(Table("of_this_test", "", (Column("n", "count"),)))
    with pytest.raises(ValueError, match="of_this_test"):
        register(Table("of_this_test", "", (Column("n", "text"),)))
    with pytest.raises(KeyError):
        Table("x", "", (Column("n", "no such type"),))
    assert described(description(SPAN)) == SPAN


@pytest.mark.parametrize(
    ("name", "storage", "kind"),
    [("took_ns", "bigint", "duration"), ("ns", "ubigint", "duration"), ("read_bytes", "bigint", "bytes"),
     ("columns", "bigint", "integer"), ("bytes", "varchar", "text"), ("ratio", "double", "number")],
)  # fmt: skip
def test_fields_of_scripts_have_units_by_their_names(name: str, storage: str, kind: str):
    assert value_type(name, storage) == kind


# Where a session lies


def test_an_older_session_is_kept_aside(tmp_path: Path):
    path = written(tmp_path / "s.insitu")
    create(path, Manifest.here(procfs), procfs)
    assert load_stacks(tmp_path / "s.insitu.old").total_count == 3


def test_what_is_not_a_session_is_never_replaced(tmp_path: Path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("x")
    with pytest.raises(InsituError):
        create(tmp_path / "precious", Manifest.here(procfs), procfs)
    assert (tmp_path / "precious" / "thesis.txt").exists()


@pytest.mark.parametrize(
    "foreign", ["note.txt", "tables/note.txt", "tables/sample/note.txt", "kept/note.txt", ".hidden"]
)
def test_an_older_session_with_files_of_the_users_own_is_not_removed(tmp_path: Path, foreign: str):
    path = written(tmp_path / "s.insitu")
    mine = path / foreign
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    create(path, Manifest.here(procfs), procfs)
    kept = tmp_path / "s.insitu.old" / foreign
    assert kept.read_text() == "mine"
    with pytest.raises(InsituError, match=r"s\.insitu\.old holds files that are not insitu's"):
        SessionDestination(path).refuse()  # before anything is recorded
    with pytest.raises(InsituError):
        create(path, Manifest.here(procfs), procfs)
    assert kept.read_text() == "mine" and path.is_dir()
    kept.unlink()
    if kept.parent.name == "kept":
        kept.parent.rmdir()
    settle(create(path, Manifest.here(procfs), procfs))
    assert sorted(each.name for each in tmp_path.iterdir()) == ["s.insitu", "s.insitu.old"]


def test_what_cannot_be_converted_with_this_memory_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = written(tmp_path / "s.insitu")
    destination = SessionDestination(path)
    destination.refuse()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500_000 << 10, 500_000 << 10))
    with pytest.raises(InsituError, match="out of memory: 512 MiB"):
        destination.refuse()
    assert list(tmp_path.iterdir()) == [path]


def test_a_session_that_another_process_records_is_not_moved_away(tmp_path: Path):
    """Known by process number and start time, as numbers are used again."""
    path = tmp_path / "s.insitu"
    started = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    create(path, Manifest.here(procfs, recorder_pid=1, recorder_start=started), procfs)
    with pytest.raises(InsituError, match="still being recorded by process 1"):
        create(path, Manifest.here(procfs), procfs)
    Manifest.read(path).changed(recorder_start=started + 1).write(path)
    create(path, Manifest.here(procfs), procfs)
    assert (tmp_path / "s.insitu.old").is_dir()


def test_a_session_that_cannot_be_made_leaves_nothing_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*words: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "s.insitu"
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InsituError, match=f"cannot make the session {path}: No space left"):
        create(path, Manifest.here(procfs), procfs)
    with (
        pytest.raises(InsituError, match=f"cannot make the session {path}: No space"),
        created_whole(path, Manifest.here(procfs), procfs),
    ):
        pass
    assert not list(tmp_path.iterdir())


def test_a_name_that_is_not_utf8_is_refused_and_a_directory_of_such_a_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    strange = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(InsituError, match="not valid UTF-8"):
        create(strange, Manifest.here(procfs), procfs)
    strange.mkdir()
    monkeypatch.chdir(strange)
    written(Path("s.insitu"))
    with insitu.open("s.insitu") as session:
        assert session.sql("select count(*) n from sample").rows() == [(3,)]


def test_the_current_directory_is_not_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written(tmp_path / "s.insitu")
    monkeypatch.chdir(tmp_path / "s.insitu")
    with pytest.raises(InsituError, match="the current directory"):
        create(Path(), Manifest.here(procfs), procfs)
    assert load_stacks(Path()).total_count == 3


@pytest.mark.parametrize("name", ["absent", "empty", "binary"])
def test_what_is_not_a_recording_is_an_error(tmp_path: Path, name: str):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "binary").write_bytes(b"\x7fELF\0\0\0")
    with pytest.raises(InsituError):
        load_stacks(tmp_path / name)


# What a recorder leaves


def raw_session(path: Path, data: bytes) -> Path:
    """A session as a recorder that was killed leaves it."""
    create(path, Manifest.here(procfs, recorder_pid=2**22 + 1), procfs)
    source = path / "raw" / "perf"
    source.mkdir()
    event = {"name": "cpu-clock", "attr": pb.attr(pb.SAMPLE_TYPE).hex(), "ids": []}
    (source / "layout.json").write_text(json.dumps({"kind": "perf", "events": [event]}))
    (source / "cpu0.records").write_bytes(data)
    return path


RECORDS = pb.comm(5, 5, "prog", 1) + b"".join(pb.sample(0x10, 5, 5, 2 + i, [0x10]) for i in range(4))


def test_a_session_whose_recorder_died_is_converted_and_its_torn_tail_counted(tmp_path: Path):
    path = raw_session(tmp_path / "s.insitu", RECORDS[:-3])
    with open_session(path) as session:
        assert session.stacks().total_count == 3
        assert session.manifest.state == "complete"
        assert any("dropped" in note for note in session.manifest.notes)
    assert not (path / "raw").exists()


def test_readers_that_come_at_once_convert_a_session_once(tmp_path: Path):
    path = raw_session(tmp_path / "s.insitu", RECORDS)
    code = f"import insitu; print(insitu.open({str(path)!r}).stacks().total_count)"
    readers = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [reader.communicate() for reader in readers] == [("4\n", "")] * 4


def test_a_session_that_is_still_recorded_is_readable_up_to_now(tmp_path: Path):
    path = raw_session(tmp_path / "s.insitu", RECORDS[:-3])
    started = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    Manifest.read(path).changed(recorder_pid=1, recorder_start=started).write(path)
    with open_session(path) as session:
        assert session.stacks().total_count == 3
        assert any("still being recorded" in note for note in session.manifest.notes)
    assert (path / "raw" / "perf" / "cpu0.records").exists()


def test_a_session_that_cannot_be_written_is_read_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = raw_session(tmp_path / "s.insitu", RECORDS)

    def refuse(*words: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("insitu.convert.sources.finish", refuse)
    with open_session(path) as session:
        assert session.stacks().total_count == 4
    assert (path / "raw" / "perf" / "cpu0.records").exists()


def test_a_large_part_that_finds_no_room_while_others_are_made_fails_the_session(tmp_path: Path) -> None:
    path = tmp_path / "s.insitu"
    create(path, Manifest.here(procfs), procfs)
    rows = 1 << 18  # written in a thread
    with (
        pytest.MonkeyPatch.context() as patched,
        pytest.raises(OSError, match="No space"),
        SessionWriter.on_disk(path) as writer,
    ):

        def full(connection: object, target: Path, *words: object, **named: object) -> None:
            if "span" in target.parts:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patched.setattr("insitu.session.writer.write_part", full)
        writer.append(SPAN, {"id": np.arange(rows), "ts_ns": np.arange(rows), "name": ["x"] * rows})
        writer.finish()


def test_a_disk_that_fills_while_converting_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = raw_session(tmp_path / "s.insitu", RECORDS)

    def full(*words: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("insitu.session.writer.write_part", full)
        with pytest.raises(OSError, match="No space"):
            from insitu.convert.sources import finish

            finish(path)
    assert load_stacks(path).total_count == 4


def test_a_session_with_nothing_recorded_opens_empty(tmp_path: Path):
    assert load_stacks(raw_session(tmp_path / "s.insitu", b"")).total_count == 0


@pytest.mark.parametrize(
    "layout", ["", "{", "[]", "{}", '{"kind": "perf"}', '{"kind": "perf", "events": [{}]}', '{"kind": 5}']
)
def test_a_damaged_layout_is_an_error_that_names_it(tmp_path: Path, layout: str):
    path = raw_session(tmp_path / "s.insitu", RECORDS)
    (path / "raw" / "perf" / "layout.json").write_text(layout)
    with pytest.raises(InsituError, match=r"layout\.json"):
        load_stacks(path)


# Damage


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"format": "2"}', b'{"format": 99}', b'{"format": 1}', b"[" * 100_000, b"\xff"],
)
def test_a_damaged_or_older_manifest_is_an_error_of_one_line(tmp_path: Path, content: bytes):
    path = written(tmp_path / "s.insitu")
    (path / "session.json").write_bytes(content)
    with pytest.raises(InsituError) as error:
        load_stacks(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("rows", ["x", "7", [], {}, 1 << 64, True])
def test_a_number_of_rows_that_is_none_is_damage(tmp_path: Path, rows: object):
    path = written(tmp_path / "s.insitu")
    found = json.loads((path / "session.json").read_text())
    found["tables"]["stack"]["rows"] = rows
    (path / "session.json").write_text(json.dumps(found))
    with pytest.raises(InsituError, match="damaged: rows of a table"):
        load_stacks(path)


def test_a_manifest_whose_entries_have_other_types_takes_defaults(tmp_path: Path):
    path = written(tmp_path / "s.insitu")
    found = json.loads((path / "session.json").read_text())
    wrong = {key: {"x": 1} if not isinstance(value, dict) else 5 for key, value in found.items()}
    (path / "session.json").write_text(json.dumps({**wrong, "format": 2, "state": "complete"}))
    assert load_stacks(path).total_count == 3


@pytest.mark.parametrize("cut", [0, 3, 50, 400])
@pytest.mark.parametrize("table", ["sample", "stack", "frame", "thread", "event_type"])
def test_a_truncated_table_is_an_error(tmp_path: Path, cut: int, table: str):
    path = written(tmp_path / "s.insitu")
    file = path / "tables" / table / "0.parquet"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(InsituError) as error:
        load_stacks(path)
    assert "\n" not in str(error.value)
    with pytest.raises(InsituError), insitu.open(path) as session:
        session.sql(f"from {table}")


def rewritten(path: Path, table: str, select: str) -> None:
    """Replace a table by what a query over it gives."""
    import duckdb

    file = path / "tables" / table / "0.parquet"
    duckdb.sql(f"copy (select {select} from '{file}') to '{file}.new' (format parquet)")
    file.with_name(f"{file.name}.new").rename(file)


@pytest.mark.parametrize("damage", ["parent + 99", "-5", "0"])
@pytest.mark.parametrize("column", ["parent", "frame", "stack"])
def test_ids_that_point_outside_their_tables_are_an_error(tmp_path: Path, column: str, damage: str):
    path = written(tmp_path / "s.insitu")
    table = "sample" if column == "stack" else "stack"
    damage = damage.replace("parent", column)
    if (column, damage) in (("stack", "0"), ("parent", "0")):
        pytest.skip("0 is the root, which every stack may have")
    condition = "true" if table == "sample" else "id > 0"
    rewritten(path, table, f"* replace (case when {condition} then {damage} else {column} end as {column})")
    if (column, damage) == ("frame", "0"):
        assert load_stacks(path).total_count == 3  # another frame, but one that there is
        return
    with pytest.raises(InsituError, match="damaged"):
        load_stacks(path)


_TABLES = ("sample", "stack", "frame", "thread", "thread_name", "process", "event_type", "lost")
_COLUMNS = [(name, column.name) for name in _TABLES for column in TABLES[name].columns]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("whole") / "s.insitu")


@pytest.mark.parametrize(("table", "column"), _COLUMNS)
def test_any_column_missing_null_or_of_another_type_ends_in_one_line_or_in_a_default(
    whole: Path, tmp_path: Path, table: str, column: str
):
    outcomes = Counter[str]()
    path = tmp_path / "s.insitu"
    file = path / "tables" / table / "0.parquet"
    shutil.copytree(whole, path)
    for select in (
        f"* exclude ({column})",
        f"* replace (null::integer as {column})",
        f"* replace ('x' as {column})",
        f"* replace ([1] as {column})",
        f"* replace ((-1)::bigint as {column})",
        f"* replace (9223372036854775807 as {column})",
    ):
        shutil.copyfile(whole / "tables" / table / "0.parquet", file)
        rewritten(path, table, select)
        try:
            folded_counts(load_stacks(path))
            outcomes["shown"] += 1
        except InsituError as error:
            assert "\n" not in str(error)
            outcomes["refused"] += 1
    assert outcomes.total() == 6


def test_the_page_on_the_format_has_the_tables_as_they_are_registered():
    done = subprocess.run([sys.executable, "tools/session_format.py", "--check"], cwd=Path(__file__).parents[2])
    assert done.returncode == 0, "run python tools/session_format.py"


def test_every_documented_table_is_there_in_sql_with_its_columns_without_what_records_it(tmp_path: Path):
    page = (Path(__file__).parents[2] / "docs/session-format.md").read_text(encoding="utf-8")
    documented = {
        title: re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
        for title, text in re.findall(r"^### (\S+)\n(.*?)(?=^### |^<!-- end)", page, re.MULTILINE | re.DOTALL)
    }
    assert {"process", "sample", "wall", "function_call", "event_format", "delay", "latency"} < documented.keys()
    program = """
import json, pathlib, sys
from insitu.kernel import procfs
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.query import Database
from insitu.session.writer import SessionWriter
path = pathlib.Path(sys.argv[1])
create(path, Manifest.here(procfs), procfs)
with SessionWriter.on_disk(path) as writer:
    writer.finish(end_ns=1)
database = Database(path)
print(json.dumps({name: database.sql(f"from {name}").columns for name in sys.argv[2:]}))
print(json.dumps(len(database.sql("from wall"))))
"""
    command = [sys.executable, "-c", program, tmp_path / "empty.insitu", *documented]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    columns, rows = map(json.loads, done.stdout.splitlines())
    assert columns == documented
    assert rows == 0
