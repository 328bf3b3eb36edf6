"""/proc and /sys, against what the C library and the process itself say."""

import ctypes
import mmap
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.kernel import procfs


@given(st.sets(st.integers(0, 200)))
def test_a_cpu_list_is_read_back(cpus: set[int]) -> None:
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    text = ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges)
    assert procfs.cpu_list(text + "\n") == sorted(cpus)


def test_online_cpus_are_as_many_as_the_c_library_counts() -> None:
    assert len(procfs.online_cpus()) == os.sysconf("SC_NPROCESSORS_ONLN")


def test_a_new_thread_is_among_the_threads() -> None:
    go = threading.Event()
    thread = threading.Thread(target=go.wait)
    thread.start()
    assert set(procfs.threads(os.getpid())) >= {os.getpid(), thread.native_id}
    go.set()
    thread.join()


def test_status_names_process_parent_and_user() -> None:
    found = procfs.status(os.getpid())
    assert (found.pid, found.ppid, found.uid) == (os.getpid(), os.getppid(), os.geteuid())


def test_areas_hold_the_executable() -> None:
    exe = Path("/proc/self/exe").readlink()
    own = [area for area in procfs.areas(os.getpid()) if area.path == os.fsencode(exe)]
    assert own
    assert {area.inode for area in own} == {exe.stat().st_ino}
    assert any("x" in area.permissions for area in own)


def test_a_missing_process_is_a_lookup_error() -> None:
    with pytest.raises(ProcessLookupError):
        procfs.threads(4194304)
    with pytest.raises(ProcessLookupError):
        list(procfs.areas(4194304))


def test_a_process_started_between_two_looks_at_the_clock() -> None:
    tick = os.sysconf("SC_CLK_TCK")
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        after = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert int(before * tick) <= procfs.start_time(process.pid) <= after * tick + 1
        assert process.stdin is not None
        process.stdin.close()


def test_the_program_and_the_mapped_files_of_a_process_can_be_opened() -> None:
    path, name = procfs.exe(os.getpid())
    assert (Path(path).stat().st_ino, name) == (Path(name).stat().st_ino, os.readlink("/proc/self/exe"))  # noqa: PTH115
    area = next(area for area in procfs.areas(os.getpid()) if area.path == os.fsencode(name))
    try:
        assert Path(procfs.mapped_file(os.getpid(), area)).stat().st_ino == area.inode
    except PermissionError:
        pytest.skip("/proc/PID/map_files may not be read here")


def test_memory_of_this_process_reads_as_it_is() -> None:
    buffer = ctypes.create_string_buffer(b"some memory")
    assert procfs.memory(os.getpid(), ctypes.addressof(buffer), 11) == b"some memory"


def test_this_process_sees_our_files_under_its_own_id() -> None:
    assert procfs.sees_our_files(os.getpid())
    assert procfs.status(os.getpid()).inner_pid == os.getpid()
    assert Path(procfs.root(os.getpid())).stat().st_ino == Path("/").stat().st_ino


@pytest.mark.parametrize(
    "text", [b"", b"x", b"Uid:\t\nTgid:\tx\n", b"1-2 r-xp 0 0 1\n", b"\xff-1 r 0 0:0 0\n", b"1 (a) S 2\n"]
)
def test_files_of_another_format_are_an_error_with_their_name(monkeypatch: pytest.MonkeyPatch, text: bytes) -> None:
    monkeypatch.setattr(procfs, "_bytes", lambda path: text)
    for read in (procfs.status, procfs.start_time, lambda pid: procfs.run_delay_ns(pid, pid)):
        with pytest.raises(OSError, match="not in the kernel's format: '/proc/7/"):
            read(7)
    if text:
        with pytest.raises(OSError, match="'/proc/7/maps'"):
            list(procfs.areas(7))


def test_names_of_a_process_end_no_line_of_its_files(tmp_path: Path) -> None:
    """The kernel escapes newlines alone (fs/proc/array.c, fs/proc/task_mmu.c)."""
    name = tmp_path / "a\rb\x0b\x1c\nc"
    name.write_bytes(bytes(4096))
    renamed = b"x\rUid:\t0 0"
    with name.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        assert os.fsencode(name) in {area.path for area in procfs.areas(os.getpid())}
    with subprocess.Popen(
        ["sh", "-c", 'printf "$1" > /proc/$$/comm; echo; read word', "sh", renamed], stdin=-1, stdout=-1
    ) as shell:
        shell.stdout.readline()
        assert procfs.status(shell.pid)[3:5] == (os.getuid(), renamed)
        shell.communicate(b"\n")
