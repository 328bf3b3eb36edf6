"""insitu proc --at and --pages, on a program that prints where things are."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

from insitu.inspect.address import place
from insitu.inspect.page_runs import page_runs

__all__ = ["unprivileged"]

if os.geteuid() != 0:
    pytest.skip("needs root, for physical pages", allow_module_level=True)

_PAGE = 4096
_PROGRAM = Path(__file__).parent / "memory_programs" / "places.c"


class _Places(NamedTuple):
    pid: int
    at: dict[str, int]
    program: Path


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Places]:
    program = tmp_path_factory.mktemp("places") / "places"
    subprocess.run(["gcc", "-g", "-O1", "-pthread", "-o", program, _PROGRAM], check=True)
    with subprocess.Popen([program], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            at: dict[str, int] = {}
            while not {"main4", "thread4"} <= at.keys():
                name, value = process.stdout.readline().split()
                at[name] = int(value, 16)
            yield _Places(process.pid, at, program)
        finally:
            process.kill()


@pytest.mark.parametrize("who", ["main", "thread"])
def test_frames_of_stacks_begin_and_end_where_the_compiler_says(places: _Places, who: str) -> None:
    for level in range(5):
        end = places.at[f"{who}{level}"]
        own, caller = place(places.pid, end - 8).stack, place(places.pid, end).stack
        assert own is not None and caller is not None
        assert own.frame[0].function == "deep" and caller.number == own.number + 1 and caller.offset == 0
        assert caller.frame[0].function == ("deep" if level else who)
        assert (own.tid == places.pid) == (who == "main") and own.name == "places"


def test_what_lies_below_the_stack_pointer_is_not_in_use(places: _Places) -> None:
    found = place(places.pid, places.at["main4"] - 2000)
    assert found.stack is not None and not found.stack.frame
    assert re.search(
        r"^the stack of thread places/\d+, [\d,]+ bytes below the stack pointer: not in use$", found.text
    )


def test_functions_and_variables_have_names_and_lines(places: _Places) -> None:
    code = place(places.pid, places.at["code"] + 4)
    assert code.symbol == "deep+0x4" and code.source[0].file.endswith("places.c")
    lines = _PROGRAM.read_text().splitlines()
    assert "deep(const char *who" in "".join(lines[code.source[0].line - 2 : code.source[0].line])
    assert place(places.pid, places.at["written"] + 2).symbol == "written+0x2"
    assert place(places.pid, places.at["zeros"]).symbol == f"zeros+{5000:#x}"


def test_other_places_are_said_in_words(places: _Places) -> None:
    def text(address: int) -> str:
        return place(places.pid, address).text

    maps = Path(f"/proc/{places.pid}/maps").read_text()
    (vdso,) = re.findall(r"^(\w+)-.*\[vdso\]$", maps, re.M)
    (stack,) = re.findall(r"^(\w+)-.*\[stack\]$", maps, re.M)
    (libc,) = re.findall(r"^(\w+)-\S+ r--p 00000000 .*libc.so.6$", maps, re.M)
    assert text(places.at["heap"]).startswith("the heap (brk)")
    assert text(places.at["closed"]).startswith("inaccessible memory (PROT_NONE)")
    assert text(places.at["gone"]).startswith("not mapped: ")
    assert text(int(vdso, 16)) == "the kernel's [vdso]"
    assert text(int(stack, 16) - 16).startswith("not mapped: below the main stack, which grows")
    assert text(int(libc, 16)).endswith("libc.so.6, which has no symbol there")
    assert text(8).startswith("not mapped: a null pointer")
    assert text(0x800000000000).startswith("no address")
    assert text((1 << 64) - 4096).startswith("an address of the kernel")
    if "unguarded" not in places.at:
        assert text(places.at["pages"] + 5 * _PAGE).startswith("a guard page")


def test_the_page_behind_is_the_kernels(places: _Places) -> None:
    address = places.at["pages"]
    page = place(places.pid, address).page
    with Path(f"/proc/{places.pid}/pagemap").open("rb") as file:
        file.seek(address // _PAGE * 8)
        word = int.from_bytes(file.read(8), "little")
    assert page is not None and page.frame == word & (1 << 55) - 1
    assert (page.mapped, page.sharers) == (1, []) and {"anonymous", "mapped"} <= set(page.flags)
    (libc,) = re.findall(r"^(\w+)-\S+ r-xp .*libc.so.6$", Path(f"/proc/{places.pid}/maps").read_text(), re.M)
    shared = place(places.pid, int(libc, 16)).page
    assert (
        shared is not None and "file cache" in shared.state and os.getpid() in [each.pid for each in shared.sharers]
    )


def test_pages_are_in_the_state_that_the_program_brought_them_to(places: _Places) -> None:
    start = places.at["pages"]
    found = [(run.pages, run.state) for run in page_runs(places.pid, start, start + 8 * _PAGE)]
    last = [(1, ""), (1, "guard"), (2, "")] if "unguarded" not in places.at else [(4, "")]
    assert found == [(2, "private, anonymous"), (1, ""), (1, "page of zeros"), *last]


def test_the_command_has_it_as_text_and_as_a_document(places: _Places) -> None:
    def run(*words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "insitu", "proc", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == status, done.stderr
        return done

    start = places.at["pages"]
    text = run("--at", f"{places.at['written']:#x}", "--at", f"{start:x}", places.pid).stdout
    assert (
        f"{places.at['written']:#x}: written  {places.program}\n" in text
        and ", mapped once: private, anonymous" in text
    )
    document: Any = json.loads(run("--json", "--pages", f"{start:x}-{start + 3 * _PAGE:x}", places.pid).stdout)
    assert [each["pages"] for each in document["pages"]] == [2, 1]
    assert re.search(
        rf"^  +{start:x} +2 +8.0 KiB  private",
        run("--pages", f"{start:x}-{start + _PAGE * 3:x}", places.pid).stdout,
        re.M,
    )
    gone = run("--pages", f"{places.at['gone']:x}", places.pid, status=1).stderr
    assert (
        gone
        == f"insitu: {places.at['gone']:#x} is not mapped (insitu proc --at {places.at['gone']:#x} {places.pid})\n"
    )
    assert "'zz' is not an address in hexadecimal" in run("--at", "zz", places.pid, status=2).stderr
    assert run("--at", "1", "1", "2", status=2).stderr == "insitu: --at looks at one process\n"


def test_without_root_the_rest_is_shown(places: _Places, unprivileged: Unprivileged) -> None:
    with subprocess.Popen(["sleep", "1000"], user=65534, group=65534, extra_groups=[]) as process:
        try:
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
            while "libc.so.6" not in Path(f"/proc/{process.pid}/maps").read_text():
                time.sleep(0.01)
            (libc,) = re.findall(r"^(\w+)-\S+ r-xp .*libc.so.6$", Path(f"/proc/{process.pid}/maps").read_text(), re.M)
            done = unprivileged((), "proc", "--at", libc, str(process.pid))
            assert "libc.so.6" in done.stdout and "page: shared, file cache" in done.stdout
            assert done.stderr == "insitu: the physical page needs root: sudo insitu ...\n"
        finally:
            process.kill()
    other = unprivileged((), "proc", "--at", f"{places.at['code']:x}", str(places.pid))
    assert other.stderr == f"insitu: the memory of process {places.pid} is another user's (sudo insitu ...)\n"
