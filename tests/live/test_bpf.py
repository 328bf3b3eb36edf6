"""bpf(2) on the running kernel: maps, ring buffers, the verifier's answers and its statistics."""

import errno
import os
import resource
import select
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest

from insitu.kernel import bpf
from insitu.kernel.bpf_abi import MapType, ProgramType
from insitu.kernel.bpf_map import MMAPABLE, Map, possible_cpus
from insitu.kernel.ring_buffer import RingBuffer
from insitu.probe.providers.base import ProgramKind
from insitu.probe.runtime.drain import RecordReader, record_shape
from insitu.probe.runtime.record_log import drain_into
from insitu.probe.runtime.record_walk import record_offsets
from insitu.probe.types import UINT64, Tuple

from .counting import NAME, Counter, instruction

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_OUTPUT = 130  # bpf_ringbuf_output


@pytest.mark.parametrize(
    "kind", [MapType.HASH, MapType.ARRAY, MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_HASH]
)
def test_a_whole_map_comes_out_as_it_went_in(kind: MapType) -> None:
    entries = 5000  # more than one batch
    with Map(kind, 4, 12, 2 * entries if "HASH" in kind.name else entries, name="whole") as map_:
        for key in range(entries):
            value = struct.pack("<III", key, 2 * key, 3 * key)
            map_.update(struct.pack("<I", key), (value + bytes(4)) * possible_cpus() if map_.per_cpu else value)
        found = map_.items()
    padded = 16 * possible_cpus() if map_.per_cpu else 12
    assert {len(value) for _, value in found} == {padded}
    last = padded - 16 if map_.per_cpu else 0  # the last CPU's
    numbers = sorted(struct.unpack("<I", key) + struct.unpack_from("<III", value, last) for key, value in found)
    assert numbers == [(key, key, 2 * key, 3 * key) for key in range(entries)]


def test_keys_are_deleted_and_maps_cleared() -> None:
    with Map(MapType.HASH, 8, 8, 100) as map_:
        for key in range(50):
            map_.update(struct.pack("<Q", key), bytes(8))
        assert map_.delete(struct.pack("<Q", 7))
        assert not map_.delete(struct.pack("<Q", 7))
        assert map_.lookup(struct.pack("<Q", 7)) is None
        assert len(map_.items()) == 49 == len(list(map_.keys()))
        map_.clear()
        assert map_.items() == []


def test_a_full_map_is_said_to_be_full() -> None:
    with Map(MapType.HASH, 4, 4, 1, name="tiny") as map_:
        map_.update(bytes(4), bytes(4))
        with pytest.raises(bpf.BpfError, match="tiny"):
            map_.update(b"\1\0\0\0", bytes(4))


def test_an_array_can_be_read_in_memory() -> None:
    with Map(MapType.ARRAY, 4, 8, 10, flags=MMAPABLE) as map_:
        map_.update(struct.pack("<I", 3), b"in situ!")
        assert map_.mapped()[24:32] == b"in situ!"


@pytest.fixture
def ring() -> Iterator[RingBuffer]:
    ring = RingBuffer(1 << 14, name="ring")
    yield ring
    ring.close()


def _writer(ring: RingBuffer, record_bytes: int, kind: int = 1) -> int:
    """Writes a record of two u64s, ``kind`` and 2, cut to ``record_bytes``; its result is the helper's."""
    code = (
        instruction(0x7A, 10, offset=-16, immediate=kind)
        + instruction(0x7A, 10, offset=-8, immediate=2)
        + instruction(0x18, 1, 1, immediate=ring.fd)
        + instruction(0)
        + instruction(0xBF, 2, 10)
        + instruction(0x07, 2, immediate=-16)
        + instruction(0xB7, 3, immediate=record_bytes)
        + instruction(0xB7, 4)
        + instruction(0x85, immediate=_OUTPUT)
        + instruction(0x95)
    )
    return bpf.load_program(code, ProgramType.RAW_TRACEPOINT, name="writer")[0]


def test_finished_records_are_taken_as_they_are_over_many_wraps_of_the_ring(ring: RingBuffer) -> None:
    writer = _writer(ring, 12)
    for burst in (1, 7, 300, 600, 682, 5):
        for _ in range(burst):
            assert bpf.run_raw_tracepoint(writer) == 0
        taken = bytearray()
        assert drain_into(ring, taken.extend) == 24 * burst
        offsets, end = record_offsets(taken)
        assert end == 24 * burst and offsets.tolist() == list(range(0, end, 24))
        records = np.frombuffer(taken, "<u4").reshape(burst, 6)
        assert (records[:, 0] == 12).all()
        assert (records[:, 2:5] == [1, 0, 2]).all()
    assert len(ring.waiting()) == 0
    os.close(writer)


def test_a_full_ring_refuses_and_keeps_what_it_has(ring: RingBuffer) -> None:
    writer = _writer(ring, 16)
    refused = sum(bpf.run_raw_tracepoint(writer) != 0 for _ in range(1000))
    offsets, _ = record_offsets(ring.waiting())
    assert len(offsets) + refused == 1000
    # 16 bytes and 8 of header each, in a ring of 16 KiB that never fills to the last byte.
    assert len(offsets) in ((1 << 14) // 24, (1 << 14) // 24 - 1)
    os.close(writer)


def test_records_of_different_lengths_and_kinds_go_to_their_handlers(ring: RingBuffer) -> None:
    short, long = _writer(ring, kind=1, record_bytes=8), _writer(ring, kind=7, record_bytes=16)
    expected = []
    seen: list[tuple[int, ...]] = []
    reader = RecordReader(
        ring, {1: (record_shape(Tuple(())), seen.append), 7: (record_shape(Tuple((UINT64,))), seen.append)}
    )
    for burst in (1, 2, 300, 400):
        for number in range(burst):
            writer = short if number % 3 else long
            bpf.run_raw_tracepoint(writer)
            expected.append((8, 1) if writer == short else (16, 7, 2))
        reader.take()
        reader.handle()
        assert seen == expected
    os.close(short)
    os.close(long)


def test_a_ring_wakes_its_reader(ring: RingBuffer) -> None:
    writer = _writer(ring, 16)
    with select.epoll() as poll:
        poll.register(ring.fd, select.EPOLLIN)
        assert poll.poll(0) == []
        bpf.run_raw_tracepoint(writer)
        assert poll.poll(5) == [(ring.fd, select.EPOLLIN)]
    os.close(writer)


def test_a_refused_program_brings_the_verifiers_reason() -> None:
    with pytest.raises(bpf.BpfError) as caught:
        bpf.load_program(instruction(0x79, 0, 5) + instruction(0x95), ProgramType.RAW_TRACEPOINT, name="broken")
    assert "R5 !read_ok" in caught.value.log
    assert "broken" in str(caught.value)


def test_a_program_without_a_descriptor_left_is_not_refused_by_the_verifier() -> None:
    """The verifier has accepted it: its log would be the wrong reason."""
    two = instruction(0xB7), instruction(0x95)  # r0 = 0; exit
    held = [os.open(os.devnull, os.O_RDONLY)]
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[0] + 1, limits[1]))
    try:
        while len(held) < 10_000:
            with suppress(OSError):
                held.append(os.dup(held[0]))
                continue
            break
        with pytest.raises(bpf.BpfError, match="Too many open files") as refused:
            bpf.load_program(b"".join(two), ProgramType.RAW_TRACEPOINT, name="two")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for descriptor in held:
            os.close(descriptor)
    assert (refused.value.errno, refused.value.log) == (errno.EMFILE, "")


def test_a_long_log_is_read_whole() -> None:
    code = b"".join(instruction(0xB7, 0, immediate=n) for n in range(30_000)) + instruction(0x95)
    program_fd, log = bpf.load_program(code, ProgramType.RAW_TRACEPOINT, log_level=2)
    assert "29999: " in log
    assert "processed 30001 insns" in log
    os.close(program_fd)


def test_the_kernel_counts_runs_and_their_time() -> None:
    counter = Counter(ProgramKind(ProgramType.RAW_TRACEPOINT, "none"))
    statistics = bpf.enable_stats()
    before = bpf.program_info(counter.fd).run_count
    for _ in range(100):
        bpf.run_raw_tracepoint(counter.fd)
    info = bpf.program_info(counter.fd, code=True)
    assert info.run_count - before == 100 == counter.count()
    assert info.run_time_ns > 0
    assert info.name == NAME
    assert info.translated and info.jited
    os.close(statistics)
    counter.close()


_UNPRIVILEGED = """
import os, sys
from insitu.errors import InsituError
from insitu.kernel import bpf
from insitu.kernel.bpf_abi import MapType, ProgramType
from insitu.kernel.bpf_map import Map
from insitu.kernel.tracefs import Tracefs
os.setuid(65534)
for attempt in (
    lambda: Map(MapType.HASH, 4, 4, 1),
    lambda: bpf.load_program(bytes.fromhex("b7000000000000009500000000000000"), ProgramType.RAW_TRACEPOINT),
    Tracefs.open,
):
    try:
        attempt()
    except InsituError as error:
        print(error)
"""


def test_without_privileges_the_error_says_which_are_missing() -> None:
    done = subprocess.run([sys.executable, "-c", _UNPRIVILEGED], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all("CAP_BPF" in line for line in lines[:2])
    assert "needs root" in lines[2]


def test_descriptors_are_closed_in_children(ring: RingBuffer) -> None:
    writer = _writer(ring, 16)
    assert not os.get_inheritable(writer)
    assert not os.get_inheritable(ring.fd)
    os.close(writer)
