"""Reading a BPF ring buffer (BPF_MAP_TYPE_RINGBUF) through its shared pages, many records per view.

Layout (kernel/bpf/ringbuf.c): a page that starts with the consumer's position, writable by us; a page that starts
with the producer's position; then the data, mapped twice in a row, so that what lies between the positions is
always contiguous. Every record has an 8-byte header, a u32 of length and two flags and a u32 that is the kernel's
own, and is padded to 8 bytes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from insitu.errors import InsituError
from insitu.kernel.bpf_abi import MapType
from insitu.kernel.bpf_map import Map

__all__ = ["RingBuffer"]

_BUSY, _DISCARDED = 1 << 31, 1 << 30  # BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT
_LENGTH = _DISCARDED - 1
_HEADER_BYTES = 8  # BPF_RINGBUF_HDR_SZ


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
        self._consumer = np.frombuffer(self._consumer_page, np.uint64, 1)
        self._producer = np.frombuffer(self._producer_pages, np.uint64, 1)
        self._data = np.frombuffer(self._producer_pages, np.uint8, offset=page)
        self._taken = 0

    def close(self) -> None:
        """Unmap and give back. Views handed out keep their pages mapped."""
        self._consumer = self._producer = self._data = np.empty(0, np.uint8)  # type: ignore[assignment]
        for pages in (self._consumer_page, self._producer_pages):
            try:
                pages.close()
            except BufferError:  # a caller still holds a view: freed with the last one
                continue
        self.map.close()
        self.fd = -1

    def waiting(self) -> npt.NDArray[np.uint8]:
        """What lies between consumer and producer, headers and records still being written included, not copied.

        The positions only grow. Reading the producer's before the headers needs no barrier on x86-64, where
        loads are not reordered; elsewhere the interpreter's own work between the two loads stands in for one.
        """
        begin = int(self._consumer[0]) & (self.size - 1)
        return self._data[begin : begin + int(self._producer[0]) - int(self._consumer[0])]

    def equal_records(self, record_bytes: int) -> npt.NDArray[np.uint8]:
        """The finished records in front, as far as all are ``record_bytes`` long: (n, record_bytes), not copied.

        Discarded ones among them are left out. The view is good until release(), which comes before asking again.
        """
        stride = _stride(record_bytes)
        waiting = self.waiting()
        table = waiting[: len(waiting) // stride * stride].reshape(-1, stride)
        headers = table[:, :4].copy().view(np.uint32)[:, 0]
        # A header is right only behind one of the expected length: whatever follows the first mismatch is noise.
        mismatch = (headers & ~np.uint32(_DISCARDED)) != record_bytes
        count = int(mismatch.argmax()) if mismatch.any() else len(headers)
        self._taken = count * stride
        kept = table[:count, _HEADER_BYTES : _HEADER_BYTES + record_bytes]
        discarded = (headers[:count] & _DISCARDED) != 0
        return kept[~discarded] if discarded.any() else kept

    def release(self) -> None:
        """Give the space of what equal_records() answered last back to the kernel."""
        self._consumer[0] += np.uint64(self._taken)
        self._taken = 0

    def records(self) -> Iterator[memoryview]:
        """Every finished record, of any length, one at a time; each is good until the next is asked for."""
        while True:
            waiting = self.waiting()
            if len(waiting) == 0:
                return
            view, at = waiting.data, 0
            headers = waiting[: len(waiting) // 8 * 8].view(np.uint32)
            while at < len(waiting):
                header = int(headers[at // 4])
                if header & _BUSY:
                    return
                length = header & _LENGTH
                if not header & _DISCARDED:
                    yield view[at + _HEADER_BYTES : at + _HEADER_BYTES + length]
                at += _stride(length)
                self._consumer[0] += np.uint64(_stride(length))


def _stride(record_bytes: int) -> int:
    return (record_bytes + _HEADER_BYTES + 7) & ~7
