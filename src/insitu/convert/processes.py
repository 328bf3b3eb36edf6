"""Replays side-band records: address spaces, threads and their names, losses."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.kernel.perf_event import Misc, Record
from insitu.kernel.perf_records import SideRecord
from insitu.symbols.process_map import MappedFor, ProcessMap, at_times

__all__ = ["Lost", "ProcessLife", "Processes", "ThreadLife", "replay"]

_CPU_MODE, _COMM_EXEC = int(Misc.CPUMODE_MASK), int(Misc.COMM_EXEC)  # a flag's own "&" makes another flag, slowly

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class Lost:
    """``count`` records that ``source`` could not deliver on ``cpu`` (-1: not known) at ``ts_ns``."""

    ts_ns: int
    source: str
    cpu: int
    count: int


class ProcessLife(NamedTuple):
    """One process from fork to exit; ``end_ns`` 0 while it runs, ``ppid`` 0 and ``exe`` "" if unknown.

    A reused pid is another process. ``exe`` is the program of its last exec.
    """

    pid: int
    ppid: int
    start_ns: int
    end_ns: int
    exe: str


@dataclass(slots=True)
class ThreadLife:
    """One thread from start to end (0: still running), of ``process`` (index into Processes.processes).

    ``names`` are (since when, name), in order of time; the first may come after the start.
    """

    tid: int
    pid: int
    process: int
    start_ns: int
    end_ns: int = 0
    names: list[tuple[int, str]] = field(default_factory=list)


@dataclass
class Processes:
    """All processes of a recording over time."""

    spaces: ProcessMap
    lives: list[ThreadLife] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    throttled: int = 0

    @property
    def processes(self) -> list[ProcessLife]:
        """All processes, in the order of their starts: ThreadLife.process and MappedFor.process count in it."""
        return [
            ProcessLife(each.pid, each.ppid, each.start_ns, each.end_ns, self.spaces.exe(each))
            for each in self.spaces.processes
        ]

    @property
    def mappings(self) -> Iterator[MappedFor]:
        """Every mapping with its process, start and end."""
        return self.spaces.mapped_for()

    def epochs(self, pid: I32, ts_ns: I64) -> I32:
        """The address-space epoch of each (process, time); -1: unknown process."""
        return self.spaces.epochs_at(pid, ts_ns)

    def process_rows(self, pid: I32, ts_ns: I64) -> I32:
        """The index in ``processes`` of each (pid, time); -1: unknown."""
        return self.spaces.processes_at(pid, ts_ns)

    def thread_rows(self, tid: I32, ts_ns: I64) -> I32:
        """The index in ``lives`` of each (tid, time); -1: unknown."""
        lines: dict[int, list[tuple[int, int]]] = {}
        for index, life in enumerate(self.lives):
            lines.setdefault(life.tid, []).append((life.start_ns, index))
        return at_times(lambda tid: lines.get(tid, ()), tid, ts_ns)


def replay(records: Iterable[SideRecord], build_ids: dict[str, str]) -> Processes:
    """Replay ``records``, in the order of time. ``build_ids`` (path to build id) fills in unknown ones."""
    records = iter(records)
    first = next(records, None)
    state = _Replay(build_ids, first.ts_ns if first is not None else 0)
    handlers = {
        Record.MMAP: state.mapped,
        Record.MMAP2: state.mapped,
        Record.COMM: state.named,
        Record.FORK: state.forked,
        Record.EXIT: state.exited,
        Record.LOST: state.lost,
        Record.LOST_SAMPLES: state.lost,
        Record.THROTTLE: state.throttled,
    }
    for record in chain([first] if first is not None else [], records):
        handlers[record.type](record)
    return state.result


class _Replay:
    def __init__(self, build_ids: dict[str, str], first_ns: int) -> None:
        self.build_ids = build_ids
        self.first_ns = first_ns
        self.map = ProcessMap()
        self.result = Processes(self.map)
        self.alive: dict[int, ThreadLife] = {}
        self.threads_of: dict[int, set[int]] = {}  # tids that live, by index of their process

    def mapped(self, record: SideRecord) -> None:
        if record.misc & _CPU_MODE == Misc.KERNEL or record.pid == -1:
            return
        build_id = record.build_id or self.build_ids.get(record.text, "")
        place = record.start, record.length, record.offset
        self.map.mapped(record.pid, record.ts_ns, *place, record.text, build_id=build_id, inode=record.inode)

    def named(self, record: SideRecord) -> None:
        process = (self.map.execed if record.misc & _COMM_EXEC else self.map.seen)(record.pid, record.ts_ns)
        life = self.alive.get(record.tid)
        if life is None or life.process != process.index:
            life = self.begin(record.tid, record.pid, process.index, record.ts_ns)
        if not life.names or life.names[-1][1] != record.text:
            life.names.append((record.ts_ns, record.text))

    def forked(self, record: SideRecord) -> None:
        is_thread = record.pid == record.ppid
        life = self.alive.get(record.tid)
        # A process that began just at the start is reported twice: by the kernel, and from /proc.
        if life is not None and life.start_ns <= self.first_ns:
            process = self.map.processes[life.process]
            if process.pid == record.pid and (is_thread or process.ppid == record.ppid):
                return
        parent = self.alive.get(record.ppid)
        # A thread's name is its creator's; that of the process's main thread is the best guess.
        name = parent.names[-1][1] if parent is not None and parent.names else ""
        if is_thread:
            process = self.map.seen(record.pid, record.ts_ns)
        else:
            if life is not None:  # the pid was reused, and its exit was not recorded
                for tid in tuple(self.threads_of[life.process]):
                    self.end(tid, record.ts_ns)
            process = self.map.forked(record.pid, record.ppid, record.ts_ns)
        life = self.begin(record.tid, record.pid, process.index, record.ts_ns)
        if name:
            life.names.append((record.ts_ns, name))

    def begin(self, tid: int, pid: int, process: int, ts_ns: int) -> ThreadLife:
        self.end(tid, ts_ns)  # a thread whose exit was not recorded
        life = self.alive[tid] = ThreadLife(tid, pid, process, ts_ns)
        self.result.lives.append(life)
        self.threads_of.setdefault(process, set()).add(tid)
        return life

    def end(self, tid: int, ts_ns: int) -> ThreadLife | None:
        life = self.alive.pop(tid, None)
        if life is not None:
            life.end_ns = ts_ns
            self.threads_of[life.process].discard(tid)
        return life

    def exited(self, record: SideRecord) -> None:
        life = self.end(record.tid, record.ts_ns)
        # The main thread may exit before others; if no others are known, the process ends with it.
        if not self.threads_of[life.process] if life is not None else record.tid == record.pid:
            self.map.exited(record.pid, record.ts_ns)

    def lost(self, record: SideRecord) -> None:
        if record.lost:
            self.result.lost.append(Lost(record.ts_ns, "ring buffer", record.cpu, record.lost))

    def throttled(self, record: SideRecord) -> None:
        self.result.throttled += 1
