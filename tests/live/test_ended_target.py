"""Commands for a process that has ended but that nobody has waited for: one line, whatever the command."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture
def zombie() -> Iterator[int]:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    yield process.pid
    process.wait()


@pytest.mark.parametrize(
    "words",
    [
        "top -b -p",
        "top -b --no-bpf -p",
        "calls --user -p",
        "stat -e cs -p",
        "events -e sched:sched_switch -d 1 -p",
        "why -d 1 -p",
        "delays -d 1 -p",
    ],
)
def test_a_process_that_has_ended_is_said_to_have(words: str, zombie: int, tmp_path: os.PathLike[str]) -> None:
    command = [sys.executable, "-m", "insitu", *words.split(), str(zombie)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"insitu: process {zombie} has ended\n"
    assert not os.listdir(tmp_path)  # noqa: PTH208


def test_no_header_is_printed_before_user_functions_are_attached() -> None:
    """A limit of descriptors that it cannot raise, and that only shows when it attaches, keeps it from that."""
    late = "from insitu import cli, limits; limits.refuse_few_descriptors = lambda least: None; exit(cli.main())"
    shell = f"ulimit -n 8; exec {sys.executable} -c '{late}' calls --user -q {sys.executable} -c pass"
    done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert "Too many open files" in done.stderr
    assert done.returncode != 0 and "duration" not in done.stdout + done.stderr
