"""Whom `insitu trace` traces: a command's process, not its children; with -a the whole machine while it runs."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import insitu
from insitu.capabilities import links
from insitu.capabilities.result import no
from insitu.kernel.procfs import threads

from .tracing import run_trace, wait_until

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)

# A system call that nothing else here makes: 5 times in a thread, 2 times in the main one, then 30 times in a child.
_CALLS = """
import os, subprocess, sys, threading
def calls(number):
    for _ in range(number):
        os.sched_rr_get_interval(0)
if len(sys.argv) > 1:
    calls(30)
else:
    thread = threading.Thread(target=calls, args=(5,))
    thread.start()
    thread.join()
    calls(2)
    subprocess.run([sys.executable, "-S", __file__, "child"])
"""
_SYSCALL = "tracepoint:syscalls:sys_enter_sched_rr_get_interval"
# Its functions are called twice by the process and three times by its child, with one more argument each.
_FORKS = """
#include <sys/wait.h>
#include <unistd.h>
__attribute__((noinline)) void step_one(int n) { __asm__ volatile("" :: "r"(n)); }
__attribute__((noinline)) void step_two(int n) { __asm__ volatile("" :: "r"(n)); }
volatile int watched = 1;
int main(void)
{
    int child = fork() == 0, times = child ? 3 : 2;
    for (int i = 0; i < times; i++) { step_one(i); step_two(i); watched = i; }
    for (volatile long i = 0; i < 100000000; i++) { }
    if (!child) wait(NULL);
    return 0;
}
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("calls") / "calls.py"
    path.write_text(_CALLS)
    return [sys.executable, "-S", str(path)]


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("forks")
    (directory / "forks.c").write_text(_FORKS)
    subprocess.run(["gcc", "-O1", "-no-pie", "-o", directory / "forks", directory / "forks.c"], check=True)
    return directory / "forks"


@pytest.fixture
def others() -> Iterator[None]:
    """A process that makes the call all the time."""
    code = "import os\nprint(flush=True)\nwhile True: os.sched_rr_get_interval(0)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.kill()


def test_only_the_commands_process_is_traced_and_with_a_the_whole_machine(calls: list[str], tmp_path: Path) -> None:
    script = f"{_SYSCALL} {{ @ = count(); }}"
    compiled = {"XDG_CACHE_HOME": str(tmp_path)}  # by the first of them; the others must not take it for theirs
    runs = [
        run_trace(*words, "-e", script, "--", *calls, env=compiled).stdout.strip()
        for words in ((), ("-a",), (), ("-a",))
    ]
    assert runs == ["@: 7", "@: 37", "@: 7", "@: 37"]
    assert run_trace("-e", script, "-c", shlex.join(calls)).stdout.strip() == "@: 7"
    assert run_trace("--all", "-e", script, "-c", shlex.join(calls)).stdout.strip() == "@: 37"


@pytest.mark.usefixtures("others")
def test_calls_of_a_process_that_is_not_the_commands_do_not_count(calls: list[str]) -> None:
    script = f"{_SYSCALL} {{ @[pid == cpid] = count(); }}"
    assert run_trace("-e", script, "--", *calls).stdout.strip() == "@[true]: 7"
    everyone = run_trace("-a", "-e", script, "--", *calls).stdout
    assert "@[true]: 7\n" in everyone and int(re.findall(r"@\[false\]: (\d+)", everyone)[0]) > 30


@pytest.mark.parametrize(
    "probe",
    [
        "uprobe:FORKS:step_one",
        "uretprobe:FORKS:step_one",
        "uprobe:FORKS:step_*",
        "uprobe:DIRECTORY/for*:step_o*",
        "watchpoint:WATCHED:4:w",
    ],
)
def test_probes_of_a_binary_fire_in_the_commands_process_alone(forks: Path, probe: str) -> None:
    symbols = subprocess.run(["nm", forks], capture_output=True, text=True, check=True).stdout
    place = re.search(r"(\w+) D watched", symbols)
    assert place
    for name, value in (("FORKS", forks), ("DIRECTORY", forks.parent), ("WATCHED", f"0x{place[1]}")):
        probe = probe.replace(name, str(value))
    expected = 4 if probe.endswith("step_*") else 2
    output = run_trace("-e", f"{probe} {{ @[pid == cpid] = count(); }}", "-c", str(forks)).stdout
    assert output.strip() == f"@[true]: {expected}"
    if "watchpoint" not in probe:  # an address is watched in one process, and those that it forks
        everyone = run_trace("-a", "-e", f"{probe} {{ @[pid == cpid] = count(); }}", "-c", str(forks)).stdout
        assert sorted(everyone.split("\n")) == ["", "", "", f"@[false]: {expected * 3 // 2}", f"@[true]: {expected}"]


@pytest.mark.parametrize("probe", ["profile:hz:200", "software:page-faults:1", "software:cpu-clock:5ms"])
def test_clocks_and_counters_leave_out_the_children_of_the_process(forks: Path, probe: str) -> None:
    script = f"{probe} {{ @[pid == cpid] = count(); }}"
    output = run_trace("-e", script, "-c", str(forks)).stdout
    assert re.fullmatch(r"@\[true\]: [1-9]\d*", output.strip())
    assert "@[false]: " in run_trace("-a", "-e", script, "-c", str(forks)).stdout


def test_a_running_processs_children_are_left_out_as_well(forks: Path) -> None:
    with subprocess.Popen(["sh", "-c", f"read go; exec {forks}"], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        script = f"profile:hz:200 {{ @[pid == {process.pid}] = count(); }}"
        with insitu.trace(script, pid=process.pid) as trace:
            process.stdin.write(b"\n")
            process.stdin.close()
            assert trace.maps["@"]["key"].to_list() == [True]


_THREAD = """
import os, threading, time
def calls():
    print(threading.get_native_id(), flush=True)
    while True:
        os.sched_rr_get_interval(0)
        time.sleep(0.001)
threading.Thread(target=calls).start()
"""


def test_a_thread_that_is_given_means_its_process() -> None:
    with subprocess.Popen([sys.executable, "-c", _THREAD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        thread = int(process.stdout.readline())
        script = f"{_SYSCALL} /pid == {process.pid}/ {{ @ = count(); exit(); }}"
        assert thread != process.pid and "@: 1" in run_trace("-p", str(thread), "-e", script, "-d", "60").stdout
        with insitu.trace(script, pid=thread, seconds=60) as trace:
            assert trace.maps["@"]["value"].to_list() == [1]
        process.kill()


def test_begin_end_and_intervals_run_with_a_command() -> None:
    script = 'BEGIN { print("begin"); } interval:ms:50 { @ticks = count(); } END { print("end"); }'
    done = run_trace("-e", script, "-c", "sleep 0.5")
    assert done.stdout.split()[:2] == ["begin", "end"] and int(done.stdout.split()[-1]) >= 3
    assert done.stderr == ""  # nothing that it does is of sleep


def test_a_traced_sleep_is_warned_of_unless_the_whole_machine_is_meant() -> None:
    script = f"{_SYSCALL} {{ @ = count(); }}"
    warning = "insitu: warning: only events of sleep are traced; -a traces the whole machine while it runs\n"
    for words in (("-c", "sleep 0.1"), ("--", "/bin/sleep", "0.1")):
        assert run_trace("-e", script, *words).stderr == warning
    assert run_trace("-a", "-e", script, "-c", "sleep 0.1").stderr == ""
    assert run_trace("-e", script, "-c", "true").stderr == ""


def test_the_whole_machine_and_a_process_exclude_each_other() -> None:
    refused = run_trace("-a", "-p", str(os.getpid()), "-e", "BEGIN { }", status=2)
    assert "-a cannot be combined with -p or -n" in refused.stderr
    assert run_trace("-a", "-e", 'BEGIN { print("whole"); exit(); }').stdout.strip() == "whole"


def test_a_session_says_whom_it_has_recorded(calls: list[str], tmp_path: Path) -> None:
    script = f'{_SYSCALL} {{ emit("call", (ours = pid == cpid)); @[ustack] = count(); }}'
    for words, rows, target in (((), 7, ""), (("-a",), 37, "the whole machine")):
        path = tmp_path / f"{rows}.insitu"
        run_trace(*words, "-e", script, "-o", str(path), "--", *calls)
        session = insitu.open(path)
        assert session.sql("select count(*) from event.call").rows() == [(rows,)]
        named = session.sql("select count(*) from event.call join thread using (utid) where name like 'python%'")
        assert named.rows() == [(rows,)]
        report = subprocess.run(
            [sys.executable, "-m", "insitu", "report", path], capture_output=True, text=True, check=True
        ).stdout
        assert ("# target   the whole machine" in report) == bool(target)


def test_python_traces_a_commands_process_or_the_whole_system_meanwhile(calls: list[str]) -> None:
    script = f"{_SYSCALL} {{ @ = count(); }}"
    for whole_system, expected in ((False, 7), (True, 37)):
        with insitu.trace(script, command=shlex.join(calls), whole_system=whole_system) as trace:
            assert trace.maps["@"]["value"].to_list() == [expected]


def test_a_commands_children_are_followed_as_the_page_shows(calls: list[str], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/trace.md").read_text()
    shown = re.search(r"`tree\.bt`:\n\n```\n(.*?)```", page, re.DOTALL)
    assert shown
    script = tmp_path / "tree.bt"
    script.write_text(f"{shown[1]}\n{_SYSCALL} /@tree[tid]/ {{ @calls = count(); }}")
    lines = run_trace("-a", str(script), "--", *calls).stdout.split("\n")
    assert sum(line.endswith(f" {sys.executable}") for line in lines) == 2 and "@calls: 37" in lines


@pytest.mark.parametrize("older", [["uprobe_multi"], ["uprobe_multi", "perf_links"]])
def test_an_older_kernels_ways_to_attach_see_the_command_alone(
    forks: Path, monkeypatch: pytest.MonkeyPatch, older: list[str]
) -> None:
    for feature in older:
        monkeypatch.setattr(links, feature, lambda: no("an older kernel"))
    script = (
        f"uprobe:{forks}:step_* {{ @[pid == cpid] = count(); }} profile:hz:200 {{ @ticks[pid == cpid] = count(); }}"
    )
    with insitu.trace(script, command=str(forks)) as trace:
        maps = trace.maps
        assert maps["@"].rows() == [(True, 4)]
        assert maps["@ticks"]["key"].to_list() == [True]
    with insitu.trace(script, command=str(forks), whole_system=True) as trace:
        assert sorted(trace.maps["@"].rows()) == [(False, 6), (True, 4)]


@pytest.mark.parametrize("words", [["-n", ""], ["--"], ["--", ""]])
def test_a_target_that_is_empty_is_not_the_whole_machine(words: list[str]) -> None:
    done = run_trace("-e", "begin { print(1); exit(); }", *words, status=2)
    assert done.stderr.count("\n") == 1 and "empty" in done.stderr and not done.stdout


_TWO_THREADS = """#include <pthread.h>
#include <unistd.h>
static void *other(void *p) { for (;;) usleep(1000); return p; }
int main(void) { pthread_t t; pthread_create(&t, 0, other, 0); sleep(1000); return 0; }
"""


def test_runqlat_takes_a_process_with_all_its_threads_or_one_thread(tmp_path: Path) -> None:
    (tmp_path / "two.c").write_text(_TWO_THREADS)
    subprocess.run(["gcc", "-O1", "-pthread", "-o", "two", "two.c"], cwd=tmp_path, check=True)
    with subprocess.Popen([tmp_path / "two"]) as process:
        try:
            wait_until(lambda: len(threads(process.pid)) == 2)
            (other,) = {*threads(process.pid)} - {process.pid}
            one = ("-p", str(process.pid))
            for words in ([str(process.pid)], [str(other)], one):  # the first thread sleeps all the time
                output = run_trace("-d", "2", "runqlat", *words).stdout
                counts = [int(line.split("|")[0].split()[-1]) for line in output.splitlines() if line.startswith("[")]
                assert sum(counts) > 20
            said = run_trace("-d", "1", "-e", "tracepoint:sched:sched_wakeup { @ = count(); }", *one).stderr
        finally:
            process.kill()
    assert "sched_wakeup: only what the process itself wakes up is traced" in said
