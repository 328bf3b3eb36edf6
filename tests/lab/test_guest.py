"""What a guest is to the commands that run in it."""

import os
import platform
import re
import signal
import sys
from pathlib import Path

import pytest

from insitu.lab import Guest
from insitu.lab.guests.failures import CommandTimeoutError

EVERY_BYTE = bytes(range(256)) * 4096  # 1 MiB


def test_uname_inside_differs_from_outside(shared_guest: Guest) -> None:
    inside = shared_guest.run(["uname", "-r"]).stdout.decode().strip()
    assert inside == shared_guest.kernel.release
    assert inside != platform.release()


@pytest.mark.parametrize("status", [0, 3, 255])
def test_an_exit_status_passes_through(shared_guest: Guest, status: int) -> None:
    assert shared_guest.run(["sh", "-c", f"exit {status}"]).status == status


def test_a_signal_passes_through_as_128_and_its_number(shared_guest: Guest) -> None:
    assert shared_guest.run(["sh", "-c", "kill -TERM $$"]).status == 128 + signal.SIGTERM


def test_a_command_that_does_not_exist_ends_with_127(shared_guest: Guest) -> None:
    assert shared_guest.run(["insitu-no-such-command"]).status == 127


def test_stdout_and_stderr_arrive_apart(shared_guest: Guest) -> None:
    result = shared_guest.run(["sh", "-c", "echo out; echo err >&2"])
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_a_mebibyte_of_stdin_and_stdout_arrives_unharmed(shared_guest: Guest) -> None:
    assert shared_guest.run(["cat"], stdin=EVERY_BYTE).stdout == EVERY_BYTE


def test_input_that_a_command_leaves_unread_does_not_reach_the_next(shared_guest: Guest) -> None:
    for _ in range(3):
        assert shared_guest.run(["head", "-c", "5"], stdin=EVERY_BYTE).stdout == EVERY_BYTE[:5]
        assert shared_guest.run(["cat"], stdin=b"next").stdout == b"next"


def test_a_mebibyte_of_stderr_arrives_unharmed(shared_guest: Guest) -> None:
    result = shared_guest.run(["sh", "-c", "cat >&2"], stdin=EVERY_BYTE)
    assert (result.stdout, result.stderr == EVERY_BYTE) == (b"", True)


def test_a_long_write_is_taken_whole_from_a_program_that_does_not_look(shared_guest: Guest) -> None:
    script = "import os; os.write(1, b'x' * 300_000); os.write(2, b'y' * 300_000); os.write(1, b'end')"
    done = shared_guest.run(["python3", "-c", script]).check()
    assert done.stdout == b"x" * 300_000 + b"end"
    assert done.stderr == b"y" * 300_000


def test_directory_environment_and_arguments_are_passed_on(shared_guest: Guest, tmp_path: Path) -> None:
    odd = "a 'b' \"c\" $d `e` \\ \n ü"
    result = shared_guest.run(
        ["sh", "-c", 'pwd; printf "%s|%s" "$ODD" "$1"', "sh", odd],
        cwd=tmp_path,
        env={"ODD": odd, "PATH": os.environ["PATH"]},
    )
    assert result.stdout.decode() == f"{tmp_path}\n{odd}|{odd}"


def test_this_machines_files_are_seen_and_cannot_be_changed(shared_guest: Guest, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("host")
    result = shared_guest.run(["sh", "-c", 'cat "$0"; echo guest >"$0"; echo new >"$0.new"; cat "$0"', str(file)])
    assert result.stdout == b"hostguest\n"
    assert file.read_text() == "host"
    assert not Path(f"{file}.new").exists()


def test_a_directory_of_this_machine_can_be_renamed_as_an_older_session_is(
    shared_guest: Guest, tmp_path: Path
) -> None:
    (tmp_path / "run.insitu").mkdir()
    (tmp_path / "run.insitu" / "file").write_text("old")
    result = shared_guest.run(["sh", "-c", 'mv -T "$0" "$0.old" && ls "$0.old"', str(tmp_path / "run.insitu")])
    assert (result.status, result.stdout) == (0, b"file\n")
    assert not (tmp_path / "run.insitu.old").exists()


def test_remounting_the_files_below_writable_does_not_help(shared_guest: Guest, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("host")
    result = shared_guest.run(
        [
            *("sh", "-c", 'mkdir /mnt/x; mount -t 9p -o trans=virtio root /mnt/x && echo new >"/mnt/x$0"'),
            str(tmp_path / "file"),
        ]
    )
    assert result.status != 0
    assert (tmp_path / "file").read_text() == "host"


def test_files_made_after_the_boot_are_seen(shared_guest: Guest, tmp_path: Path) -> None:
    assert shared_guest.run(["cat", str(tmp_path / "late")]).status != 0
    (tmp_path / "late").write_text("late")
    assert shared_guest.run(["cat", str(tmp_path / "late")]).stdout == b"late"
    (tmp_path / "late").write_text("later")
    assert shared_guest.run(["cat", str(tmp_path / "late")]).stdout == b"later"


def test_two_numa_nodes_appear_with_a_cpu_each(shared_guest: Guest) -> None:
    result = shared_guest.run(["sh", "-c", "cat /sys/devices/system/node/node[01]/cpulist"]).check()
    assert result.stdout.split() == [b"0", b"1"]
    # Each node is a socket: the kernel warns of nodes that share a cache, and ignores it.
    packages = "cat /sys/devices/system/cpu/cpu[01]/topology/physical_package_id"
    assert shared_guest.run(["sh", "-c", packages]).check().stdout.split() == [b"0", b"1"]
    assert b"WARNING" not in shared_guest.run(["dmesg"]).check().stdout


def test_kprobes_and_the_function_graph_tracer_are_there(shared_guest: Guest) -> None:
    tracing = "/sys/kernel/tracing"
    assert b"function_graph" in shared_guest.run(["cat", f"{tracing}/available_tracers"]).check().stdout
    shared_guest.run(["sh", "-c", f"echo 'p:insitu_lab vfs_read' >{tracing}/kprobe_events"]).check()
    shared_guest.run(["sh", "-c", f": >{tracing}/kprobe_events"]).check()


def test_a_module_of_the_kernel_can_be_loaded(shared_guest: Guest) -> None:
    shared_guest.run(["/bin/busybox", "modprobe", "loop"]).check()
    assert re.search(rb"^loop ", shared_guest.run(["cat", "/proc/modules"]).stdout, re.MULTILINE)


def test_a_timeout_ends_the_command_and_the_guest_goes_on(
    shared_guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A loaded machine's guest is slow, and does not hang.
    monkeypatch.setattr(sys.modules[Guest.__module__], "_ANSWER_SECONDS", 60.0)
    with pytest.raises(CommandTimeoutError, match="within 1 s"):
        shared_guest.run(["sleep", "1000"], timeout=1)
    assert shared_guest.run(["sh", "-c", "pgrep -x sleep || echo none"]).stdout == b"none\n"
