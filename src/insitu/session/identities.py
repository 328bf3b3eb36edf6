"""Processes and threads under the session's own ids (upid, utid)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct, first_rows, groups

__all__ = ["Identities"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


_MOST_TIDS: Final = 1 << 22  # PID_MAX_LIMIT


@dataclass(slots=True)
class _Process:
    pid: int
    parent: int | None = None
    start_ns: int = 0
    end_ns: int | None = None
    exe: str = ""
    cmdline: str = ""
    uid: int | None = None
    cgroup: str = ""
    container: str = ""
    machine: int = 0


@dataclass(slots=True)
class _Thread:
    upid: int
    tid: int
    start_ns: int = 0
    end_ns: int | None = None
    names: list[tuple[int, str]] = field(default_factory=list)


class Identities:
    """Processes and threads of a session under its own ids, since the kernel reuses pids and tids.

    Id 0 is the idle task, in which there is one thread for each CPU of all machines, all named ``swapper``.
    """

    def __init__(self) -> None:
        self._processes = [_Process(0, exe="")]
        self._threads = [_Thread(0, 0, names=[(0, "swapper")])]
        self._machine = 0
        self._processes_of: dict[int, list[int]] = {0: [0]}
        self._lives: dict[int, list[int]] = {0: [0]}
        self._only: I32 = np.zeros(1, np.int32)
        """By tid: its thread if there was one of it only, and it has been asked for; else -1."""

    def of_machine(self, machine: int) -> Identities:
        """The same processes and threads, for adding and finding those of another machine by their pids and tids."""
        other = Identities()
        other._processes, other._threads, other._machine = self._processes, self._threads, machine
        return other

    def process(self, pid: int, start_ns: int = 0, *, parent_pid: int | None = None, **known: Any) -> int:
        """Add a process and return its upid. An earlier process of that pid has ended."""
        upid = len(self._processes)
        parent = self._processes_of[parent_pid][-1] if parent_pid in self._processes_of and parent_pid else None
        self._processes.append(_Process(pid, parent, start_ns, machine=self._machine, **known))
        self._processes_of.setdefault(pid, []).append(upid)
        return upid

    def process_of(self, pid: int, ts_ns: int | None = None) -> int:
        """The upid of the process that has ``pid`` now, or had it at ``ts_ns``; an unknown one is added."""
        known = self._processes_of.get(pid)
        if known is None:
            return self.process(pid)
        if ts_ns is not None:
            begun = [upid for upid in known if self._processes[upid].start_ns <= ts_ns]
            return begun[-1] if begun else known[0]
        return known[-1]

    def thread(self, tid: int, upid: int, start_ns: int = 0, *, name: str = "", end_ns: int | None = None) -> int:
        """Add a thread of a process and return its utid."""
        utid = len(self._threads)
        names = [(start_ns, name)] if name else []
        self._threads.append(_Thread(upid, tid, start_ns, end_ns, names))
        self._lives.setdefault(tid, []).append(utid)
        if 0 <= tid < len(self._only):
            self._only[tid] = -1
        return utid

    def renamed(self, utid: int, ts_ns: int, name: str) -> None:
        """Set the thread's name from ``ts_ns`` on."""
        names = self._threads[utid].names
        if not names or names[-1][1] != name:
            names.append((ts_ns, name))

    def name_unnamed(self, names: Mapping[int, str]) -> None:
        """Name the threads of this machine that have no name, by their tids."""
        for tid, name in names.items():
            for utid in self._lives.get(tid, ()):
                if not self._threads[utid].names:
                    self.renamed(utid, 0, name)

    def set_process(self, upid: int, **known: Any) -> None:
        """Set attributes of a process: exe, cmdline, uid, cgroup, container, end_ns."""
        for name, value in known.items():
            setattr(self._processes[upid], name, value)

    def utids(self, tid: I32, ts_ns: I64, pid: I32 | None = None) -> I32:
        """The thread of each (tid, time); unknown ones are added to ``pid`` (default: a new process)."""
        if len(tid) and int(tid.min()) >= 0 and int(tid.max()) < len(self._only):
            known: I32 = self._only[tid]
            if int(known.min()) >= 0:
                return known
        found, inverse = distinct(tid)
        thread_of = np.full(len(found), -1, np.int32)
        first = first_rows(inverse, len(found))
        for at, one in enumerate(found.tolist()):
            lives = self._lives.get(one)
            if lives is None:
                owner = int(pid[first[at]]) if pid is not None else one
                thread_of[at] = self.thread(one, self.process_of(owner, int(ts_ns[first[at]])))
            elif len(lives) == 1:
                thread_of[at] = lives[0]
        result: I32 = thread_of[inverse]
        several = np.flatnonzero(result < 0)  # threads that had the same tid one after another
        self._remember(found, thread_of)
        for one, rows in groups(tid[several]):
            lives, rows = self._lives[one], several[rows]
            starts = np.array([self._threads[utid].start_ns for utid in lives], np.int64)
            life = np.searchsorted(starts, ts_ns[rows], side="right") - 1
            result[rows] = np.array(lives, np.int32)[np.maximum(life, 0)]
        return result

    def _remember(self, tid: I32, utid: I32) -> None:
        """Keep the utids of tids that one thread has had (utid -1: several)."""
        largest = int(tid.max(initial=0))
        if largest < _MOST_TIDS:
            missing = largest + 1 - len(self._only)
            if missing > 0:
                self._only = np.append(self._only, np.full(max(missing, len(self._only)), -1, np.int32))
            kept = (utid >= 0) & (tid >= 0)
            self._only[tid[kept]] = utid[kept]

    def end_ns(self, utid: I32) -> I64:
        """When each thread ended; 0 where that is not known."""
        found, inverse = distinct(utid)
        return np.array([self._threads[one].end_ns or 0 for one in found.tolist()], np.int64)[inverse]

    def label(self, utid: int) -> tuple[int, int, list[tuple[int, str]]]:
        """A thread's tid, its process's pid, and its names with the times from which it had them."""
        thread = self._threads[utid]
        return thread.tid, self._processes[thread.upid].pid, thread.names

    def process_rows(self) -> list[tuple[Any, ...]]:
        """Rows of the ``process`` table."""
        return [
            (upid, p.pid, p.parent, p.start_ns, p.end_ns, p.exe, p.cmdline, p.uid, p.cgroup, p.container, p.machine)
            for upid, p in enumerate(self._processes)
        ]

    def thread_rows(self) -> list[tuple[Any, ...]]:
        """Rows of the ``thread`` table."""
        return [
            (utid, t.upid, t.tid, t.start_ns, t.end_ns, t.names[-1][1] if t.names else "")
            for utid, t in enumerate(self._threads)
        ]

    def name_rows(self) -> list[tuple[Any, ...]]:
        """Rows of the ``thread_name`` table."""
        return [(utid, ts_ns, name) for utid, t in enumerate(self._threads) for ts_ns, name in t.names]
