"""Sessions on disk as tests need them: written by the one writer, with every kind of table."""

from pathlib import Path

import numpy as np

from insitu.kernel import procfs
from insitu.session.core_tables import COUNTER, SAMPLE, SPAN, TRACK
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.schema import Column, Table
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame

__all__ = [
    "BLOCKED",
    "HISTOGRAM",
    "empty_session",
    "mixed_session",
    "script_session",
    "switches_session",
    "traced_session",
    "waits_session",
]

# A recorder's table that no module of insitu knows: a stack, a duration, a path.
BLOCKED = Table(
    "event.blocked",
    "A thread that waited for a lock of a file.",
    (
        Column("ts_ns", "timestamp", "when it began to wait"),
        Column("utid", "utid"),
        Column("waited_ns", "duration"),
        Column("file", "path"),
        Column("stack", "stack"),
    ),
)
HISTOGRAM = Table(
    "map.us",
    "",
    (Column("key", "text"), Column("low", "integer"), Column("high", "integer"), Column("count", "count")),
)
STACK_MAP = Table("map.waits", "", (Column("key", "stack"), Column("value", "count")))
OPENED = Table(
    "event.open",
    "A file that was opened.",
    (Column("ts_ns", "timestamp"), Column("utid", "utid"), Column("file", "path"), Column("took_ns", "duration")),
)


def _session(path: Path, **known: object) -> SessionWriter:
    create(path, Manifest.here(procfs, command=["./prog", "--fast"], start_ns=1_000_000_000, **known), procfs)
    return SessionWriter.on_disk(path)


def empty_session(path: Path) -> Path:
    """A profile that took no sample."""
    with _session(path) as writer:
        writer.event_type("cpu-clock", "ns")
        writer.append(SAMPLE, {name: np.zeros(0, np.int64) for name in ("ts_ns", "utid", "stack")})
        writer.finish(end_ns=2_000_000_000)
    return path


def waits_session(path: Path, *, times: int = 1) -> Path:
    """Ten waits of two threads: 10 ms each in read_file, of which the last of each thread takes ``times`` as long."""
    with _session(path) as writer:
        upid = writer.processes.process(5)
        for tid in (5, 6):
            writer.processes.thread(tid, upid, name=f"worker{tid}")
        frames = [Frame("lock_page", "[kernel.kallsyms]", kind=KERNEL), Frame("read_file", "/bin/prog")]
        stacks = [
            writer.intern_stack([*frames, Frame("main", "/bin/prog")]),
            writer.intern_stack([frames[1], Frame("start_thread", "/lib/libc.so")]),
        ]
        waited = np.full(10, 10_000_000)
        waited[8:] *= times
        writer.append(
            BLOCKED,
            {
                "ts_ns": 1_000_000_000 + np.arange(10) * 250_000_000,
                "utid": np.tile([1, 2], 5),
                "waited_ns": waited,
                "file": [f"/data/{at % 3}" for at in range(10)],
                "stack": np.tile(stacks, 5),
            },
        )
        writer.append(STACK_MAP, {"key": stacks, "value": [3, 4]})
        writer.append(HISTOGRAM, {"key": ["read"], "low": [0], "high": [16], "count": [3]})
        writer.finish(end_ns=4_000_000_000)
    return path


def script_session(path: Path) -> Path:
    """What a probe program without stacks leaves: an event table and a map."""
    with _session(path) as writer:
        writer.processes.thread(7, writer.processes.process(7), name="cat")
        writer.append(
            OPENED,
            {
                "ts_ns": [1_000_000_001, 1_500_000_000],
                "utid": [1, 1],
                "file": ["/a", "/b\x1b[31m"],
                "took_ns": [5, 6],
            },
        )
        writer.append(
            HISTOGRAM, {"key": ["read", "write"], "low": [0, 16], "high": [16, 32], "count": [3, 1_000_000]}
        )
        writer.lost("ring buffer", 9)
        writer.finish(end_ns=2_000_000_000)
    return path


def switches_session(path: Path) -> Path:
    """Two threads that take turns on CPU 0, as insitu events records their switches and wakeups."""
    if path.exists():
        return path
    switch = [Column("ts_ns", "timestamp"), Column("utid", "utid"), Column("cpu", "cpu")]
    for side in ("prev", "next"):
        switch += [Column(f"{side}_comm", "name"), Column(f"{side}_pid", "tid"), Column(f"{side}_prio", "integer")]
    switch.append(Column("prev_state", "integer"))
    waking = [*switch[:3], Column("comm", "name"), Column("pid", "tid"), Column("prio", "integer")]
    with _session(path) as writer:
        tids = np.array([10, 11] * 5, np.int32)
        ts_ns = np.arange(10) * 1_000_000
        utid = writer.processes.utids(tids, ts_ns)
        head = {"ts_ns": ts_ns, "utid": utid, "cpu": np.zeros(10, np.int32)}
        values = {"prev_comm": ["a", "b"] * 5, "prev_pid": tids, "prev_prio": [120] * 10, "prev_state": [1] * 10}
        values |= {"next_comm": ["b", "a"] * 5, "next_pid": tids[::-1].copy(), "next_prio": [120] * 10}
        writer.append(Table("event.sched_switch", "", tuple(switch)), head | values)
        woken = {"comm": ["b", "a"] * 5, "pid": tids[::-1].copy(), "prio": [120] * 10}
        writer.append(Table("event.sched_waking", "", tuple(waking)), head | woken)
        writer.finish()
    return path


def traced_session(path: Path, spans: list[tuple], counted: list[tuple] = ()) -> Path:
    """Spans (ts_ns, dur_ns or None, category, name, depth) of thread 7, and a counter's (ts_ns, bytes)."""
    with _session(path) as writer:
        utid = writer.processes.thread(7, writer.processes.process(7), name="cat")
        ts_ns, dur_ns, category, name, depth = zip(*spans, strict=True) if spans else [()] * 5
        columns = {"ts_ns": ts_ns, "dur_ns": dur_ns, "category": category, "name": name, "depth": depth}
        writer.append(SPAN, {"id": writer.span_ids(len(spans)), "utid": [utid] * len(spans), **columns})
        if counted:
            ts_ns, value = zip(*counted, strict=True)
            writer.append(TRACK, {"id": [3], "name": ["free memory"], "unit": ["bytes"]})
            writer.append(COUNTER, {"ts_ns": ts_ns, "track": [3] * len(counted), "value": value})
        writer.finish(end_ns=2_000_000_000)
    return path


def mixed_session(path: Path) -> Path:
    """Samples, spans and events; pid 100 is used by two processes one after the other, and a thread renames itself.

    60 samples of 10 ms: thread 1 (pid 100, ``sh`` until 1.2 s, then ``ls``) 30, thread 2 (pid 100 again, ``cat``) 20,
    thread 3 (a second thread of the last process) 10. Spans: an outer of 100 ms with two inner of 30 and 20 ms.
    """
    second = 1_000_000_000
    with _session(path) as writer:
        who = writer.processes
        shell = who.process(100, second, exe="/bin/sh")
        first = who.thread(100, shell, second, name="sh", end_ns=second + 400_000_000)
        who.renamed(first, second + 200_000_000, "ls")
        later = who.process(100, second + 500_000_000, exe="/bin/cat")
        again = who.thread(100, later, second + 500_000_000, name="cat")
        helper = who.thread(101, later, second + 500_000_000, name="helper")
        kind = writer.event_type("cpu-clock", "ns", source="perf")
        main = Frame("main", "/bin/prog", "prog.c", 10)
        stacks = [
            writer.intern_stack([main]),
            writer.intern_stack([Frame("parse", "/bin/prog", "prog.c", 20), main]),
            writer.intern_stack([Frame("sys_read", "[kernel.kallsyms]", kind=KERNEL), main]),
        ]
        utid = np.repeat([first, again, helper], [30, 20, 10])
        starts = np.repeat([second, second + 500_000_000, second + 700_000_000], [30, 20, 10])
        at = np.concatenate([np.arange(n) for n in (30, 20, 10)])
        writer.append(
            SAMPLE,
            {
                "ts_ns": starts + at * 10_000_000,
                "utid": utid,
                "cpu": np.zeros(60, np.int32),
                "event_type": np.full(60, kind),
                "stack": np.array(stacks)[np.arange(60) % 3],
                "weight": np.full(60, 10_000_000),
            },
        )
        millisecond = 1_000_000
        writer.append(
            SPAN,
            {
                "id": [1, 2, 3],
                "ts_ns": [second, second + 10 * millisecond, second + 50 * millisecond],
                "dur_ns": np.ma.masked_array([100 * millisecond, 30 * millisecond, 20 * millisecond]),
                "utid": [first] * 3,
                "category": ["request", "disk", "disk"],
                "name": ["GET", "read", "read"],
                "parent": np.ma.masked_array([0, 1, 1], [True, False, False]),
                "depth": [0, 1, 1],
                "self_ns": np.ma.masked_array([50 * millisecond, 30 * millisecond, 20 * millisecond]),
                "stack": [0, stacks[2], stacks[2]],
            },
        )
        writer.append(
            OPENED,
            {
                "ts_ns": [second + 1, second + 600_000_000],
                "utid": [first, again],
                "file": ["/etc/passwd", "/tmp/x"],
                "took_ns": [1_500, 2_500_000],
            },
        )
        writer.finish(end_ns=second + 900_000_000)
    return path
