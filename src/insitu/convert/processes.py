"""Replay of what happened to processes: their address spaces over time, their threads and names, and what was lost.

Input are the records that are not samples, in order of time. An *epoch* (see symbols/address_space.py) is shared
by a process and its forked children for as long as no address means different things to them, so that
their equal stacks are looked up once.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.perf_records import SideRecord
from insitu.kernel.perf_event import Misc, Record
from insitu.session.distinct import groups
from insitu.symbols.address_space import AddressSpaces, Mapping, Module
from insitu.symbols.module_files import is_anonymous

__all__ = ["Lost", "Processes", "Thread", "replay"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Thread(NamedTuple):
    """One thread under one name; times are CLOCK_MONOTONIC nanoseconds, 0 where unknown."""

    tid: int
    pid: int
    ppid: int = 0
    comm: str = ""
    exe: str = ""
    start_ns: int = 0
    end_ns: int = 0


@dataclass(frozen=True)
class Lost:
    """``count`` records that ``source`` could not deliver on ``cpu`` (-1: not known) at ``ts_ns``."""

    ts_ns: int
    source: str
    cpu: int
    count: int


@dataclass
class Processes:
    """What became of all processes of a recording.

    ``mapped`` holds (pid, Mapping) of every mapping made, for the session's ``mapping`` table.
    """

    spaces: AddressSpaces
    threads: list[Thread]
    lost: list[Lost]
    throttled: int = 0
    mapped: list[tuple[int, Mapping]] = field(default_factory=list)
    _timelines: dict[int, list[tuple[int, int]]] = field(default_factory=dict)

    def epochs(self, pid: I32, ts_ns: I64) -> I32:
        """The epoch in which each (process, time) lies; -1 for a process nothing is known of."""
        result = np.full(len(pid), -1, np.int32)
        for one, mine in groups(pid):
            line = self._timelines.get(one)
            if line:
                starts = np.array([start for start, _ in line], np.int64)
                epochs = np.array([epoch for _, epoch in line], np.int32)
                row = np.searchsorted(starts, ts_ns[mine], side="right") - 1
                result[mine] = epochs[np.maximum(row, 0)]
        return result


def replay(records: Iterable[SideRecord], build_ids: dict[str, str]) -> Processes:
    """Replay ``records`` (any order; sorted here by time). ``build_ids`` (path to build id) fills in unknown ones."""
    state = _Replay(build_ids)
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
    for record in sorted(records, key=lambda record: record.ts_ns):
        handlers[record.type](record)
    return state.finish()


class _Epoch:
    """A growing set of disjoint mappings."""

    __slots__ = ("index", "mappings")

    def __init__(self, index: int, mappings: list[Mapping]) -> None:
        self.index = index
        self.mappings = mappings


@dataclass
class _Life:
    """One thread under one name, from start to end (0: still running)."""

    tid: int
    pid: int
    ppid: int
    comm: str
    start_ns: int
    end_ns: int = 0


class _Replay:
    def __init__(self, build_ids: dict[str, str]) -> None:
        self.build_ids = build_ids
        self.modules: dict[tuple[object, ...], int] = {}
        self.module_list: list[Module] = []
        self.epochs: list[_Epoch] = []
        self.current: dict[int, _Epoch] = {}
        self.timelines: dict[int, list[tuple[int, int]]] = {}
        self.lives: list[_Life] = []
        self.alive: dict[int, _Life] = {}
        self.losses: list[Lost] = []
        self.throttles = 0
        self.all_mapped: list[tuple[int, Mapping]] = []

    def begin_epoch(self, pid: int, ts_ns: int, mappings: list[Mapping]) -> None:
        epoch = _Epoch(len(self.epochs), mappings)
        self.epochs.append(epoch)
        self.enter(pid, ts_ns, epoch)

    def enter(self, pid: int, ts_ns: int, epoch: _Epoch) -> None:
        self.current[pid] = epoch
        self.timelines.setdefault(pid, []).append((ts_ns, epoch.index))

    def mapped(self, record: SideRecord) -> None:
        if record.misc & Misc.CPUMODE_MASK == Misc.KERNEL or record.pid == -1:
            return
        end = min(record.start + record.length, 2**64 - 1)
        if not record.length:
            return
        mapping = Mapping(record.start, end, record.offset, self.module(record))
        self.all_mapped.append((record.pid, mapping))
        epoch = self.current.get(record.pid)
        if epoch is None:
            self.begin_epoch(record.pid, record.ts_ns, [mapping])
            return
        overlapping = [old for old in epoch.mappings if old.start < end and record.start < old.end]
        if not overlapping:
            epoch.mappings.append(mapping)
        elif all(_agree(old, mapping) for old in overlapping):
            epoch.mappings = [*_cut(epoch.mappings, mapping), mapping]
        else:
            self.begin_epoch(record.pid, record.ts_ns, [*_cut(epoch.mappings, mapping), mapping])

    def module(self, record: SideRecord) -> int:
        build_id = record.build_id or self.build_ids.get(record.text, "")
        # Memory that belongs to no file means something else in every process.
        owner = record.pid if is_anonymous(record.text) else 0
        key = (record.text, build_id, record.inode, owner)
        index = self.modules.get(key)
        if index is None:
            index = self.modules[key] = len(self.module_list)
            self.module_list.append(Module(record.text, build_id, record.pid, record.inode))
        return index

    def named(self, record: SideRecord) -> None:
        if record.misc & Misc.COMM_EXEC:
            self.begin_epoch(record.pid, record.ts_ns, [])
        life = self.alive.get(record.tid)
        if life is None:
            self.live(_Life(record.tid, record.pid, 0, record.text, record.ts_ns))
        elif life.comm != record.text:
            life.end_ns = record.ts_ns
            self.live(_Life(record.tid, record.pid, life.ppid, record.text, record.ts_ns))

    def forked(self, record: SideRecord) -> None:
        parent = self.alive.get(record.ppid)
        comm = parent.comm if parent else ""
        if record.pid == record.ppid:  # a thread: the name of the process's main thread is the best guess
            self.live(_Life(record.tid, record.pid, parent.ppid if parent else 0, comm, record.ts_ns))
            return
        self.live(_Life(record.tid, record.pid, record.ppid, comm, record.ts_ns))
        epoch = self.current.get(record.ppid)
        if epoch is not None:
            self.enter(record.pid, record.ts_ns, epoch)

    def live(self, life: _Life) -> None:
        self.alive[life.tid] = life
        self.lives.append(life)

    def exited(self, record: SideRecord) -> None:
        life = self.alive.pop(record.tid, None)
        if life is not None:
            life.end_ns = record.ts_ns

    def lost(self, record: SideRecord) -> None:
        if record.lost:
            self.losses.append(Lost(record.ts_ns, "ring buffer", record.cpu, record.lost))

    def throttled(self, record: SideRecord) -> None:
        self.throttles += 1

    def finish(self) -> Processes:
        epochs = [tuple(sorted(epoch.mappings)) for epoch in self.epochs]
        threads = [
            Thread(life.tid, life.pid, life.ppid, life.comm, self.exe(life), life.start_ns, life.end_ns)
            for life in self.lives
        ]
        return Processes(
            AddressSpaces(self.module_list, epochs),
            threads,
            self.losses,
            self.throttles,
            self.all_mapped,
            self.timelines,
        )

    def exe(self, life: _Life) -> str:
        """What the process ran when the thread's life under this name ended."""
        line = self.timelines.get(life.pid, [])
        begun = [epoch for start, epoch in line if not life.end_ns or start < life.end_ns]
        # The first file mapped after exec is the program itself.
        for mapping in self.epochs[begun[-1]].mappings if begun else ():
            path = self.module_list[mapping.module].path
            if not is_anonymous(path):
                return path
        return ""


def _agree(old: Mapping, new: Mapping) -> bool:
    """Whether addresses that both cover mean the same place of the same file."""
    return old.module == new.module and old.start - old.offset == new.start - new.offset


def _cut(mappings: list[Mapping], hole: Mapping) -> list[Mapping]:
    """``mappings`` without the addresses of ``hole``."""
    kept = []
    for old in mappings:
        if old.end <= hole.start or hole.end <= old.start:
            kept.append(old)
            continue
        if old.start < hole.start:
            kept.append(old._replace(end=hole.start))
        if hole.end < old.end:
            kept.append(old._replace(start=hole.end, offset=old.offset + hole.end - old.start))
    return kept
