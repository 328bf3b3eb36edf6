"""The report of wall time, of recordings whose rows are written here."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import insitu
from insitu.commands import why
from insitu.convert.wall_stacks import is_idle
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.special_tables import WALL
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL, Frame
from insitu.views.terminal import Screen
from insitu.views.why import why_json, why_lines

Row = tuple[int, str, str, str, str, int, int]
"""Thread id, state, cause, call, object, holder (0: none) and milliseconds."""


def _recording(path: Path, threads: Mapping[int, tuple[int, str]], rows: Sequence[Row], **known: object) -> list[str]:
    """The report of a recording of threads (process id and name), all in one line of one program."""
    create(path, Manifest.here(procfs, start_ns=1_000_000_000, **known), procfs)
    with SessionWriter.on_disk(path) as writer:
        utids = {
            tid: writer.processes.thread(tid, writer.processes.process(pid), name=name)
            for tid, (pid, name) in threads.items()
        }
        stack = writer.intern_stack([Frame("main", "/bin/locks", "locks.c", 11)])
        for tid, state, cause, call, thing, holder, ms in rows:
            one = {"state": state, "cause": cause, "call": call, "object": thing, "dur_ns": ms * 1_000_000}
            one |= {"utid": utids[tid], "count": 1, "stack": stack, "holder": utids.get(holder)}
            writer.append(WALL, {name: [value] for name, value in one.items()})
        writer.finish(end_ns=2_000_000_000)
    text = io.StringIO()
    with insitu.open(path) as session:
        Screen(text).write(why_lines(session, Screen(text)))
    return text.getvalue().splitlines()


def test_waits_of_one_place_that_differ_in_the_address_are_one(tmp_path: Path) -> None:
    threads = {tid: (tid, "locks") for tid in (11, 12, 13)}
    rows = [
        (11, "blocked", "lock", "futex", "0x5500", 13, 300),
        (12, "blocked", "lock", "futex", "0x7700", 0, 100),
        (11, "blocked", "join", "futex", "0x10", 0, 200),
        (12, "blocked", "join", "futex", "0x20", 0, 200),
        (13, "blocked", "condition", "futex", "0x30", 0, 200),
    ]
    lines = _recording(tmp_path / "x.insitu", threads, rows)
    assert [line.partition(" (2 times")[0] for line in lines if " %  " in line] == [
        " 40.0 %  2 threads named locks waiting for 2 locks held by locks/13, in main() locks.c:11",
        " 40.0 %  2 threads named locks waiting for a thread to end (futex), in main() locks.c:11",
        " 20.0 %  locks/13 waiting for the condition variable at 0x30, in main() locks.c:11",
    ]
    with insitu.open(tmp_path / "x.insitu") as session:
        assert len(json.loads(why_json(session))["causes"]) == 5  # data keeps them apart


def test_one_lock_keeps_its_address_and_its_holders(tmp_path: Path) -> None:
    rows = [(11, "blocked", "lock", "futex", "0x5500", holder, ms) for holder, ms in ((12, 600), (13, 400))]
    found = _recording(tmp_path / "x.insitu", {tid: (11, f"t{tid}") for tid in (11, 12, 13)}, rows)
    assert [line[9:] for line in found if " %  " in line] == [
        f"t11/11 waiting for the lock at 0x5500 held by t{holder}/{holder}, in main() locks.c:11"
        for holder in (12, 13)
    ]


def test_a_lock_that_nothing_is_known_of_has_no_address(tmp_path: Path) -> None:
    found = _recording(tmp_path / "x.insitu", {1: (1, "a")}, [(1, "blocked", "lock", "futex", "", 0, 10)])
    assert "100.0 %  a/1 waiting for a lock, in main() locks.c:11" in found


def test_idle_kernel_threads_are_one_last_line_and_others_come_first(tmp_path: Path) -> None:
    kernel = {tid: (tid, f"kworker/{tid}") for tid in range(101, 131)}
    rows: list[Row] = [(tid, "blocked", "idle", "", "", 0, 2000) for tid in kernel]
    rows += [
        (1, "blocked", "sleep", "nanosleep", "", 0, 1900),
        (1, "user", "", "", "", 0, 100),
        (2, "blocked", "file", "fsync", "/tmp/f", 0, 300),
        (2, "blocked", "poll", "ppoll", "", 0, 700),
        (101, "kernel", "", "", "", 0, 50),
    ]
    path = tmp_path / "x.insitu"
    lines = _recording(path, {1: (1, "sleeper"), 2: (2, "writer"), **kernel}, rows, whole_system=True)
    assert lines[0] == "Wall time of the whole machine: 63.050 s in all, of 32 threads in 2.050 s"
    verdict = [line for line in lines if " %  " in line]
    assert verdict == [  # of 3.05 s that are not idle, 4 % are 122 ms
        "  3.0 %  sleeper/1 asleep (nanosleep), in main() locks.c:11",
        "  1.1 %  writer/2 waiting in ppoll for an event, in main() locks.c:11",
        "  0.5 %  writer/2 in fsync on /tmp/f, in main() locks.c:11",
        " 95.2 %  30 idle kernel threads",
    ]
    table = lines[next(at for at, line in enumerate(lines) if line.startswith("#")) + 2 :]
    assert [line.split()[1] for line in table[:3]] == ["writer", "sleeper", "kworker/101"]


@pytest.mark.parametrize(("count", "end"), [(4, "t1, t2, t3, t4"), (65, "t1, t2, t3, t4 and 61 more")])
def test_a_headline_says_how_many_names_it_leaves_out(tmp_path: Path, count: int, end: str) -> None:
    threads = {tid: (1, f"t{tid}") for tid in range(1, count + 1)}
    rows: list[Row] = [(tid, "user", "", "", "", 0, 100 - tid) for tid in threads]
    assert _recording(tmp_path / "x.insitu", threads, rows)[0].startswith(f"Wall time of {end}: ")


def _kernel(*functions: str) -> tuple[Frame, ...]:
    return tuple(Frame(each, "[kernel.kallsyms]", kind=KERNEL) for each in functions)


def test_a_kernel_thread_that_waits_for_work_is_idle_and_one_that_waits_for_a_disk_is_not() -> None:
    start = ("kthread", "ret_from_fork", "ret_from_fork_asm")
    assert is_idle(_kernel("schedule", "rescuer_thread", *start))
    assert is_idle(_kernel("schedule_timeout", "rcu_gp_fqs_loop", "rcu_gp_kthread", *start))
    assert is_idle(_kernel("schedule", "kthreadd", "ret_from_fork"))
    assert not is_idle(_kernel("io_schedule", "bit_wait_io", "jbd2_journal_commit_transaction", "kjournald2", *start))
    assert not is_idle(_kernel("schedule", "__mutex_lock.constprop.0", "worker_thread", *start))
    assert not is_idle(_kernel("schedule", "do_exit", "do_syscall_64"))


@pytest.mark.parametrize("word", ["missing.insitu", "there/is none"])
def test_a_session_that_is_not_there_is_not_taken_for_a_process_id(word: str) -> None:
    import argparse

    parser = argparse.ArgumentParser()
    why.arguments(parser)
    with pytest.raises(InsituError, match=f"^{word}: no such session"):
        why.run(parser.parse_args([word]))
