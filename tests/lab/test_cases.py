"""The cases of docs/cases: their very scripts, in a guest, show what their pages say."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.lab.conftest import Guests
from tests.lab.kernels import LONG_TESTS

_PAGES = Path(__file__).parents[2] / "docs/cases"
_RUN = Path(__file__).parent / "tools/run_traces.py"
# QEMU 7.2 emulates AVX2 wrongly: with it, numpy.argsort answers orders that are none.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
_TRACES = {
    "pages": ["pages.bt", "--", "./grow", "1024"],
    "huge": ["pages.bt", "--", "./grow", "8192"],
    "writers": ["-a", "writers.bt", "loop0", "-c", "sh writes.sh"],
    "behind": ["-a", "behind.bt", "--", "sh", "both.sh"],
    "fails": ["fails.bt", "--", "sh", "small.sh"],
    "stack": ["stack.bt", "--", "sh", "small.sh"],
}
_CLEAN = "umount /run/mnt; losetup -d /dev/loop0; rm /run/disk; echo 1 >/sys/block/zram0/reset"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the pages show: a name and a colon, then the block."""
    directory = tmp_path_factory.mktemp("cases")
    for page in _PAGES.glob("*.md"):
        for name, text in re.findall(r"`([\w.]+)`:\n\n```\w*\n(.*?)```", page.read_text(), re.DOTALL):
            (directory / name).write_text(text)
    for program in ("grow", "deep"):
        subprocess.run(["gcc", "-o", directory / program, directory / f"{program}.c"], check=True)
    return directory


@pytest.fixture(scope="module", params=LONG_TESTS)
def outputs(request: pytest.FixtureRequest, guests: Guests, files: Path) -> dict[str, str]:
    """What each trace printed in a shared guest."""
    guest = guests.running(request.param)
    made = guest.run(["sh", "-e", files / "disks.sh"])
    assert made.status == 0, made.stderr.decode()
    try:
        words = [sys.executable, str(_RUN), str(files)]
        done = guest.run(words, stdin=json.dumps(_TRACES).encode(), env=_ENVIRONMENT)
    finally:
        guest.run(["sh", "-c", _CLEAN])
    assert done.status == 0, done.stderr.decode()
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def _elements(output: str, name: str) -> dict[str, int]:
    """A map's elements as printed, key -> number; a key with a stack has several lines."""
    found = re.findall(rf"^@{name}\[(.*?)\]: (\d+)$", output, re.MULTILINE | re.DOTALL)
    return {key: int(value) for key, value in found}


def test_memory_is_allocated_at_the_first_write_and_not_by_malloc(outputs: dict[str, str]) -> None:
    pages = _elements(outputs["pages"], "pages")
    # A page of the page table may be among them: one maps 512 pages.
    assert 256 <= pages["memset, 0"] <= 258 and pages["malloc, 0"] <= 16, outputs["pages"]
    stacks = _elements(outputs["pages"], "stacks")
    faults = sum(n for key, n in stacks.items() if key.startswith("memset") and "handle_mm_fault" in key)
    assert faults == pages["memset, 0"]


def test_large_memory_comes_in_huge_pages_as_well(outputs: dict[str, str]) -> None:
    pages = _elements(outputs["huge"], "pages")
    assert pages["memset, 9"] * 512 + pages["memset, 0"] == pytest.approx(2048, abs=16) and pages["memset, 9"] >= 3


def test_direct_writes_and_fsync_submit_in_the_program_and_buffered_writes_in_a_kernel_thread(
    outputs: dict[str, str],
) -> None:
    kib = _elements(outputs["writers"], "kib")
    direct = sum(n for key, n in kib.items() if key.startswith("dd,") and "iomap_dio" in key)
    synced = sum(n for key, n in kib.items() if key.startswith("dd,") and "ext4_sync_file" in key)
    plain = sum(n for key, n in kib.items() if "kworker" in key and "wb_workfn" in key and "ext4_writepages" in key)
    assert (direct, synced, plain) == (256, 256, 256), outputs["writers"]


def test_the_function_behind_a_field_has_its_name(outputs: dict[str, str]) -> None:
    behind = _elements(outputs["behind"], "")
    assert set(behind) == {"loop0, loop_queue_rq", "zram0, zram_submit_bio"}
    assert behind["zram0, zram_submit_bio"] >= 4


def test_the_function_that_fails_for_want_of_stack_is_found(outputs: dict[str, str]) -> None:
    fails = _elements(outputs["fails"], "")
    assert fails["expand_downwards"] == 1 and all(name.startswith("expand_") for name in fails)


def test_the_stack_that_is_refused_is_larger_than_the_tasks_limit(outputs: dict[str, str]) -> None:
    assert outputs["stack"].split("\n\n")[0].strip() == "deep: -12 for a stack of 260 KiB, its limit is 256 KiB"
    assert outputs["stack"].split()[-2:] == ["@grown:", "256"]
