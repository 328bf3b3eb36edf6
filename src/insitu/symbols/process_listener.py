"""The process map of a script that runs: /proc for what was there before, the kernel's records for what comes.

A process that has ended has no /proc any more, while its stacks are still to be shown. The kernel reports every
mapping of code when it is made (PERF_RECORD_MMAP2), so that all processes that began meanwhile are known.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import perf_event, procfs
from insitu.kernel.perf_event import Misc, Record
from insitu.kernel.perf_records import SideRecord, parse, records, trailer_fields
from insitu.kernel.perf_ring import Ring
from insitu.symbols.process_map import Module, ProcessMap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Place", "ProcessListener"]

_RING_PAGES = 32
_MOST_PROCESSES = 20_000  # that are kept; those that were heard of first are forgotten
_MOST_THREADS = 64
_PROC_AGAIN_S = 1.0
_MOST_PARENTS = 8
_SAMPLE_TYPE = perf_event.Sample.TIME
_TRAILER = trailer_fields(_SAMPLE_TYPE)


class Place(NamedTuple):
    """Where in which file an address of a process lies."""

    module: Module
    offset: int


class ProcessListener:
    """The processes of this machine, ended ones too.

    ``seen`` is called with each process's pid and each module as they appear: a file may be gone when its process is.
    """

    def __init__(self, seen: Callable[[int, Module], object] = lambda pid, module: None) -> None:
        self.lost = 0
        """Records that found no room in the rings."""
        self.map = ProcessMap()
        """What is known so far."""
        self._known: dict[int, None] = {}  # pids, in the order in which they were heard of
        self._asked: dict[int, float] = {}
        self._rings: list[Ring] = []
        self._events: list[int] = []
        self._seen = seen

    # Events

    def listen(self, pid: int | None) -> None:
        """Have the kernel report mappings from now on, of a process and its children; of all without ``pid``.

        Where it refuses, /proc is all there is.
        """
        attr = perf_event.Attr(
            type=perf_event.Type.SOFTWARE,
            config=perf_event.Software.DUMMY,
            sample_type=_SAMPLE_TYPE,
            sample_id_all=1,
            mmap=1,
            mmap2=1,
            comm=1,
            comm_exec=1,
            task=1,
            inherit=int(pid is not None),
            use_clockid=1,  # that of `remember`; the kernel's own (sched_clock) drifts away from it
            clockid=time.CLOCK_MONOTONIC,
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
        """Take over what the kernel has reported since, in the order of time."""
        found: list[SideRecord] = []
        for ring in self._rings:
            data = b"".join(ring.slices())
            ring.release()
            for kind, misc, body in records(data):
                record = parse(kind, misc, body, _TRAILER, errors="surrogateescape")
                if record is not None:
                    found.append(record)
        for record in sorted(found, key=lambda record: record.ts_ns):
            self._take(record)

    def _take(self, record: SideRecord) -> None:
        if record.type is Record.MMAP2:
            self._mapped(record.pid, record.ts_ns, record.start, record.length, record.offset, record.text)
        elif record.type is Record.FORK and record.pid != record.ppid:
            self.map.seen(record.ppid, record.ts_ns)  # so that both have what is read of it in /proc later
            self._keep(record.ppid)
            self.map.forked(record.pid, record.ppid, record.ts_ns)
            self._keep(record.pid)
        elif record.type is Record.COMM and record.misc & Misc.COMM_EXEC:
            self.map.execed(record.pid, record.ts_ns)
            self._keep(record.pid)
        elif record.type is Record.LOST:
            self.lost += record.lost

    def _mapped(self, pid: int, ts_ns: int, start: int, length: int, offset: int, path: str) -> None:
        count = len(self.map.modules)
        mapping = self.map.mapped(pid, ts_ns, start, length, offset, path)
        if mapping is not None and mapping.module >= count:
            self._seen(pid, self.map.modules[mapping.module])
        self._keep(pid)

    def _keep(self, pid: int) -> None:
        self._known[pid] = None
        if len(self._known) > _MOST_PROCESSES:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self.map.forget(oldest)

    # /proc

    def remember(self, pid: int) -> bool:
        """Read a process's mappings now, before it is gone: whether there was anything to read."""
        self._asked[pid] = time.monotonic()
        now = time.monotonic_ns()
        try:
            areas = [area for area in procfs.areas(pid) if "x" in area.permissions]
        except (OSError, InsituError):
            return False
        for area in areas:
            known = self.map.latest(pid, area.start)
            path = os.fsdecode(area.path)
            if known is None or known[1].path != path or known[0].start - known[0].offset != area.start - area.offset:
                self._mapped(pid, now, area.start, area.end - area.start, area.offset, path)
        return bool(areas)

    def find(self, pid: int, address: int) -> Place | None:
        """What lies at an address of a process; of what lay there one after the other, the latest."""
        self.drain()  # whoever asks has seen the address in another ring: what made it known is in ours by now
        ancestor = pid
        for _ in range(2 * _MOST_PARENTS):
            found = self.map.latest(pid, address)
            if found is not None:
                mapping, module = found
                return Place(module, address - mapping.start + mapping.offset)
            if time.monotonic() - self._asked.get(ancestor, -_PROC_AGAIN_S) >= _PROC_AGAIN_S:
                self.remember(ancestor)
                continue
            # A process that has executed nothing runs what its parent ran, and shares what is known of it.
            ancestor = self.map.forked_from(ancestor)
            if not ancestor:
                break
        return None

    def latest_epochs(self, pids: NDArray[np.int32]) -> NDArray[np.int32]:
        """The latest epoch in ``map`` of each process; -1 for a process of which nothing is known."""
        import numpy as np

        self.drain()
        for pid in np.unique(pids).tolist():
            ancestor = pid
            for _ in range(_MOST_PARENTS):
                self.remember(ancestor)
                ancestor = self.map.forked_from(ancestor)
                if not ancestor:
                    break
        return self.map.epochs_at(pids, np.full(len(pids), np.iinfo(np.int64).max))

    def close(self) -> None:
        """Listen no longer. What is known stays."""
        while self._rings:
            self._rings.pop().close()
        while self._events:
            os.close(self._events.pop())


def _threads(pid: int) -> list[int]:
    try:
        return procfs.threads(pid)[:_MOST_THREADS]
    except OSError:
        return []
