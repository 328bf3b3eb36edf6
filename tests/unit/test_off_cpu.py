"""Off-CPU spans: a thread's leaving the CPU joined to its next return, window by window of the records."""

import json
import random
import struct
from pathlib import Path

import pytest

import insitu
from insitu.convert import probe_source
from insitu.convert.sources import LAYOUT, finish
from insitu.kernel import procfs
from insitu.probe.layout import EVENT_HEAD, Layout, RecordLayout
from insitu.probe.runtime.capture import EVENTS
from insitu.probe.runtime.event_layout import recording_layout
from insitu.probe.types import INT64, UINT64, Stack, Tuple, Type, Variable
from insitu.session.directory import create
from insitu.session.manifest import RECORDING, Manifest

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


def _recorded(path: Path, events: list[Event]) -> Path:
    create(path, Manifest.here(procfs, command=["x"], state=RECORDING), procfs)
    source = path / "raw" / "off-cpu"
    source.mkdir(parents=True)
    records = [
        RecordLayout("emit", label, Tuple((UINT64, UINT64, *fields.values())), names=(*EVENT_HEAD, *fields))
        for label, fields in (("out", _OUT), ("in", _IN))
    ]
    layout = recording_layout(Layout(records=records, maps=[]), points={})
    (source / LAYOUT).write_text(json.dumps({**layout, "kind": "off_cpu"}))
    (source / EVENTS).write_bytes(b"".join(_record(*event) for event in events))
    finish(path)
    return path


def _expected(events: list[Event]) -> list[tuple[int, int, int | None]]:
    """Start, thread and duration of each wait: until the thread's next event, if that is a return."""
    spans = []
    for at, (ts_ns, tid, returns) in enumerate(events):
        if not returns:
            later = next((event for event in events[at + 1 :] if event[1] == tid), None)
            spans.append((ts_ns, tid, later[0] - ts_ns if later is not None and later[2] else None))
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
