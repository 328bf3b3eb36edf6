"""A session of memory faults: a row for each, with the stacks of the access, the allocation and the free."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from insitu.debug.guard_faults import FAMILIES, Fault
from insitu.kernel import procfs
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.special_tables import MEMORY_FAULT
from insitu.session.writer import SessionWriter

__all__ = ["save"]


def save(path: Path, command: Sequence[str], faults: Sequence[Fault], notes: Sequence[str], start_ns: int) -> None:
    """Make the session ``path``, which began at ``start_ns`` of CLOCK_MONOTONIC.

    Raises InsituError, or OSError: disk full.
    """
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    manifest = Manifest.here(
        procfs,
        command=list(command),
        sources=[{"id": "guard", "kind": "guard", "options": {}, "value": "count"}],
        default_table=MEMORY_FAULT.name,
        start_ns=start_ns,
        start_realtime_ns=time.time_ns() - (now - start_ns),
        end_ns=now,
        notes=list(notes),
    )
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        threads: dict[int, int] = {}
        writer.append_rows(MEMORY_FAULT, [_row(writer, fault, threads) for fault in faults])
        writer.finish()


def _row(writer: SessionWriter, fault: Fault, threads: dict[int, int]) -> tuple[object, ...]:
    if fault.tid not in threads:
        upid = writer.processes.process_of(fault.pid)
        threads[fault.tid] = writer.processes.thread(fault.tid, upid, name=fault.name)
    block = fault.block
    freed = block.freed if block else None
    return (
        fault.ns,
        threads[fault.tid],
        fault.kind,
        fault.access,
        fault.address,
        fault.size,
        block.address if block else None,
        block.size if block else None,
        fault.offset if block else None,
        FAMILIES[block.family][0] if block else "",
        FAMILIES[fault.freed_by][1] if fault.freed_by else "",
        fault.instruction,
        fault.signal,
        writer.intern_stack(fault.stack),
        writer.intern_stack(block.allocated.stack) if block else 0,
        writer.intern_stack(freed.stack) if freed else 0,
    )
