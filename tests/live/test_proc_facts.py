"""insitu proc on what surrounds a process: a program brings itself into a known state, and prints it."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from insitu.inspect import cgroup_facts
from insitu.inspect.environment import environment
from insitu.inspect.process_facts import facts_of
from insitu.inspect.threads import threads_of
from insitu.kernel.capability_bits import BITS
from insitu.views.process import blocks

if os.geteuid() != 0:
    pytest.skip("needs root, for namespaces and policies", allow_module_level=True)

_STATE = """
import ctypes, os, resource, signal, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
os.environ["INSITU_NEW"] = "one\\x1b[31m"
os.environ["INSITU_OLD"] = "changed"
del os.environ["INSITU_GONE"]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN + 3])
os.kill(os.getpid(), signal.SIGUSR1)
signal.signal(signal.SIGUSR2, print)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
libc.unshare(0x04000000)  # CLONE_NEWUTS
ready = threading.Event()
def waits():
    tid = threading.get_native_id()
    libc.prctl(15, b"worker", 0, 0, 0)  # PR_SET_NAME
    os.sched_setaffinity(tid, {0})
    os.setpriority(os.PRIO_PROCESS, tid, 7)
    os.sched_setscheduler(tid, os.SCHED_BATCH, os.sched_param(0))
    print(tid, flush=True)
    threading.Event().wait()
threading.Thread(target=waits, daemon=True).start()
sys.stdin.read()
"""


@contextmanager
def _running(script: str, **options: Any) -> Iterator[tuple[int, str]]:
    """A process and its first line."""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            assert process.stdout is not None
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def known() -> Iterator[tuple[int, int]]:
    """A process in a known state, and its second thread."""
    with _running(_STATE, env=os.environ | {"INSITU_OLD": "as it was", "INSITU_GONE": "x"}) as (pid, tid):
        yield pid, int(tid)


def _text(*words: object) -> str:
    command = [sys.executable, "-m", "insitu", "proc", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout


def test_the_environment_of_now_is_that_of_the_c_library(known: tuple[int, int]) -> None:
    found = environment(known[0])
    assert found.start["INSITU_GONE"] == "x"
    assert found.changes() == {
        "INSITU_NEW": (None, "one\x1b[31m"),
        "INSITU_OLD": ("as it was", "changed"),
        "INSITU_GONE": ("x", None),
    }


def test_an_unchanged_environment_is_that_of_the_start() -> None:
    with subprocess.Popen(["sleep", "1000"], env={"A": "1", "B": "2"}) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n" or "[heap]" not in _maps(process.pid):
            time.sleep(0.01)
        found = environment(process.pid)
        process.kill()
    assert found.start == {"A": "1", "B": "2"} == found.now


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


def test_signals_rights_and_namespaces_are_in_the_text(known: tuple[int, int]) -> None:
    facts = facts_of(known[0])
    assert facts.signals.pending == 1 << signal.SIGUSR1 - 1
    assert facts.signals.blocked == 1 << signal.SIGUSR1 - 1 | 1 << signal.SIGRTMIN + 3 - 1
    assert facts.signals.caught >> signal.SIGUSR2 - 1 & 1 and facts.signals.ignored >> signal.SIGHUP - 1 & 1
    assert facts.no_new_privileges and facts.namespaces == ["uts"]
    text = _text(known[0])
    assert re.search(r"^  signals: pending SIGUSR1; blocked SIGUSR1, SIGRT_5; caught .*SIGUSR2", text, re.M)
    assert "  namespaces that are not ours: uts\n" in text and "no new privileges" in text
    changed = "INSITU_OLD=changed, INSITU_GONE removed, INSITU_NEW=one"
    assert f"  environment changed since its start: {changed}" in text and "\x1b" not in text


def test_threads_have_state_policy_and_affinity(known: tuple[int, int]) -> None:
    pid, tid = known
    first, second = threads_of(pid)
    assert (first.tid, second.tid, second.name) == (pid, tid, "worker")
    assert (second.policy, second.nice, list(second.affinity), second.state) == ("batch", 7, [0], "S")
    assert first.policy == "other" and set(first.affinity) == os.sched_getaffinity(pid)
    assert second.wait_channel == Path(f"/proc/{pid}/task/{tid}/wchan").read_text()
    (process,) = json.loads(_text("--json", pid))["processes"]
    assert [each["name"] for each in process["threads"]] == [first.name, "worker"]
    assert process["threads"][1]["blocked"] == ["SIGUSR1", "SIGRT_5"]
    text = _text("--threads", "--stacks", pid)
    assert re.search(rf"^  {tid} +S +\w+ +0  batch, nice 7 .*worker$", text, re.M)
    assert "sleeping in futex" in text


def test_a_limit_that_is_near_is_named() -> None:
    script = "import resource, sys; print(flush=True); sys.stdin.read()"
    with _running(script) as (pid, _):
        (size,) = re.findall(r"^VmSize:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
        limit = int(size) * 1024 * 10 // 9 // 4096 * 4096
        resource.prlimit(pid, resource.RLIMIT_AS, (limit, limit))
        by_name = {each.name: each for each in facts_of(pid).limits}
        assert by_name["Max address space"].used == int(size) << 10
        assert by_name["Max open files"].used == len(list(Path(f"/proc/{pid}/fd").iterdir()))
        assert re.search(r"^  near a limit: address space [\d.]+ MiB of [\d.]+ MiB \((89|90) %\)$", _text(pid), re.M)


def test_capabilities_have_the_kernels_names() -> None:
    names = subprocess.run(["setpriv", "--list-caps"], capture_output=True, text=True, check=True).stdout.split()
    assert [name.lower() for name in BITS][: len(names)] == names
    command = ["setpriv", "--bounding-set=-all,+chown,+kill", "--inh-caps=-all", "sleep", "1000"]
    with subprocess.Popen(command) as process:
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        text = _text(process.pid)
        process.kill()
    assert "  capabilities CHOWN, KILL\n" in text


def test_a_cgroups_smallest_limit_on_the_way_up_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Documentation/admin-guide/cgroup-v2.rst has the files; this machine need not let us make cgroups."""
    inner = tmp_path / "outer" / "inner"
    inner.mkdir(parents=True)
    for directory, memory, cpu in ((inner, "max", "max 100000"), (inner.parent, str(1 << 30), "50000 100000")):
        for name, text in (
            ("cgroup.procs", ""),
            ("memory.current", str(943718400)),
            ("memory.max", memory),
            ("pids.current", "12"),
            ("pids.max", "max"),
            ("cpu.max", cpu),
            ("cpu.stat", "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1200000"),
            (
                "memory.pressure",
                "some avg10=3.20 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0",
            ),
        ):
            (directory / name).write_text(f"{text}\n")
    monkeypatch.setattr(cgroup_facts, "cgroup_directory", lambda pid: str(inner))
    monkeypatch.setattr(cgroup_facts, "legacy_directories", lambda pid, controllers: {})
    facts = facts_of(os.getpid())
    text = "\n".join(
        "".join(part for part, _ in line)
        for line in blocks(facts, None, None, 0, listed=False)
        if isinstance(line, list)
    )
    assert (
        f"  cgroup {inner}: memory 900.0 MiB of 1.0 GiB (88 %); CPU 0.5 of 100 ms periods, throttled 3 times for "
        "1.200 s; waited in the last 10 s for memory 3.2 %\n"
    ) in text + "\n"
