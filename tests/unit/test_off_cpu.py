"""Off-CPU spans: a thread's leaving the CPU joined to its next return, window by window of the records."""

import json
import os
import random
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import insitu
from insitu.convert import probe_source
from insitu.convert.off_cpu import _Spans
from insitu.convert.sources import LAYOUT, finish
from insitu.kernel import procfs
from insitu.kernel.sleeping import SLEEPING, SleepingThread, packed, sleeping_thread, unpacked
from insitu.probe.layout import EVENT_HEAD, Layout, RecordLayout
from insitu.probe.runtime.capture import EVENTS
from insitu.probe.runtime.event_layout import recording_layout
from insitu.probe.types import INT64, UINT64, Stack, Tuple, Type, Variable
from insitu.session.directory import create
from insitu.session.manifest import RECORDING, Manifest
from insitu.session.weighted_stacks import Selection
from insitu.session.writer import MemoryTables, SessionWriter

_COUNTS: dict[str, Type] = {"executed": UINT64, "switches": UINT64}
_OUT: dict[str, Type] = {"state": INT64, **_COUNTS, "kernel": Variable(Stack(False)), "user": Variable(Stack(True))}
_IN: dict[str, Type] = {"who": INT64}

Event = tuple[int, int, bool]  # time, thread, whether it returns


class Counted(NamedTuple):
    """A thread that leaves the CPU, or ends, and the scheduler's counts: nanoseconds on a CPU, switches."""

    ts_ns: int
    tid: int
    executed: int
    switches: int
    ends: bool = False


def _record(event: Event | Counted) -> bytes:
    """What the program of record/sources/off_cpu.py writes; another thread is current when one returns."""
    if not isinstance(event, Counted) and event[2]:
        data = struct.pack("<IIQIIq", 1, 0, event[0], 77, 77, event[1])
    else:
        ts_ns, tid, *_ = event
        counts = (event.executed, event.switches) if isinstance(event, Counted) else (0, 0)
        if isinstance(event, Counted) and event.ends:
            data = struct.pack("<IIQIIQQ", 2, 0, ts_ns, tid, 10, *counts)
        else:
            stacks = 8, 8, 0xFFFF_FFFF_8100_0000, 0x40_0000 + tid
            data = struct.pack("<IIQIIqQQQQ2Q", 0, 0, ts_ns, tid, 10, 1, *counts, *stacks)
    return struct.pack("<II", len(data), 0) + data


def _recorded(
    path: Path, events: Sequence[Event | Counted], asleep: Sequence[SleepingThread] = (), **manifest: int
) -> Path:
    create(path, Manifest.here(procfs, command=["x"], state=RECORDING, **manifest), procfs)
    source = path / "raw" / "off-cpu"
    source.mkdir(parents=True)
    records = [
        RecordLayout("emit", label, Tuple((UINT64, UINT64, *fields.values())), names=(*EVENT_HEAD, *fields))
        for label, fields in (("out", _OUT), ("in", _IN), ("gone", _COUNTS))
    ]
    layout = recording_layout(Layout(records=records, maps=[]), points={})
    (source / LAYOUT).write_text(json.dumps({**layout, "kind": "off_cpu"}))
    (source / EVENTS).write_bytes(b"".join(map(_record, events)))
    (source / SLEEPING).write_bytes(b"".join(map(packed, asleep)))
    finish(path)
    return path


def _expected(events: list[Event]) -> list[tuple[int, int, int | None]]:
    """Start, thread and duration of each wait: until the thread's next event, if that is a return, or the end.

    Of a killed recorder that is its last event.
    """
    spans = []
    for at, (ts_ns, tid, returns) in enumerate(events):
        if not returns:
            later = next((event for event in events[at + 1 :] if event[1] == tid), None)
            end = events[-1] if later is None else later
            spans.append((ts_ns, tid, end[0] - ts_ns if later is None or later[2] else None))
    return spans


@pytest.mark.parametrize("window_bytes", [128, 1000, 64 << 20])
def test_waits_end_with_their_threads_next_return_in_whichever_window_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_bytes: int
) -> None:
    monkeypatch.setattr(probe_source, "_WINDOW_BYTES", window_bytes)
    chance = random.Random(4)
    # Thread 14 leaves first and returns last. Some leave twice, some return twice: what was between them was lost.
    events = [(1000 + at, chance.choice([11, 12, 13]), chance.random() < 0.5) for at in range(1, 300)]
    events = [(1000, 14, False), *events, (2000, 14, True), (2001, 15, False)]
    with insitu.open(_recorded(tmp_path / "s.insitu", events)) as session:
        found = session.sql("select ts_ns, tid, dur_ns from span join thread using (utid) order by ts_ns").rows()
        ids = session.sql("select id from span order by id")["id"].to_list()
        lost = session.manifest.lost
    assert found == _expected(events)
    assert lost == sum(dur_ns is None for *_, dur_ns in found) > 0
    assert ids == list(range(len(found)))


@pytest.mark.parametrize("window_bytes", [128, 64 << 20])
def test_a_return_that_was_not_seen_is_when_the_scheduler_says_or_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window_bytes: int
) -> None:
    monkeypatch.setattr(probe_source, "_WINDOW_BYTES", window_bytes)
    events = [
        Counted(1000, 11, 50, 7),  # it waits until 1360, runs for 40, waits until 1500, runs for 100 and ends
        Counted(1000, 12, 50, 7),  # it comes and goes unseen, three times
        Counted(1100, 13, 50, 7),
        Counted(1400, 11, 90, 8),
        (1500, 11, True),
        Counted(1600, 11, 190, 9),
        Counted(1700, 11, 230, 10, ends=True),  # it had waited until 1660
        Counted(1800, 12, 60, 10),
        Counted(1900, 12, 60, 11, ends=True),  # at once
    ]
    path = _recorded(tmp_path / "s.insitu", events, end_ns=2000)
    with insitu.open(path) as session:
        waits = session.sql("select tid, ts_ns, dur_ns from span join thread using (utid) order by tid, ts_ns").rows()
        assert session.manifest.lost == 1
    assert waits == [
        (11, 1000, 360),
        (11, 1400, 100),
        (11, 1600, 60),
        (12, 1000, None),
        (12, 1800, 100),
        (13, 1100, 900),
    ]


def test_a_thread_that_has_ended_does_not_wait_until_the_end() -> None:
    tables = MemoryTables()
    writer = SessionWriter(tables, Manifest.imported(procfs, "test"))
    writer.processes.thread(5, writer.processes.process(5), end_ns=1500)
    writer.processes.thread(6, writer.processes.process(6))
    tid, ts_ns = np.array([5, 5, 6]), np.array([1100, 1600, 1100])  # one wait is in exit(2), past what is the end
    others = {name: np.zeros(3, np.int64) for name in ("cpu", "stack", "seen", "executed", "switches")}
    spans = _Spans(writer, {"ts_ns": ts_ns, "tid": tid, "pid": tid, "state": np.ones(3, np.int64), **others})
    spans.finish(2000)
    writer.finish()
    rows = zip(tables.column("span", "ts_ns").tolist(), tables.column("span", "dur_ns").tolist(), strict=True)
    assert sorted(rows, key=str) == [(1100, 900), (1100, None), (1600, 400)]
    assert spans.lost == 1


def test_threads_that_are_asleep_at_the_start_wait_from_there(tmp_path: Path) -> None:
    asleep = [
        SleepingThread(100, tid, 10, 3, 2, 0, 0, "io_wait" if tid == 20 else "", b"") for tid in (20, 21, 22, 23)
    ]
    # 20 never returns; 21 returns at 150 and sleeps again until 170; 22 was awake: it leaves the CPU at 160.
    events = [(150, 21, True), (155, 21, False), (160, 22, False), (165, 22, True), (170, 21, True)]
    path = _recorded(tmp_path / "s.insitu", events, asleep, end_ns=200)
    waits = "select tid, ts_ns, dur_ns, span.name from span join thread using (utid) order by tid, ts_ns"
    leaves = (
        "select tid, function from span join thread using (utid) join stack on stack.id = span.stack"
        " join frame on frame.id = stack.frame where ts_ns = 100 order by tid"
    )
    with insitu.open(path) as session:
        assert session.sql(waits).rows() == [
            (20, 100, 100, "uninterruptible sleep"),
            (21, 100, 50, "uninterruptible sleep"),
            (21, 155, 15, "sleep"),
            (22, 160, 5, "sleep"),
            (23, 100, 100, "uninterruptible sleep"),
        ]
        unknown = "[already waiting]"
        assert session.sql(leaves).rows() == [(20, "io_wait"), (21, unknown), (23, unknown)]
        stacks = session.stacks(Selection(table="span"))
        assert stacks.weight.sum() == 100 + 50 + 15 + 5 + 100


def test_what_proc_says_of_a_sleeping_thread() -> None:
    with subprocess.Popen(["sleep", "1000"]) as child:
        while (found := sleeping_thread(child.pid, child.pid)) is None or found.state != 1:
            time.sleep(0.01)  # it is being started
        child.kill()
    assert (found.tid, found.pid, found.state) == (child.pid, child.pid, 1)
    assert found.sp and found.pc and found.stack
    assert sleeping_thread(os.getpid(), os.getpid()) is None  # it runs
    assert packed(found) and [*unpacked(packed(found) + packed(found)[:-1])] == [found]
