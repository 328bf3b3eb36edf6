"""What files lie at which addresses of processes: read from /proc, and told by the kernel as programs map them.

A process that has ended has no /proc any more, while its stacks are still to be shown. The kernel tells of every
mapping of code when it is made (PERF_RECORD_MMAP2), so that all processes that began meanwhile are known.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from insitu.errors import InsituError
from insitu.kernel import perf_event, procfs
from insitu.kernel.perf_event import Misc, Record
from insitu.kernel.perf_ring import Ring

__all__ = ["Area", "Mappings"]

_RING_PAGES = 32
_MOST_PROCESSES = 20_000  # whose mappings are kept; the oldest are forgotten
_MOST_THREADS = 64
_PROC_AGAIN_S = 1.0
_MOST_PARENTS = 8

# include/uapi/linux/perf_event.h: each record ends with its time (sample_id_all with PERF_SAMPLE_TIME).
_HEADER = struct.Struct("<IHH")
_MMAP2 = struct.Struct("<IIQQQIIQQII")  # pid, tid, address, length, file offset, major, minor, inode, generation, ...
_TASK = struct.Struct("<II")  # pid, parent (or tid)
_LOST = struct.Struct("<QQ")
_TIME = struct.Struct("<Q")


class Area(NamedTuple):
    """Code at ``[start, end)`` of a process: the file at ``path`` from ``offset`` on."""

    start: int
    end: int
    offset: int
    path: str


class Mappings:
    """Mappings of processes, those of ended ones too. ``seen`` is told of each process and path as it appears."""

    def __init__(self, seen: Callable[[int, str], object] = lambda pid, path: None) -> None:
        self.lost = 0
        self._areas: dict[int, list[Area]] = {}
        self._parents: dict[int, int] = {}
        self._asked: dict[int, float] = {}
        self._rings: list[Ring] = []
        self._events: list[int] = []
        self._seen = seen

    # Events

    def listen(self, pid: int | None) -> None:
        """Have the kernel tell of mappings from now on, of a process and its children; of all without ``pid``.

        Where it refuses, /proc is all there is.
        """
        attr = perf_event.Attr(
            type=perf_event.Type.SOFTWARE,
            config=perf_event.Software.DUMMY,
            sample_type=perf_event.Sample.TIME,
            sample_id_all=1,
            mmap=1,
            mmap2=1,
            comm=1,
            comm_exec=1,
            task=1,
            inherit=int(pid is not None),
        )
        tasks = [-1] if pid is None else _threads(pid)
        with contextlib.suppress(InsituError, OSError):
            for cpu in procfs.online_cpus():
                fds = []
                for task in tasks:
                    fds.append(perf_event.open_event(attr, pid=task, cpu=cpu))
                    self._events.append(fds[-1])
                if fds:
                    self._rings.append(Ring(fds[0], _RING_PAGES))
                for fd in fds[1:]:
                    perf_event.redirect(fd, fds[0])

    def drain(self) -> None:
        """Take over what the kernel has told since, in the order of time."""
        records: list[tuple[int, int, int, bytes]] = []
        for ring in self._rings:
            data = b"".join(ring.slices())
            ring.release()
            records += _records(data)
        for _, kind, misc, body in sorted(records, key=lambda record: record[0]):
            self._record(kind, misc, body)

    def _record(self, kind: int, misc: int, body: bytes) -> None:
        if kind == Record.MMAP2 and len(body) > _MMAP2.size:
            pid, _, start, length, offset, *_ = _MMAP2.unpack_from(body)
            path = os.fsdecode(body[_MMAP2.size :].split(b"\0", 1)[0])
            self._add(pid, Area(start, start + length, offset, path))
        elif kind == Record.FORK and len(body) >= _TASK.size:
            pid, parent = _TASK.unpack_from(body)
            if pid != parent:
                self._parents[pid] = parent
                self._areas.pop(pid, None)  # an earlier process of that number
        elif kind == Record.COMM and misc & Misc.COMM_EXEC:
            # What was mapped before is kept: stacks of before may be shown yet. It is found last.
            self._parents.pop(_TASK.unpack_from(body)[0], None)
        elif kind == Record.LOST:
            self.lost += _LOST.unpack_from(body)[1]

    def _add(self, pid: int, area: Area) -> None:
        known = self._areas.setdefault(pid, [])
        if area not in known[-8:]:
            known.append(area)
            self._seen(pid, area.path)
        if len(self._areas) > _MOST_PROCESSES:
            del self._areas[next(iter(self._areas))]

    # /proc

    def remember(self, pid: int) -> bool:
        """Read a process's mappings now, before it is gone: whether there was anything to read."""
        self._asked[pid] = time.monotonic()
        try:
            areas = [area for area in procfs.areas(pid) if "x" in area.permissions]
        except (OSError, InsituError):
            return False
        known = set(self._areas.get(pid, ()))
        for each in areas:
            area = Area(each.start, each.end, each.offset, os.fsdecode(each.path))
            if area not in known:
                self._add(pid, area)
        return bool(areas)

    def find(self, pid: int, address: int) -> Area | None:
        """What lies at an address of a process; of what lay there one after the other, the latest."""
        self.drain()  # whoever asks has seen the address in another ring: what made it known is in ours by now
        for _ in range(_MOST_PARENTS):
            found = self._latest(pid, address)
            if found is None and time.monotonic() - self._asked.get(pid, -_PROC_AGAIN_S) >= _PROC_AGAIN_S:
                self.remember(pid)
                found = self._latest(pid, address)
            # A process that has executed nothing runs what its parent ran.
            if found is not None or pid not in self._parents:
                return found
            pid = self._parents[pid]
        return None

    def _latest(self, pid: int, address: int) -> Area | None:
        areas = reversed(self._areas.get(pid, ()))
        return next((area for area in areas if area.start <= address < area.end), None)

    def close(self) -> None:
        """Listen no longer. What is known stays."""
        while self._rings:
            self._rings.pop().close()
        while self._events:
            os.close(self._events.pop())


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()][:_MOST_THREADS]
    except OSError:
        return []


def _records(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Time, type, misc and body of each record; the kernel writes whole ones."""
    at = 0
    while at + _HEADER.size <= len(data):
        kind, misc, size = _HEADER.unpack_from(data, at)
        if size < _HEADER.size + _TIME.size or at + size > len(data):
            return
        end = at + size - _TIME.size
        yield _TIME.unpack_from(data, end)[0], kind, misc, data[at + _HEADER.size : end]
        at += size
