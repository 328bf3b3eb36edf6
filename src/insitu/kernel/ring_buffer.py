"""Reading a BPF ring buffer (BPF_MAP_TYPE_RINGBUF) through its shared pages: records in place, many per view.

Layout (kernel/bpf/ringbuf.c): a page that starts with the consumer's position, writable by us; a page that starts
with the producer's position; then the data, mapped twice in a row, so that what lies between the positions is
always contiguous. Every record has an 8-byte header, a u32 of length and two flags and a u32 that is the kernel's
own, and is padded to 8 bytes.
"""

from __future__ import annotations

import mmap

from insitu.errors import InsituError
from insitu.kernel.bpf_abi import MapType
from insitu.kernel.bpf_map import Map

__all__ = ["BUSY", "DISCARDED", "HEADER_BYTES", "RingBuffer", "record_stride"]

BUSY, DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT
HEADER_BYTES = 8  # BPF_RINGBUF_HDR_SZ


class RingBuffer:
    """A ring and its mapped pages. The descriptor ``fd`` becomes readable (poll, epoll) when records wait.

    Only one thread may read. Records which found the ring full are the program's to count: the kernel does not.
    """

    def __init__(self, size: int, *, name: str = "") -> None:
        """Make a ring of ``size`` bytes: a power of two, at least a page. :raises BpfError:"""
        if size < mmap.PAGESIZE or size & (size - 1):
            raise ValueError(f"a ring buffer's size is a power of two of at least {mmap.PAGESIZE} bytes, not {size}")
        self.map = Map(MapType.RINGBUF, 0, 0, size, name=name)
        self.fd, self.size = self.map.fd, size
        page = mmap.PAGESIZE
        try:
            self._consumer_page = mmap.mmap(self.fd, page)
            self._producer_pages = mmap.mmap(self.fd, page + 2 * size, prot=mmap.PROT_READ, offset=page)
        except (OSError, ValueError) as error:
            self.map.close()
            raise InsituError(f"cannot map ring buffer {name}: {error}", remedy="ask for a smaller one") from None
        self._consumer = memoryview(self._consumer_page).cast("Q")
        self._producer = memoryview(self._producer_pages).cast("Q")
        self._data = memoryview(self._producer_pages)[page:]

    def close(self) -> None:
        """Unmap and give back. Views handed out keep their pages mapped."""
        for view in (self._consumer, self._producer, self._data):
            view.release()
        for pages in (self._consumer_page, self._producer_pages):
            try:
                pages.close()
            except BufferError:  # a caller still holds a view: freed with the last one
                continue
        self.map.close()
        self.fd = -1

    def waiting(self) -> memoryview:
        """What lies between consumer and producer, headers and records still being written included, not copied.

        The positions only grow. Reading the producer's before the headers needs no barrier on x86-64, where
        loads are not reordered; elsewhere the interpreter's own work between the two loads stands in for one.
        """
        consumed = self._consumer[0]
        begin = consumed & (self.size - 1)
        return self._data[begin : begin + self._producer[0] - consumed]

    def advance(self, taken_bytes: int) -> None:
        """Give the space of so many bytes at the front, whole records with their headers, back to the kernel."""
        self._consumer[0] += taken_bytes


def record_stride(record_bytes: int) -> int:
    """The bytes that a record of so many takes in the ring."""
    return (record_bytes + HEADER_BYTES + 7) & ~7
