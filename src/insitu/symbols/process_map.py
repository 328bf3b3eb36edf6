"""Which file is mapped where in which process, and when.

Fed with what happened in order of time (the kernel's mmap, fork, exec and exit records, /proc, a core's notes); asked
for many addresses of a recording at once, or for one address of a running process. Importing it imports no numpy:
a script that asks for single addresses starts without.

A process's mappings change. They are cut into *epochs*: within one epoch every address means one thing, so that equal
addresses of one epoch are symbolized and unwound once. An epoch begins at exec and where a mapping replaces a
different one; it is shared by a process and its forked children for as long as no address means different things
to them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from insitu.symbols.module_names import VDSO, is_anonymous, is_of_one_process

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from insitu.kernel.procfs import Area

    I32 = NDArray[np.int32]
    I64 = NDArray[np.int64]
    U64 = NDArray[np.uint64]

__all__ = ["MappedFor", "Mapping", "Module", "Process", "ProcessMap"]

T = TypeVar("T")

_ADDRESSES = 1 << 64
_COMPAT_ADDRESSES = 1 << 32
_MOST_COPIED = 1 << 24
"""Mappings in all epochs that began because one was replaced by a different one."""


class Module(NamedTuple):
    """A file that is mapped into processes: what symbols are looked up in.

    ``path`` is as the mapping process sees it (its mount namespace may differ from ours; `` (deleted)`` kept at
    the end when the kernel said so). ``build_id`` is lower-case hexadecimal, "" if unknown. ``pid`` is a
    process that has or had it mapped, for /proc/PID/root and perf-PID.map; it is 0 for the kernel. ``compat`` is
    set for the vdso of 32-bit processes, which has the name of the other one. ``code_offset`` is the file offset of
    the first code that was mapped, -1 if unknown: what remains of a file, its debug file, does not say.
    """

    path: str
    build_id: str = ""
    pid: int = 0
    inode: tuple[int, int, int] = (0, 0, 0)  # major, minor, inode number; zeros if unknown
    compat: bool = False
    code_offset: int = -1


class Mapping(NamedTuple):
    """A range of addresses of one process: ``[start, end)`` holds ``module`` from file offset ``offset`` on."""

    start: int
    end: int
    offset: int
    module: int  # index into ProcessMap.modules


class MappedFor(NamedTuple):
    """A mapping of ``process`` (index into ProcessMap.processes) from ``start_ns`` to ``end_ns`` (0: not known)."""

    process: int
    start_ns: int
    end_ns: int
    mapping: Mapping


class Process:
    """One process, from fork to exit: a pid that is used again is another process; exec does not make one.

    ``end_ns`` is 0 while it runs, ``ppid`` 0 if unknown. ``epochs`` are (since when, epoch's index).
    """

    __slots__ = ("_inherited", "_open", "end_ns", "epochs", "execed", "index", "pid", "ppid", "start_ns")

    def __init__(self, index: int, pid: int, ppid: int, start_ns: int) -> None:
        self.index, self.pid, self.ppid, self.start_ns, self.end_ns = index, pid, ppid, start_ns, 0
        self.epochs: list[tuple[int, int]] = []
        self.execed = False
        self._open: _Ranges[int] = _Ranges()  # its mappings that are not known to have ended
        self._inherited: tuple[list[Mapping], int] = ([], 0)  # its parent's at the fork, the first so many of them


class _Ranges(Generic[T]):
    """Disjoint ranges of addresses with an item each, in ascending order: a process may have 65,000, and more."""

    __slots__ = ("_ends", "_starts", "items")

    def __init__(self, ranges: Iterable[tuple[int, int, T]] = ()) -> None:
        found = sorted(ranges, key=lambda each: each[0])
        self._starts = [start for start, _, _ in found]
        self._ends = [end for _, end, _ in found]
        self.items = [item for _, _, item in found]

    def over(self, start: int, end: int) -> slice:
        """Those that have an address of ``[start, end)``; where none has, the place of such a range."""
        low = bisect_right(self._starts, start)
        if low and self._ends[low - 1] > start:
            low -= 1
        return slice(low, max(low, bisect_left(self._starts, end)))

    def replace(self, where: slice, ranges: Sequence[tuple[int, int, T]]) -> None:
        """Put ranges in the place of others."""
        self._starts[where] = [start for start, _, _ in ranges]
        self._ends[where] = [end for _, end, _ in ranges]
        self.items[where] = [item for _, _, item in ranges]

    def copy(self) -> _Ranges[T]:
        """Another one with the same."""
        made = _Ranges[T]()
        made._starts, made._ends, made.items = self._starts[:], self._ends[:], self.items[:]
        return made


class _Epoch:
    """A growing set of disjoint mappings, in the order in which they were made."""

    __slots__ = ("_ranges", "arrays", "mappings", "users")

    def __init__(self, mappings: list[Mapping], ranges: _Ranges[Mapping] | None = None) -> None:
        self.mappings = mappings
        self.users = 1  # processes that are or were in it
        self.arrays: tuple[NDArray[np.uint64], ...] | None = None
        self._ranges = ranges

    @property
    def ranges(self) -> _Ranges[Mapping]:
        """The mappings by address."""
        if self._ranges is None:
            self._ranges = _Ranges(_ranges(self.mappings))
        return self._ranges

    def add(self, where: slice, mapping: Mapping) -> None:
        """Take a mapping that overlaps no other."""
        self.mappings.append(mapping)
        self.ranges.replace(where, _ranges([mapping]))
        self.arrays = None

    def change(self, where: slice, mappings: Sequence[Mapping]) -> None:
        """Put mappings in the place of others. A list that a forked process began with stays as it is."""
        self.ranges.replace(where, _ranges(mappings))
        self.mappings = self.ranges.items[:]
        self.arrays = None

    def changed(self, where: slice, mappings: Sequence[Mapping]) -> _Epoch:
        """Another epoch, in which mappings are in the place of others."""
        ranges = self.ranges.copy()
        ranges.replace(where, _ranges(mappings))
        return _Epoch(ranges.items[:], ranges)


def _ranges(mappings: Iterable[Mapping]) -> list[tuple[int, int, Mapping]]:
    return [(mapping.start, mapping.end, mapping) for mapping in mappings]


class ProcessMap:
    """All processes of a recording or of a run: their lives, and their address spaces over time.

    ``modules[i]`` are the mapped files. Feed it in order of time; times are nanoseconds of any one clock.
    """

    def __init__(self, modules: Iterable[Module] = (), epochs: Iterable[Sequence[Mapping]] = ()) -> None:
        """Empty, or with the epochs of given mappings."""
        self.modules: list[Module] = list(modules)
        self.processes: list[Process] = []
        self._epochs: list[_Epoch | None] = [_Epoch(list(mappings)) for mappings in epochs]
        self._lives: dict[int, list[Process]] = {}
        self._index: dict[tuple[object, ...], int] = {}
        self._mapped: list[MappedFor] = []
        self._copied = 0
        self.crowded = False
        """Whether mappings were replaced so often that earlier ones are no longer known in all epochs."""

    # What happened

    def module(
        self,
        path: str,
        *,
        pid: int = 0,
        build_id: str = "",
        inode: tuple[int, int, int] = (0, 0, 0),
        compat: bool = False,
        code_offset: int = -1,
    ) -> int:
        """The index of a mapped file; memory that is not a file on disk is another module in each process."""
        key = (path, build_id, inode, compat, pid if is_of_one_process(path) else 0)
        index = self._index.setdefault(key, len(self.modules))
        if index == len(self.modules):
            self.modules.append(Module(path, build_id, pid, inode, compat, code_offset))
        return index

    def mapped(
        self,
        pid: int,
        ts_ns: int,
        start: int,
        length: int,
        offset: int,
        path: str,
        *,
        build_id: str = "",
        inode: tuple[int, int, int] = (0, 0, 0),
    ) -> Mapping | None:
        """A process maps ``length`` bytes of a file at ``start``; None if these are not addresses."""
        end = min(start + length, _ADDRESSES - 1)
        if end <= start:
            return None
        compat = path == VDSO and end <= _COMPAT_ADDRESSES
        module = self.module(path, pid=pid, build_id=build_id, inode=inode, compat=compat, code_offset=offset)
        mapping = Mapping(start, end, offset, module)
        process = self._alive(pid, ts_ns)
        self._note(process, ts_ns, mapping)
        epoch = self._epoch(process.epochs[-1][1])
        where = epoch.ranges.over(start, end)
        overlapping = epoch.ranges.items[where]
        if not overlapping:
            epoch.add(where, mapping)
        elif overlapping != [mapping]:
            parts = sorted([*_cut(overlapping, mapping), mapping])
            if all(_agree(old, mapping) for old in overlapping) or self._copied > _MOST_COPIED:
                self.crowded |= self._copied > _MOST_COPIED
                epoch.change(where, parts)
            else:
                self._copied += len(epoch.mappings)
                self._begin(process, ts_ns, epoch.changed(where, parts))
        return mapping

    def execed_with(self, pid: int, ts_ns: int, areas: Iterable[Area]) -> int:
        """A process has these areas of /proc/PID/maps from now on, and no others; returns their epoch.

        For looking addresses up: mapped_for() does not have them.
        """
        epoch = self.execed(pid, ts_ns).epochs[-1][1]
        found = self._epoch(epoch).mappings
        for area in areas:  # they are disjoint
            path = area.path.decode("utf-8", "surrogateescape") or "//anon"
            inode = area.major, area.minor, area.inode
            compat = path == VDSO and area.end <= _COMPAT_ADDRESSES
            module = self.module(path, pid=pid, inode=inode, compat=compat, code_offset=area.offset)
            found.append(Mapping(area.start, area.end, area.offset, module))
        return epoch

    def forked(self, pid: int, ppid: int, ts_ns: int) -> Process:
        """Process ``pid`` begins as a copy of ``ppid``. An earlier process of that pid has ended by then."""
        self.exited(pid, ts_ns)
        parent = self._last(ppid)
        process = self._born(pid, ppid, ts_ns)
        if parent is not None and not parent.end_ns:
            shared = self._epoch(parent.epochs[-1][1])
            shared.users += 1
            process.epochs.append((ts_ns, parent.epochs[-1][1]))
            process._inherited = (shared.mappings, len(shared.mappings))
        else:
            self._begin(process, ts_ns, _Epoch([]))
        return process

    def execed(self, pid: int, ts_ns: int) -> Process:
        """The process runs another program, in an empty address space."""
        process = self._alive(pid, ts_ns)
        process.execed = True
        self._end_mappings(process, ts_ns)
        self._begin(process, ts_ns, _Epoch([]))
        return process

    def exited(self, pid: int, ts_ns: int) -> None:
        """The process has ended; what is heard of its pid later is of another one."""
        process = self._last(pid)
        if process is not None and not process.end_ns:
            self._end_mappings(process, ts_ns)
            process.end_ns = ts_ns or 1

    def seen(self, pid: int, ts_ns: int) -> Process:
        """The process that has this pid now; one that nothing was heard of begins here."""
        return self._alive(pid, ts_ns)

    def _last(self, pid: int) -> Process | None:
        lives = self._lives.get(pid)
        return lives[-1] if lives else None

    def _alive(self, pid: int, ts_ns: int) -> Process:
        process = self._last(pid)
        if process is None or process.end_ns:
            process = self._born(pid, 0, ts_ns)
            self._begin(process, ts_ns, _Epoch([]))
        return process

    def _born(self, pid: int, ppid: int, ts_ns: int) -> Process:
        process = Process(len(self.processes), pid, ppid, ts_ns)
        self.processes.append(process)
        self._lives.setdefault(pid, []).append(process)
        return process

    def _begin(self, process: Process, ts_ns: int, epoch: _Epoch) -> None:
        process.epochs.append((ts_ns, len(self._epochs)))
        self._epochs.append(epoch)

    def _epoch(self, index: int) -> _Epoch:
        epoch = self._epochs[index]
        assert epoch is not None, "an epoch of a process that is known is kept"
        return epoch

    def forget(self, pid: int) -> None:
        """Drop what is known of all processes that had this pid, for a map that must not grow without bound."""
        for process in self._lives.pop(pid, ()):
            for _, index in process.epochs:
                epoch = self._epochs[index]
                if epoch is not None:
                    epoch.users -= 1
                    if not epoch.users:
                        self._epochs[index] = None

    # Asking

    @property
    def epoch_count(self) -> int:
        """Epochs are numbered from 0 to this."""
        return len(self._epochs)

    def mappings(self, epoch: int) -> list[Mapping]:
        """The mappings of an epoch, sorted by start and disjoint."""
        found = self._epochs[epoch]
        return sorted(found.mappings) if found is not None else []

    def find(self, epoch: int, addresses: U64) -> tuple[I32, U64]:
        """Module index (-1 where nothing is mapped) and file offset of each address in one epoch."""
        import numpy as np

        found = self._epoch(epoch)
        if found.arrays is None:
            table = np.array(self.mappings(epoch), dtype=np.uint64).reshape(-1, 4)
            found.arrays = tuple(np.ascontiguousarray(table[:, i]) for i in range(4))
        start, end, offset, module = found.arrays
        if not len(start):
            return np.full(len(addresses), -1, np.int32), np.zeros(len(addresses), np.uint64)
        row = np.searchsorted(start, addresses, side="right") - 1
        hit = (row >= 0) & (addresses < end[row])
        modules = np.where(hit, module[row].astype(np.int32), np.int32(-1))
        return modules, np.where(hit, addresses - start[row] + offset[row], addresses)

    def epochs_at(self, pids: I32, ts_ns: I64) -> I32:
        """The epoch in which each (process, time) lies; -1 for a process nothing is known of."""
        return self._at(pids, ts_ns, lambda process: process.epochs)

    def processes_at(self, pids: I32, ts_ns: I64) -> I32:
        """The index in ``processes`` of the process that has each pid at each time; -1 if nothing is known of it."""
        return self._at(pids, ts_ns, lambda process: [(process.start_ns, process.index)])

    def _at(self, pids: I32, ts_ns: I64, line_of: Callable[[Process], list[tuple[int, int]]]) -> I32:
        return at_times(
            lambda pid: [entry for life in self._lives.get(pid, ()) for entry in line_of(life)], pids, ts_ns
        )

    def latest(self, pid: int, address: int) -> tuple[Mapping, Module] | None:
        """What lies at an address of a process now; where nothing does, what lay there last, before exec too."""
        process = self._last(pid)
        for _, index in reversed(process.epochs if process is not None else ()):
            ranges = self._epoch(index).ranges
            for mapping in ranges.items[ranges.over(address, address + 1)]:
                return mapping, self.modules[mapping.module]
        return None

    def forked_from(self, pid: int) -> int:
        """The parent of a process that has not called exec since it was forked; 0 for others."""
        process = self._last(pid)
        return process.ppid if process is not None and not process.execed else 0

    def exe(self, process: Process, ts_ns: int = 0) -> str:
        """The program that a process runs at a time, or ran last; "" if unknown."""
        begun = [index for start, index in process.epochs if not ts_ns or start < ts_ns]
        # The first file mapped after exec is the program itself.
        for mapping in self._epoch(begun[-1]).mappings if begun else ():
            path = self.modules[mapping.module].path
            if not is_anonymous(path):
                return path
        return ""

    def mapped_for(self) -> Iterator[MappedFor]:
        """Every mapping with its time: those that a process made, and for one that never calls exec its parent's."""
        yield from self._mapped
        for process in self.processes:
            if not process.execed:
                mappings, count = process._inherited
                for mapping in mappings[:count]:
                    yield MappedFor(process.index, process.start_ns, process.end_ns, mapping)

    def _note(self, process: Process, ts_ns: int, mapping: Mapping) -> None:
        where = process._open.over(mapping.start, mapping.end)
        parts: list[tuple[int, int, int]] = []
        for row in process._open.items[where]:
            old = self._mapped[row]
            self._mapped[row] = old._replace(end_ns=ts_ns)
            for rest in _cut([old.mapping], mapping):
                parts.append((rest.start, rest.end, len(self._mapped)))
                self._mapped.append(MappedFor(process.index, ts_ns, 0, rest))
        parts.append((mapping.start, mapping.end, len(self._mapped)))
        self._mapped.append(MappedFor(process.index, ts_ns, 0, mapping))
        process._open.replace(where, sorted(parts))

    def _end_mappings(self, process: Process, ts_ns: int) -> None:
        for row in process._open.items:
            self._mapped[row] = self._mapped[row]._replace(end_ns=ts_ns)
        process._open = _Ranges()


def at_times(line_of: Callable[[int], Sequence[tuple[int, int]]], ids: I32, ts_ns: I64) -> I32:
    """For each (id, time) the number that holds in the id's line, a list of (since when, number); -1 without a line.

    ``line_of`` is called once for each distinct id. What comes before the first entry of a line counts as its first.
    """
    import numpy as np

    result = np.full(len(ids), -1, np.int32)
    if not len(ids):
        return result
    order = np.argsort(ids, kind="stable")
    distinct, first = np.unique(ids[order], return_index=True)
    for one, mine in zip(distinct.tolist(), np.split(order, first[1:]), strict=True):
        line = line_of(one)
        if line:
            starts = np.array([start for start, _ in line], np.int64)
            numbers = np.array([number for _, number in line], np.int32)
            row = np.searchsorted(starts, ts_ns[mine], side="right") - 1
            result[mine] = numbers[np.maximum(row, 0)]
    return result


def _agree(old: Mapping, new: Mapping) -> bool:
    """Whether addresses that both cover mean the same offset of the same file."""
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
