"""A session of stacks: a sample for each thread, so that every view of stacks shows them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from insitu.inspect.stacks import Process
from insitu.kernel import procfs
from insitu.session.core_tables import SAMPLE
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.writer import SessionWriter

__all__ = ["save"]


def save(path: Path, processes: Sequence[Process]) -> int:
    """Make the session ``path``; returns how many threads it has. Raises InsituError, or OSError: disk full."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    manifest = Manifest.here(
        procfs,
        pids=[process.pid for process in processes],
        sources=[{"id": "stacks", "kind": "stacks", "options": {}, "value": "weight"}],
        start_ns=now,
        start_realtime_ns=time.time_ns(),
        end_ns=now,
        notes=[note for process in processes for note in process.notes],
    )
    rows = []
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        kind = writer.event_type("thread", "threads", source="stacks")
        for process in processes:
            upid = writer.processes.process(process.pid, 0)
            for thread in process.threads:
                utid = writer.processes.thread(thread.tid, upid, 0, name=thread.name)
                stack = writer.intern_stack([*thread.kernel, *thread.frames])
                rows.append((now, utid, -1, kind, stack, 1))
        writer.append_rows(SAMPLE, rows)
        writer.finish()
    return len(rows)
