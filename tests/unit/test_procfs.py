"""/proc and /sys, against what the C library and the process itself say."""

import os
import threading
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
