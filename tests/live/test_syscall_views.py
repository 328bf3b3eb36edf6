"""The views of a session of system calls, against what the traced program was made to do."""

import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import insitu
from insitu.session.weighted_stacks import Selection
from insitu.views.call_tree import call_tree

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

_PROGRAM = """
import os, socket, sys, time
directory, server = sys.argv[1:]
source = os.open(directory + "/source", os.O_RDONLY)
for _ in range(3):
    os.read(source, 1000)
target = os.open(directory + "/target", os.O_WRONLY | os.O_CREAT)
os.write(target, b"x" * 5000)
for name in "abcd":
    try:
        os.open(directory + "/missing", os.O_RDONLY)
    except OSError:
        pass
peer = socket.socket(socket.AF_UNIX)
peer.connect(server)
peer.send(b"1234567")
peer.recv(100)
time.sleep(0.3)
if os.fork() == 0:
    os.execv("/bin/true", ["true", "a b", "it's"])
os.wait()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that answers seven bytes with three."""
    path = str(tmp_path_factory.mktemp("server") / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.recv(100)
                peer.send(b"abc")

        thread = threading.Thread(target=answer)
        thread.start()
        yield path
        thread.join()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, server: str) -> Path:
    """A session of the program, with its waits."""
    directory = tmp_path_factory.mktemp("views")
    (directory / "source").write_bytes(bytes(10_000))
    (directory / "program.py").write_text(_PROGRAM)
    words = [sys.executable, "-S", str(directory / "program.py"), str(directory), server]
    command = [sys.executable, "-m", "insitu", "syscalls", "-q", "--off-cpu", "-o", str(directory / "run.insitu")]
    subprocess.run([*command, "--", *words], check=True, timeout=120)
    return directory


def _rows(recorded: Path, query: str) -> list[tuple[object, ...]]:
    with insitu.open(recorded / "run.insitu") as session:
        return session.sql(query).rows()


def test_files_have_the_bytes_that_were_read_and_written_and_the_searches_that_failed(recorded: Path) -> None:
    query = (
        f"select file, opened, not_found, read_bytes, write_bytes from syscall_file where file like '{recorded}/%'"
    )
    found = {str(file).rpartition("/")[2]: rest for file, *rest in _rows(recorded, query)}
    assert found["source"] == [1, 0, 3000, 0]
    assert found["target"] == [1, 0, 0, 5000]
    assert found["missing"] == [0, 4, 0, 0]


def test_a_descriptor_says_which_call_opened_it_and_what_went_through_it(recorded: Path) -> None:
    query = f"select opened_by, read_bytes, until_ns from syscall_descriptor where file = '{recorded}/source'"
    ((opened_by, read_bytes, _), *_) = _rows(recorded, query + " order by read_bytes desc")
    assert str(opened_by).startswith(f'openat(AT_FDCWD, "{recorded}/source", O_RDONLY')
    assert read_bytes == 3000


def test_a_peer_has_the_bytes_that_it_was_sent_and_sent(recorded: Path, server: str) -> None:
    query = f"select sockets, failed, read_bytes, write_bytes from syscall_peer where peer like '%{server}%'"
    assert _rows(recorded, query) == [(1, 0, 3, 7)]


def test_calls_are_added_up_as_strace_counts_them(recorded: Path) -> None:
    found = {name: rest for name, *rest in _rows(recorded, "select name, calls, errors from syscall_summary")}
    assert found["connect"] == [1, 0] and found["wait4"] == [1, 0] and found["execve"][0] == 2
    ((total,),) = _rows(recorded, "select count(*) from syscall")
    assert sum(calls for calls, _ in found.values()) == total


def test_the_time_of_every_thread_adds_up_and_the_sleep_is_in_its_call(recorded: Path) -> None:
    sums = _rows(recorded, "select tid, sum(percent) from thread_wall group by tid")
    assert len(sums) == 2 and all(abs(float(str(percent)) - 100) < 0.1 for _, percent in sums)
    query = "select dur_ns from thread_wall where state = 'blocked' and what = 'clock_nanosleep'"
    ((slept_ns,),) = _rows(recorded, query)
    assert 0.3e9 <= int(str(slept_ns)) < 0.45e9


def test_a_wait_is_as_long_as_its_sleep_and_what_it_waited_for_a_cpu(recorded: Path) -> None:
    query = """select count(*), count(*) filter (w.dur_ns = w.self_ns + r.dur_ns
                   and r.ts_ns + r.dur_ns = w.ts_ns + w.dur_ns)
               from span r join span w on w.id = r.parent where r.category = 'run-queue'"""
    ((runnable, exact),) = _rows(recorded, query)
    assert runnable == exact and int(str(runnable)) > 0


def test_the_report_shows_what_was_called_and_started(recorded: Path) -> None:
    words = [sys.executable, "-m", "insitu", "report", str(recorded / "run.insitu"), "--limit", "0"]
    shown = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120).stdout
    for title in ("# calls", "# descriptors", "# files", "# peers", "# processes", "# slowest calls"):
        assert f"\n{title}\n" in shown


def test_calls_are_drawn_by_their_names_without_recorded_stacks(recorded: Path) -> None:
    with insitu.open(recorded / "run.insitu") as session:
        stacks = session.stacks(Selection(table="span"))
    tree = call_tree(stacks, value="count")
    drawn = Counter[str]()
    for at in range(1, len(tree)):
        drawn[tree.names[tree.name[at]].function] += int(tree.own[at])
    counted = dict(_rows(recorded, "select name, count(*) from span where category = 'syscall' group by name"))
    assert {name: drawn[name] for name in counted} == counted
