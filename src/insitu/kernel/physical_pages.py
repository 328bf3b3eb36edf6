"""Which physical pages a process has where, what they are, and how often each is mapped.

/proc/PID/pagemap, its ioctl PAGEMAP_SCAN (Linux 6.7), /proc/kpagecount and /proc/kpageflags: files of a word for each
page. Sources: Documentation/admin-guide/mm/pagemap.rst, include/uapi/linux/fs.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "EXCLUSIVE",
    "FILE",
    "FLAGS",
    "GUARD",
    "PAGE",
    "PRESENT",
    "SOFT_DIRTY",
    "SWAPPED",
    "Frames",
    "PageMap",
    "frame_of",
    "is_swapped",
]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

PAGE: Final = mmap.PAGESIZE
PRESENT: Final = np.uint64(1 << 63)
SWAPPED: Final = np.uint64(1 << 62)
FILE: Final = np.uint64(1 << 61)
"""A page of a file, or of shared memory."""
GUARD: Final = np.uint64(1 << 58)
EXCLUSIVE: Final = np.uint64(1 << 56)
"""Mapped once only."""
SOFT_DIRTY: Final = np.uint64(1 << 55)
_FRAME: Final = np.uint64((1 << 55) - 1)
_SWAP_TYPE: Final = np.uint64(31)
# include/linux/swap.h: MAX_SWAPFILES is at least this; larger ones are markers and pages that are being moved.
_SPECIAL_TYPES: Final = 23

# include/uapi/linux/kernel-page-flags.h. Bit 21 (KSM) is left out: some kernels, such as 6.12, set it for each
# anonymous page (fs/proc/page.c: stable_page_flags).
FLAGS: Final[dict[int, str]] = {
    **dict(enumerate(("locked", "error", "referenced", "uptodate", "dirty", "lru", "active", "slab", "writeback"))),
    **dict(enumerate(("reclaim", "buddy", "mapped", "anonymous", "swapcache", "swapbacked"), 9)),
    **dict(enumerate(("compound_head", "compound_tail", "huge", "unevictable", "hwpoison", "nopage"), 15)),
    **dict(enumerate(("transparent_huge", "offline", "zero_page", "idle", "pgtable"), 22)),
    **dict(enumerate(("reserved", "mlocked"), 32)),
}

_SCAN: Final = 0xC0606610  # _IOWR('f', 16, struct pm_scan_arg)
_IS_PRESENT, _IS_SWAPPED = 1 << 3, 1 << 4
_REGION: Final = np.dtype([("start", "<u8"), ("end", "<u8"), ("categories", "<u8")])  # struct page_region
_MOST_REGIONS: Final = 1 << 14
_GAP: Final = 512
"""Words between two that are wanted, which are read with them rather than by a call of their own: a page of them."""
_BATCH: Final = 1 << 19  # pages; arrays of 4 MiB
_MOST_SCANNED: Final = 1 << 26
"""Pages of address space that are looked at without PAGEMAP_SCAN: 256 GiB of 4 KiB pages."""


class _ScanArguments(ctypes.Structure):
    """struct pm_scan_arg."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            *("size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages"),
            *("category_inverted", "category_mask", "category_anyof_mask", "return_mask"),
        )
    )


class Words:
    """A file with a word for each page."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        os.close(self._file)

    def at(self, indices: I64) -> U64:
        """The words of pages by their numbers, which ascend. Zeros beyond the end of the file."""
        found = np.zeros(len(indices), np.uint64)
        if not len(indices):
            return found
        bounds = np.concatenate(([0], np.flatnonzero(np.diff(indices) > _GAP) + 1, [len(indices)]))
        for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            first, last = int(indices[low]), int(indices[high - 1])
            while first <= last:
                words = self._read(first, min(last + 1 - first, _BATCH))
                end = int(np.searchsorted(indices[low:high], first + len(words))) + low
                found[low:end] = words[indices[low:end] - first]
                if not len(words):
                    break
                low, first = end, int(indices[end]) if end < high else last + 1
        return found

    def _read(self, first: int, count: int) -> U64:
        """Up to ``count`` words; fewer at the end of the file."""
        try:
            data = os.pread(self._file, count * 8, first * 8)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EIO):
                return np.zeros(0, np.uint64)
            raise
        return np.frombuffer(data[: len(data) // 8 * 8], np.uint64)


class PageMap(Words):
    """The pages of a process. Its address space is that of when it was opened."""

    def __init__(self, pid: int) -> None:
        """Raises OSError: another user's, or no such process."""
        super().__init__(f"/proc/{pid}/pagemap")
        self._scans = True
        self._skipped = False

    @property
    def skipped(self) -> bool:
        """Whether the address space was too large to look at all of it, without PAGEMAP_SCAN."""
        return self._skipped

    def pages(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[I64, U64]]:
        """The pages that are there or swapped: numbers, ascending, and words, in batches.

        ``ranges`` are addresses, ascending and disjoint: start and end; pages between them may be among the result.
        There are no frame numbers without CAP_SYS_ADMIN. Raises OSError.
        """
        waiting: list[I64] = []
        size = 0
        for start, end in self._populated(ranges):
            for first in range(start, end, _BATCH):
                waiting.append(np.arange(first, min(end, first + _BATCH), dtype=np.int64))
                size += len(waiting[-1])
                if size >= _BATCH:
                    yield self._words(waiting)
                    waiting, size = [], 0
        if waiting:
            yield self._words(waiting)

    def _words(self, parts: list[I64]) -> tuple[I64, U64]:
        numbers = np.concatenate(parts)
        words = self.at(numbers)
        there = words & (PRESENT | SWAPPED) != 0
        return numbers[there], words[there]

    def _populated(self, ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Numbers of pages, first and end, that may be there."""
        left = _MOST_SCANNED
        joined = list(_joined(ranges))
        if joined and self._scans:
            try:
                # What lies between costs the kernel nothing; a call for each of 100,000 ranges would.
                yield from self._scan(joined[0][0], joined[-1][1])
                return
            except OSError as error:
                if error.errno not in (errno.ENOTTY, errno.EINVAL):
                    raise
                self._scans = False
        for low, high in joined:
            first, end = low // PAGE, high // PAGE
            self._skipped |= end - first > left
            yield first, min(end, first + left)
            left -= min(end - first, left)

    def _scan(self, low: int, high: int) -> Iterator[tuple[int, int]]:
        """Numbers of pages that are there, asked of the kernel (PAGEMAP_SCAN)."""
        regions = np.empty(_MOST_REGIONS, _REGION)
        wanted = _IS_PRESENT | _IS_SWAPPED
        while low < high:
            arguments = _ScanArguments(
                size=ctypes.sizeof(_ScanArguments),
                start=low,
                end=high,
                vec=regions.ctypes.data,
                vec_len=len(regions),
                category_anyof_mask=wanted,
                return_mask=wanted,
            )
            count = fcntl.ioctl(self._file, _SCAN, arguments)
            yield from zip(
                (regions["start"][:count] // PAGE).tolist(), (regions["end"][:count] // PAGE).tolist(), strict=True
            )
            if arguments.walk_end <= low:
                return
            low = arguments.walk_end


def _joined(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The ranges, those that touch each other as one."""
    low = high = 0
    for start, end in ranges:
        if start >= 1 << 63:  # [vsyscall]: no page of the process
            continue
        if start != high:
            if high > low:
                yield low, high
            low = start
        high = end
    if high > low:
        yield low, high


def frame_of(words: U64) -> I64:
    """The frame numbers of pages that are there; 0 without CAP_SYS_ADMIN."""
    return (words & _FRAME).astype(np.int64)


def is_swapped(words: U64) -> NDArray[np.bool_]:
    """Which pages are in the swap: neither guard pages nor pages that are being moved are."""
    found: NDArray[np.bool_] = (words & (SWAPPED | GUARD) == SWAPPED) & (words & _SWAP_TYPE < _SPECIAL_TYPES)
    return found


class Frames(NamedTuple):
    """Distinct physical pages, (n,) each: numbers, ascending; how often each is mapped; flags as in FLAGS."""

    numbers: I64
    mapped: I64
    flags: U64

    @classmethod
    def of(cls, numbers: I64) -> Self:
        """What the kernel says of the frames; each once. Raises OSError: PermissionError without root."""
        distinct = np.unique(numbers)
        with Words("/proc/kpagecount") as counts, Words("/proc/kpageflags") as flags:
            return cls(distinct, counts.at(distinct).astype(np.int64), flags.at(distinct))

    def rows(self, numbers: I64) -> I64:
        """Where each frame, one of these, is in the arrays."""
        return np.searchsorted(self.numbers, numbers)

    def have(self, flag: str) -> NDArray[np.bool_]:
        """(n,) Which have a flag of FLAGS."""
        bit = next(bit for bit, name in FLAGS.items() if name == flag)
        return (self.flags >> np.uint64(bit) & np.uint64(1)).astype(bool)
