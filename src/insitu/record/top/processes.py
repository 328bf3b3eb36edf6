"""Processes and threads between two moments, from the files of /proc/PID, which stay open from tick to tick.

A descriptor of /proc/PID means that process for ever: once it has ended, reading fails with ESRCH, also when its pid
is another's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, NamedTuple

from insitu.kernel import procfs
from insitu.record.top.tick import Process

__all__ = ["MOST_PROCESSES", "ProcessFiles", "Scope", "with_children"]

MOST_PROCESSES: Final = 4096
"""That are read in a tick."""
_MOST_THREADS: Final = 512  # of a process, that are read in a tick
_FILES: Final = 3  # kept open of each process
_SPARE_FDS: Final = 256
_JIFFY_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

Scope = Callable[[int, int], bool]
"""Whether a process (pid, parent) is shown."""


class _Stat(NamedTuple):
    """What is needed of proc_pid_stat(5)."""

    name: str
    state: str
    parent: int
    cpu_s: float
    threads: int
    start: int
    rss_bytes: int


class _Used(NamedTuple):
    """What a process has used up to now: nanoseconds on a CPU and waiting for one, bytes read and written."""

    cpu_s: float = 0.0
    sched: tuple[int, int] | None = (0, 0)
    io: tuple[int, int] | None = (0, 0)


class _Task:
    """The open files of one process or thread, and what they said last."""

    def __init__(self, path: str, *, is_process: bool, since: int) -> None:
        """Its use counts from its start, if that was after ``since`` (clock ticks since boot), else from now.

        Raises OSError if it has ended.
        """
        self._fds: list[int] = []
        self._path, self._is_process = path, is_process
        self._thread_waits: dict[int, int] = {}
        self._stat = self._opened("stat")
        self._sched = self._opened("schedstat")
        self._io = self._opened("io") if is_process else -1
        self._row: Process | None = None
        try:
            stat = self._read_stat()
        except OSError:
            self.close()
            raise
        self._before = _Used() if stat.start >= since else _Used(stat.cpu_s, self._read_sched(), self._read_io())

    def _opened(self, name: str) -> int:
        try:
            fd = os.open(f"{self._path}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1  # it has ended, is another user's, or the kernel has no such file
        self._fds.append(fd)
        return fd

    def close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def row(self, pid: int, dur_s: float, *, waits: bool) -> Process:
        """Returns what it did since the last call. Raises OSError once it has ended."""
        stat = self._read_stat()
        was, now = self._before, _Used(stat.cpu_s, self._read_sched(), self._read_io())
        self._before = now
        cpu_s, wait_s = now.cpu_s - was.cpu_s, None
        if was.sched and now.sched and (stat.threads == 1 or not self._is_process):
            precise_s = (now.sched[0] - was.sched[0]) / 1e9
            wait_s = (now.sched[1] - was.sched[1]) / 1e9
            if abs(precise_s - cpu_s) <= 2 * _JIFFY_S:  # else threads have ended, whose time is in the other alone
                cpu_s = precise_s
        elif waits and now.sched:
            wait_s = self._wait_of_threads(pid)
        read, written = (
            ((now.io[0] - was.io[0]) / dur_s, (now.io[1] - was.io[1]) / dur_s) if was.io and now.io else (None, None)
        )
        row = Process(
            pid=pid,
            parent=stat.parent,
            start=stat.start,
            name=stat.name,
            state=stat.state,
            threads=stat.threads,
            cpu=max(0.0, cpu_s / dur_s),
            wait=None if wait_s is None else max(0.0, wait_s / dur_s),
            off_cpu=None,
            calls=None,
            read_bytes=read,
            write_bytes=written,
            rss_bytes=stat.rss_bytes,
        )
        if row != self._row:
            self._row = row
        return self._row  # of an idle process, the same object in every tick

    def _wait_of_threads(self, pid: int) -> float:
        """Seconds that the threads which live now have waited for a CPU since the last call."""
        found: dict[int, int] = {}
        with suppress(OSError):
            for tid in procfs.threads(pid)[:_MOST_THREADS]:
                with suppress(OSError):
                    found[tid] = procfs.run_delay_ns(pid, tid)
        before, self._thread_waits = self._thread_waits, found
        return sum(max(0, ns - before.get(tid, ns)) for tid, ns in found.items()) / 1e9

    def _read_stat(self) -> _Stat:
        """Raises OSError once it has ended."""
        if self._stat < 0:
            raise ProcessLookupError
        head, _, rest = os.pread(self._stat, 2048, 0).rpartition(b")")
        words = rest.split()
        try:
            return _Stat(
                os.fsdecode(head.partition(b"(")[2]),
                words[0].decode("ascii", "replace"),
                int(words[1]),
                (int(words[11]) + int(words[12])) * _JIFFY_S,
                int(words[17]),
                int(words[19]),
                int(words[21]) * _PAGE,
            )
        except (IndexError, ValueError):
            raise ProcessLookupError from None

    def _read_sched(self) -> tuple[int, int] | None:
        """Of one thread only (Documentation/scheduler/sched-stats.rst)."""
        with suppress(OSError, ValueError, IndexError):
            if self._sched >= 0:
                words = os.pread(self._sched, 128, 0).split()
                return int(words[0]), int(words[1])
        return None

    def _read_io(self) -> tuple[int, int] | None:
        """Bytes read from and written to storage: read_bytes and write_bytes of proc_pid_io(5)."""
        with suppress(OSError, ValueError, IndexError):
            if self._io >= 0:
                lines = os.pread(self._io, 1024, 0).split(b"\n")
                return int(lines[4].split()[1]), int(lines[5].split()[1])
        return None


class ProcessFiles:
    """The processes of this machine. Use: read() once a tick; close()."""

    def __init__(self, scope: Scope, *, waits: bool) -> None:
        """``waits``: each thread's wait for a CPU is read, where nothing else says it."""
        import resource

        room = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _SPARE_FDS) // _FILES
        self._most = max(64, min(MOST_PROCESSES, room))
        self._scope, self._waits = scope, waits
        self._tasks: dict[int, _Task] = {}
        self._threads: dict[int, _Task] = {}
        self._threads_of = 0
        self._since = _boot_jiffies()
        self.hidden = 0
        """Processes beyond the bound, at the last read()."""
        self.read(1.0)

    def close(self) -> None:
        """Close all files. Idempotent."""
        for tasks in (self._tasks, self._threads):
            while tasks:
                tasks.popitem()[1].close()

    def read(self, dur_s: float) -> list[Process]:
        """Returns the processes that are shown, with what they did since the last call, ``dur_s`` seconds ago."""
        pids = procfs.pids()
        self.hidden = max(0, len(pids) - self._most)
        if self.hidden:  # those that are known, then the newest
            pids = sorted(pids, key=lambda pid: (pid not in self._tasks, -pid))[: self._most]
        now = _boot_jiffies()
        rows = self._rows(self._tasks, pids, "/proc/{}", dur_s)
        self._since = now
        return [row for row in rows if self._scope(row.pid, row.parent)]

    def threads(self, pid: int, dur_s: float) -> list[Process]:
        """Returns the threads of a process; when another is asked for, its threads' times count from now on."""
        if pid != self._threads_of:
            self._threads_of = pid
            while self._threads:
                self._threads.popitem()[1].close()
        tids: list[int] = []
        with suppress(OSError):
            tids = sorted(procfs.threads(pid))[:_MOST_THREADS] if pid else []
        rows = self._rows(self._threads, tids, f"/proc/{pid}/task/{{}}", dur_s)
        return [row._replace(parent=pid, threads=1) for row in rows]

    def _rows(self, tasks: dict[int, _Task], ids: Iterable[int], path: str, dur_s: float) -> list[Process]:
        """The tasks with these ids; the files of all others are closed."""
        rows, ended = [], set(tasks)
        is_process = tasks is self._tasks
        for number in ids:
            task = tasks.get(number)
            row = None
            if task is not None:
                with suppress(OSError):
                    row = task.row(number, dur_s, waits=self._waits)
            if row is None:  # new, or its id is another's by now
                with suppress(OSError):
                    new = _Task(path.format(number), is_process=is_process, since=self._since)
                    if task is not None:
                        task.close()
                    tasks[number] = new
                    row = new.row(number, dur_s, waits=self._waits)
            if row is not None:
                rows.append(row)
                ended.discard(number)
        for number in ended:
            tasks.pop(number).close()
        return rows


def with_children(pids: Iterable[int]) -> tuple[int, ...]:
    """Returns these processes and all that descend from them now."""
    parents: dict[int, int] = {}
    for pid in procfs.pids():
        with suppress(OSError):  # it has ended
            parents[pid] = procfs.status(pid).ppid
    found = dict.fromkeys(pids)
    while new := [pid for pid, parent in parents.items() if parent in found and pid not in found]:
        found |= dict.fromkeys(new)
    return tuple(found)


def _boot_jiffies() -> int:
    """Now, in clock ticks since boot, as proc_pid_stat(5) has the start of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) / _JIFFY_S)
