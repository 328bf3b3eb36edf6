"""Reports of guarded processes: what is torn, damaged or no file of theirs is left out and counted."""

import os
import random
import struct
from pathlib import Path

import pytest

from insitu.debug.guard_faults import explained
from insitu.debug.guard_records import DOUBLE_FREE, FREED, read_records
from insitu.views.guard import blocks, document, verdict

_PAGE = os.sysconf("SC_PAGESIZE")


def _chunk(tag: bytes, which: int, body: bytes) -> bytes:
    return struct.pack("<4sIQ", tag, which, len(body)) + body


def _report(
    kind: int = DOUBLE_FREE,
    signal: int = 0,
    state: int = FREED,
    maps: bytes = b"00400000-00401000 r-xp 00000000 08:01 1  /bin/x\n",
) -> bytes:
    """A double free, as struct fault and struct slot of guard.h have it."""
    fault = struct.pack("<4IiI", kind, 11, 12, signal, 0, 1) + struct.pack("<4Q", 0x7000FE0, 0, 0, 99)
    fault += struct.pack("<17Q", *range(17)) + bytes(16) + b"name".ljust(16, b"\0")
    block = struct.pack("<4Q4I", 0x7000000, 1, 0x7000FE0, 24, 1, state, 0, 16)
    for tid in (12, 13):
        block += struct.pack("<8QQII", *range(100, 108), 50 + tid, tid, 8)
    return b"".join(
        [
            _chunk(b"FALT", kind, fault),
            _chunk(b"STAK", 0, b"abcd"),
            _chunk(b"STAK", 0, b"efgh"),
            _chunk(b"BLOK", 1, block),
            _chunk(b"STAK", 0x10, b"allocate"),
            _chunk(b"STAK", 0x11, b"freed..."),
            _chunk(b"MAPS", 0, maps),
            _chunk(b"DONE", 0, b""),
        ]
    )


def test_a_report_has_its_stacks_and_its_block(tmp_path: Path) -> None:
    counts = _chunk(b"CNTS", 11, struct.pack("<10Q", *range(10)))
    (tmp_path / "11-1").write_bytes(_report() + counts)
    found = read_records(tmp_path)
    ((fault,), (row,), damaged) = found
    assert (fault.pid, fault.tid, fault.name, fault.ns, fault.stack, damaged) == (11, 12, "name", 99, b"abcdefgh", 0)
    assert fault.block is not None and fault.block.freed is not None
    assert (fault.block.address, fault.block.size, fault.block.pages_end) == (0x7000FE0, 24, 0x7000000 + _PAGE)
    assert (fault.block.allocated.stack, fault.block.freed.stack) == (b"allocate", b"freed...")
    assert (fault.block.allocated.tid, fault.block.freed.tid) == (12, 13)
    # bx, bp, sp and ip, where PERF_SAMPLE_REGS_USER has them
    assert [fault.block.allocated.registers[at] for at in (1, 6, 7, 8)] == [100, 101, 102, 103]
    assert tuple(row) == tuple(range(10))


def test_a_report_that_ends_early_is_left_out_and_what_comes_before_is_kept(tmp_path: Path) -> None:
    whole = _report()
    for size in range(1, len(whole)):
        (tmp_path / "11-1").write_bytes(whole + whole[:size])
        found = read_records(tmp_path)
        assert (len(found.faults), found.damaged) == (1, 1), size


@pytest.mark.parametrize("seed", range(200))
def test_changed_bytes_raise_nothing(seed: int, tmp_path: Path) -> None:
    choice = random.Random(seed)
    content = bytearray(_report())
    for _ in range(choice.randrange(1, 20)):
        content[choice.randrange(len(content))] = choice.randrange(256)
    (tmp_path / "11-1").write_bytes(content)
    found = read_records(tmp_path)
    assert len(found.faults) + found.damaged <= 2


def test_links_and_pipes_are_not_read(tmp_path: Path) -> None:
    reports = tmp_path / "reports"
    reports.mkdir()
    (tmp_path / "elsewhere").write_bytes(_report())
    (reports / "1-1").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(reports / "2-2")
    assert read_records(reports) == ([], [], 2)


@pytest.mark.parametrize("kind", range(9))
def test_forged_reports_are_shown_or_counted_as_damaged(kind: int, tmp_path: Path) -> None:
    """Any process that is guarded can write what it likes."""
    for signal in (0, 4, 6, 7, 8, 11, 64, 65, 255, 1 << 31):
        for state in range(5):
            (tmp_path / "11-1").write_bytes(_report(kind, signal, state))
            found = read_records(tmp_path)
            assert len(found.faults) + found.damaged == 1
            for fault in explained(found.faults, tmp_path / "lib.so")[0]:
                assert verdict(fault) and list(blocks(fault)) and document(fault)


def test_forged_maps_and_very_many_faults_are_damaged_reports(tmp_path: Path) -> None:
    (tmp_path / "11-1").write_bytes(_report(maps=b"zz-qq what\n"))
    (tmp_path / "12-1").write_bytes(_report() * 5000)
    found = read_records(tmp_path)
    assert (len(found.faults), found.damaged) == (1000, 2)
