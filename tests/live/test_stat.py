"""Counts of programs whose events are known in number, and of perf stat on the same programs."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from insitu.record.counters import Counters, choose_counted
from insitu.record.event_names import all_events

from .unprivileged import Unprivileged, unprivileged  # noqa: F401 - a fixture

if os.geteuid() != 0:
    pytest.skip("needs root, for tracepoints and what happens in the kernel", allow_module_level=True)

STAT = [sys.executable, "-m", "insitu", "stat"]
CALLS = "raw_syscalls:sys_enter"
_STARTING = 300  # page faults and system calls of a small program's start, at most


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program; see counted.c."""
    program = tmp_path_factory.mktemp("stat") / "counted"
    source = Path(__file__).with_name("counted.c")
    subprocess.run(["gcc", "-O1", "-pthread", "-o", program, source], check=True)
    return str(program)


def run(*words: str, check: bool = True, **options: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*STAT, *words], capture_output=True, text=True, timeout=120, check=check, **options)  # type: ignore[call-overload,no-any-return]


def counts(*words: str) -> dict[str, float]:
    """Event -> count, of `insitu stat --json WORDS`."""
    found = map(json.loads, run("--json", *words).stderr.splitlines())
    return {each["event"]: float(each["counter-value"]) for each in found}


def perf_counts(event: str, *command: str) -> float:
    """perf stat's count of one event."""
    done = subprocess.run(
        ["perf", "stat", "-x,", "-e", event, "--", *command], capture_output=True, text=True, check=True
    )
    return float(done.stderr.splitlines()[-1].split(",")[0])


# One program, a number that it knows


def test_system_calls_are_the_program_s_own_number_and_perf_stat_s(counted: str) -> None:
    few, many = (counts("-e", CALLS, "--", counted, "calls", number)[CALLS] for number in ("0", "5000"))
    assert many - few == 5000
    assert many == perf_counts(CALLS, counted, "calls", "5000")


def test_page_faults_are_one_for_each_page_touched_and_those_of_the_start(counted: str) -> None:
    touched = counts("-e", "page-faults", "--", counted, "pages", "4000")["page-faults"]
    assert 4000 < touched < 4000 + _STARTING
    assert abs(touched - perf_counts("page-faults", counted, "pages", "4000")) < 50  # addresses are random


def test_context_switches_are_at_least_those_that_the_kernel_has_in_the_program_s_rusage(counted: str) -> None:
    done = run("--json", "-e", "cs", "--", counted, "sleeps", "50")
    own = int(done.stdout)
    assert own >= 50
    assert own <= float(json.loads(done.stderr)["counter-value"]) < own + 1000


@pytest.mark.skipif(len(os.sched_getaffinity(0) & {0, 1}) < 2, reason="needs CPUs 0 and 1")
def test_each_move_to_the_other_cpu_is_a_migration(counted: str) -> None:
    assert 39 <= counts("-e", "migrations", "--", counted, "moves", "40")["cpu-migrations"] < 80


def test_the_task_clock_has_at_least_the_cpu_time_that_the_program_used(counted: str) -> None:
    # The program's own figure contains the time before exec; the task clock also what a hypervisor took.
    assert counts("-e", "task-clock", "--", counted, "burns", "300")["task-clock"] >= 200


def test_a_pmu_of_sysfs_counts_by_its_own_name(counted: str) -> None:
    if not Path("/sys/bus/event_source/devices/msr/events/tsc").exists():
        pytest.skip("no msr PMU")
    # CPU time in TSC ticks: more than 100 MHz, less than 10 GHz
    ticks = counts("-e", "msr/tsc/,task-clock", "--", counted, "burns", "100")
    assert 100e6 < ticks["msr/tsc/"] / (ticks["task-clock"] / 1e3) < 10e9


# Children, threads, running processes


def test_children_count_too_unless_they_are_left_out(counted: str) -> None:
    together = counts("-e", CALLS, "--", counted, "children", "1000")[CALLS]
    alone = counts("-i", "-e", CALLS, "--", counted, "children", "1000")[CALLS]
    assert 3000 < together < 3000 + _STARTING
    assert alone < _STARTING


@pytest.fixture
def started(counted: str) -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts the program, whose threads are all in read(2) then."""
    running = []

    def start(what: str, number: int) -> "subprocess.Popen[bytes]":
        running.append(subprocess.Popen([counted, what, str(number)], stdin=subprocess.PIPE))
        while len(_reading(running[-1].pid)) < (2 if what == "threads" else 1):
            assert running[-1].poll() is None
            time.sleep(0.01)
        return running[-1]

    yield start
    for each in running:
        each.kill()
        each.wait()


def _reading(pid: int) -> list[int]:
    """The threads of a process that are in read(2) of standard input (proc_pid_syscall(5))."""
    calls = {task: (task / "syscall").read_text().split() for task in Path(f"/proc/{pid}/task").iterdir()}
    read = "63" if os.uname().machine == "aarch64" else "0"
    return [int(task.name) for task, call in calls.items() if call[:2] == [read, "0x0"]]


def attached(*words: str) -> "subprocess.Popen[str]":
    """`insitu stat WORDS` with intervals, of which it has printed the first."""
    process = subprocess.Popen([*STAT, "--json", "-I", "50", *words], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None and process.stderr.readline()
    return process


def test_intervals_of_a_running_process_add_up_to_its_calls_and_to_the_summary(started) -> None:
    program = started("waits", 3000)
    process = attached("-e", CALLS, "--summary", "-p", str(program.pid))
    program.communicate(b"x")
    _, text = process.communicate(timeout=60)
    found = list(map(json.loads, text.splitlines()))
    parts = [float(each["counter-value"]) for each in found if "interval" in each]
    [total] = [float(each["counter-value"]) for each in found if "interval" not in each]
    assert sum(parts) == total == 3001  # and exit_group
    assert process.returncode == 0


def test_threads_are_told_apart(started) -> None:
    program = started("threads", 1000)
    tids = _reading(program.pid)
    process = attached("-e", CALLS, "--summary", "--per-thread", "-p", str(program.pid))
    assert program.stdin is not None
    program.stdin.write(b"xx")
    program.stdin.close()
    _, text = process.communicate(timeout=60)
    totals = {
        each["thread"]: float(each["counter-value"])
        for each in map(json.loads, text.splitlines())
        if "interval" not in each
    }
    assert set(totals) == {f"counted-{tid}" for tid in tids}
    first, second = sorted(totals.values())
    assert 1000 <= first < 1000 + _STARTING and 2000 <= second < 2000 + _STARTING


def test_closing_trace_events_leaves_no_descriptor_and_no_child() -> None:
    chosen, _ = choose_counted(all_events(f"{CALLS},sched:sched_switch,task-clock"), [""], whole_system=False)
    before, children = os.listdir("/proc/self/fd"), _children()  # noqa: PTH208
    counters = Counters(chosen, inherit=True)
    for event in counters.events:
        counters.open(event, os.getpid())
    counters.enable()
    counters.close_events()
    assert os.listdir("/proc/self/fd") == before  # noqa: PTH208
    assert set(_children()) <= set(children)  # some of other tests may have ended meanwhile


def _children() -> list[str]:
    return Path("/proc/thread-self/children").read_text().split()


def test_all_threads_of_the_machine_are_told_apart(started) -> None:
    program = started("threads", 1000)
    tids = _reading(program.pid)
    process = attached("-e", CALLS, "--summary", "--per-thread", "-a")
    program.communicate(b"xx")
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    found = [each for each in map(json.loads, process.stderr) if "interval" not in each]
    process.wait()
    totals = {each["thread"]: float(each["counter-value"]) for each in found}
    first, second = sorted(totals[f"counted-{tid}"] for tid in tids)
    assert 1000 <= first < 1000 + _STARTING and 2000 <= second < 2000 + _STARTING
    assert all(totals.values()) and list(totals.values()) == sorted(totals.values(), reverse=True)


def test_a_command_is_one_of_all_the_threads_with_its_children(counted: str) -> None:
    done = run("--json", "-e", CALLS, "-a", "--per-thread", "--", counted, "children", "1000")
    found = [json.loads(line) for line in done.stderr.splitlines()]
    (own,) = [float(each["counter-value"]) for each in found if each["thread"].startswith("counted-")]
    assert 3000 < own < 3000 + _STARTING


def test_a_command_besides_p_only_says_how_long(started) -> None:
    program = started("waits", 10)
    done = run("-e", CALLS, "-p", str(program.pid), "--", "true")
    assert re.search(rf"^ +0 +{CALLS}", done.stderr, re.MULTILINE)
    assert f"process id '{program.pid}'" in done.stderr


def test_a_cgroup_is_counted_on_all_cpus(counted: str) -> None:
    mounts = Path("/proc/self/mountinfo").read_text()
    tops = [line.split()[4] for line in mounts.splitlines() if " - cgroup2 " in line]
    group = Path(tops[0] if tops else "/none") / f"insitu-stat-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("no cgroup2 to make a group in")
    try:
        join = 'echo $$ >"$0/cgroup.procs" && exec "$@"'
        command = ["sh", "-c", join, str(group), counted, "calls", "4000"]
        found = counts("-e", CALLS, "-G", group.name, "--", *command)
    finally:
        group.rmdir()
    assert 4000 < found[CALLS] < 4000 + _STARTING


# Output, and how it ends


def test_the_exit_status_is_the_command_s(counted: str) -> None:
    assert run("--", "sh", "-c", "exit 3", check=False).returncode == 3
    assert run("--", "/none/such", check=False).returncode == 127


def test_csv_has_perf_stat_s_fields(counted: str) -> None:
    words = ["-x,", "-e", f"{CALLS},task-clock,cycles", "--", counted, "calls", "10"]
    ours = run(*words).stderr.splitlines()
    peer = subprocess.run(["perf", "stat", *words], capture_output=True, text=True, check=True).stderr.splitlines()
    assert len(ours) == len(peer) == 3
    for our, their in zip(ours, peer, strict=True):
        mine, theirs = our.split(","), their.split(",")
        assert len(mine) == len(theirs) == 7
        # value and times differ; unit, event, share of the time, and the metric's unit are the same
        assert (mine[1:3], mine[4]) == (theirs[1:3], theirs[4])
        assert mine[6].lstrip("KMG") == theirs[6].lstrip("KMG")
    assert ours[0].split(",")[0] == peer[0].split(",")[0]


def test_a_signal_ends_the_counting_and_what_was_counted_is_printed() -> None:
    process = attached("-e", "task-clock", "--summary", "--", "sleep", "100")
    process.send_signal(signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert [each["event"] for each in map(json.loads, text.splitlines()) if "interval" not in each] == ["task-clock"]
    assert process.returncode > 128


def test_a_reader_that_ends_early_gets_no_traceback() -> None:
    command = f"{' '.join(STAT)} -I 20 -e cs -- sleep 0.3 2>&1 >/dev/null | head -n 1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("#") and "Traceback" not in done.stdout + done.stderr


def test_a_process_that_does_not_exist_is_named() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    done = run("-p", str(process.pid), check=False)
    assert (done.returncode, "does not exist" in done.stderr) == (1, True)


def test_repeats_of_a_known_number_have_no_spread(counted: str) -> None:
    done = run("--json", "-r", "3", "-e", CALLS, "--", counted, "calls", "100")
    [found] = map(json.loads, done.stderr.splitlines())
    assert found["variance"] == 0 and float(found["counter-value"]) > 100


def test_a_file_holds_the_text_and_a_session_the_counts_over_time(counted: str, tmp_path: Path) -> None:
    text, session = tmp_path / "counts.txt", tmp_path / "counts.insitu"
    run("-o", str(text), "-e", CALLS, "--", counted, "calls", "100")
    assert CALLS in text.read_text()
    done = run("-o", str(session), "-I", "20", "-e", f"{CALLS},cycles", "--", counted, "burns", "100")
    total = int(re.findall(rf"([\d,]+) +{CALLS}", done.stderr)[-1].replace(",", ""))
    import insitu

    with insitu.open(session) as opened:
        largest, rows = opened.sql(
            f"select max(value), count(*) from counter join track on track.id = track where name = '{CALLS}'"
        ).row(0)
    assert largest == total and rows >= 3


def test_without_privileges_user_code_is_counted_and_the_rest_has_a_reason(unprivileged: Unprivileged) -> None:  # noqa: F811
    done = unprivileged((), "stat", "-e", "page-faults,context-switches", "--", "true")
    if int(Path("/proc/sys/kernel/perf_event_paranoid").read_text()) != 2:
        pytest.skip("kernel.perf_event_paranoid is not 2")
    assert done.returncode == 0
    assert re.search(r"\d+ +page-faults:u", done.stderr)
    assert re.search(r"<not supported> +context-switches", done.stderr)
    refused = unprivileged((), "stat", "-a", "--", "true")
    assert refused.returncode == 1 and "CAP_PERFMON" in refused.stderr and "perf_event_paranoid" in refused.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("-x", ",", "-j"),
        ("-x", "1"),
        ("-x", "\n"),
        ("--log-fd", "1", "-o", "out"),
        ("--append",),
        ("--interval-count", "2"),
        ("--interval-clear",),
        ("--table",),
        ("--per-core",),
        ("-D", "-1"),
        ("--control", "fd:77"),
        ("--control", "fifo:/dev/null"),
        ("--filter", "id == 1"),
        ("-e", "cs", "--filter", "id == 1"),
        ("-e", "{cs}}"),
        ("-M", "none"),
    ],
)
def test_options_that_would_be_ignored_are_refused(words: tuple[str, ...], tmp_path: Path) -> None:
    done = run(*words, "--", "touch", "mark", check=False, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not list(tmp_path.iterdir())
