"""What delays processes (taskstats), each second, as rows of the table ``delay``, and in a whole run.

Of a command, all processes that descend from it: most of a build's are gone before anybody could ask for them, so
that the kernel gives notice of each thread that ends.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.taskstats import KINDS, Delays, EndNotices, TaskStats
from insitu.record.descendants import Descendants
from insitu.record.row_log import RowLog
from insitu.record.source import Loss
from insitu.session.special_tables import DELAY

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Target

__all__ = ["DelaysSource"]

_NONE = Delays(0, {}, {})
_INTERVAL_S = 1.0


class DelaysSource:
    """Samples the processes of a run."""

    id, ended, wait_s = "delays", False, _INTERVAL_S
    options: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self._log = RowLog(DELAY)
        self._stats: TaskStats | None = None
        self._pids: tuple[int, ...] | None = None  # None: all
        self._first: dict[int, Delays] = {}
        self._last: dict[int, Delays] = {}
        self._records = False
        self._sampled_s = 0.0
        self._family: Descendants | None = None  # of a command
        self._notices: EndNotices | None = None
        self._ended: dict[int, Delays] = {}  # the threads of a process that have ended, summed
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
        self._pids = target.roots or None
        if target.launched and not target.whole_system:
            self._family = Descendants(target.launched.pid)
            self._notices = self._stats.end_notices()

    @property
    def fds(self) -> Sequence[int]:
        """Those that say that threads have ended, or many were made."""
        return [self._notices.fileno(), *self._family.fds] if self._notices and self._family else []

    @property
    def notes(self) -> Sequence[str]:
        """None."""
        return ()

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
        """Sample, if it is time; returns the number of bytes recorded."""
        self._take_notices()
        if time.monotonic() - self._sampled_s >= _INTERVAL_S:
            self._sample()
        return self._log.write() if self._records else 0

    def stop(self, end_ns: int) -> None:
        """Sample once more."""
        self._sampled_s = 0.0
        self.drain()

    def losses(self) -> Sequence[Loss]:
        """Notices of threads that have ended, of which the kernel does not say how many, and records of new ones."""
        found = []
        if self._notices and self._notices.overruns:
            found.append(Loss("notices", self._notices.overruns))
        if self._family and self._family.lost:
            found.append(Loss("forks", self._family.lost))
        return found

    def close(self) -> None:
        """Close the socket and the file. Idempotent."""
        self._log.close()
        for each in (self._notices, self._family):
            if each is not None:
                each.close()
        if self._stats is not None:
            self._stats.close()

    def _take_notices(self) -> None:
        """Take over the threads of the command, and of what descends from it, that have ended."""
        if self._notices is None or self._family is None:
            return
        ended = list(self._notices.read())
        self._family.drain()  # whoever has ended was forked before
        threads = self._family.threads
        over = set()
        for each in ended:
            pid = threads.pop(each.tid, None)
            if pid is None and each.tid in self._ended:
                # Another thread has called exec(2), and has gone on under the first one's id.
                pid = each.tid
                for tid in [tid for tid, process in threads.items() if process == pid]:
                    del threads[tid]
            if pid is not None:
                self._ended[pid] = each.delays.with_(self._ended.get(pid, _NONE))
                over.add(pid)
                if each.tid == pid or pid not in self.names:
                    self.names[pid] = each.name
        for pid in over.difference(threads.values()) if over else ():
            self._found(pid, self._ended.pop(pid))

    def _sample(self) -> None:
        assert self._stats is not None, "open() comes first"
        self._sampled_s = time.monotonic()
        known = self._pids if self._family is None else tuple(dict.fromkeys(self._family.threads.values()))
        for pid in procfs.pids() if known is None else known:
            try:
                found = self._stats.process(pid)
                self.names[pid] = procfs.comm(pid).decode(errors="replace")
            except (ProcessLookupError, FileNotFoundError):
                continue
            except PermissionError as error:
                text = f"{error.filename}: {error.strerror}"
                raise InsituError(text, remedy="needs root, or CAP_NET_ADMIN") from None
            self._found(pid, found)

    def _found(self, pid: int, found: Delays) -> None:
        """What a process has accounted until now."""
        self._first.setdefault(pid, _NONE)  # it has begun during the run
        if self._records:
            now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            self._append(now, pid, found.since(self._last.get(pid, _NONE)))
        self._last[pid] = found

    def _append(self, now: int, pid: int, added: Delays) -> None:
        if added.run_ns or any(added.times.values()):
            delays = {f"{kind}_ns": added.delay_ns.get(kind) for kind in KINDS}
            counts = {f"{kind}_count": added.times.get(kind) for kind in KINDS}
            self._log.append(ts_ns=now, utid=(pid, pid), run_ns=added.run_ns, **delays, **counts)
