"""What a timeline is drawn from, of sessions with each kind of table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.unit.sessions import empty_session, mixed_session, script_session, waits_session

from insitu.cli import main
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.session.core_tables import SPAN, THREAD_STATE
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.reader import Session
from insitu.session.writer import SessionWriter
from insitu.views.page import packed
from insitu.views.timeline import Timeline, tables, timeline
from insitu.views.timeline.page import timeline_html

MS = 1_000_000


def made(path: Path, **options: Any) -> Timeline:
    with Session(path) as session:
        return timeline(session, **options)


def column(found: Timeline, name: str) -> list[int]:
    values: list[int] = found.arrays[name].tolist()
    return values


def test_samples_spans_and_events_keep_their_times_threads_and_stacks(tmp_path: Path) -> None:
    found = made(mixed_session(tmp_path / "run.insitu"))
    assert column(found, "spanTime") == [0, 10 * MS, 50 * MS]
    assert column(found, "spanDuration") == [100 * MS, 30 * MS, 20 * MS]
    assert [found.meta["names"][each] for each in column(found, "spanName")] == ["GET", "read", "read"]
    assert column(found, "sampleTime")[:3] == [0, 10 * MS, 20 * MS]
    threads = found.meta["threads"]
    labels = [f"{threads['comm'][each]} {threads['tid'][each]}" for each in column(found, "sampleThread")]
    assert [labels.count(each) for each in ("ls 100", "cat 100", "helper 101")] == [30, 20, 10]
    leaf = found.meta["functions"]["name"]
    of = column(found, "stackFunction")
    assert [leaf[of[stack]] for stack in column(found, "sampleStack")[:3]] == ["main", "parse", "sys_read"]
    assert [leaf[of[column(found, "stackParent")[stack]]] for stack in column(found, "sampleStack")[1:3]] == [
        "main"
    ] * 2
    assert found.meta["texts"][column(found, "eventText")[0]] == "file=/etc/passwd took_ns=1500"
    assert found.rows == 3 + 60 + 2


def test_an_event_table_of_any_recorder_is_shown_with_its_fields_and_stack(tmp_path: Path) -> None:
    found = made(waits_session(tmp_path / "run.insitu"))
    assert found.meta["events"] == ["blocked"]
    assert column(found, "eventTime") == [number * 250 * MS for number in range(10)]
    assert found.meta["texts"][column(found, "eventText")[4]] == "waited_ns=10000000 file=/data/1"
    leaf = column(found, "stackFunction")[column(found, "eventStack")[0]]
    assert found.meta["functions"]["name"][leaf] == "lock_page"


def waits(path: Path) -> Path:
    """Thread 5 sleeps 100..150 (woken at 140) and 180..200, on CPU 1, and is preempted for good at 300, on CPU 0."""
    create(path, Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="x")
        off = [(100, 50, 40, 1, "sleep"), (180, 20, 20, 1, "uninterruptible sleep"), (300, 0, 0, 0, "preempted")]
        begin, length, own, cpu, names = map(list, zip(*off, strict=True))
        shared = {"utid": [utid] * 4, "category": ["off-cpu"] * 3 + ["run-queue"], "stack": [0] * 4}
        no_end = [False, False, True, False]
        writer.append(
            SPAN,
            {
                "id": [0, 1, 2, 3],
                "ts_ns": [*begin, 140],
                "dur_ns": np.ma.masked_array([*length, 10], no_end),
                "self_ns": np.ma.masked_array([*own, 10], no_end),
                "cpu": [*cpu, 1],
                "name": [*names, "runnable"],
                **shared,
            },
        )
        writer.finish(end_ns=400)
    return path


def test_waits_without_switches_give_the_states_of_threads(tmp_path: Path) -> None:
    found = made(waits(tmp_path / "run.insitu"))
    states = [found.meta["states"][each] for each in column(found, "stateWhat")]
    cpus = [cpu - 1 for cpu in column(found, "stateCpu")]
    rows = [*zip(column(found, "stateTime"), column(found, "stateDuration"), states, cpus, strict=True)]
    assert rows == [
        (0, 40, "sleeping", -1),
        (40, 10, "runnable", -1),
        (50, 30, "running", 1),
        (80, 20, "uninterruptible", -1),
        (100, 100, "running", 0),
        (200, 100, "preempted", -1),
    ]
    assert column(found, "spanTime") == []


def test_a_range_cuts_what_lies_in_it_in_part(tmp_path: Path) -> None:
    path = mixed_session(tmp_path / "run.insitu")
    found = made(path, seconds=(0.02, 0.06))
    assert column(found, "spanTime") == [0, 0, 30 * MS]
    assert column(found, "spanDuration") == [40 * MS, 20 * MS, 10 * MS]
    assert column(found, "sampleTime") == [0, 10 * MS, 20 * MS, 30 * MS, 40 * MS]
    assert found.meta["endNs"] == 40 * MS
    with pytest.raises(InsituError, match="nothing was recorded from second 99 on"):
        made(path, seconds=(99, 100))


def test_a_cpu_that_no_machine_has_gets_no_track(tmp_path: Path) -> None:
    path = tmp_path / "run.insitu"
    create(path, Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="x")
        rows = {"ts_ns": [1, 2, 3], "cpu": [0, 2**31 - 1, -(2**31)], "state": ["running"] * 3, "dur_ns": [1, 1, 1]}
        writer.append(THREAD_STATE, {**rows, "utid": [utid] * 3, "stack": [0] * 3})
        writer.finish(end_ns=9)
    assert column(made(path), "stateCpu") == [1, 0, 0]


def test_texts_beyond_the_limit_are_left_out_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_MOST_TEXT", 40)
    found = made(waits_session(tmp_path / "run.insitu"))
    assert found.meta["texts"] == ["", "waited_ns=10000000 file=/data/0"]
    assert column(found, "eventText") == [1, 0, 0] * 3 + [1]
    assert found.meta["notes"][-1].startswith("6 rows are shown without arguments and fields")


def test_a_session_without_times_and_one_too_large_for_a_page_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InsituError, match="nothing in it has a time"):
        made(empty_session(tmp_path / "empty.insitu"))
    monkeypatch.setattr("insitu.views.timeline.page.MOST_ROWS", 9)
    with pytest.raises(InsituError, match="10 rows: a page takes 9"):
        timeline_html(made(waits_session(tmp_path / "run.insitu")))


def test_the_command_writes_a_page_or_says_in_a_line_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script_session(tmp_path / "run.insitu")
    assert main(["timeline", "run.insitu"]) == 0
    assert "<title>./prog --fast</title>" in (tmp_path / "run-timeline.html").read_text()
    assert main(["timeline", "run.insitu", "--range", "5"]) == 2
    assert main(["timeline", "run.insitu", "--range", "7-9"]) == 1
    assert "all is in 0-1.000" in capsys.readouterr().err


def test_packed_data_are_of_the_pages_arrays_only(tmp_path: Path) -> None:
    found = made(script_session(tmp_path / "run.insitu"))
    assert len(packed(*found)) < 4096
    with pytest.raises(ValueError, match="a page of type timeline"):
        packed(found.meta, {})
