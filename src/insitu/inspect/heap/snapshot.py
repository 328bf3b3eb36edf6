"""Copy the writable memory and the registers of a process while it is stopped.

The room for the copy is made before the stop, so that the stop takes hardly more than copying: pages that were never
written are left out (Documentation/admin-guide/mm/pagemap.rst), all others come through process_vm_readv(2).
"""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.inspect.heap.memory import Memory, joined
from insitu.inspect.stopped_threads import while_stopped
from insitu.kernel import procfs, ptrace
from insitu.kernel.ptrace_refusal import has_ended

__all__ = ["PRELOADED_TABLE", "Snapshot", "ThreadState", "take", "take_stopped"]

PRELOADED_TABLE: Final = "insitu-blocks"
"""The memory file in which a preloaded library of ours records blocks: its addresses of blocks keep none alive."""

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_PAGE: Final = mmap.PAGESIZE
_PRESENT, _SWAPPED, _OF_FILE = np.uint64(1 << 63), np.uint64(1 << 62), np.uint64(1 << 61)  # bits of pagemap
_PAGEMAP_PART: Final = 1 << 20  # entries that are read at once
_NEAR: Final = 1 << 20  # bytes between areas
_MOST_PAGES: Final = 1 << 30  # of all areas: 4 TiB; their pagemap has 8 GiB
_CONSTANT_BYTES: Final = 1 << 20
_MOST_PARTS: Final = 1024  # IOV_MAX
_LARGEST_READ: Final = 1 << 30  # process_vm_readv() copies less than 2 GiB at once
_MADV_HUGEPAGE, _MADV_POPULATE_WRITE = 14, 23  # include/uapi/asm-generic/mman-common.h
_SPARE_BYTES: Final = 16 << 20  # the process may grow before it stops
_DEVICES: Final = b"/dev/"
_ORDINARY: Final = (b"/dev/shm/", b"/dev/zero")
_NOT_THE_PROGRAMS: Final = (b"[vvar", b"[vsyscall", b"[vdso", f"/memfd:{PRELOADED_TABLE} ".encode())

_libc = ctypes.CDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class ThreadState(NamedTuple):
    """A thread's registers when its process was stopped; none if it did not stop in time."""

    tid: int
    name: str
    registers: tuple[int, ...]
    """The general registers, in the order of struct user_regs_struct, without segments and flags."""
    stack_pointer: int
    thread_pointer: int
    """fs base: the address of struct pthread."""


class Snapshot(NamedTuple):
    """A process at one moment. ``memory`` has its writable areas, and what is constant after relocation."""

    pid: int
    name: str
    areas: Sequence[procfs.Area]
    threads: Sequence[ThreadState]
    memory: Memory
    stopped_ns: int
    """For how long the process was stopped; 0 for a core file."""
    notes: Sequence[str]
    live: bool
    """Whether the process goes on: its files can be found through it."""


def take(pid: int, most_bytes: int = 0) -> Snapshot:
    """Copy a process; ``most_bytes``: 0 is half of the memory that is available.

    Raises InsituError if there is no such process, it may not be traced, or its memory is too large.
    """
    with _refusals(pid):
        name = procfs.comm(pid).decode(errors="replace")
        live = next((tid for tid in (pid, *sorted(procfs.threads(pid))) if procfs.maps_text(tid)), 0)
        if not live:
            why = "it has ended, and nobody has waited for it (a zombie)" if has_ended(pid) else "a kernel thread"
            raise InsituError(f"process {pid} has no memory: {why}")
        copier = _Copier(live, most_bytes)
        copier.prepare()
        (areas, threads, memory), stop = while_stopped(pid, copier.copy)
    return Snapshot(
        pid, name, areas, threads, memory, stop.stopped_ns, [*copier.notes, *_unstopped(len(stop.unstopped))], True
    )


def take_stopped(pid: int, stopped: Sequence[int], unstopped: int, most_bytes: int = 0) -> Snapshot:
    """Copy a process of which the calling thread has stopped threads itself, and some others not in time.

    Raises InsituError, as take() does.
    """
    begin = time.monotonic_ns()
    with _refusals(pid):
        name = procfs.comm(stopped[0]).decode(errors="replace")
        copier = _Copier(stopped[0], most_bytes)
        areas, threads, memory = copier.copy(stopped)
    notes = [*copier.notes, *_unstopped(unstopped)]
    return Snapshot(pid, name, areas, threads, memory, time.monotonic_ns() - begin, notes, False)


@contextmanager
def _refusals(pid: int) -> Iterator[None]:
    """Says why a process cannot be copied. Raises InsituError."""
    try:
        yield
    except (ProcessLookupError, FileNotFoundError):
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    except PermissionError:
        uid = procfs.status(pid).uid
        raise InsituError(
            f"cannot read the memory of process {pid}: it belongs to user {uid}", remedy="sudo insitu ..."
        ) from None


def _unstopped(number: int) -> list[str]:
    if not number:
        return []
    several = "1 thread" if number == 1 else f"{number} threads"
    return [f"{several} did not stop in time (disk I/O): registers are not known, memory may have changed"]


class _Copier:
    def __init__(self, live: int, most_bytes: int) -> None:
        self._live = live
        self._most = most_bytes or procfs.available_memory() // 2
        self._room: mmap.mmap | None = None
        self._maps = b""
        self._areas: list[procfs.Area] = []
        self.notes: list[str] = []

    def prepare(self) -> None:
        """Make room for what the process has now. Raises InsituError if that is more than is allowed."""
        self._maps = procfs.maps_text(self._live)
        self._areas = list(procfs.areas_of(self._maps))
        _, sizes = self._present(self._areas)
        self._room = _room(self._allowed(sizes) + _SPARE_BYTES)

    def _allowed(self, sizes: U64) -> int:
        needed = int(sizes.sum())
        if needed > self._most:
            raise InsituError(
                f"process {self._live} has {needed >> 20:,} MiB of writable memory; a copy of it may take "
                f"{self._most >> 20:,} MiB",
                remedy="--max-memory SIZE allows more",
            )
        return needed

    def copy(self, stopped: Sequence[int]) -> tuple[list[procfs.Area], list[ThreadState], Memory]:
        """Registers and memory, while the threads are stopped. Raises InsituError."""
        threads = list(self._states(stopped))
        # Reading 100,000 lines takes half a second: mostly they have not changed.
        maps = procfs.maps_text(self._live)
        areas = self._areas if maps == self._maps else list(procfs.areas_of(maps))
        starts, sizes = self._present(areas)
        needed = self._allowed(sizes)
        if self._room is None or needed > len(self._room):
            self._room = _room(needed)
        words = np.frombuffer(self._room, np.uint64, needed // 8)
        failed = _copy(self._live, starts, sizes, words)
        if failed:
            if failed * _PAGE >= needed:
                raise ProcessLookupError
            self.notes.append(f"{failed:,} pages could not be read")
        return areas, threads, Memory(words, starts, sizes)

    def _states(self, stopped: Sequence[int]) -> Iterator[ThreadState]:
        state = ptrace.Registers()
        for tid in stopped:
            name = ""
            with suppress(OSError):
                name = procfs.comm(tid).decode(errors="replace")
            try:
                words = state.read(tid)
            except OSError:
                continue  # killed in this moment
            if state.narrow:
                raise InsituError(
                    f"process {self._live} is a 32-bit program", remedy="insitu leaks knows the heap of x86-64"
                )
            general = (*words[:15], words[16])
            yield ThreadState(tid, name, general, words[19], words[21])

    def _present(self, areas: Sequence[procfs.Area]) -> tuple[U64, U64]:
        """Runs of pages that hold something, of all areas that are to be copied: addresses and sizes."""
        wanted = [area for area in areas if _is_wanted(area)]
        constant = [area for area in areas if _is_constant(area)]
        spans = joined([(area.start, area.end) for area in wanted])
        spans += [(area.start, area.end) for area in constant if area.end - area.start <= _CONSTANT_BYTES]
        written = [(area.start, area.end) for area in constant if area.end - area.start > _CONSTANT_BYTES]
        if sum(end - start for start, end in spans + written) // _PAGE > _MOST_PAGES:
            raise InsituError(f"process {self._live} has reserved more memory than can be looked through")
        runs: list[U64] = []
        fd = os.open(f"/proc/{self._live}/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        try:
            runs += _runs(fd, sorted(spans), _PRESENT | _SWAPPED, np.uint64(0))
            runs += _runs(fd, written, _PRESENT | _SWAPPED, _OF_FILE)
        finally:
            os.close(fd)
        bounds = np.concatenate(runs) if runs else np.zeros((0, 2), np.uint64)
        bounds = bounds[np.argsort(bounds[:, 0], kind="stable")]
        return np.ascontiguousarray(bounds[:, 0]), np.ascontiguousarray(bounds[:, 1] - bounds[:, 0])


def _is_wanted(area: procfs.Area) -> bool:
    """Whether an area is writable memory of the program, not a device's."""
    if area.permissions[:2] != "rw" or area.path.startswith(_NOT_THE_PROGRAMS):
        return False
    return not area.path.startswith(_DEVICES) or area.path.startswith(_ORDINARY)


def _is_constant(area: procfs.Area) -> bool:
    """Whether an area is a file's constant data, of which what was relocated may hold tables of virtual functions."""
    return area.permissions == "r--p" and bool(area.inode)


def _runs(fd: int, spans: Sequence[tuple[int, int]], any_of: np.uint64, none_of: np.uint64) -> Iterator[U64]:
    """The runs of pages in spans that have any of some bits of pagemap and none of others: rows of start and end."""
    for group in _neighbours(spans):
        first, last = group[0][0] // _PAGE, group[-1][1] // _PAGE
        while first < last:
            count = min(last - first, _PAGEMAP_PART)
            entries = np.frombuffer(os.pread(fd, 8 * count, 8 * first), np.uint64)
            if not len(entries):
                break
            inside = ((entries & any_of) != 0) & ((entries & none_of) == 0)
            if len(group) > 1:
                inside &= _covered(group, first, len(entries))
            change = np.flatnonzero(np.diff(inside, prepend=False, append=False))
            yield ((change.astype(np.uint64) + np.uint64(first)) * np.uint64(_PAGE)).reshape(-1, 2)
            first += len(entries)


def _neighbours(spans: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """Ascending spans in groups that are worth one read of pagemap."""
    group: list[tuple[int, int]] = []
    for span in spans:
        if group and (span[0] - group[-1][1] > _NEAR or span[1] - group[0][0] > _PAGEMAP_PART * _PAGE):
            yield group
            group = []
        group.append(span)
    if group:
        yield group


def _covered(spans: Sequence[tuple[int, int]], first: int, count: int) -> NDArray[np.bool_]:
    """Which of so many pages, from a first one on, are in spans."""
    bounds = np.clip(np.array(spans, np.int64) // _PAGE - first, 0, count)
    steps = np.bincount(bounds[:, 0], minlength=count + 1) - np.bincount(bounds[:, 1], minlength=count + 1)
    covered: NDArray[np.bool_] = np.cumsum(steps)[:count] > 0
    return covered


def _room(size: int) -> mmap.mmap:
    """Memory that is already there, in huge pages where the kernel has them."""
    room = mmap.mmap(-1, max(-(-size // _PAGE) * _PAGE, _PAGE))
    address = ctypes.addressof(ctypes.c_char.from_buffer(room))
    _libc.madvise(address, len(room), _MADV_HUGEPAGE)
    if _libc.madvise(address, len(room), _MADV_POPULATE_WRITE):  # before Linux 5.14
        np.frombuffer(room, np.uint8)[::_PAGE] = 0
    return room


def _copy(tid: int, starts: U64, sizes: U64, words: U64) -> int:
    """Copy runs of pages into ``words``; returns how many pages could not be read, which are zeros."""
    address = words.ctypes.data
    failed = at = 0
    local, remote = (ctypes.c_uint64 * 2)(), (ctypes.c_uint64 * (2 * _MOST_PARTS))()
    one, no_flags = ctypes.c_ulong(1), ctypes.c_ulong(0)
    for pieces in _batches(starts, sizes):
        while pieces:
            for index, (start, size) in enumerate(pieces):
                remote[2 * index], remote[2 * index + 1] = start, size
            total = sum(size for _, size in pieces)
            local[0], local[1] = address + at, total
            got = _readv(tid, local, one, remote, ctypes.c_ulong(len(pieces)), no_flags)
            at += max(got, 0)
            pieces = _after(pieces, max(got, 0))
            if not pieces:
                break
            if got <= 0 and has_ended(tid):
                raise ProcessLookupError
            # The next page cannot be read.
            start, size = pieces[0]
            skipped = min(_PAGE, size)
            words[at // 8 : (at + skipped) // 8] = 0
            failed += 1
            at += skipped
            pieces = _after(pieces, skipped)
    return failed


def _batches(starts: U64, sizes: U64) -> Iterator[list[tuple[int, int]]]:
    pieces: list[tuple[int, int]] = []
    total = 0
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        while size:
            part = min(size, _LARGEST_READ - total)
            pieces.append((start, part))
            start, size, total = start + part, size - part, total + part
            if total == _LARGEST_READ or len(pieces) == _MOST_PARTS:
                yield pieces
                pieces, total = [], 0
    if pieces:
        yield pieces


def _after(pieces: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """What is left of the pieces after their first ``size`` bytes."""
    for index, (start, length) in enumerate(pieces):
        if size < length:
            return [(start + size, length - size), *pieces[index + 1 :]]
        size -= length
    return []
