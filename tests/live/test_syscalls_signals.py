"""Signals, stops, ends and programs of other threads by the eBPF engine: strace's lines."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.syscall_peer import compiled_program

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="BPF needs root"),
]
_SIGNAL = re.compile(r"---|\+\+\+")
_RETURNED = re.compile(r"(?:<\.\.\. )?(execve|pause)\b.*= (.*)")


def _lines(tracer: list[str], program: str, group: str, output: Path) -> list[list[str]]:
    """What a tracer says of signals and ends, and how calls that these interrupt return, thread by thread."""
    subprocess.run([*tracer, "-o", str(output), program, group], check=False, stderr=subprocess.DEVNULL)
    threads: dict[str, list[str]] = {}
    for line in output.read_text().splitlines():
        tid, text = line.split(None, 1)
        mine = threads.setdefault(tid, [])
        returned = _RETURNED.match(text)
        if returned:
            mine.append(f"{returned[1]} = {returned[2]}")
        elif _SIGNAL.match(text):
            mine.append(re.sub(r"si_.time=\d+", "T", text))
    pids = {tid: f"PID{at}" for at, tid in enumerate(threads)}

    def masked(line: str) -> str:
        return re.sub(r"\d+", lambda found: pids.get(found[0], found[0]), line)

    return [list(map(masked, mine)) for mine in threads.values()]


@pytest.mark.parametrize("group", ["ignored", "fatal", "stop", "threads", "execve"])
def test_signals_and_ends_are_straces(group: str, tmp_path: Path) -> None:
    """Whether a SIGCHLD finds another one pending, and is dropped, depends on the scheduler: one of some attempts."""
    program = compiled_program(tmp_path, "signals", "-pthread")
    ours = [sys.executable, "-m", "insitu", "syscalls", "-q", "--backend", "bpf"]
    for _ in range(4):
        found = _lines(ours, program, group, tmp_path / "ours")
        wanted = _lines(["strace", "-f"], program, group, tmp_path / "strace")
        if found == wanted:
            break
    assert found == wanted
