"""Off-CPU spans: a thread's leaving the CPU joined to its next return, window by window of the records."""

import json
import os
import random
import struct
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

import insitu
from insitu.convert import probe_source
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

_OUT: dict[str, Type] = {"state": INT64, "kernel": Variable(Stack(False)), "user": Variable(Stack(True))}
_IN: dict[str, Type] = {"who": INT64}

Event = tuple[int, int, bool]  # time, thread, whether it returns


def _record(ts_ns: int, tid: int, returns: bool) -> bytes:
    """What the program of record/sources/off_cpu.py writes; another thread is current when one returns."""
    if returns:
        data = struct.pack("<IIQIIq", 1, 0, ts_ns, 77, 77, tid)
    else:
        data = struct.pack("<IIQIIqQQ2Q", 0, 0, ts_ns, tid, 10, 1, 8, 8, 0xFFFF_FFFF_8100_0000, 0x40_0000 + tid)
    return struct.pack("<II", len(data), 0) + data


def _recorded(path: Path, events: list[Event], asleep: Sequence[SleepingThread] = (), **manifest: int) -> Path:
    create(path, Manifest.here(procfs, command=["x"], state=RECORDING, **manifest), procfs)
    source = path / "raw" / "off-cpu"
    source.mkdir(parents=True)
    records = [
        RecordLayout("emit", label, Tuple((UINT64, UINT64, *fields.values())), names=(*EVENT_HEAD, *fields))
        for label, fields in (("out", _OUT), ("in", _IN))
    ]
    layout = recording_layout(Layout(records=records, maps=[]), points={})
    (source / LAYOUT).write_text(json.dumps({**layout, "kind": "off_cpu"}))
    (source / EVENTS).write_bytes(b"".join(_record(*event) for event in events))
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
    assert found == _expected(events)
    assert ids == list(range(len(found)))


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
