"""How a script ends: by itself, by a signal while it is busy; and what signals of its own do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.tracing import run_trace

_TRACE = [sys.executable, "-m", "insitu", "trace", "-q"]


def test_a_script_of_begin_and_end_only_ends_by_itself() -> None:
    assert run_trace("-e", 'BEGIN { printf("one "); } END { printf("two"); }').stdout.split() == ["one", "two"]


def test_with_a_command_such_a_script_lasts_as_long_as_that(tmp_path: Path) -> None:
    made = tmp_path / "made"
    run_trace("-e", "BEGIN { @ = cpid; }", "-c", f"sh -c 'sleep 0.3; echo > {made}'")
    assert made.exists()


def test_a_signal_of_its_own_runs_a_probe_and_what_the_signal_did_before() -> None:
    script = """BEGIN { printf("ready\\n"); } self:signal:SIGUSR1 { printf("first %d\\n", pid); }
        self:signal:USR1 { printf("second\\n"); @ = count(); } self:signal:SIGINT { printf("int\\n"); }"""
    with subprocess.Popen([*_TRACE, "-e", script], stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "ready\n"
        for _ in range(2):
            tracer.send_signal(signal.SIGUSR1)
            assert [tracer.stdout.readline() for _ in range(2)] == [f"first {tracer.pid}\n", "second\n"]
        tracer.send_signal(signal.SIGINT)
        assert tracer.stdout.read().split() == ["int", "@:", "2"]
    assert tracer.returncode == 0


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSTOP", "SIGSEGV"])
def test_a_signal_that_cannot_be_caught_is_refused(name: str) -> None:
    assert "-e:1:1: error:" in run_trace("-e", f"self:signal:{name} {{ }}", status=1).stderr


def test_ctrl_c_ends_a_script_whose_records_take_longer_than_it_makes_them() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "import os\nwhile True: os.getppid()"])
    script = 'tracepoint:raw_syscalls:sys_enter /pid == $1/ { system("echo x"); } END { system("echo last"); }'
    command = [*_TRACE, "--unsafe", "-e", script, str(busy.pid)]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tracer:
            assert tracer.stdout is not None
            for _ in range(3):
                assert tracer.stdout.readline() == "x\n"
            tracer.send_signal(signal.SIGINT)
            text, errors = tracer.communicate()
    finally:
        busy.kill()
        busy.wait()
    assert text.split()[-1] == "last"  # what end probes do is always done
    assert "calls of system(), cat() or print(): interrupted" in errors
    assert tracer.returncode == 0


def test_what_system_runs_does_not_keep_a_script_from_ending() -> None:
    with subprocess.Popen(
        [*_TRACE, "--unsafe", "-e", 'BEGIN { printf("ready\\n"); system("exec sleep 1000"); } interval:s:9 { }'],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=os.setpgrp,
    ) as tracer:
        assert tracer.stdout is not None
        assert tracer.stdout.readline() == "ready\n"
        tracer.send_signal(signal.SIGINT)
        tracer.communicate()
    assert tracer.returncode == 0


_CHILDREN = """
import os, insitu
def children():
    try:
        return os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
script = "tracepoint:syscalls:sys_enter_get* { @ = count(); }"
with insitu.trace(script, seconds=0.1) as trace:
    trace.maps
print(children())
for command in ("true", "sleep 100", "sh -c 'trap : TERM; while :; do sleep 0.1; done'"):
    with insitu.trace(script, command=command) as trace:
        if command == "true":
            trace.wait()
    print(children())
with insitu.trace(script, command="sleep 0.2") as trace:
    print(os.wait()[1])  # the program's own wait may be for the command
    trace.wait()
print(children())
"""


def test_no_child_process_is_left_that_the_programs_own_wait_would_see() -> None:
    done = subprocess.run([sys.executable, "-c", _CHILDREN], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.split() == ["None", "None", "None", "None", "0", "None"]
