"""The reading side of a perf ring, with a file in memory as the kernel's side."""

import mmap
import os
import struct
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.kernel.perf_ring import Ring

PAGES = 2
SIZE = PAGES * mmap.PAGESIZE


class Writer:
    """Writes as the kernel does (Documentation: perf_event_open(2), "MMAP layout"): head grows, data wraps."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, SIZE + mmap.PAGESIZE)
        os.pwrite(self.fd, struct.pack("=QQQQ", 0, 0, mmap.PAGESIZE, SIZE), 1024)
        self.head = 0

    @property
    def tail(self) -> int:
        return int(struct.unpack("=Q", os.pread(self.fd, 8, 1032))[0])

    def write(self, data: bytes) -> None:
        at = self.head % SIZE
        os.pwrite(self.fd, data[: SIZE - at], mmap.PAGESIZE + at)
        os.pwrite(self.fd, data[SIZE - at :], mmap.PAGESIZE)
        self.head += len(data)
        os.pwrite(self.fd, struct.pack("=Q", self.head), 1024)


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer()
    yield made
    os.close(made.fd)


def test_an_empty_ring_has_nothing(writer: Writer) -> None:
    ring = Ring(writer.fd, PAGES)
    assert (ring.size, ring.slices()) == (SIZE, [])
    ring.close()


def test_what_fills_the_ring_to_its_end_is_one_piece(writer: Writer) -> None:
    ring = Ring(writer.fd, PAGES)
    writer.write(bytes(range(256)) * (SIZE // 256))
    pieces = ring.slices()
    assert [len(piece) for piece in pieces] == [SIZE]
    del pieces
    ring.release()
    assert writer.tail == SIZE
    ring.close()


def test_space_is_given_back_only_on_release(writer: Writer) -> None:
    ring = Ring(writer.fd, PAGES)
    writer.write(b"12345678")
    assert [bytes(piece) for piece in ring.slices()] == [b"12345678"]
    assert writer.tail == 0
    ring.release()
    assert writer.tail == 8
    ring.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 700).map(lambda words: words * 8), min_size=1, max_size=12))
def test_bytes_come_out_as_they_went_in_however_they_wrap(sizes: list[int]) -> None:
    writer, random = Writer(), Random(1)
    ring = Ring(writer.fd, PAGES)
    written, read = bytearray(), bytearray()
    for size in sizes:
        data = random.randbytes(min(size, SIZE))
        writer.write(data)
        written += data
        pieces = ring.slices()
        assert len(pieces) <= 2
        read += b"".join(pieces)
        del pieces
        ring.release()
    assert read == written
    ring.close()
    os.close(writer.fd)


def test_a_descriptor_without_a_ring_is_one_clear_line() -> None:
    reader, writing = os.pipe()
    with pytest.raises(InsituError, match="cannot map a ring of 8 KiB") as caught:
        Ring(reader, PAGES)
    assert isinstance(caught.value.__cause__, OSError)
    os.close(reader)
    os.close(writing)
