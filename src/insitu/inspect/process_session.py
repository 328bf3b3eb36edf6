"""What a process holds, in a session: its mappings, descriptors and threads at one moment. Two can be compared."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from insitu.inspect.descriptors import Descriptor
from insitu.inspect.memory_map import COLUMNS, MemoryMap
from insitu.kernel import procfs
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.special_tables import FD, PAGE_RANGE
from insitu.session.writer import SessionWriter

__all__ = ["Held", "save"]


class Held(NamedTuple):
    """A process at one moment; None: not asked for, or not to be seen."""

    pid: int
    memory: MemoryMap | None
    descriptors: Sequence[Descriptor] | None


def save(path: Path, processes: Sequence[Held]) -> None:
    """Make the session ``path``. Raises InsituError, or OSError: disk full."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    manifest = Manifest.here(
        procfs,
        pids=[each.pid for each in processes],
        sources=[{"id": "proc", "kind": "proc", "options": {}}],
        start_ns=now,
        start_realtime_ns=time.time_ns(),
        end_ns=now,
    )
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        for each in processes:
            upid = writer.processes.process(each.pid, 0)
            for tid, name in _threads(each.pid):
                writer.processes.thread(tid, upid, 0, name=name)
            writer.append_rows(FD, [_fd(now, upid, one) for one in each.descriptors or ()])
            writer.append_rows(PAGE_RANGE, _ranges(now, upid, each.memory) if each.memory else [])
        writer.finish()


def _threads(pid: int) -> list[tuple[int, str]]:
    try:
        return [(tid, procfs.comm(tid).decode(errors="replace")) for tid in sorted(procfs.threads(pid))]
    except OSError:  # it has ended meanwhile
        return []


def _fd(now: int, upid: int, each: Descriptor) -> tuple[object, ...]:
    return now, upid, each.number, each.kind, _text(each.target), each.access, each.offset, each.details


def _ranges(now: int, upid: int, found: MemoryMap) -> list[tuple[object, ...]]:
    sharers: dict[int, list[str]] = {}
    for each in found.sharers:
        for at in each.by_mapping:
            sharers.setdefault(at, []).append(str(each.pid))
    return [
        (
            *(now, upid, area.start, area.end, area.permissions, area.offset),
            area.path.decode(errors="replace"),
            _text(found.groups[at]),
            *(int(found.sizes[name][at]) for name in COLUMNS),
            ",".join(f"{node}:{many}" for node, many in sorted(found.nodes.get(area.start, {}).items())),
            ",".join(sharers.get(at, ())),
        )
        for at, area in enumerate(found.areas)
    ]


def _text(name: str) -> str:
    return os.fsencode(name).decode(errors="replace")
