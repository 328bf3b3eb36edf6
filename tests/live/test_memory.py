"""insitu proc --maps, against the kernel's smaps and what the program did by construction."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.live.unprivileged import Unprivileged, unprivileged

import insitu
from insitu.inspect.memory_map import MemoryMap, memory, totals
from insitu.kernel.physical_pages import PageMap

__all__ = ["unprivileged"]

if os.geteuid() != 0:
    pytest.skip("needs root, for physical pages", allow_module_level=True)

_PROGRAMS = Path(__file__).parent / "memory_programs"
_PAGE = 4096


class _Areas(NamedTuple):
    pid: int
    child: int
    at: dict[str, int]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]


def _stopped(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    while _state(pid) != "T":
        time.sleep(0.01)


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Areas]:
    """The process of areas.c and its child, both stopped. It is linked so that it shares no library."""
    directory = tmp_path_factory.mktemp("memory")
    program = directory / "areas"
    subprocess.run(["gcc", "-g", "-static", "-pthread", "-o", program, _PROGRAMS / "areas.c"], check=True)
    with subprocess.Popen([program, directory / "file"], stdout=subprocess.PIPE, text=True) as process:
        child = 0
        try:
            assert process.stdout is not None
            at: dict[str, int] = {}
            while len(at) < 9:
                name, value = process.stdout.readline().split()
                at[name] = int(value, 16)
            child = at.pop("child")
            while _state(process.pid) != "S":
                time.sleep(0.01)
            _stopped(process.pid)
            _stopped(child)
            yield _Areas(process.pid, child, at)
        finally:
            process.kill()
            if child:
                os.kill(child, signal.SIGKILL)


def _command(*words: object, status: int = 0, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "insitu", "proc", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == status, done.stderr
    return done


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}


def _check_sums(found: MemoryMap, pid: int) -> None:
    kernel = _rollup(pid)
    assert found.by_page and found.pss == kernel["Pss"]
    sums = {name: int(each.sum()) for name, each in found.sizes.items()}
    assert (sums["resident"], sums["swapped"]) == (kernel["Rss"], kernel["Swap"])
    assert sums["private"] == kernel["Private_Clean"] + kernel["Private_Dirty"]
    assert sums["shared"] == kernel["Shared_Clean"] + kernel["Shared_Dirty"]
    assert sums["resident"] - sums["file"] == kernel["Anonymous"]
    assert sum(many for each in found.nodes.values() for many in each.values()) >= sums["private"]


def test_sums_are_the_kernels_to_the_page(areas: _Areas) -> None:
    _check_sums(memory(areas.pid), areas.pid)
    _check_sums(memory(areas.child), areas.child)


def test_pages_are_found_without_the_scan_of_newer_kernels(areas: _Areas, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> Any:
        raise OSError(errno.ENOTTY, "as before Linux 6.7")

    monkeypatch.setattr(PageMap, "_scan", refuse)
    _check_sums(memory(areas.pid), areas.pid)


def test_each_mapping_has_the_pages_that_the_program_gave_it(areas: _Areas) -> None:
    found = memory(areas.pid)
    rows = {area.start: at for at, area in enumerate(found.areas)}

    def pages(name: str, *columns: str) -> tuple[int, ...]:
        return tuple(int(found.sizes[column][rows[areas.at[name]]]) // _PAGE for column in columns)

    assert pages("written", "resident", "private", "shared", "file") == (50, 0, 50, 0)  # the child has them, too
    assert pages("read", "resident") == pages("untouched", "resident") == (0,)
    assert pages("inherited", "resident", "private", "shared") == (20, 5, 15)
    assert pages("shared", "resident", "private", "shared", "file") == (8, 5, 3, 8)
    assert pages("locked", "resident", "shared", "locked") == (4, 4, 2)  # its share of them, as in smaps
    assert pages("file", "resident", "shared", "file") == (22, 22, 16)
    half = _PAGE * 50 // 2
    assert int(found.sizes["pss"][rows[areas.at["written"]]]) == half
    by_child = next(each for each in found.sharers if each.pid == areas.child)
    assert by_child.name == "areas"
    theirs = {"written": 50, "inherited": 15, "shared": 3, "locked": 4, "file": 22}
    ours = {name: by_child.by_mapping.get(rows[at], 0) // _PAGE for name, at in areas.at.items() if at in rows}
    assert ours == {"read": 0, "untouched": 0} | theirs


def test_totals_add_up_and_stacks_are_told_from_other_memory(areas: _Areas) -> None:
    found = memory(areas.pid, sharers=False)
    groups = totals(found)
    for column, each in found.sizes.items():
        assert sum(group.sizes[column] for group in groups) == each.sum()
    assert sum(group.mappings for group in groups) == len(found.areas)
    holder = next(at for at, area in enumerate(found.areas) if area.start <= areas.at["thread"] < area.end)
    assert found.groups[holder] == "[stacks]" == found.groups[[a.path for a in found.areas].index(b"[stack]")]


def test_a_session_and_a_document_have_every_mapping(areas: _Areas, tmp_path: Path) -> None:
    run = tmp_path / "now.insitu"
    document: Any = json.loads(_command("--maps", "--json", "-q", "-o", run, areas.pid).stdout)
    (process,) = document["processes"]
    maps = Path(f"/proc/{areas.pid}/maps").read_text().splitlines()
    assert [f"{int(m['start'], 16):08x}-{int(m['end'], 16):08x}" for m in process["mappings"]["mappings"]] == [
        line.split()[0] for line in maps
    ]
    resident = _rollup(areas.pid)["Rss"]
    assert sum(each["resident"] for each in process["mappings"]["mappings"]) == resident
    with insitu.open(run) as session:
        assert session.sql("select sum(resident_bytes) from page_range").item() == resident
        held = session.sql("select shared_with from page_range where start = ?", [areas.at["written"]]).item()
        assert held == str(areas.child)
        assert session.sql("select count(*) from thread where tid > 0").item() == 2


def test_without_root_the_kernels_sums_are_shown_and_what_root_would_add(
    areas: _Areas, unprivileged: Unprivileged
) -> None:
    with _sleeping_as_nobody() as pid:
        mine = unprivileged((), "proc", "--maps", "--json", str(pid))
        assert "who shares them, need root: sudo insitu ..." in mine.stderr
        (process,) = json.loads(mine.stdout)["processes"]
        assert sum(each["resident"] for each in process["mappings"]["mappings"]) == _rollup(pid)["Rss"]
        assert not process["mappings"]["by_page"]
    other = unprivileged((), "proc", "--maps", str(areas.pid))
    assert other.stderr == f"insitu: the memory of process {areas.pid} is another user's (sudo insitu ...)\n"


@contextmanager
def _sleeping_as_nobody() -> Iterator[int]:
    with subprocess.Popen(["sleep", "1000"], user=65534, group=65534, extra_groups=[]) as process:
        try:
            while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
                time.sleep(0.01)
            yield process.pid
        finally:
            process.kill()


def test_zombies_kernel_threads_and_processes_that_are_not_there_are_one_line() -> None:
    with subprocess.Popen(["true"]) as process:
        while _state(process.pid) != "Z":
            time.sleep(0.01)
        done = _command("--maps", process.pid, status=1)
        assert done.stderr == f"insitu: process {process.pid} has ended: it has no memory any more\n"
    done = _command("--maps", process.pid, status=1)
    assert done.stderr == f"insitu: no process {process.pid} (ps -e lists processes)\n"
    done = _command("--maps", 2, status=1)
    assert done.stderr == "insitu: process 2 (kthreadd) is a kernel thread: it has no memory of its own\n"


_CHANGES = """
import mmap, os, sys
print(flush=True)
while True:
    areas = [mmap.mmap(-1, 1 << 16) for _ in range(50)]
    for each in areas:
        each[0] = 1
    for each in areas:
        each.close()
"""


def test_mappings_that_change_meanwhile_and_a_process_that_ends_are_no_trouble() -> None:
    with subprocess.Popen([sys.executable, "-c", _CHANGES], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            for _ in range(20):
                assert memory(process.pid, sharers=False).sizes["resident"].sum() > 1 << 20
        finally:
            process.kill()


_MAPS = """
import mmap, sys
file = open(sys.argv[1], "r+b")
mapped = mmap.mmap(file.fileno(), 0)
mapped[0]
print(flush=True)
sys.stdin.read()
"""


def test_names_of_files_do_not_reach_the_terminal_raw(tmp_path: Path) -> None:
    name = tmp_path / "a\x1b[31m\nRss: 99999 kB"
    name.write_bytes(bytes(_PAGE))
    command = [sys.executable, "-c", _MAPS, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            text = _command("--maps", "-q", "--limit", 0, process.pid).stdout
        finally:
            process.kill()
    assert "\x1b" not in text and "[31m" in text
    assert not any(line.startswith("Rss") for line in text.split("\n"))


_GROWS = """
import mmap, os, sys, threading, time
held = []
print(flush=True)
sys.stdin.readline()
held.append(mmap.mmap(-1, 1 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
for page in range(0, 1 << 20, 4096):
    held[0][page] = 1
held += [os.open("/etc/hostname", os.O_RDONLY) for _ in range(7)]
for _ in range(3):
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print(flush=True)
sys.stdin.readline()
"""


def test_two_moments_show_what_grew(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _GROWS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            for name in ("before", "after"):
                process.stdout.readline()
                _command("-q", "-o", tmp_path / f"{name}.insitu", process.pid)
                process.stdin.write(b"\n")
                process.stdin.flush()
        finally:
            process.kill()
    words = ["diff", tmp_path / "before.insitu", tmp_path / "after.insitu"]
    diff = [sys.executable, "-m", "insitu", *words]
    document: Any = json.loads(subprocess.run([*diff, "--json"], capture_output=True, text=True, check=True).stdout)

    def grown(kind: str, name: str, measure: str) -> int:
        (row,) = (each for each in document[kind] if each["name"] == name)
        return int(row["after"][measure] - row["before"][measure])

    assert grown("memory", "[anonymous]", "private") >= 1 << 20
    assert grown("descriptors", "file /etc/hostname", "count") == 7
    assert sum(each["after"]["count"] - each["before"]["count"] for each in document["threads"]) == 3
    text = subprocess.run(diff, capture_output=True, text=True, check=True).stdout
    assert "\nthreads: 1 to 4 (+3)\n" in text and "[anonymous]" in text.split("descriptors: ")[0]
    assert "      0      7      +7  file /etc/hostname\n" in text


_FORKS = """
#include <stdio.h>
#include <unistd.h>
int main(void)
{
    if (fork() == 0)
        return pause();
    puts("ready");
    fflush(stdout);
    return pause();
}
"""


def test_looking_copies_no_page_that_a_fork_shares(tmp_path: Path) -> None:
    """process_vm_readv(2) would: the environment is in pages of the stack that the child has, too."""
    (tmp_path / "forks.c").write_text(_FORKS)
    subprocess.run(["gcc", "-static", "-o", tmp_path / "forks", tmp_path / "forks.c"], check=True)
    large = {f"INSITU_{number}": "x" * 1000 for number in range(40)}
    with subprocess.Popen(
        [tmp_path / "forks"], stdout=subprocess.PIPE, text=True, env=large, process_group=0
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for pid in (int(child), process.pid):
                _stopped(pid)
            before = _rollup(process.pid)
            assert before["Shared_Dirty"] >= 10 * _PAGE
            document = json.loads(_command("--json", "--stacks", "-q", process.pid).stdout)
            assert len(document["processes"][0]["environment"]["start"]) == 40
            _command("--threads", "--stacks", "-q", process.pid)
            assert _rollup(process.pid) == before
        finally:
            os.killpg(process.pid, signal.SIGKILL)
