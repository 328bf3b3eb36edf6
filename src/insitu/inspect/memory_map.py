"""What is really behind each mapping of a process: pages that are there, private or shared, and with whom.

Sizes follow the kernel's rules for smaps (fs/proc/task_mmu.c), from the pages themselves where they may be read
(root), so that sums equal its Rss, Pss, Private and Swap to the page.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.kernel import procfs, smaps
from insitu.kernel.physical_pages import FILE, PAGE, PRESENT, Frames, PageMap, frame_of, is_swapped
from insitu.kernel.procfs import Area
from insitu.kernel.ptrace_refusal import has_ended

__all__ = ["COLUMNS", "MemoryMap", "Sharer", "Total", "mappings_of", "memory", "totals", "who_maps"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

COLUMNS: Final = ("resident", "pss", "private", "shared", "swapped", "file", "huge", "dirty", "locked", "hugetlb")
"""The last are pages of the pool of huge pages, which the kernel counts in none of the others."""
_NO_PAGES: Final = (b"pf", b"io")
"""Flags of mappings whose pages the kernel does not add up: frames without a struct page."""
_HUGETLB: Final = b"ht"
_PSS_SHIFT: Final = 12  # fs/proc/task_mmu.c: the fraction of a byte that a share is kept with
_MOST_SHARED: Final = 1 << 22  # frames that are looked for in other processes
_MOST_PROCESSES: Final = 2000
_MOST_PAGES: Final = 1 << 25  # of other processes
_SEARCH_S: Final = 5.0


class Sharer(NamedTuple):
    """Another process that maps the same pages: how many bytes of them, and by index of our mapping."""

    pid: int
    name: str
    bytes: int
    by_mapping: dict[int, int]


class Total(NamedTuple):
    """Mappings that belong together, such as those of a library; sizes in bytes by the names of COLUMNS."""

    name: str
    mappings: int
    size: int
    sizes: dict[str, int]


class MemoryMap(NamedTuple):
    """The n mappings of a process in ascending order."""

    pid: int
    name: str
    areas: Sequence[Area]
    groups: Sequence[str]
    """(n,) What a mapping belongs to: a file, "[heap]", "[stacks]", "[anonymous]", or the name that it was given."""
    sizes: dict[str, I64]
    """(n,) bytes, by the names of COLUMNS; pss is rounded down, as in smaps."""
    pss: int
    """Of all, rounded down once, as in smaps_rollup; where pages were not read, the sum of those of the mappings."""
    nodes: dict[int, dict[int, int]]
    """By start of a mapping: bytes on each NUMA node."""
    by_page: bool
    """Whether pages were looked at; else sizes are the kernel's own."""
    sharers: Sequence[Sharer]
    """The largest first."""
    notes: Sequence[str]

    def size(self, at: int) -> int:
        """The bytes of address space of a mapping."""
        return self.areas[at].end - self.areas[at].start


def memory(pid: int, *, sharers: bool = True) -> MemoryMap:
    """The mappings of a process; ``sharers``: also who maps the same pages, which takes some seconds at most.

    Without root: what the kernel adds up. Raises InsituError: no such process, another user's, or one without memory.
    """
    name, found = _mappings(pid)
    notes: list[str] = []
    sizes = _sizes(found)
    pss, shared = int(sizes["pss"].sum()), None
    by_page = False
    try:
        walk = _Walk(pid, found)
        by_page = True
    except PermissionError:
        notes.append("pages themselves, and who shares them, need root: sudo insitu ...")
    except OSError:
        if has_ended(pid):
            raise _without_memory(pid, name) from None
        raise
    if by_page:
        sizes |= walk.sizes
        pss, shared = walk.pss, walk.shared
        notes += walk.notes
    others: list[Sharer] = []
    if sharers and shared is not None:
        others, note = who_maps(pid, *shared)
        notes += [note] if note else []
    groups = [_group(area, stacks) for area, stacks in zip(found.areas, _hold_stacks(pid, found.areas), strict=True)]
    return MemoryMap(pid, name, found.areas, groups, sizes, pss, smaps.nodes(pid), by_page, others, notes)


def _mappings(pid: int) -> tuple[str, smaps.Mappings]:
    """The name of a process and its mappings. Raises InsituError."""
    with _refusals(pid):
        name = procfs.comm(pid).decode(errors="replace")
        found = smaps.mappings(pid)
    if not found.areas:
        raise _without_memory(pid, name)
    return name, found


def mappings_of(pid: int) -> list[Area]:
    """The mappings alone, in ascending order. Raises InsituError as memory()."""
    with _refusals(pid):
        name = procfs.comm(pid).decode(errors="replace")
        found = list(procfs.areas(pid))
    if not found:
        raise _without_memory(pid, name)
    return found


@contextmanager
def _refusals(pid: int) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, ProcessLookupError):
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    except PermissionError:
        raise InsituError(f"the memory of process {pid} is another user's", remedy="sudo insitu ...") from None


def _without_memory(pid: int, name: str) -> InsituError:
    if has_ended(pid):
        return InsituError(f"process {pid} has ended: it has no memory any more")
    return InsituError(f"process {pid} ({name}) is a kernel thread: it has no memory of its own")


def _sizes(found: smaps.Mappings) -> dict[str, I64]:
    """What smaps has."""
    of = found.sizes
    return {
        "resident": of["Rss"],
        "pss": of["Pss"],
        "private": of["Private_Clean"] + of["Private_Dirty"],
        "shared": of["Shared_Clean"] + of["Shared_Dirty"],
        "swapped": of["Swap"],
        "file": of["Rss"] - of["Anonymous"],
        "huge": of["AnonHugePages"] + of["ShmemPmdMapped"] + of["FilePmdMapped"],
        "dirty": of["Private_Dirty"] + of["Shared_Dirty"],
        "locked": of["Locked"],
        "hugetlb": of["Private_Hugetlb"] + of["Shared_Hugetlb"],
    }


class _Walk:
    """Goes through the pages of a process and adds them up as the kernel does. Raises OSError."""

    def __init__(self, pid: int, found: smaps.Mappings) -> None:
        count = len(found.areas)
        self._starts = np.array([area.start for area in found.areas], np.uint64)
        self._ends = np.array([area.end for area in found.areas], np.uint64)
        self._looked_at = ~found.has_flag(*_NO_PAGES)
        self._hugetlb = found.has_flag(_HUGETLB)
        # Processes may share the page tables of these, too: then a page that several have is mapped once
        # (mm/hugetlb.c: huge_pmd_share).
        self._pool_shared = self._hugetlb & np.array(["s" in area.permissions for area in found.areas], bool)
        self._pss = np.zeros(count, np.int64)
        self._shared: list[tuple[I64, I64]] = []
        self._left = _MOST_SHARED
        names = ("resident", "private", "shared", "swapped", "file")
        self.sizes = {name: np.zeros(count, np.int64) for name in names}
        self.notes: list[str] = []
        with PageMap(pid) as pages:
            for numbers, words in pages.pages([(area.start, area.end) for area in found.areas]):
                self._add(numbers, words)
            if pages.skipped:
                self.notes.append("the address space is too large to look at all its pages: sizes are too small")
        self.sizes["pss"] = self._pss >> _PSS_SHIFT >> 10 << 10
        self.pss = int(self._pss.sum()) >> _PSS_SHIFT >> 10 << 10
        # Shared memory in the swap has no entry in the page table: only the kernel's sum knows of it.
        is_shared = np.array(
            [area.path.startswith(_SHARED_MEMORY) or "s" in area.permissions for area in found.areas]
        )
        self.sizes["swapped"] = np.where(
            is_shared, np.maximum(self.sizes["swapped"], found.sizes["Swap"]), self.sizes["swapped"]
        )
        if not self._left:
            self.notes.append("who shares was looked for of some pages only: there are very many")

    def _add(self, numbers: I64, words: U64) -> None:
        addresses = numbers.astype(np.uint64) * np.uint64(PAGE)
        rows = np.searchsorted(self._starts, addresses, side="right") - 1
        inside = (rows >= 0) & (addresses < self._ends[rows]) & self._looked_at[rows]
        rows, words = rows[inside], words[inside]
        self._count("swapped", rows[is_swapped(words)])
        there = words & PRESENT != 0
        rows, words = rows[there], words[there]
        numbers = frame_of(words)
        if len(numbers) and not numbers.any():
            raise PermissionError
        frames = Frames.of(numbers)
        at = frames.rows(numbers)
        # The page of zeros, which reading memory that was never written maps, is nobody's.
        counted = ~frames.have("zero_page")[at]
        rows, words, numbers, mapped = rows[counted], words[counted], numbers[counted], frames.mapped[at][counted]
        shared = mapped > 1
        self._keep(numbers, rows, shared | self._pool_shared[rows])
        added = ~self._hugetlb[rows]
        rows, words, mapped, shared = rows[added], words[added], mapped[added], shared[added]
        self._count("resident", rows)
        self._count("private", rows[~shared])
        self._count("shared", rows[shared])
        self._count("file", rows[words & FILE != 0])
        share = (PAGE << _PSS_SHIFT) // np.maximum(mapped, 1)
        np.add.at(self._pss, rows, share)

    def _keep(self, numbers: I64, rows: I64, wanted: NDArray[np.bool_]) -> None:
        """Frames that are looked for in other processes."""
        kept = np.flatnonzero(wanted)[: self._left]
        self._left -= len(kept)
        self._shared.append((numbers[kept], rows[kept]))

    def _count(self, name: str, rows: I64) -> None:
        self.sizes[name] += np.bincount(rows, minlength=len(self._starts)) * PAGE

    @property
    def shared(self) -> tuple[I64, I64]:
        """Frames that others may map, too, each once, ascending, and our mapping of each."""
        if not self._shared:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        numbers, rows = (np.concatenate(each) for each in zip(*self._shared, strict=True))
        distinct, first = np.unique(numbers, return_index=True)
        return distinct, rows[first]


def who_maps(pid: int, frames: I64, rows: I64) -> tuple[list[Sharer], str]:
    """The other processes that map these frames, which ascend, and a note if not all of them were looked at.

    ``rows``: which of our mappings each frame is in.
    """
    others = [each for each in procfs.pids() if each != pid] if len(frames) else []
    deadline = time.monotonic() + _SEARCH_S
    pages, looked, found = 0, 0, []
    for other in others[:_MOST_PROCESSES]:
        if time.monotonic() > deadline or pages > _MOST_PAGES:
            break
        looked += 1
        mine = np.zeros(len(frames), bool)
        try:
            ranges = [(area.start, area.end) for area in procfs.areas(other)]
            with PageMap(other) as walk:
                for _, words in walk.pages(ranges):
                    theirs = frame_of(words[words & PRESENT != 0])
                    pages += len(words)
                    at = np.minimum(np.searchsorted(frames, theirs), len(frames) - 1)
                    mine[at[frames[at] == theirs]] = True
                    if pages > _MOST_PAGES or time.monotonic() > deadline:
                        break
            name = procfs.comm(other).decode(errors="replace")
        except OSError:  # it has ended
            continue
        if mine.any():
            by_mapping = Counter(rows[mine].tolist())
            found.append(Sharer(other, name, int(mine.sum()) * PAGE, {at: n * PAGE for at, n in by_mapping.items()}))
    left = len(others) - looked
    note = f"who shares pages was looked for in {looked:,} processes, not in {left:,} more" if left else ""
    return sorted(found, key=lambda each: (-each.bytes, each.pid)), note


_SHARED_MEMORY: Final = (b"/dev/shm/", b"/memfd:", b"/SYSV", b"/dev/zero")


def _hold_stacks(pid: int, areas: Sequence[Area]) -> list[bool]:
    """(n,) Which mappings hold the stack of a thread that is blocked, so that its stack pointer is known."""
    starts = np.array([area.start for area in areas], np.uint64)
    found = [area.path == b"[stack]" for area in areas]
    try:
        threads = procfs.threads(pid)
    except OSError:
        return found
    for tid in threads:
        pointer, _ = procfs.user_registers(tid)
        at = int(np.searchsorted(starts, np.uint64(pointer), side="right")) - 1
        if pointer and at >= 0 and pointer < areas[at].end and not areas[at].path:
            found[at] = True
    return found


def _group(area: Area, holds_stack: bool) -> str:
    if holds_stack:
        return "[stacks]"
    return os.fsdecode(area.path) if area.path else "[anonymous]"


def totals(found: MemoryMap) -> list[Total]:
    """The mappings by what they belong to, those with most private memory and then most in memory first."""
    names = list(dict.fromkeys(found.groups))
    index = {name: at for at, name in enumerate(names)}
    rows = np.array([index[name] for name in found.groups], np.int64)
    sums = {name: _summed(rows, each, len(names)) for name, each in found.sizes.items()}
    lengths = _summed(rows, np.array([area.end - area.start for area in found.areas], np.uint64), len(names))
    counts = np.bincount(rows, minlength=len(names))
    made = [
        Total(name, int(counts[at]), lengths[at], {column: sums[column][at] for column in COLUMNS})
        for at, name in enumerate(names)
    ]
    return sorted(made, key=lambda each: (-each.sizes["private"], -_in_memory(each.sizes), each.name))


def _in_memory(sizes: Mapping[str, int]) -> int:
    return sizes["resident"] + sizes["hugetlb"]


def _summed(rows: I64, values: NDArray[np.integer[Any]], count: int) -> list[int]:
    sums = np.zeros(count, values.dtype)
    np.add.at(sums, rows, values)
    return [int(each) for each in sums]
