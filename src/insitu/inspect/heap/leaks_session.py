"""A session of a heap: a row for each block."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from insitu.inspect.heap.contents import CONTENTS, contents
from insitu.inspect.heap.leaks import Leaks
from insitu.inspect.heap.reachability import CLASSES
from insitu.kernel import procfs
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.special_tables import HEAP_BLOCK
from insitu.session.writer import SessionWriter

__all__ = ["save"]


def save(path: Path, found: Leaks) -> int:
    """Make the session ``path``; returns how many blocks it has. Raises InsituError, or OSError: disk full."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    snapshot, heap, verdicts = found.snapshot, found.heap, found.verdicts
    manifest = Manifest.here(
        procfs,
        pids=[snapshot.pid],
        sources=[{"id": "leaks", "kind": "leaks", "options": {}}],
        start_ns=now,
        start_realtime_ns=time.time_ns(),
        end_ns=now,
        notes=list(snapshot.notes),
    )
    inside = contents(found, np.arange(len(heap.addresses)))
    addresses = heap.addresses.tolist()
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        upid = writer.processes.process(snapshot.pid, 0)
        rows = [
            (
                now,
                upid,
                address,
                size,
                CLASSES[kind],
                CONTENTS[content],
                first,
                addresses[leader] if leader >= 0 else None,
                addresses[parent] if parent >= 0 else None,
                arena,
            )
            for address, size, kind, content, first, leader, parent, arena in zip(
                addresses,
                heap.sizes.tolist(),
                verdicts.kind.tolist(),
                inside.kind.tolist(),
                inside.first.tolist(),
                verdicts.leader.tolist(),
                verdicts.parent.tolist(),
                heap.arena.tolist(),
                strict=True,
            )
        ]
        writer.append_rows(HEAP_BLOCK, rows)
        writer.finish()
    return len(addresses)
