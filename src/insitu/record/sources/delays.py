"""What delays processes (taskstats), each second, as rows of the table ``delay``, and in a whole run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from insitu.kernel import procfs
from insitu.kernel.taskstats import KINDS, Delays, TaskStats
from insitu.record.row_log import RowLog
from insitu.session.schema import Column, Table, register

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Loss, Target

__all__ = ["DELAY", "MEANINGS", "DelaysSource"]

_NONE = Delays(0, {}, {})

MEANINGS = {
    "cpu": "runnable, and another ran",
    "blkio": "waiting for synchronous block I/O",
    "swapin": "waiting for pages to be read from swap",
    "freepages": "reclaiming memory itself",
    "thrashing": "waiting for pages that were dropped a short time ago",
    "compact": "compacting memory itself",
    "wpcopy": "copying pages on write",
    "irq": "interrupted",
}

DELAY = register(
    Table(
        "delay",
        "What a process did and was delayed by in an interval of some second, its threads summed (taskstats).",
        (
            Column("ts_ns", "timestamp", "end of the interval"),
            Column("utid", "utid", "the process's first thread"),
            Column("run_ns", "duration", "on a CPU"),
            *(Column(f"{kind}_ns", "duration", MEANINGS[kind], nullable=True) for kind in KINDS),
            *(Column(f"{kind}_count", "count", nullable=True) for kind in KINDS),
        ),
    )
)


class DelaysSource:
    """Samples the processes of a run."""

    id, notes, ended, wait_s = "delays", (), False, 1.0
    options: Mapping[str, Any] = {}
    fds: Sequence[int] = ()

    def __init__(self) -> None:
        self._log = RowLog(DELAY)
        self._stats: TaskStats | None = None
        self._pids: tuple[int, ...] | None = None  # None: all
        self._first: dict[int, Delays] = {}
        self._last: dict[int, Delays] = {}
        self._records = False
        self.names: dict[int, str] = {}
        """The name of each process that was seen."""

    @property
    def accounts_all(self) -> bool:
        """Whether the kernel accounts more than waits for a CPU."""
        return self._stats is not None and self._stats.accounts_all

    @property
    def added(self) -> dict[int, Delays]:
        """What the run has added, by process."""
        return {pid: last.since(self._first[pid]) for pid, last in self._last.items()}

    def open(self, target: Target) -> None:
        """Raises InsituError where the kernel has no taskstats."""
        self._stats = TaskStats()
        self._pids = (target.launched.pid,) if target.launched else target.pids or None

    def layout(self) -> Mapping[str, Any]:
        """As rows of DELAY."""
        return self._log.layout

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Take note of what was before."""
        self._sample()
        self._first = dict(self._last)
        if directory is not None:
            self._log.open(directory)
            self._records = True

    def drain(self) -> int:
        """Sample; returns the number of bytes recorded."""
        self._sample()
        return self._log.write() if self._records else 0

    def stop(self, end_ns: int) -> None:
        """Sample once more: a command that has ended is not reaped yet."""
        self.drain()

    def losses(self) -> Sequence[Loss]:
        """None."""
        return ()

    def close(self) -> None:
        """Close the socket and the file. Idempotent."""
        self._log.close()
        if self._stats is not None:
            self._stats.close()

    def _sample(self) -> None:
        assert self._stats is not None, "open() comes first"
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        for pid in procfs.pids() if self._pids is None else self._pids:
            try:
                found = self._stats.process(pid)
                self.names[pid] = procfs.comm(pid).decode(errors="replace")
            except (ProcessLookupError, FileNotFoundError):
                continue
            self._first.setdefault(pid, _NONE)  # it has begun during the run
            if self._records:
                self._append(now, pid, found.since(self._last.get(pid, _NONE)))
            self._last[pid] = found

    def _append(self, now: int, pid: int, added: Delays) -> None:
        if added.run_ns or any(added.times.values()):
            delays = {f"{kind}_ns": added.delay_ns.get(kind) for kind in KINDS}
            counts = {f"{kind}_count": added.times.get(kind) for kind in KINDS}
            self._log.append(ts_ns=now, utid=(pid, pid), run_ns=added.run_ns, **delays, **counts)
