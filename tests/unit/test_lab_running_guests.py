"""Which processes `insitu lab ps` and `stop` take for a guest: QEMU that was started when guest.json says, only."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.lab.directories import guests_directory
from insitu.lab.guests.running_guests import find_guest, qemu_start_time, running_guests, stop_guest


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return guests_directory()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process whose executable has QEMU's name."""
    program = tmp_path / "qemu-system-x86_64"
    shutil.copyfile(shutil.which("sleep") or "/bin/sleep", program)
    program.chmod(0o755)
    with subprocess.Popen([program, "1000"]) as process:
        yield process
        process.kill()


def started_ticks(pid: int) -> int:
    """The start time in clock ticks since boot: field 22 of proc_pid_stat(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def describe(directory: Path, pid: int, start: int) -> None:
    home = directory / "g"
    home.mkdir()
    fields = {"name": "g", "kernel": "6.1", "release": "6.1.0", "cpus": 2, "memory": "1G", "accelerator": "tcg"}
    fields |= {"pid": os.getpid(), "qemu": pid, "qemu_start": start, "started": 1.0}
    (home / "guest.json").write_text(json.dumps(fields))


def test_a_running_guest_is_listed_and_stopped_by_sigterm(directory: Path, qemu: "subprocess.Popen[bytes]") -> None:
    describe(directory, qemu.pid, started_ticks(qemu.pid))
    [guest] = running_guests()
    assert (guest.name, guest.qemu) == ("g", qemu.pid)
    stop_guest(guest)
    assert qemu.wait(10) == -signal.SIGTERM
    assert running_guests() == []
    stop_guest(guest)  # nothing is left to stop


def test_a_zombie_does_not_count_as_a_guest(directory: Path, qemu: "subprocess.Popen[bytes]") -> None:
    describe(directory, qemu.pid, started_ticks(qemu.pid))
    qemu.kill()
    os.waitid(os.P_PID, qemu.pid, os.WEXITED | os.WNOWAIT)
    assert running_guests() == []


def test_a_process_that_got_qemus_former_pid_is_neither_listed_nor_signalled(
    directory: Path, qemu: "subprocess.Popen[bytes]"
) -> None:
    describe(directory, qemu.pid, started_ticks(qemu.pid))
    [guest] = running_guests()
    (directory / "g/guest.json").unlink()
    (directory / "g").rmdir()
    # The same pid, but an earlier start: what remains of a guest whose pid another QEMU has now.
    describe(directory, qemu.pid, started_ticks(qemu.pid) - 1)
    assert running_guests() == []
    with pytest.raises(InsituError, match="no guest is running"):
        find_guest("g")
    stale = type(guest)(**{**vars(guest), "qemu_start": guest.qemu_start - 1})
    stop_guest(stale)
    with pytest.raises(subprocess.TimeoutExpired):
        qemu.wait(0.2)


def test_a_process_that_is_not_qemu_is_neither_listed_nor_signalled(directory: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as other:
        describe(directory, other.pid, started_ticks(other.pid))
        assert running_guests() == []
        assert qemu_start_time(other.pid) is None
        other.kill()
        assert other.wait(10) == -signal.SIGKILL


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"qemu": 1}', "\0", '{"qemu": -1, "qemu_start": "x"}'])
def test_a_damaged_description_is_passed_over(directory: Path, text: str) -> None:
    (directory / "g").mkdir()
    (directory / "g/guest.json").write_text(text)
    assert running_guests() == []
