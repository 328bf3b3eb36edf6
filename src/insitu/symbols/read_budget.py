"""How much is read of files that others control: what is really there, up to limits for a section and a recording."""

import errno
import os
from typing import Final

__all__ = ["MAX_SECTION_BYTES", "ReadBudget", "is_there", "megabytes"]

MAX_SECTION_BYTES: Final = 512 << 20
"""Of one section, also when it is expanded; those of the largest browsers have some 300 MB."""

_SMALL_BYTES: Final = 16 << 20
_MAX_EXTENTS: Final = 1000
_LEAST_BUDGET_BYTES: Final = 512 << 20


class ReadBudget:
    """What all files of one recording may cost together: a quarter of the machine's memory."""

    def __init__(self) -> None:
        self.lost_s = 0.0
        """Time spent on files of which nothing came."""
        self._left = max(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4, _LEAST_BUDGET_BYTES)

    def take(self, size: int) -> bool:
        """Count ``size`` bytes; False, and nothing is counted, where so many are not left."""
        if size > self._left:
            return False
        self._left -= size
        return True


def is_there(descriptor: int, offset: int, size: int) -> bool:
    """Whether a part of a file is small, or has a quarter of its bytes on the disk: sparse files claim any size."""
    if size <= _SMALL_BYTES:
        return True
    end, found = offset + size, 0
    for _ in range(_MAX_EXTENTS):
        try:
            offset = os.lseek(descriptor, offset, os.SEEK_DATA)
            hole = min(os.lseek(descriptor, offset, os.SEEK_HOLE), end)
        except OSError as error:
            return error.errno != errno.ENXIO  # ENXIO: no data from there on; others: a file system without holes
        found += max(hole - offset, 0)
        if 4 * found >= size:
            return True
        if hole >= end:
            return False
        offset = hole
    return False


def megabytes(size: int) -> str:
    """A number of bytes as messages show it."""
    return f"{size / 1e6:.0f} MB" if size < 1e10 else f"{size / 1e9:.0f} GB"
