"""Replay of mappings, forks, execs and names."""

import numpy as np

from insitu.convert.formats.perf_records import EventAttr
from insitu.convert.formats.perf_stream import walk
from insitu.convert.formats.side_records import SideRecords
from insitu.convert.processes import Processes, ProcessLife, replay

from . import perf_bytes as pb

ATTR = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE))


def replayed(*records: bytes) -> Processes:
    return replay(SideRecords(walk(b"".join(records)), [ATTR]), {})


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


Life = tuple[int, int, int, list[tuple[int, str]]]


def lives(processes: Processes) -> list[Life]:
    return [(life.tid, life.start_ns, life.end_ns, life.names) for life in processes.lives]


def test_a_thread_keeps_each_name_it_had_with_its_time():
    processes = replayed(
        pb.comm(5, 5, "sh", 10),
        pb.fork(6, 5, 6, 5, 20),
        pb.comm(6, 6, "ls", 30, execed=True),
        pb.exited(6, 6, 40),
    )
    assert lives(processes) == [(5, 10, 0, [(10, "sh")]), (6, 20, 40, [(20, "sh"), (30, "ls")])]


def test_exec_keeps_the_process_and_changes_its_program():
    processes = replayed(
        pb.comm(5, 5, "sh", 10),
        pb.mmap2(5, 0x1000, 0x1000, 0, "/bin/sh", 11),
        pb.fork(6, 5, 6, 5, 20),
        pb.fork(7, 5, 7, 5, 25),
        pb.comm(6, 6, "ls", 30, execed=True),
        pb.mmap2(6, 0x1000, 0x1000, 0, "/bin/ls", 31),
        pb.exited(6, 6, 40),
    )
    assert processes.processes == [
        ProcessLife(5, 0, 10, 0, "/bin/sh"),
        ProcessLife(6, 5, 20, 40, "/bin/ls"),
        ProcessLife(7, 5, 25, 0, "/bin/sh"),
    ]


def test_a_pid_that_is_used_again_is_another_process():
    def used(end: list[bytes]) -> Processes:
        return replayed(
            pb.comm(1, 1, "init", 1),
            pb.fork(6, 1, 6, 1, 10),
            pb.comm(6, 6, "first", 11, execed=True),
            pb.mmap2(6, 0x1000, 0x1000, 0, "/first", 12),
            pb.fork(6, 6, 16, 6, 15),
            *end,
            pb.fork(6, 1, 6, 1, 30),
            pb.comm(6, 6, "second", 31, execed=True),
            pb.mmap2(6, 0x1000, 0x1000, 0, "/second", 32),
        )

    for processes, ended in ((used([pb.exited(6, 16, 19), pb.exited(6, 6, 20)]), 20), (used([]), 30)):
        assert processes.processes[1:] == [
            ProcessLife(6, 1, 10, ended, "/first"),
            ProcessLife(6, 1, 30, 0, "/second"),
        ]
        rows = processes.process_rows(np.array([6, 6, 6, 99], np.int32), np.array([15, 29, 33, 15], np.int64))
        assert rows.tolist() == [1, 1, 2, -1]
        assert [life.names[-1][1] for life in processes.lives if life.tid == 6] == ["first", "second"]
        threads = processes.thread_rows(np.array([6, 6], np.int32), np.array([15, 33], np.int64)).tolist()
        assert [processes.lives[row].process for row in threads] == [1, 2]
        assert where(processes, 6, 15, 0x1010) == ("/first", 0x10)
        assert where(processes, 6, 35, 0x1010) == ("/second", 0x10)
        assert all(life.end_ns for life in processes.lives if life.process == 1)


def test_a_tid_that_is_used_again_in_the_same_process_is_another_thread():
    processes = replayed(
        pb.comm(5, 5, "prog", 10),
        pb.fork(5, 5, 8, 5, 20),
        pb.exited(5, 8, 30),
        pb.fork(5, 5, 8, 5, 40),
        pb.comm(5, 8, "worker", 41),
    )
    assert lives(processes)[1:] == [(8, 20, 30, [(20, "prog")]), (8, 40, 0, [(40, "prog"), (41, "worker")])]
    assert {life.process for life in processes.lives} == {0}


def test_a_process_ends_with_its_last_thread():
    processes = replayed(pb.comm(5, 5, "prog", 10), pb.fork(5, 5, 8, 5, 20), pb.exited(5, 5, 30), pb.exited(5, 8, 50))
    assert processes.processes == [ProcessLife(5, 0, 10, 50, "")]


def test_a_process_that_began_while_the_running_ones_were_listed_is_one_process():
    listed = [pb.fork(6, 5, 6, 5, 10), pb.comm(6, 6, "child", 10), pb.mmap2(6, 0x1000, 0x1000, 0, "/child", 10)]
    processes = replayed(*listed, pb.fork(6, 5, 6, 5, 12), pb.exited(6, 6, 40))
    assert processes.processes == [ProcessLife(6, 5, 10, 40, "/child")]
    assert lives(processes) == [(6, 10, 40, [(10, "child")])]


Mapped = tuple[int, int, int, int, int, str]


def mapped(processes: Processes) -> set[Mapped]:
    """Pid, from when to when, first address, length and path of each mapping."""
    return {
        (
            processes.processes[each.process].pid,
            each.start_ns,
            each.end_ns,
            each.mapping.start,
            each.mapping.end - each.mapping.start,
            processes.spaces.modules[each.mapping.module].path,
        )
        for each in processes.mappings
    }


def test_mappings_end_where_others_take_their_place_at_exec_and_at_exit():
    processes = replayed(
        pb.comm(5, 5, "prog", 9),
        pb.mmap2(5, 0x1000, 0x3000, 0, "/a", 10),
        pb.mmap2(5, 0x2000, 0x1000, 0, "/b", 20),
        pb.comm(5, 5, "next", 30, execed=True),
        pb.mmap2(5, 0x8000, 0x1000, 0, "/c", 31),
        pb.exited(5, 5, 40),
    )
    assert mapped(processes) == {
        (5, 10, 20, 0x1000, 0x3000, "/a"),
        (5, 20, 30, 0x1000, 0x1000, "/a"),
        (5, 20, 30, 0x2000, 0x1000, "/b"),
        (5, 20, 30, 0x3000, 0x1000, "/a"),
        (5, 31, 40, 0x8000, 0x1000, "/c"),
    }


def test_a_child_that_never_calls_exec_has_the_mappings_of_its_parent_at_the_fork():
    processes = replayed(
        pb.comm(5, 5, "server", 9),
        pb.mmap2(5, 0x1000, 0x1000, 0, "/a", 10),
        pb.fork(6, 5, 6, 5, 20),
        pb.fork(7, 5, 7, 5, 21),
        pb.comm(7, 7, "other", 22, execed=True),
        pb.mmap2(5, 0x5000, 0x1000, 0, "/later", 30),
        pb.exited(6, 6, 50),
    )
    assert mapped(processes) == {
        (5, 10, 0, 0x1000, 0x1000, "/a"),
        (5, 30, 0, 0x5000, 0x1000, "/later"),
        (6, 20, 50, 0x1000, 0x1000, "/a"),
    }


def test_the_vdso_of_a_32_bit_process_is_recognised_by_its_address():
    processes = replayed(
        pb.mmap2(5, 0xF7F00000, 0x2000, 0, "[vdso]", 1), pb.mmap2(6, 2**47 - 2**20, 0x2000, 0, "[vdso]", 2)
    )
    assert [module.compat for module in processes.spaces.modules] == [True, False]


def test_losses_are_kept_with_their_time():
    assert [(loss.ts_ns, loss.count) for loss in replayed(pb.lost(33, 13)).lost] == [(13, 33)]
