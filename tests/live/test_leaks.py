"""insitu leaks: blocks against the program's own account of them; classes are in test_leaks_classes.py."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.live.leak_cases import class_totals, compiled, waiting
from tests.live.unprivileged import Unprivileged, unprivileged

import insitu
from insitu.errors import InsituError
from insitu.inspect.heap.holders import dominators

__all__ = ["unprivileged"]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("leaks")
    for name in ("cases.c", "cases.cc", "live_blocks.c"):
        compiled(directory, name)
    return directory


def test_the_blocks_are_those_that_the_program_has_with_threads_and_free_ones_between(programs: Path) -> None:
    with waiting(programs / "live_blocks_c") as process:
        found = insitu.leaks(process.pid)
        text = process.communicate("\n")[0]
    live = {int(address, 16): int(size) for address, size in (line.split() for line in text.splitlines())}
    own = dict(zip(found.heap.addresses.tolist(), found.heap.sizes.tolist(), strict=True))
    others = {address: size for address, size in own.items() if address not in live}
    assert live == {address: own.get(address) for address in live} and len(live) > 20_000
    assert set(others) <= set(found.roots.own) and not found.heap.damaged
    assert found.heap.arenas == 3 and found.heap.mapped.sum() > 0


@pytest.mark.parametrize(
    ("language", "names"),
    [
        ("c", "nothing lost_one lost_sizes by_stack by_inside circle_with_tail list_cut five_threads large_lost"),
        ("cc", "owner_lost objects_lost map_kept"),
    ],
)
def test_a_command_just_before_it_exits_has_the_leaks_of_the_running_one(
    programs: Path, language: str, names: str
) -> None:
    program = programs / f"cases_{language}"
    for name in names.split():
        with waiting(program, name) as process:
            expected = [total._asdict() for total in insitu.leaks(process.pid).totals]
        assert _document("--", program, name)["classes"] == expected, name


_ENDS = """
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *held(void *number) { void *volatile kept = malloc(1000); pause(); return kept; }
static void *last(void *number) { usleep(200000); pthread_exit(NULL); }
static void *another(void *path) { usleep(100000); execl(path, path, "exit", NULL); return NULL; }

int main(int count, char **words)
{
	pthread_t thread;
	memset(malloc(100), 1, 100);
	if (!strcmp(words[1], "exit"))
		return 3;
	if (!strcmp(words[1], "signal"))
		raise(SIGSEGV);
	if (!strcmp(words[1], "kill"))
		raise(SIGKILL);
	if (!strcmp(words[1], "wait"))
		pause();
	if (!strcmp(words[1], "others")) {
		for (int at = 0; at < 8; at++)
			pthread_create(&thread, NULL, held, NULL);
		usleep(200000);
		exit(4);
	}
	pthread_create(&thread, NULL, !strcmp(words[1], "last") ? last : another, words[0]);
	pthread_exit(NULL);
}
"""


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("ends")
    (directory / "ends.c").write_text(_ENDS)
    subprocess.run(["gcc", "-O0", "-pthread", "-o", directory / "ends", directory / "ends.c"], check=True)
    return directory / "ends"


@pytest.mark.parametrize(
    ("how", "status"),
    [("exit", 3), ("others", 4), ("signal", 128 + 11), ("kill", 128 + 9), ("last", 0), ("another", 3)],
)
def test_a_command_ends_in_any_way_and_its_status_is_returned(ends: Path, how: str, status: int) -> None:
    done = _command("--json", "--", ends, how, status=status)
    document = json.loads(done.stdout)
    found = {each["kind"]: (each["bytes"], each["blocks"]) for each in document["classes"]}
    assert found["definitely lost"] == (104, 1) and document["name"] == "ends"
    # What the stacks of eight threads hold is not lost, though exit() ends them.
    kept = [each for each in _document_of(ends, how, status)["groups"] if each["size"] == 1000]
    assert [each["blocks"] for each in kept] == ([8] if how == "others" else [])


def _document_of(program: Path, how: str, status: int) -> Any:
    return json.loads(_command("--json", "--show", "reachable", "--", program, how, status=status).stdout)


def test_a_command_that_cannot_be_run_is_one_line() -> None:
    for command, status in (("/nonexistent", 127), ("/etc/passwd", 126)):
        done = _command("--", command, status=status)
        assert len(done.stderr.splitlines()) == 1 and "Traceback" not in done.stderr
    for words in (["--"], ["1", "--", "true"], ["-d", "1", "1"]):
        done = _command(*words, status=2)
        assert len(done.stderr.splitlines()) == 1


def test_a_command_that_does_not_end_is_looked_at_after_a_time_or_when_it_is_interrupted(ends: Path) -> None:
    done = _command("-d", "0.3", "--", ends, "wait")
    assert not done.stdout and "Lost: 104 B in 1 block" in done.stderr
    command = [sys.executable, "-m", "insitu", "leaks", "--json", "--", ends, "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        while not (child := children.read_text().strip()) or "pause" not in _wait_channel(child):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        document = json.loads(process.communicate()[0])
        assert process.returncode == 128 + signal.SIGTERM
    assert document["classes"][0]["bytes"] == 104


def _wait_channel(pid: str) -> str:
    """ "pause" while a process is in pause(2), whose number is 34."""
    return "pause" if Path(f"/proc/{pid}/syscall").read_text().startswith("34 ") else ""


def test_a_chain_leads_from_the_root_to_the_block(programs: Path) -> None:
    with waiting(programs / "cases_c", "large_kept") as process:
        (group,) = [each for each in _document("--show", "all", process.pid)["groups"] if each["size"] == 409600 - 16]
        chain = _document("--why", hex(group["example"]), process.pid)["chain"]
    assert chain[0]["where"] == "kept in cases_c"
    assert chain[1]["where"] == f"{chain[0]['address']:#x}+{8 * 9999:#x}" and chain[1]["address"] == group["example"]


def test_a_register_is_a_root(programs: Path) -> None:
    with waiting(programs / "cases_c", "by_register") as process:
        found = insitu.leaks(process.pid)
        assert class_totals(found) == ((0, 0), (0, 0), (0, 0), (104, 1))
        (address,) = found.heap.addresses.tolist()
        assert address in {value for _, name, value in found.roots.registers if name == "r12"}


def test_what_only_the_stack_of_an_ended_thread_leads_to_is_lost(programs: Path) -> None:
    with waiting(programs / "cases_c", "ended_thread") as process:
        assert class_totals(insitu.leaks(process.pid)) == ((104 + 72, 2), (0, 0), (0, 0), (0, 0))


def test_who_keeps_how_much_alive_is_what_would_be_freed(programs: Path) -> None:
    with waiting(programs / "cases_c", "array_of_blocks") as process:
        found = insitu.leaks(process.pid)
    (holder,) = dominators(found)
    assert (holder.bytes, holder.blocks) == class_totals(found)[3] and holder.size == 808
    with waiting(programs / "cases_cc", "map_kept") as process:
        most = dominators(insitu.leaks(process.pid))[1]
    assert most.blocks == 101  # the map, 50 nodes, 50 texts; the pool of libstdc++ has more bytes


def test_objects_are_named_by_their_class_and_texts_shown(programs: Path) -> None:
    with waiting(programs / "cases_cc", "objects_lost") as process:
        groups = _document(process.pid)["groups"]
    assert [(group["content"], group["name"], group["blocks"]) for group in groups] == [
        ("object", "Shape", 20),
        ("object", "Both", 10),
    ]
    with waiting(programs / "cases_c", "lost_strings") as process:
        text = _command(process.pid).stdout
    assert "most: 9 blocks of 40 bytes, text such as 'the same text each time'" in text


def test_a_session_has_a_row_for_each_block(programs: Path, tmp_path: Path) -> None:
    with waiting(programs / "cases_c", "circle_with_tail") as process:
        _command("-q", "-o", tmp_path / "now.insitu", process.pid)
    with insitu.open(tmp_path / "now.insitu") as session:
        rows = session.sql("select class, size, lost_with = address from heap_block order by address").rows()
    assert [row[:2] for row in rows] == [
        ("definitely lost", 24),
        ("indirectly lost", 24),
        ("indirectly lost", 24),
        ("indirectly lost", 200),
    ]
    assert [row[2] for row in rows] == [True, False, False, False]


@pytest.mark.parametrize(
    ("language", "name"), [("c", "list_cut"), ("c", "five_threads"), ("c", "large_kept"), ("cc", "owner_lost")]
)
def test_a_core_file_has_the_leaks_of_the_process(programs: Path, tmp_path: Path, language: str, name: str) -> None:
    with waiting(programs / f"cases_{language}", name) as process:
        expected = _document("--show", "all", process.pid)
        subprocess.run(["gcore", "-o", tmp_path / "core", str(process.pid)], check=True, capture_output=True)
    (core,) = tmp_path.glob("core.*")
    found = _document("--show", "all", core)
    assert (found["classes"], found["groups"]) == (expected["classes"], expected["groups"])
    with core.open("r+b") as file:
        file.truncate(core.stat().st_size // 2)
    assert "it was cut off" in _refused(core)  # gcore writes registers last
    core.write_bytes(b"no core")
    assert "not an ELF file" in _refused(core)


def test_a_size_that_was_overwritten_is_reported_and_the_rest_is_found(programs: Path) -> None:
    with waiting(programs / "cases_c", "long_list_lost") as process:
        before = insitu.leaks(process.pid)
        victim = int(before.heap.addresses[5000])
        with Path(f"/proc/{process.pid}/mem").open("r+b", buffering=0) as memory:
            memory.seek(victim - 8)
            memory.write(b"AAAAAAAA")
        done = _command("--json", process.pid)
    assert f"the chunk at {victim - 16:#x} has the size 0x4141414141414141" in done.stderr
    assert sum(each["blocks"] for each in json.loads(done.stdout)["classes"]) == len(before.heap.addresses)


def test_a_killed_insitu_lets_the_process_run_on(programs: Path) -> None:
    script = (
        "import sys, time\nfrom insitu.inspect.stopped_threads import while_stopped\n"
        "while_stopped(int(sys.argv[1]), lambda stopped: (print(len(stopped), flush=True), time.sleep(600)))"
    )
    with waiting(programs / "cases_c", "lost_one") as process:
        command = [sys.executable, "-c", script, str(process.pid)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tracer:
            assert tracer.stdout is not None and tracer.stdout.readline() == "1\n"
            assert Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] == "t"
            tracer.kill()
        process.communicate("\n")
        assert process.returncode == 0


def test_a_process_that_is_killed_meanwhile_is_an_error_or_was_copied_before(programs: Path) -> None:
    refused = 0
    for delay in range(12):
        with waiting(programs / "cases_c", "long_list_lost") as process:
            killer = threading.Timer(delay / 1000, process.kill)
            killer.start()
            try:
                assert insitu.leaks(process.pid).totals[0].blocks in (0, 1)
            except InsituError as error:
                refused += 1
                assert str(process.pid) in str(error)
            killer.join()
    assert refused


def test_what_cannot_be_looked_at_is_one_line(programs: Path) -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert "zombie" in _refused(process.pid)
    assert "no process" in _refused(process.pid)
    assert "kernel thread" in _refused(2) or os.geteuid()
    with waiting(programs / "cases_c", "large_lost") as process:
        assert "--max-memory" in _refused("--max-memory", "64K", process.pid)
        assert "is in no block" in _refused("--why", "0x1000", process.pid)
    with subprocess.Popen(["sleep", "600"]) as process:
        try:
            with (
                pytest.raises(InsituError, match="traces it already"),
                subprocess.Popen(["strace", "-qq", "-o", "/dev/null", "-p", str(process.pid)]) as tracer,
            ):
                try:
                    while "TracerPid:\t0" in Path(f"/proc/{process.pid}/status").read_text():
                        pass
                    insitu.leaks(process.pid)
                finally:
                    tracer.kill()
        finally:
            process.kill()


@pytest.mark.parametrize(("version", "refused"), [("2.42", True), ("2.30", True), ("2.41", False)])
def test_a_glibc_whose_heap_is_not_known_is_refused(
    programs: Path, tmp_path: Path, version: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The C library of this machine, with another version in what it says of itself.
    (library,) = Path("/lib").glob("x86_64-linux-gnu/libc.so.6")
    data, many = re.subn(rb"(release version )2\.\d\d", rb"\g<1>" + version.encode(), library.read_bytes())
    assert many == 1
    (tmp_path / "libc.so.6").write_bytes(data)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    with waiting(programs / "cases_c", "lost_one") as process:
        monkeypatch.delenv("LD_LIBRARY_PATH")
        if refused:
            assert f"glibc {version}, whose heap" in _refused(process.pid)
        else:
            assert insitu.leaks(process.pid).totals[0].blocks == 1


def test_a_hundred_thousand_mappings_are_copied(programs: Path) -> None:
    script = (
        "import ctypes, mmap\nlibc = ctypes.CDLL(None)\nlibc.mmap.restype = ctypes.c_void_p\n"
        "libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n"
        "start = libc.mmap(None, 1 << 28, 3, 0x4022, -1, 0)\n"
        f"[libc.mprotect(start + 8192 * at, 4096, 1) for at in range({_mappings() // 2 - 500})]\n"
        "print(flush=True)\ninput()"
    )
    with waiting(sys.executable, "-c", script) as process:
        found = insitu.leaks(process.pid)
    assert len(found.snapshot.areas) > _mappings() - 1500 and len(found.heap.addresses) > 100


def _mappings() -> int:
    return min(int(Path("/proc/sys/vm/max_map_count").read_text()), 100_000)


def test_no_rights_are_needed_for_ones_own_processes(programs: Path, unprivileged: Unprivileged) -> None:
    program = shutil.copy(programs / "cases_c", unprivileged.directory)
    script = (
        "import subprocess, sys, insitu\n"
        "process = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1, env={'WAIT': '1'})\n"
        "process.stdout.readline()\n"
        "print([total.blocks for total in insitu.leaks(process.pid).totals])\nprocess.kill()\n"
    )
    done = unprivileged.python("-c", script, program, "lost_one")
    assert done.stdout == "[1, 0, 0, 0]\n", done.stderr
    done = unprivileged((), "leaks", "--json", "--", program, "lost_one")
    assert [each["blocks"] for each in json.loads(done.stdout)["classes"]] == [1, 0, 0, 0], done.stderr
    process = subprocess.Popen(["sleep", "600"])
    try:
        refused = unprivileged((), "leaks", "--track", str(process.pid))
        assert "can only be traced by root" in refused.stderr and len(refused.stderr.splitlines()) == 1
        refused = unprivileged((), "leaks", str(process.pid))
        assert "belongs to user 0" in refused.stderr and len(refused.stderr.splitlines()) == 1
    finally:
        process.kill()
        process.wait()


def _command(*words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "insitu", "leaks", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done


def _document(*words: object) -> Any:
    return json.loads(_command("--json", *words).stdout)


def _refused(*words: object) -> str:
    done = _command(*words, status=1)
    assert len(done.stderr.splitlines()) == 1 and not done.stdout
    return done.stderr
