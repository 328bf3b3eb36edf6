"""The ring buffer of a perf event: what the kernel wrote, handed out as slices of the mapped memory.

The layout is struct perf_event_mmap_page of include/uapi/linux/perf_event.h: one page of control data,
then a power of two of data pages that the kernel writes in a circle.
"""

import ctypes
import errno
import mmap
import os
from _thread import allocate_lock
from typing import Final

from insitu.errors import InsituError

__all__ = ["Ring", "pages_for"]

# Offsets in struct perf_event_mmap_page.
_DATA_HEAD: Final = 1024
_DATA_TAIL: Final = 1032
_DATA_OFFSET: Final = 1040
_DATA_SIZE: Final = 1048

_UNORDERED: Final = os.uname().machine not in ("x86_64", "i686")


_ROOM: Final = 16  # records


def pages_for(record_bytes: int) -> int:
    """The data pages, a power of two, of a ring that has room for several records of that size."""
    return 1 << (max(_ROOM * record_bytes // mmap.PAGESIZE, 1) - 1).bit_length()


class Ring:
    """The ring of the event ``fd`` with ``pages`` data pages (a power of two).

    The event must be bound to one CPU if it is inherited. Raises InsituError where the memory may not be locked,
    with the kernel's OSError as the cause (EPERM: over the limit of the user; fewer pages may do).
    """

    def __init__(self, fd: int, pages: int) -> None:
        self.fd = fd
        try:
            self._memory = mmap.mmap(
                fd, (1 + pages) * mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE
            )
        except OSError as error:
            size = pages * mmap.PAGESIZE // 1024
            remedy = "ask for fewer pages (-m)"
            if error.errno == errno.EPERM:
                remedy += ", or: sysctl kernel.perf_event_mlock_kb=65536"
            raise InsituError(f"cannot map a ring of {size} KiB: {error.strerror}", remedy=remedy) from error
        self._head = ctypes.c_uint64.from_buffer(self._memory, _DATA_HEAD)
        self._tail = ctypes.c_uint64.from_buffer(self._memory, _DATA_TAIL)
        # Both are zero on kernels before 4.1, which the project does not support.
        offset = ctypes.c_uint64.from_buffer(self._memory, _DATA_OFFSET).value
        self.size = ctypes.c_uint64.from_buffer(self._memory, _DATA_SIZE).value
        self._data = memoryview(self._memory)[offset : offset + self.size]
        self._read = self._tail.value
        self._order = allocate_lock()
        self._order.acquire()

    def slices(self) -> list[memoryview]:
        """All that was written and not yet released, in order: nothing, one piece, or two where the ring wraps.

        Together the pieces hold whole records. They stay valid until ``release``.
        """
        head = self._head.value
        if head == self._read:
            return []
        if _UNORDERED:
            self._fence()
        size = self.size
        start, end = self._read % size, head % size
        self._read = head
        if start < end:
            return [self._data[start:end]]
        return [self._data[start:], self._data[:end]] if end else [self._data[start:]]

    def release(self) -> None:
        """Let the kernel write over what ``slices`` returned last."""
        if _UNORDERED:
            self._fence()
        self._tail.value = self._read

    def close(self) -> None:
        """Unmap the ring (the event itself stays open). Slices must not be used any more."""
        del self._head, self._tail
        self._data.release()
        self._memory.close()

    def _fence(self) -> None:
        # Python has no memory barrier. The kernel's protocol wants the data read after the head and the tail written
        # after the data: giving a lock away and taking it back orders both sides of the pair of atomic operations.
        self._order.release()
        self._order.acquire()
