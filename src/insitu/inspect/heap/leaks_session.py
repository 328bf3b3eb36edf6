"""A session of a heap: a row for each block."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from insitu.inspect.heap.allocations import Allocations, untraced
from insitu.inspect.heap.contents import CONTENTS, OBJECT, class_name, contents
from insitu.inspect.heap.leaks import Leaks
from insitu.inspect.heap.reachability import CLASSES
from insitu.inspect.variable_names import VariableNames
from insitu.kernel import procfs
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.special_tables import HEAP_BLOCK
from insitu.session.writer import SessionWriter

__all__ = ["save"]


def save(path: Path, found: Leaks, names: VariableNames, allocations: Allocations | None = None) -> int:
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
    if allocations is not None:
        manifest = manifest.changed(default_table=HEAP_BLOCK.name)
    count = len(heap.addresses)
    asked, age, stack, stacks = allocations or untraced(count)
    inside = contents(found, np.arange(len(heap.addresses)))
    addresses = heap.addresses.tolist()
    tables = np.unique(inside.first[inside.kind == OBJECT]).tolist()
    classes = {table: class_name(names, table) for table in tables}
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        upid = writer.processes.process(snapshot.pid, 0)
        ids = [writer.intern_stack(each) for each in stacks]
        rows = [
            (
                now,
                upid,
                address,
                size,
                CLASSES[kind],
                CONTENTS[content],
                classes[first] if content == OBJECT else "",
                first,
                addresses[leader] if leader >= 0 else None,
                addresses[parent] if parent >= 0 else None,
                arena,
                ids[of],
                bytes_ if old >= 0 else None,
                now - old if old >= 0 else None,
            )
            for address, size, kind, content, first, leader, parent, arena, of, bytes_, old in zip(
                addresses,
                heap.sizes.tolist(),
                verdicts.kind.tolist(),
                inside.kind.tolist(),
                inside.first.tolist(),
                verdicts.leader.tolist(),
                verdicts.parent.tolist(),
                heap.arena.tolist(),
                stack.tolist(),
                asked.tolist(),
                age.tolist(),
                strict=True,
            )
        ]
        writer.append_rows(HEAP_BLOCK, rows)
        writer.finish()
    return len(addresses)
