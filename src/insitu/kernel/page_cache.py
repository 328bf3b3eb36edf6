"""The page cache's doors: cachestat(2), mincore(2), and on which NUMA nodes a file's pages are (move_pages(2))."""

# A tree of 100,000 files comes here: no numpy, and arguments that are prepared once.

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from insitu.kernel.syscalls import NUMBERS, syscall

__all__ = ["NONE", "PAGE", "Counts", "PageCounter", "locked", "nodes_of", "resident", "summed"]

PAGE: Final = mmap.PAGESIZE
_MOST_PAGES: Final = 1 << 16  # of a file that are mapped, or whose nodes are asked for, at once
_HUGETLBFS_MAGIC: Final = 0x958458F6  # include/uapi/linux/magic.h
_MADV_POPULATE_READ: Final = 22  # include/uapi/asm-generic/mman-common.h, Linux 5.14

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


class Counts(NamedTuple):
    """Pages of a file, or of a part of it; None: the kernel does not say."""

    cached: int
    dirty: int | None
    writeback: int | None
    evicted: int | None
    """Not in the cache now, but they were, as far back as the kernel remembers."""
    recently_evicted: int | None
    """Of these, evicted so lately that they would be used again from a somewhat larger memory."""


def summed(counts: Sequence[Counts]) -> Counts:
    """The sum of each; None where one is not known."""
    cached, *others = zip(*counts, strict=True)
    return Counts(sum(cached), *(None if None in each else sum(each) for each in others))


NONE: Final = Counts(0, 0, 0, 0, 0)


class PageCounter:
    """Counts pages by cachestat(2), before Linux 6.5 by mincore(2), which knows only what is cached."""

    def __init__(self) -> None:
        self._range = (ctypes.c_uint64 * 2)()
        self._found = (ctypes.c_uint64 * 5)()  # include/uapi/linux/mman.h: struct cachestat
        self._number = ctypes.c_long(NUMBERS.get("cachestat", -1))
        self._arguments = ctypes.byref(self._range), ctypes.byref(self._found), 0

    def count(self, file: int, offset: int, length: int) -> Counts:
        """The pages of ``length`` bytes from ``offset``, a multiple of a page.

        Raises OSError: EPERM for a file that the caller neither owns nor may write, of which the kernel says nothing;
        EOPNOTSUPP for a file of huge pages.
        """
        if not length:
            return NONE
        self._range[0], self._range[1] = offset, length
        if _syscall(self._number, file, *self._arguments) == 0:
            return Counts._make(self._found[:])
        code = ctypes.get_errno()
        if code != errno.ENOSYS:
            raise OSError(code, os.strerror(code))
        if _is_of_huge_pages(file):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return Counts(sum(page.count(1) for page in resident(file, offset, length)), None, None, None, None)


def _is_of_huge_pages(file: int) -> bool:
    """Whether a file is one of a hugetlbfs, of which mincore(2) reports what the caller has touched."""
    found = (ctypes.c_long * 32)()  # struct statfs begins with f_type; it has less than 256 bytes on all machines
    return _libc.fstatfs(file, found) == 0 and found[0] == _HUGETLBFS_MAGIC


def resident(file: int, offset: int, length: int) -> Iterator[bytes]:
    """A byte for each page with data, 1 where it is in the page cache (mincore(2)), in parts.

    Holes are left out. Raises OSError as PageCounter.
    """
    _require_permission(file)
    for start, part in _extents(file, offset, length):
        with _mapped(file, start, part) as address:
            yield _resident(address, part)


def nodes_of(file: int, offset: int, length: int) -> Counter[int]:
    """How many of the cached pages are on each NUMA node.

    Pages are mapped to be asked for; none is read from the disk for that, but one that is evicted in this moment.
    Raises OSError as PageCounter; EINVAL before Linux 5.14.
    """
    found: Counter[int] = Counter()
    _require_permission(file)
    for start, part in _extents(file, offset, length):
        with _mapped(file, start, part) as address:
            for first, count in _runs(_resident(address, part)):
                found += _nodes(address + first * PAGE, count)
    return found


@contextmanager
def locked(file: int, length: int) -> Iterator[None]:
    """Keep a file in memory (mlock(2)). Raises OSError: ENOMEM above RLIMIT_MEMLOCK or what is free."""
    with _mapped(file, 0, length) as address:
        if _libc.mlock(address, length) < 0:
            raise _error("mlock")
        yield


def _extents(file: int, offset: int, length: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: (offset, length) of whole pages, of bounded length. A hole may be of any size."""
    at, end = offset, offset + length
    while at < end:
        try:
            data = os.lseek(file, at, os.SEEK_DATA)
            hole = os.lseek(file, data, os.SEEK_HOLE)
            at = max(at, data // PAGE * PAGE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # there is no more, or the file is shorter now
                return
            hole = end  # its file system does not say
        stop = min(-(-hole // PAGE) * PAGE, end)
        while at < stop:
            part = min(stop - at, _MOST_PAGES * PAGE)
            yield at, part
            at += part


def _require_permission(file: int) -> None:
    """The rule of mm/mincore.c: of others' files mincore() says that all is there."""
    status = os.fstat(file)
    if status.st_uid != os.geteuid() and not os.access(f"/proc/self/fd/{file}", os.W_OK, effective_ids=True):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@contextmanager
def _mapped(file: int, offset: int, length: int) -> Iterator[int]:
    """Map a part of a file for reading. Nothing here touches it: what was cut off meanwhile would be a SIGBUS."""
    address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, file, offset)
    if address == ctypes.c_void_p(-1).value:
        raise _error("mmap")
    try:
        yield address
    finally:
        _libc.munmap(address, length)


def _resident(address: int, length: int) -> bytes:
    vector = ctypes.create_string_buffer(-(-length // PAGE))
    if _libc.mincore(address, length, vector) < 0:
        raise _error("mincore")
    return vector.raw


def _runs(pages: bytes) -> Iterator[tuple[int, int]]:
    """The first page and the number of pages of each run of cached pages."""
    at = pages.find(1)
    while at >= 0:
        end = pages.find(0, at)
        end = len(pages) if end < 0 else end
        yield at, end - at
        at = pages.find(1, end)


def _nodes(address: int, count: int) -> Counter[int]:
    """The nodes of pages that are cached. One that is no longer there is left out."""
    # Unlike a touch, this cannot end in a SIGBUS.
    if _libc.madvise(address, count * PAGE, _MADV_POPULATE_READ) < 0 and ctypes.get_errno() not in (
        errno.EFAULT,
        errno.ENOMEM,
    ):
        raise _error("madvise")
    import numpy as np

    pages = np.arange(address, address + count * PAGE, PAGE, dtype=np.uint64)
    nodes = np.empty(count, np.int32)
    syscall("move_pages", 0, count, pages.ctypes.data, 0, nodes.ctypes.data, 0)
    found = np.bincount(nodes[nodes >= 0])
    return Counter({node: number for node, number in enumerate(found.tolist()) if number})


def _error(call: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{call}: {os.strerror(code)}")
