"""insitu proc, against what the program opened, and what /proc says of it."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from insitu.inspect.descriptors import Descriptor, descriptors, ends_of
from insitu.inspect.process_facts import facts_of
from insitu.inspect.socket_list import sockets_of
from insitu.kernel.taskstats import TaskStats
from insitu.views.process import Open, grown

_OPENS = """
import os, select, socket, sys, tempfile
pipe = os.pipe()
pair = socket.socketpair()
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
listening.listen(5)
client = socket.create_connection(listening.getsockname())
server, _ = listening.accept()
client.send(b"hello")
epoll = select.epoll()
epoll.register(pipe[0])
epoll.register(listening)
file = tempfile.TemporaryFile()
file.write(b"x" * 5000)
file.flush()
memory = os.memfd_create("mine")
os.ftruncate(memory, 4096)
event = os.eventfd(7)
itself = os.pidfd_open(os.getpid())
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.bind((0, 0))
abstract = socket.socket(socket.AF_UNIX)
abstract.bind("\\0insitu-test-" + str(os.getpid()))
abstract.listen()
names = dict(pipe_read=pipe[0], pipe_write=pipe[1], left=pair[0].fileno(), right=pair[1].fileno())
names |= dict(listening=listening.fileno(), client=client.fileno(), server=server.fileno(), epoll=epoll.fileno())
names |= dict(file=file.fileno(), memory=memory, event=event, itself=itself, netlink=netlink.fileno())
names |= dict(abstract=abstract.fileno(), ports=[client.getsockname()[1], listening.getsockname()[1]])
import asyncio
import json
print(json.dumps(names), flush=True)
sys.stdin.read()
"""
_LEAKS = """
import os, time
print(flush=True)
while True:
    try:
        os.open("/etc/hostname", os.O_RDONLY)
        os.close(os.open("/etc/passwd", os.O_RDONLY))
    except OSError:
        pass
    time.sleep(0.01)
"""


@contextmanager
def _running(*command: str) -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _command(*words: object, status: int = 0) -> str:
    command = [sys.executable, "-m", "insitu", "proc", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def opened() -> Iterator[tuple[int, dict[str, Any]]]:
    """A process, and the numbers of its descriptors by name."""
    with _running(sys.executable, "-c", _OPENS) as process:
        assert process.stdout is not None
        yield process.pid, json.loads(process.stdout.readline())


def test_each_kind_of_descriptor_says_what_it_is_open_on(opened: tuple[int, dict[str, Any]]) -> None:
    pid, names = opened
    found = {each.number: each for each in descriptors(pid)}
    assert sorted(found) == sorted(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())

    def of(name: str) -> Descriptor:
        return found[names[name]]

    client, listening = names["ports"]
    assert (of("listening").kind, of("listening").target, of("listening").details) == (
        "TCP socket",
        f"127.0.0.1:{listening}",
        "listen",
    )
    assert of("client").target == f"127.0.0.1:{client} -> 127.0.0.1:{listening}"
    assert of("server").details == "established, 5 bytes to read"
    assert (of("left").kind, of("left").details) == ("UNIX stream socket", "connected")
    assert (of("abstract").target, of("abstract").details) == (f"@insitu-test-{pid}", "listen")
    assert of("netlink").kind == "netlink socket"
    assert of("epoll").details == f"watches 2 descriptors ({names['pipe_read']}, {names['listening']})"
    assert (of("file").kind, of("file").offset, of("file").details) == (
        "file",
        5000,
        "deleted, 8,192 bytes on the disk",
    )
    assert (of("memory").kind, of("memory").details) == ("memfd", "4,096 bytes")
    assert (of("event").kind, of("event").details) == ("eventfd", "count 7")
    assert (of("itself").kind, of("itself").details) == ("pidfd", f"process {pid}")
    assert (of("pipe_read").access, of("pipe_write").access) == ("r", "w")


def test_the_other_ends_of_pipes_and_sockets_are_found(opened: tuple[int, dict[str, Any]]) -> None:
    pid, names = opened
    ends = ends_of(pid, descriptors(pid))
    for one, other in (("pipe_read", "pipe_write"), ("left", "right"), ("client", "server")):
        for a, b in ((one, other), (other, one)):
            assert (pid, names[b]) in [(end.pid, end.descriptor) for end in ends[names[a]]]
    # A process that this one starts in the moment has the descriptor, too, until it calls exec.
    assert (os.getpid(), Path("/proc/self/comm").read_text().strip()) in [(end.pid, end.name) for end in ends[0]]


@pytest.mark.parametrize("command", ["proc", "stacks"])
def test_processes_are_named_in_any_way(opened: tuple[int, dict[str, Any]], command: str) -> None:
    pid, _ = opened
    for words in ([f"{pid}"], ["-p", f"{pid}"], ["-p", f"{pid}", "-p", f"{pid}"]):
        done = subprocess.run([sys.executable, "-m", "insitu", command, *words], capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.count(f"({pid})") == 1


def test_memory_is_what_the_kernel_adds_up(opened: tuple[int, dict[str, Any]]) -> None:
    pid, _ = opened

    def rollup() -> dict[str, int]:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        return {name: int(text.split()[0]) << 10 for name, text in (line.split(":") for line in lines)}

    names = ("Rss", "Pss", "Private_Dirty", "Swap")
    for _ in range(100):  # others that map the same files begin and end, which changes its share (Pss)
        before, memory, after = rollup(), facts_of(pid).memory, rollup()
        if before == after:
            break
    assert {name: memory[name] for name in names} == {name: after[name] for name in names}


def test_too_many_open_files_is_said_with_what_they_are() -> None:
    """The case docs/cases/too-many-open-files.md."""
    script = f"ulimit -n 64; exec {sys.executable} -c '{_LEAKS}'"
    with _running("sh", "-c", script) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while len(list(Path(f"/proc/{process.pid}/fd").iterdir())) < 60:
            time.sleep(0.01)
        text = _command(process.pid)
    assert " descriptors of 64 (" in text and " are file /etc/hostname" in text
    assert 'fail with EMFILE, "Too many open files"' in text
    count, reached = int(text.partition(" descriptors of 64 (")[0].split()[-1]), "  The limit is reached: open(), "
    assert (reached if count >= 64 else f"  {64 - count} more, and open(), ") in text


_ACCEPTS = """
import socket
listening = socket.create_server(("127.0.0.1", 0), backlog=60)
pairs = []
print(listening.getsockname()[1], flush=True)
while True:
    input()
    for _ in range(45):
        client = socket.create_connection(listening.getsockname())
        pairs.append(listening.accept()[0])
        client.close()
    print(flush=True)
"""


def test_sockets_of_one_kind_are_one_line_though_their_other_ends_differ() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _ACCEPTS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        port = int(process.stdout.readline())
        before = Open(descriptors(process.pid), {}, 1024)
        process.stdin.write("\n")
        process.stdin.flush()
        process.stdout.readline()
        now = Open(descriptors(process.pid), {}, 1024)
        text = _command(process.pid)
        process.kill()
    assert grown(before, now) == [(f"TCP sockets in close wait on 127.0.0.1:{port}", 45)]
    assert f": 45 are TCP sockets in close wait on 127.0.0.1:{port}\n" in text


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for BPF")
def test_watching_shows_what_grows_and_where_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fdleak").write_text("a file that is not ours")
    monkeypatch.chdir(tmp_path)
    with _running(sys.executable, "-c", _LEAKS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        at_least = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
        text = _command("--watch", "-d", "4", "--interval", "1", process.pid)
    assert "descriptors: most are file /etc/hostname (+" in text
    _, first, second, *_ = text.splitlines()  # what the first change is counted from
    (seconds, count, *kinds), (_, later, change, *_) = first.split(), second.split()
    assert seconds == "0.0" and int(count) >= at_least and " ".join(kinds).startswith(tuple("123456789"))
    assert int(later) == int(count) + int(change)
    assert "passwd" not in text
    _, _, stacks = text.partition("Made meanwhile and still open, by stack:")
    assert "open" in stacks and "]: " in stacks


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which process? (insitu proc PID, or -n NAME)"),
        (["4194303"], "no process 4194303 (ps -e lists processes)"),
        (["-d", "3", "1"], "-d is for --watch"),
        (["--watch", "--json", "1"], "--watch writes lines, no JSON (insitu proc --json PID, twice)"),
        (["--watch", "1", "2"], "--watch looks at one process"),
    ],
)
def test_a_wrong_request_is_one_line(words: Sequence[str], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "insitu", "proc", *words], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", f"insitu: {message}\n") and done.returncode in (1, 2)


def test_a_caller_may_run_an_event_loop() -> None:
    """As notebooks do: the library that speaks netlink would run the loop of this thread."""

    async def ask() -> None:
        left, right = socket.socketpair()
        with left, right, closing(TaskStats()) as stats:
            inodes = [os.fstat(end.fileno()).st_ino for end in (left, right)]
            assert sockets_of(os.getpid())[inodes[0]].peer == inodes[1]
            assert stats.process(os.getpid()).run_ns > 0

    # In a thread of its own, as other tests have left a loop that runs in this one.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, ask()).result()


def test_what_cannot_be_compared_is_named(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.insitu" for name in ("proc", "stacks", "none")}
    with _running("sleep", "100") as process:
        for name in ("proc", "stacks"):
            command = [sys.executable, "-m", "insitu", name, "-q", "-o", paths[name], str(process.pid)]
            subprocess.run(command, check=True, capture_output=True)

    def refused(*names: str) -> str:
        command = [sys.executable, "-m", "insitu", "diff", *(paths[name] for name in names)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        return done.stderr

    assert refused("proc", "none").startswith(f"insitu: {paths['none']}: no such file or directory")
    both = f"{paths['proc']} (proc), {paths['stacks']} (stacks)"
    assert (
        refused("proc", "stacks") == f"insitu: these are two kinds of recordings: {both}; compare two of one kind\n"
    )
