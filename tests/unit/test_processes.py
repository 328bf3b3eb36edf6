"""Replay of mappings, forks, execs and names."""

import numpy as np

from insitu.convert.formats.perf_records import EventAttr, side_records
from insitu.convert.formats.perf_stream import walk
from insitu.convert.processes import Processes, replay

from . import perf_bytes as pb

ATTR = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE))


def replayed(*records: bytes) -> Processes:
    return replay(side_records(walk(b"".join(records)), [ATTR]), {})


def where(processes: Processes, pid: int, ts_ns: int, address: int) -> tuple[str, int] | None:
    """Path and file offset at an address of a process at a time."""
    (epoch,) = processes.epochs(np.array([pid], np.int32), np.array([ts_ns], np.int64))
    if epoch < 0:
        return None
    module, offset = processes.spaces.find(int(epoch), np.array([address], np.uint64))
    return None if module[0] < 0 else (processes.spaces.modules[module[0]].path, int(offset[0]))


def test_an_address_is_found_in_the_file_mapped_there():
    processes = replayed(pb.mmap2(5, 0x1000, 0x2000, 0x500, "/a", 10))
    assert where(processes, 5, 11, 0x1010) == ("/a", 0x510)
    assert where(processes, 5, 11, 0x3000) is None
    assert where(processes, 6, 11, 0x1010) is None


def test_a_later_mapping_replaces_an_earlier_one_from_its_time_on():
    processes = replayed(pb.mmap2(5, 0x1000, 0x3000, 0, "/a", 10), pb.mmap2(5, 0x2000, 0x1000, 0, "/b", 20))
    assert where(processes, 5, 15, 0x2010) == ("/a", 0x1010)
    assert where(processes, 5, 25, 0x2010) == ("/b", 0x10)
    assert where(processes, 5, 25, 0x1010) == ("/a", 0x10)
    assert where(processes, 5, 25, 0x3010) == ("/a", 0x2010)


def test_mapping_a_part_of_the_same_file_again_changes_nothing():
    processes = replayed(pb.mmap2(5, 0x1000, 0x3000, 0, "/a", 10), pb.mmap2(5, 0x2000, 0x1000, 0x1000, "/a", 20))
    assert processes.spaces.epoch_count == 1
    assert where(processes, 5, 25, 0x2010) == ("/a", 0x1010)


def test_a_forked_child_has_its_parents_mappings_and_its_own_afterwards():
    processes = replayed(
        pb.mmap2(5, 0x1000, 0x1000, 0, "/a", 10),
        pb.fork(6, 5, 6, 5, 20),
        pb.mmap2(6, 0x8000, 0x1000, 0, "/child", 30),
        pb.mmap2(5, 0x8000, 0x1000, 0, "/parent", 40),
    )
    assert where(processes, 6, 25, 0x1010) == ("/a", 0x10)
    assert where(processes, 6, 50, 0x8010) == ("/child", 0x10)
    assert where(processes, 5, 50, 0x8010) == ("/parent", 0x10)


def test_exec_begins_with_an_empty_address_space():
    processes = replayed(
        pb.mmap2(5, 0x1000, 0x1000, 0, "/shell", 10),
        pb.comm(5, 5, "prog", 20, execed=True),
        pb.mmap2(5, 0x1000, 0x1000, 0, "/prog", 21),
    )
    assert where(processes, 5, 15, 0x1010) == ("/shell", 0x10)
    assert where(processes, 5, 25, 0x1010) == ("/prog", 0x10)


def test_records_may_come_in_any_order():
    records = [
        pb.comm(5, 5, "prog", 20, execed=True),
        pb.mmap2(5, 0x1000, 0x1000, 0, "/prog", 21),
        pb.mmap2(5, 0x1000, 0x1000, 0, "/shell", 10),
    ]
    assert where(replayed(*records), 5, 25, 0x1010) == ("/prog", 0x10)


def test_memory_of_no_file_belongs_to_the_process_that_mapped_it():
    processes = replayed(pb.mmap2(5, 0x1000, 0x1000, 0, "//anon", 10), pb.mmap2(6, 0x1000, 0x1000, 0, "//anon", 10))
    assert {module.pid for module in processes.spaces.modules} == {5, 6}


def test_a_thread_has_a_row_for_each_name_it_had():
    processes = replayed(
        pb.comm(5, 5, "sh", 10),
        pb.fork(6, 5, 6, 5, 20),
        pb.comm(6, 6, "ls", 30, execed=True),
        pb.exited(6, 6, 40),
    )
    rows = [(t.tid, t.ppid, t.comm, t.start_ns, t.end_ns) for t in processes.threads]
    assert rows == [(5, 0, "sh", 10, 0), (6, 5, "sh", 20, 30), (6, 5, "ls", 30, 40)]


def test_each_name_of_a_thread_goes_with_the_program_that_it_ran():
    processes = replayed(
        pb.comm(5, 5, "sh", 10),
        pb.mmap2(5, 0x1000, 0x1000, 0, "/bin/sh", 11),
        pb.fork(6, 5, 6, 5, 20),
        pb.comm(6, 6, "ls", 30, execed=True),
        pb.mmap2(6, 0x1000, 0x1000, 0, "/bin/ls", 31),
        pb.exited(6, 6, 40),
    )
    assert [(t.tid, t.comm, t.exe) for t in processes.threads] == [
        (5, "sh", "/bin/sh"),
        (6, "sh", "/bin/sh"),
        (6, "ls", "/bin/ls"),
    ]


def test_losses_are_kept_with_their_time():
    assert [(loss.ts_ns, loss.count) for loss in replayed(pb.lost(33, 13)).lost] == [(13, 33)]
