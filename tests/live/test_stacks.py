"""insitu stacks, against gdb, and what the programs do by construction."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import insitu
from insitu.inspect.lock_waits import cycles, waits
from insitu.inspect.stacks import stacks
from insitu.symbols.frame import Frame

if os.geteuid() != 0:
    pytest.skip("needs root, for the kernel's stacks", allow_module_level=True)

_PROGRAMS = Path(__file__).parent / "stack_programs"


def _compiled(name: str, directory: Path) -> Path:
    program = directory / name
    source = _PROGRAMS / f"{name}.c"
    subprocess.run(["gcc", "-g", "-O1", "-pthread", "-o", program, source], check=True)
    return program


@pytest.fixture(scope="module")
def stuck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The process of deadlock.c, once all its threads wait."""
    program = _compiled("deadlock", tmp_path_factory.mktemp("stacks"))
    with _running([program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while any(_state(each.name) != "S" for each in Path(f"/proc/{process.pid}/task").iterdir()):
            time.sleep(0.01)
        yield process.pid


@contextmanager
def _running(command: Sequence[str | Path], **options: Any) -> Iterator["subprocess.Popen[Any]"]:
    """A process that is killed at the end, whatever happens."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def _state(tid: object) -> str:
    return Path(f"/proc/{tid}/stat").read_text().rpartition(") ")[2][0]


def _command(*words: object, status: int = 0) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "insitu", "stacks", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == status, done.stderr
    return done


def _by_gdb(pid: int) -> dict[int, list[tuple[str, int]]]:
    """The program's own functions and lines of each thread, innermost first."""
    command = ["gdb", "-nx", "-batch", "-p", str(pid), "-ex", "thread apply all bt"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    found: dict[int, list[tuple[str, int]]] = {}
    for part in re.split(r"\nThread \d+ ", text)[1:]:
        (tid,) = re.findall(r"LWP (\d+)", part.splitlines()[0])
        found[int(tid)] = [
            (name, int(line))
            for name, line in re.findall(r"^#\d+ .*?(\w+) \(.*\) at \S*deadlock\.c:(\d+)$", part, re.M)
        ]
    return found


def test_functions_and_lines_of_every_thread_are_gdbs(stuck: int) -> None:
    found = stacks(stuck)
    ours = {
        thread.tid: [(frame.function, frame.line) for frame in thread.frames if frame.file.endswith("deadlock.c")]
        for thread in found.threads
    }
    assert ours == _by_gdb(stuck) and len(ours) == 14
    assert all(thread.frames[-1].function in ("_start", "clone3") and not thread.cut for thread in found.threads)


def _body(frames: Sequence[Frame]) -> str:
    """The outermost function of the program."""
    return next(frame.function for frame in reversed(frames) if frame.file.endswith("deadlock.c"))


def test_who_waits_for_whom_and_the_deadlocks_are_found(stuck: int) -> None:
    found = stacks(stuck)
    by_function = {_body(thread.frames): thread.tid for thread in found.threads}
    left, right, twice = (by_function[name] for name in ("left", "right", "twice"))
    every = waits(found)
    assert {(wait.waiter.tid, wait.kind, wait.name, wait.owner.tid) for wait in every} == {
        (left, "mutex", "second", right),
        (right, "mutex", "first", left),
        (twice, "mutex", "own", twice),
        (by_function["reads"], "rwlock", "shared", stuck),
        (stuck, "thread", "", left),
    }
    assert {frozenset(wait.waiter.tid for wait in circle) for circle in cycles(every)} == {
        frozenset((left, right)),
        frozenset((twice,)),
    }


def test_equal_stacks_are_shown_once_and_deadlocks_first(stuck: int) -> None:
    text = _command(stuck).stdout
    assert "8 threads  deadlock (" in text and "sleeping in pause" in text
    lines = text.splitlines()
    assert lines[0].startswith(f"deadlock ({stuck}): 14 threads, stopped for ")
    assert lines[2].startswith("Deadlock: deadlock/") and "waits for the mutex second, held by" in lines[2]
    assert len(re.findall(r"^\d+  deadlock  ", _command("--each", stuck).stdout, re.M)) == 14


def test_a_deadlock_is_an_exit_status_and_a_document(stuck: int) -> None:
    document: Any = json.loads(_command("--deadlock", "--json", stuck, status=1).stdout)
    assert {each["truncated"] for each in document["processes"][0]["threads"]} <= {True, False}
    (process,) = document["processes"]
    assert sorted(map(len, process["deadlocks"])) == [1, 2]
    assert len(process["threads"]) == 5


def test_kernel_functions_are_those_of_proc(stuck: int) -> None:
    for thread in stacks(stuck, kernel=True).threads:
        text = Path(f"/proc/{stuck}/task/{thread.tid}/stack").read_text()
        assert [frame.function for frame in thread.kernel] == re.findall(r"\] (\w+)\+", text) != []


def test_a_session_has_a_sample_for_each_thread(stuck: int, tmp_path: Path) -> None:
    run = tmp_path / "now.insitu"
    _command("-q", "-o", run, stuck)
    with insitu.open(run) as session:
        assert session.sql("select sum(weight) from sample").item() == 14
    folded = subprocess.run(
        [sys.executable, "-m", "insitu", "report", "--folded", run], capture_output=True, text=True, check=True
    ).stdout
    assert re.search(r";pauses(;deep){6};\S*pause 8$", folded, re.M)


def test_signals_that_come_meanwhile_are_delivered_and_threads_may_come_and_go(tmp_path: Path) -> None:
    program = _compiled("signals", tmp_path)
    with _running([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        sent = 0
        for _ in range(40):
            for _ in range(5):
                os.kill(process.pid, signal.SIGRTMIN)
                sent += 1
            assert stacks(process.pid).threads[0].tid == process.pid
        process.stdin.close()
        assert int(process.stdout.read()) == sent


def test_a_stopped_process_stays_stopped_and_goes_on_when_it_is_told(tmp_path: Path) -> None:
    with _running(["sleep", "1000"]) as process:
        os.kill(process.pid, signal.SIGSTOP)
        while _state(process.pid) != "T":
            time.sleep(0.01)
        (thread,) = stacks(process.pid).threads
        assert thread.frames and thread.state == "T"
        while _state(process.pid) != "T":
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGCONT)
        while _state(process.pid) != "S":
            time.sleep(0.01)


_HOLDS = """
import sys, time
from insitu.inspect import stopped_threads
stopped_threads.while_stopped(int(sys.argv[1]), lambda tids: (print("stopped", flush=True), time.sleep(1000)))
"""


def test_a_process_runs_on_when_we_are_killed_while_it_is_stopped() -> None:
    with _running(["sleep", "1000"]) as process:
        with _running([sys.executable, "-c", _HOLDS, str(process.pid)], stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            assert _state(process.pid) == "t"
            holder.kill()
        while _state(process.pid) != "S":
            time.sleep(0.01)


def test_a_traced_process_names_its_tracer(tmp_path: Path) -> None:
    with _running(["strace", "-qq", "-o", tmp_path / "calls", "sleep", "1000"]) as tracer:
        children = Path(f"/proc/{tracer.pid}/task/{tracer.pid}/children")
        # strace tries what it can do on a child of its own before.
        while not (found := [pid for pid in children.read_text().split() if _is_called(pid, "sleep")]):
            time.sleep(0.01)
        done = _command(found[0], status=1)
        assert f"process {tracer.pid} (strace) traces it already" in done.stderr
        os.kill(int(found[0]), signal.SIGKILL)


def _is_called(pid: str, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except FileNotFoundError:
        return False


_LEADER_ENDS = """
#include <pthread.h>
#include <stdio.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *waits(void *x) { pthread_mutex_lock(&mutex); pthread_mutex_lock(&mutex); return x; }
int main(void)
{
    pthread_t thread;
    pthread_create(&thread, 0, waits, 0);
    puts("ready");
    fflush(stdout);
    pthread_exit(0);
}
"""


def test_threads_go_on_after_the_main_one_has_ended(tmp_path: Path) -> None:
    (tmp_path / "leader.c").write_text(_LEADER_ENDS)
    subprocess.run(["gcc", "-g", "-pthread", "-o", tmp_path / "leader", tmp_path / "leader.c"], check=True)
    with _running([tmp_path / "leader"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while _state(process.pid) != "Z":
            time.sleep(0.01)
        (other,) = {int(each.name) for each in Path(f"/proc/{process.pid}/task").iterdir()} - {process.pid}
        while _state(f"{process.pid}/task/{other}") != "S":
            time.sleep(0.01)
        main, waiting = stacks(process.pid).threads
        assert main.why == "it has ended" and [frame.function for frame in waiting.frames][-3] == "waits"
        text = _command("--deadlock", process.pid, status=1).stdout
    assert "waits for the mutex mutex, held by" in text


def test_a_zombie_and_a_process_that_is_not_there_are_one_line() -> None:
    with subprocess.Popen(["true"]) as process:
        while _state(process.pid) != "Z":
            time.sleep(0.01)
        assert "nobody has waited for it (a zombie)" in _command(process.pid).stdout
    done = _command(process.pid, status=1)
    assert done.stderr == f"insitu: no process {process.pid} (ps -e lists processes)\n" and done.stdout == ""


_TIMED = """
#include <pthread.h>
#include <stdio.h>
#include <time.h>
static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER;
static void *waits(void *unused) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += 100;
    pthread_mutex_timedlock(&first, &until);
    return unused;
}
int main(void) {
    pthread_t thread;
    pthread_mutex_lock(&first);
    pthread_create(&thread, 0, waits, 0);
    puts("");
    fflush(stdout);
    nanosleep(&(struct timespec){100, 0}, 0);
}
"""


def test_sleeps_that_an_earlier_look_interrupted_are_explained_and_waits_still_found(tmp_path: Path) -> None:
    program = tmp_path / "timed"
    subprocess.run(["gcc", "-g", "-pthread", "-o", program, "-x", "c", "-"], input=_TIMED, text=True, check=True)
    with _running([program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while any(_state(each.name) != "S" for each in Path(f"/proc/{process.pid}/task").iterdir()):
            time.sleep(0.01)
        for _ in range(2):
            seen = stacks(process.pid)
            assert [(wait.name, wait.owner.tid) for wait in waits(seen)] == [("first", process.pid)]
        assert Path(f"/proc/{process.pid}/syscall").read_text().startswith("219 ")  # restart_syscall of x86-64
        assert "a call that was interrupted and goes on (restart_syscall)" in _command(process.pid).stdout


_LOCKS = """
import threading
lock = threading.Lock()
lock.acquire()
for _ in range(3):
    threading.Thread(target=lock.acquire, daemon=True).start()
print(flush=True)
input()
"""


def test_locks_that_name_no_owner_are_said_to_be_waited_for() -> None:
    with _running([sys.executable, "-c", _LOCKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while any(_state(each.name) != "S" for each in Path(f"/proc/{process.pid}/task").iterdir()):
            time.sleep(0.01)
        text = _command("--deadlock", process.pid).stdout
    assert "no thread waits for a lock whose owner is known; 3 wait in futex for what names no owner" in text


_INTERRUPTED = """
#include <errno.h>
#include <stdio.h>
#include <sys/epoll.h>
int main(void) {
    struct epoll_event event;
    puts("");
    fflush(stdout);
    return epoll_wait(epoll_create1(0), &event, 1, 100000) == -1 && errno == EINTR ? 7 : 0;
}
"""


def test_a_process_that_the_look_interrupts_may_end_and_its_stacks_are_shown(tmp_path: Path) -> None:
    program = tmp_path / "waiter"
    subprocess.run(["gcc", "-o", program, "-x", "c", "-"], input=_INTERRUPTED, text=True, check=True)
    with _running([program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while _state(process.pid) != "S":
            time.sleep(0.01)
        assert "sleeping in epoll_wait" in _command(process.pid).stdout
        assert process.wait(10) == 7


def test_what_a_call_waits_on_is_named_with_its_descriptor() -> None:
    script = (
        "import os, threading; [threading.Thread(target=os.read, args=(end, 1)).start() for end in (0, os.pipe()[0])]"
    )
    with _running(
        [sys.executable, "-c", script + "; print(flush=True); os.read(0, 1)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        while any(_state(each.name) != "S" for each in Path(f"/proc/{process.pid}/task").iterdir()):
            time.sleep(0.01)
        calls = [thread.call for thread in stacks(process.pid).threads]
        text = _command("--each", process.pid).stdout
        links = {each.name: os.readlink(each) for each in Path(f"/proc/{process.pid}/fd").iterdir()}  # noqa: PTH115
    assert sorted(call.descriptor for call in calls if call and call.descriptor is not None)[:2] == [0, 0]
    assert [call.file for call in calls if call] == [links[str(call.descriptor)] for call in calls if call]
    assert f"sleeping in read of descriptor 0, {links['0']}\n" in text
