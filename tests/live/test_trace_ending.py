"""How a script ends: by itself, by a signal while it is busy; and what signals of its own do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.live.tracing import run_trace

import insitu
from insitu.errors import InsituError

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


def test_cat_waits_for_no_fifo_and_not_for_the_kernels_log(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").write_text("whole\n")
    script = (
        f'BEGIN {{ cat("{tmp_path}/fifo"); cat("{tmp_path}/file"); cat("/proc/kmsg"); printf("\\nend\\n"); exit(); }}'
    )
    lines = run_trace("-e", script).stdout.split("\n")
    assert lines[0] == "whole" and "end" in lines


def test_a_script_that_does_not_end_is_refused_and_one_from_a_pipe_is_read(tmp_path: Path) -> None:
    endless = run_trace("/dev/zero", status=2).stderr
    assert endless == "insitu: /dev/zero is larger than 16 MiB: no script\n"
    os.mkfifo(tmp_path / "fifo")
    with subprocess.Popen(["sh", "-c", f"echo 'BEGIN {{ print(7); exit(); }}' > {tmp_path}/fifo"]):
        assert run_trace(str(tmp_path / "fifo")).stdout.split() == ["7"]
    wrong = run_trace("-e", 'begin { exit(); }\n#include "/proc/kmsg"', status=1).stderr
    assert "cannot include '/proc/kmsg': not a regular file" in wrong


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


@pytest.mark.parametrize(
    "statement",
    [
        "@ = END count() }; print(1);",
        "@n[1] = END hist(2) }; print(1);",
        "@n = sum(END 1 });",
        "@n[END 1 }] = count();",
        "@n[END 1 }]++;",
        "@n[END 1 }] = comm; print(1);",
        "@n[1] = END 5 }; print(1);",
        "_ = END @n[1]++ };",
        "END @n[1]++ };",
        "$x = END 1 } && rand; print($x);",
        "$x = END 1 } ? rand : 4; print($x);",
        "$x = rand ? END 1 } : END 2 }; print($x);",
        "$x = rand ? END comm } : END 'a' }; print($x);",
        "$x = END 1 }; $x++; @n[comm] = count(); print($x);",
        "$x = (1, END 'x' }); print($x);",
        "let $x = END kstack }; print($x);",
        "print(END @n[1] }); @n[1] = 2;",
        "print(END comm });",
        "print(END comm } ?: 'x');",
        "print(END rand } ?: 4);",
        "print({ if (ncpus) { exit(3); } comm });",
        "printf('%d %s %s', 1, 'x', END comm });",
        "emit('a', (x=END 1 },));",
        "emit('a', (x=END (1, comm) }, y=END comm }));",
        "print(strlen(END comm }));",
        "if (END 1 }) { print(1); } else { print(2); } print(3);",
        "while (END 1 }) { print(1); }",
        "for ($i : 0..END 5 }) { print(1); }",
        "unroll (3) { @ = END count() }; print(1); }",
    ],
)
def test_a_block_with_a_value_may_end_the_script(statement: str) -> None:
    statement = statement.replace("END", "{ exit(3);").replace("'", '"')
    done = run_trace("-e", f"BEGIN {{ {statement} print(2); }}", status=3)
    assert done.stderr == ""
    assert "".join(done.stdout.split()) in ("", "@:0")  # a count without a key is always there


def test_jumps_in_blocks_with_values_leave_the_value_out() -> None:
    script = """
        fn early() : int64 { @skipped[0] = { return 3; count() }; return 4; }
        BEGIN {
            print(early());
            for ($i : 0..4) { @some[$i] = { if ($i % 2) { continue; } count() }; }
            for ($i : 0..4) { @first[$i] = { if ($i == 1) { break; } count() }; }
            for ($kv : @some) { print($kv.0); }
            for ($kv : @first) { print($kv.0); }
            exit(); clear(@some); }
        END { clear(@some); clear(@first); }"""
    printed = run_trace("-e", script).stdout.split()
    assert (printed[0], sorted(printed[1:3]), printed[3:]) == ("3", ["0", "2"], ["0"])


def test_what_a_value_sends_comes_before_the_record_that_it_is_in() -> None:
    script = """
        fn named() : string { print("third"); return "c"; }
        BEGIN { printf("%d %s %s\\n", { print("first"); 7 }, { print("second"); "b" }, named()); exit(); }"""
    assert run_trace("-e", script).stdout.split("\n")[:4] == ["first", "second", "third", "7 b c"]


def test_an_event_whose_value_emits_another_keeps_its_own() -> None:
    script = """BEGIN { emit("outer", (x={ emit("inner", (y="the inner one, long",)); "of the outer, longer" }, n=1));
        exit(); }"""
    tables = insitu.trace(script).wait().tables
    assert tables["inner"]["y"].to_list() == ["the inner one, long"]
    assert tables["outer"]["x"].to_list() == ["of the outer, longer"]


def test_maps_can_be_read_until_the_block_ends() -> None:
    with insitu.trace("BEGIN { @x = 5; print(1); }") as trace:
        assert list(trace.events()) == [1]
        assert trace.maps["@x"]["value"].to_list() == [5] and trace.lost == []
    assert trace.text == ""
    with pytest.raises(InsituError, match="trace is closed"):
        trace.maps  # noqa: B018


@pytest.mark.parametrize("how", ["-c", "--"])
def test_sigquit_ends_the_command_too(how: str) -> None:
    command = ["sleep 1000"] if how == "-c" else ["sleep", "1000"]
    script = 'interval:ms:10 { if (!@) { printf("%d\\n", cpid); @ = 1; } } END { clear(@); printf("end"); }'
    with subprocess.Popen([*_TRACE, "-e", script, how, *command], stdout=subprocess.PIPE, text=True) as tracer:
        assert tracer.stdout is not None
        child = int(tracer.stdout.readline())
        tracer.send_signal(signal.SIGQUIT)
        assert tracer.stdout.read().strip() == "end"
    assert tracer.returncode == 131
    assert not Path(f"/proc/{child}").exists()
