"""insitu why: shares of wall time against what programs measure of themselves, and the accounts of the kernel."""

import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import insitu
from insitu.kernel.procfs import comm, scheduling, threads

from .tracing import wait_until

_PROGRAMS = Path(__file__).parent / "why_programs"
_WHY = [sys.executable, "-m", "insitu", "why"]
_POINTS = 0.03
"""By how much a share of a thread's time may differ."""


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("why") / "shares"
    flags = ["-g", "-O1", "-fno-omit-frame-pointer", "-pthread"]
    subprocess.run(["gcc", *flags, "-o", program, _PROGRAMS / "shares.c"], check=True)
    return program


def _recorded(output: Path, *command: str | Path) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Nanoseconds by thread and cause: those that `why` finds, and those that the program says."""
    done = subprocess.run([*_WHY, "-q", "-o", output, "--", *command], check=True, capture_output=True, text=True)
    said: dict[str, dict[str, int]] = defaultdict(dict)
    for line in done.stdout.splitlines():
        name, cause, ns = line.split()
        said[name][cause] = int(ns)
    found = json.loads(subprocess.run([*_WHY, "--json", output], check=True, capture_output=True).stdout)
    assert sum(cause["ns"] for cause in found["causes"]) == found["wall_ns"]
    return {thread["name"]: thread["ns"] for thread in found["threads"]}, said


def _check(found: Mapping[str, Mapping[str, int]], said: Mapping[str, Mapping[str, int]]) -> None:
    for name, causes in said.items():
        whole = sum(found[name].values())
        for cause, ns in causes.items():
            assert abs(found[name].get(cause, 0) - ns) <= _POINTS * whole, (name, cause, causes, found[name])


def _check_sums(output: Path) -> None:
    """The time of each thread against its life, as the kernel's fork and exit records have it."""
    with insitu.open(output) as session:
        # Mappings, which a busy machine may lose, name functions only.
        assert not session.sql("select source, count from lost where source not like 'mappings of %'").rows()
        # A command is accounted from its execve(2) on, which names it.
        lives = session.sql(
            "select sum(dur_ns)::bigint as ns,"
            " coalesce(sum(dur_ns) filter (state = 'runnable'), 0)::bigint as waited,"
            " coalesce(any_value(t.end_ns), $end)"
            " - any_value(case when t.tid = p.pid and p.upid = 1 then named_ns else t.start_ns end) as life"
            " from wall join thread t using (utid) join process p using (upid)"
            " join (select utid, min(ts_ns) as named_ns from thread_name where ts_ns > $start group by utid)"
            " using (utid)"
            " group by utid having life > 1000000000",
            {"start": session.manifest.start_ns, "end": session.manifest.end_ns},
        )
    assert len(lives)
    for ns, waited, life in lives.rows():
        # A thread may still wait for a CPU after its end was recorded.
        assert -0.01 * life - 20e6 <= ns - life <= 0.01 * life + 20e6 + waited


def test_a_held_mutex_and_sleeps_have_their_shares_and_the_lock_its_holder(shares: Path, tmp_path: Path) -> None:
    output = tmp_path / "why.insitu"
    found, said = _recorded(output, shares, "locks")
    assert said["waiter"]["lock"] > 300e6
    _check(found, said)
    _check_sums(output)
    with insitu.open(output) as session:
        held = session.sql(
            "select h.name as holder, k.name as waker, sum(dur_ns)::bigint as ns from wall"
            " join thread t using (utid) join thread h on h.utid = holder join thread k on k.utid = waker"
            " where cause = 'lock' and t.name = 'waiter' group by all order by ns desc"
        )
    assert held.row(0)[:2] == ("holder", "holder")
    shown = json.loads(subprocess.run([*_WHY, "--json", output], check=True, capture_output=True).stdout)
    lock = max((each for each in shown["causes"] if each["cause"] == "lock"), key=lambda each: each["ns"])
    names = {each["tid"]: each["name"] for each in shown["threads"]}
    assert names[lock["holder"]] == "holder" and re.match(r"waiter\(\) shares\.c:\d+", lock["place"])


def test_pipes_children_and_stops_have_their_shares(shares: Path, tmp_path: Path) -> None:
    output = tmp_path / "why.insitu"
    found, said = _recorded(output, shares, "family")
    assert set(said["reader"]) == {"pipe", "child", "sleep"} and set(said["writer"]) == {"stopped", "sleep"}
    _check(found, said)
    _check_sums(output)


def test_direct_reads_are_time_on_their_file(shares: Path, tmp_path: Path) -> None:
    data, output = tmp_path / "data", tmp_path / "why.insitu"
    data.write_bytes(os.urandom(1 << 20) * 16)
    try:
        os.close(os.open(data, os.O_RDONLY | os.O_DIRECT))
    except OSError:
        pytest.skip("O_DIRECT: not on this file system")
    os.sync()
    found, said = _recorded(output, shares, "direct", data)
    _check(found, said)
    with insitu.open(output) as session:
        rows = session.sql(
            "select object, call, sum(dur_ns) from wall where cause = 'file' group by all order by 3 desc"
        )
    assert rows.row(0)[:2] == (str(data), "pread64")


@pytest.mark.parametrize("cpus", [1, 2])
def test_threads_that_share_cpus_wait_for_them(shares: Path, tmp_path: Path, cpus: int) -> None:
    if not set(range(cpus)) <= os.sched_getaffinity(0):
        pytest.skip("CPUs 0 and 1 are not this process' to use")
    output = tmp_path / "why.insitu"
    found, said = _recorded(output, shares, "spin", str(cpus))
    assert len(said) == 3
    for causes in found.values():  # a kernel that interrupts is not user code, but it is on a CPU
        causes["user"] = causes.get("user", 0) + causes.pop("kernel", 0)
    _check(found, said)
    _check_sums(output)


@pytest.fixture
def quota() -> Iterator[Path]:
    """A cgroup that may use 20 ms of each 100, and comes before others."""
    for place, limit, period, weight, most in (
        ("cpu/", "cpu.cfs_quota_us", "20000", "cpu.shares", "100000"),
        ("", "cpu.max", "20000 100000", "cpu.weight", "10000"),
    ):
        path = Path(f"/sys/fs/cgroup/{place}insitu-test-{os.getpid()}")
        try:
            path.mkdir()
        except OSError:
            continue
        try:
            (path / limit).write_text(period)
            (path / weight).write_text(most)
        except OSError:
            path.rmdir()
            continue
        yield path
        path.rmdir()
        return
    pytest.skip("cgroups: no CPU controller here")


def _throttled_ns(group: Path) -> int:
    """How long the kernel had the threads of a cgroup throttled."""
    counts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(counts["throttled_time"]) if "throttled_time" in counts else 1000 * int(counts["throttled_usec"])


def test_a_cgroup_that_has_used_up_its_quota_is_throttled(shares: Path, tmp_path: Path, quota: Path) -> None:
    output = tmp_path / "why.insitu"
    join = f"echo $$ > {quota}/cgroup.procs; exec {shares} alone"
    found, said = _recorded(output, "sh", "-c", join)
    causes = found["spin0"]
    # All time on no CPU is the quota's, but for what other programs on the machine take: that is on the run queue,
    # or waiting for a disk.
    blocked = sum(ns for cause, ns in causes.items() if cause not in ("user", "kernel", "runnable", "throttled"))
    without = sum(causes.values()) - said["spin0"]["user"] - blocked
    # A thread that may run again waits for a CPU besides; one runs at a time, at first the shell.
    kernels = _throttled_ns(quota)
    assert kernels > 0 and sum(each.get("throttled", 0) for each in found.values()) >= 0.95 * kernels - 20e6
    assert abs(causes["throttled"] + causes.get("runnable", 0) - without) <= _POINTS * sum(causes.values())


@pytest.fixture
def reader() -> Iterator[int]:
    """A process that waits for a pipe."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as asleep:
        wait_until(lambda: [scheduling(tid).state for tid in threads(asleep.pid)] == ["S"])
        yield asleep.pid
        asleep.kill()


def test_threads_that_sleep_all_the_time_are_accounted_from_start_to_end(reader: int, tmp_path: Path) -> None:
    output = tmp_path / "why.insitu"
    subprocess.run([*_WHY, "-q", "-d", "1", "-o", output, str(reader)], check=True)
    with insitu.open(output) as session:
        rows = session.sql("select state, cause, call, dur_ns from wall").rows()
        assert [row[:3] for row in rows] == [("blocked", "pipe", "read")]
        assert abs(rows[0][3] - session.manifest.duration_ns) <= 0.05 * session.manifest.duration_ns


def test_a_thread_that_was_stopped_before_is_not_asleep(reader: int, tmp_path: Path) -> None:
    os.kill(reader, signal.SIGSTOP)
    wait_until(lambda: "T (stopped)" in Path(f"/proc/{reader}/status").read_text())
    output = tmp_path / "why.insitu"
    subprocess.run([*_WHY, "-q", "-d", "0.5", "-o", output, str(reader)], check=True, capture_output=True)
    os.kill(reader, signal.SIGCONT)
    with insitu.open(output) as session:
        assert session.sql("select distinct state, cause from wall").rows() == [("blocked", "stopped")]


def test_a_recorder_that_is_killed_leaves_all_but_the_last_seconds(reader: int, tmp_path: Path) -> None:
    output = tmp_path / "why.insitu"
    with subprocess.Popen([*_WHY, "-q", "-d", "600", "-o", output, str(reader)]) as recorder:
        wait_until(lambda: recorder.poll() is not None or (output / "raw/wall/snapshot.maps").exists())
        recorder.kill()
    with insitu.open(output) as session:
        assert session.sql("select distinct state, cause from wall").rows() == [("blocked", "pipe")]


def _refusal(*words: str) -> tuple[int, str]:
    done = subprocess.run([*_WHY, *words], capture_output=True, text=True)
    return done.returncode, done.stderr


def test_what_cannot_be_looked_at_is_one_line() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert _refusal(str(gone.pid)) == (1, f"insitu: process {gone.pid} does not exist (ps -e lists processes)\n")
    status, text = _refusal("make")
    assert status == 2 and "insitu why -- make" in text and text.count("\n") == 1
    assert _refusal()[0] == 2


def test_the_flame_graph_has_states_above_the_stacks(shares: Path, tmp_path: Path) -> None:
    output, page = tmp_path / "why.insitu", tmp_path / "why.html"
    _recorded(output, shares, "family")
    subprocess.run([sys.executable, "-m", "insitu", "flame", output, "-o", page], check=True)
    folded: Any = subprocess.run(
        [sys.executable, "-m", "insitu", "report", "--folded", output], check=True, capture_output=True, text=True
    ).stdout
    waits = [line for line in folded.splitlines() if ";[read pipe:" in line]
    assert waits and all("main;" in line for line in waits)
    assert any(line.partition("[read pipe:")[2].find("write") > 0 for line in waits)  # the waker's stack above


_MANY = """
import threading
for _ in range(30):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
print(flush=True)
threading.Event().wait()
"""


def test_many_threads_of_one_name_are_one_row_and_a_pipe_has_short_lines(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _MANY], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        number, name = len(list(threads(program.pid))), comm(program.pid).decode()
        words = [*_WHY, "-d", "0.3", "-o", tmp_path / "why.insitu", str(program.pid)]
        report = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        program.kill()
    assert f"{number - 1} threads named {name} waiting for" in report  # the main thread waits in another function
    assert [line.split()[:3] for line in report.splitlines() if re.match(r" *\d+ threads ", line)] == [
        [str(number), "threads", name]
    ]
    assert max(map(len, report.splitlines())) <= 100


_PYTHON = """
import os, sys, threading, time
def handler(pipe):
    while os.read(pipe, 1): pass
def long_nap(): time.sleep(0.3)
def short_nap(): time.sleep(0.1)
def sender(pipe):
    for _ in range(6):
        short_nap(); long_nap(); os.write(pipe, b"x")
r, w = os.pipe()
threads = [threading.Thread(target=handler, args=(r,)), threading.Thread(target=sender, args=(w,))]
for each in threads: each.start()
threads[1].join(); os.close(w); threads[0].join()
"""


def test_threads_of_python_are_blocked_in_python_functions(tmp_path: Path) -> None:
    program, output = tmp_path / "app.py", tmp_path / "why.insitu"
    program.write_text(_PYTHON)
    subprocess.run([*_WHY, "-q", "-o", output, "--", sys.executable, program], check=True)
    shown = json.loads(subprocess.run([*_WHY, "--json", output], check=True, capture_output=True).stdout)
    ns: dict[tuple[str, str], int] = defaultdict(int)
    for cause in shown["causes"]:
        ns[cause["cause"], cause["place"]] += cause["ns"]
    whole = sum(ns.values())
    asleep = sum(each for (cause, _), each in ns.items() if cause == "sleep")
    # Divided by samples, 20 a second or fewer: three quarters are spent in one of the two.
    assert abs(ns["sleep", "long_nap() app.py:5"] - 0.75 * asleep) <= 0.2 * asleep
    assert abs(ns["sleep", "short_nap() app.py:6"] - 0.25 * asleep) <= 0.2 * asleep
    assert ns["pipe", "handler() app.py:4"] >= 0.2 * whole
    folded: Any = subprocess.run(
        [sys.executable, "-m", "insitu", "report", "--folded", output], check=True, capture_output=True, text=True
    ).stdout
    assert "Thread.run;sender;long_nap;" in folded


def test_a_thread_of_python_that_slept_before_is_in_its_function(tmp_path: Path) -> None:
    program, output = tmp_path / "app.py", tmp_path / "why.insitu"
    program.write_text("import sys\ndef waits():\n    sys.stdin.buffer.raw.read(1)\nprint(flush=True)\nwaits()\n")
    with subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as asleep:
        assert asleep.stdout is not None and asleep.stdout.readline()
        wait_until(lambda: scheduling(asleep.pid).state == "S")
        words = [*_WHY, "-d", "1", "-o", output, str(asleep.pid)]
        report = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        asleep.kill()
    assert "in waits() app.py:3" in report
