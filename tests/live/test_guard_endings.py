"""insitu guard of programs that end, or treat SIGSEGV, in their own ways: a fault is reported, or said to be lost."""

import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

from insitu.debug.guard import guard
from insitu.debug.guard_program import LIBRARY, Settings
from insitu.views.guard import verdict

__all__ = ["unprivileged"]

_PROGRAM = Path(__file__).parent / "guard_unusual" / "endings.c"
_PAGE = os.sysconf("SC_PAGESIZE")

pytestmark = pytest.mark.skipif(not LIBRARY.exists(), reason="make setup has not built the guard allocator")


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("endings")
    options = ["-g", "-O0", "-w", "-pthread"]
    subprocess.run(["gcc", *options, "-o", folder / "endings", _PROGRAM], check=True)
    return str(folder / "endings")


@pytest.mark.parametrize(("word", "status"), [("b", 128 + signal.SIGSEGV), ("v", 3), ("s", 3)])
def test_faults_are_reported_whatever_the_program_does_with_the_signal(word: str, status: int, endings: str) -> None:
    found = guard([endings, word])
    assert (found.status, [fault.kind for fault in found.faults]) == (status, ["overrun"])
    assert found.faults[0].stack[0].function == "over"


def test_a_fault_that_was_blocked_before_the_start_is_reported(endings: str) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGSEGV])
    try:
        found = guard([endings, "o"])
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert (found.status, [fault.kind for fault in found.faults]) == (128 + signal.SIGSEGV, ["overrun"])


def test_memory_that_copies_of_stacks_take_is_counted(endings: str) -> None:
    (small,), (large,) = (guard([endings, "x"], Settings(stack=stack)).counts for stack in (2048, 8192))
    assert large.bytes_most - small.bytes_most == large.live_most * (8192 - 2048) > 0


def test_a_stack_without_room_is_called_so_and_unwound(endings: str) -> None:
    found = guard([endings, "d"])
    (fault,) = found.faults
    assert (found.status, fault.kind) == (128 + signal.SIGSEGV, "stack-overflow")
    assert {frame.function for frame in fault.stack[:10]} == {"deep"}
    assert verdict(fault).startswith("Stack overflow in deep (endings.c:")


@pytest.mark.parametrize(("word", "said"), [("f", True), ("n", True), ("i", False)])
def test_what_could_not_be_reported_is_said(word: str, said: bool, endings: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "insitu", "guard", "--", endings, word], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 128 + signal.SIGSEGV
    assert ("a memory fault was found, but its report cannot be written" in ran.stderr) == said
    assert "no fault was reported, but exit status 139 (SIGSEGV: " in " ".join(ran.stderr.split())


def test_blocks_for_which_the_kernel_refuses_pages_are_counted_and_why(endings: str) -> None:
    found = guard([endings, "m"])
    assert (found.status, found.faults) == (0, [])
    if found.counts[0].guard_pages:
        assert [note.partition(":")[0] for note in found.notes] == ["1 block was not guarded"]
        assert "madvise(2)" in found.notes[0] and "max_map_count" not in found.notes[0]


@pytest.mark.parametrize("word", ["e", "q", "c"])
def test_programs_that_end_by_other_ways_than_exit_are_counted_and_checked(word: str, endings: str) -> None:
    found = guard([endings, word])
    assert (found.status, [(fault.kind, fault.offset) for fault in found.faults]) == (5, [("overrun", 24)])
    assert len(found.counts) == (2 if word == "c" else 1)


def test_an_access_beyond_the_last_block_is_an_overrun_of_it(endings: str) -> None:
    (fault,) = guard([endings, "l"]).faults
    assert (fault.kind, fault.offset, fault.block and fault.block.size) == ("overrun", 24 + 8 + _PAGE, 24)


def test_an_array_freed_by_its_elements_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "array.cc").write_text(
        "#include <cstdlib>\n#include <string>\nint main() { free(new std::string[3]); }\n"
    )
    subprocess.run(["g++", "-g", "-w", "-o", tmp_path / "array", tmp_path / "array.cc"], check=True)
    (fault,) = guard([str(tmp_path / "array")]).faults
    assert (fault.kind, fault.offset) == ("invalid-free", 8)
    assert verdict(fault).endswith("from new[], whose elements begin there: free them by delete[], not by free")


def test_a_program_with_capabilities_is_refused_to_a_user_without(endings: str, unprivileged: Unprivileged) -> None:
    shutil.copy(endings, unprivileged.directory / "endings")
    raw = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)  # linux/capability.h: VFS_CAP_REVISION_2, CAP_NET_RAW
    os.setxattr(unprivileged.directory / "endings", "security.capability", raw)
    ran = unprivileged((), "guard", "--", "./endings", "o")
    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert "has capabilities (setcap): the loader ignores LD_PRELOAD" in ran.stderr
