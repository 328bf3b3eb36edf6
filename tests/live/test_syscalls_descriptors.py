"""What descriptors are open on (-y, -yy), as the eBPF engine has it from the kernel: lines equal strace's."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from tests.live.syscall_lines import trace
from tests.live.syscall_peer import Threads, compare, compiled_program, threads_of
from tests.live.test_syscalls_fidelity import OF_A_RUN, emptied

import insitu
from insitu.record.sources.syscalls import SyscallsSource
from insitu.syscalls.argument import TextOptions
from insitu.syscalls.engine_options import EngineOptions

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root"),
]


# Its standard error is not the same file under both.
_OF_THE_SHELL = ((r"^(?:fcntl\(\d+<.*(?:F_DUPFD, 10|F_SETFD).*|close\(2<.*)", ""),)


@pytest.mark.parametrize("level", [1, 2])
def test_descriptors_are_described_as_strace_does(level: int, tmp_path: Path) -> None:
    def run(command: Sequence[str], text: TextOptions) -> Threads:
        events, _ = trace(command, options=EngineOptions(descriptors=level), source_class=SyscallsSource)
        return threads_of(events, text)

    work = tmp_path / "work"
    found = compare(
        [compiled_program(tmp_path, "descriptors"), str(work)],
        tmp_path / "strace.txt",
        prepare=emptied(work),
        masks=[*OF_A_RUN, *_OF_THE_SHELL, (r"\b\d{5,}\b", "N")],
        text=TextOptions(descriptors=level),
        options=["-" + "y" * level],
        run=run,
    )
    assert not found, found


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    """A server on the loopback interface whose backlog takes what a program sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


_CLIENT = """
import os, socket, sys
connected = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
os.write(connected.fileno(), b"data")
"""


def _insitu(*words: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "insitu", "syscalls", "-q", *words], capture_output=True, text=True, check=True
    ).stderr


def test_a_filter_selects_calls_by_the_address_of_their_socket(listening: socket.socket, tmp_path: Path) -> None:
    port = listening.getsockname()[1]
    client = [sys.executable, "-S", "-c", _CLIENT, str(port)]
    expression = f"fd.rport = {port} and fd.rip = 127.0.0.1 and evt.type = write"
    line = f'write(3<TCP:[127.0.0.1:N->127.0.0.1:{port}]>, "data", 4) = 4'
    live = _insitu("--backend", "bpf", "-yy", "--filter", expression, *client)
    assert " ".join(live.replace(live.partition("127.0.0.1:")[2].partition("-")[0], "N").split()) == line
    session = tmp_path / "run.insitu"
    _insitu("-o", str(session), *client)
    with insitu.open(session) as opened:
        ((path, peers),) = opened.sql(
            "select path, (select count(*) from syscall_peer) from descriptor where path like 'TCP:%'"
        ).rows()
    assert path.endswith(f"->127.0.0.1:{port}]") and path.startswith("TCP:[127.0.0.1:") and peers == 1
    printed = subprocess.run(
        [sys.executable, "-m", "insitu", "syscalls", "--filter", expression, str(session)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert " ".join(printed.split()) == 'write(3, "data", 4) = 4'


def test_sockets_that_were_open_before_have_their_addresses(listening: socket.socket, tmp_path: Path) -> None:
    port = listening.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)) as connected:
        output = tmp_path / "out"
        words = ["--backend", "bpf", "-yy", "-e", "write", "-o", str(output), "echo", "data"]
        subprocess.run([sys.executable, "-m", "insitu", "syscalls", "-q", *words], check=True, stdout=connected)
        mine = connected.getsockname()[1]
    assert f'write(1<TCP:[127.0.0.1:{mine}->127.0.0.1:{port}]>, "data\\n", 5)' in output.read_text()
