"""Who, where and when, and what the compiler decides, against what the process, /proc and the clocks say.

BEGIN runs in the process of the test: the current process is the one that Python calls so.
"""

import os
import pwd
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

import insitu
from insitu.probe.source import ScriptError

from .tracing import run_trace, values_at_begin

if os.geteuid() != 0:
    pytest.skip("needs root, for bpf(2)", allow_module_level=True)


# Who and where


def test_the_current_process_is_the_one_that_runs_begin() -> None:
    found = values_at_begin(
        "pid", "tid", "uid", "gid", "comm", "username", "pid()", "tid(curr_ns)", "ppid", "pcomm", "cpid"
    )
    name = Path("/proc/self/comm").read_text().strip()
    user = pwd.getpwuid(os.getuid()).pw_name
    me, parent = os.getpid(), os.getppid()
    assert found[:7] == [me, threading.get_native_id(), os.getuid(), os.getgid(), name, user, me]
    assert found[7:] == [threading.get_native_id(), parent, Path(f"/proc/{parent}/comm").read_text().strip(), 0]


def test_the_registers_of_the_entry_have_the_number_of_the_call() -> None:
    register = "orig_ax" if os.uname().machine == "x86_64" else "syscallno"
    script = f"rawtracepoint:sys_enter /pid == cpid/ {{ @same[(int64)user_regs.{register} == args.id] = count(); }}"
    found = insitu.trace(script, command="true").wait().maps["@same"]
    assert found["key"].to_list() == [True]


def test_a_threads_leader_is_the_process() -> None:
    found: list[object] = []

    def look() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("worker")
        found.extend(
            values_at_begin("comm", "leader_comm", "leader_comm(curtask)", "leader_tid", "tid != leader_tid")
        )

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    name = Path("/proc/self/comm").read_text().strip()
    assert found == ["worker", name, name, os.getpid(), True]


def test_a_member_leads_to_the_struct_that_contains_it() -> None:
    assert values_at_begin(
        "container_of(&curtask->comm, struct task_struct, comm)->tgid",
        "container_of(&curtask->thread_info.flags, typeof(struct task_struct), thread_info.flags) == curtask",
        "container_of(curtask->sibling.next, struct task_struct, sibling) != 0",
    ) == [os.getpid(), True, True]


def test_addresses_that_stand_for_errors_are_known() -> None:
    # include/linux/err.h: MAX_ERRNO is 4095.
    asked = ("-1", "-4095", "-4096", "0", "curtask", "(int8 *)-12")
    assert values_at_begin(*(f"is_err({each})" for each in asked)) == [True, True, False, False, False, True]


def test_the_compiler_tells_its_settings_and_types() -> None:
    found = values_at_begin("config.max_map_keys", "config.stack_mode", "typeinfo(curtask)", "config")
    assert found[:2] == [4096, "bpftrace"]
    assert found[2] == {"btf_id": 0, "base_ty": "pointer", "full_ty": "struct task_struct *"}
    assert found[3]["max_map_keys"] == 4096 and found[3]["print_maps_on_exit"] is True


def test_the_initial_namespace_knows_the_process_by_the_last_of_its_numbers_upwards() -> None:
    if Path("/proc/self/ns/pid").stat().st_ino != 0xEFFFFFFC:
        pytest.skip("not in the initial PID namespace")
    assert values_at_begin("pid(init)", "tid(init)") == [os.getpid(), threading.get_native_id()]


def test_in_a_pid_namespace_numbers_are_those_of_the_namespace() -> None:
    script = 'BEGIN { printf("%d %d", pid, pid(init) != pid); exit(); }'
    words = [sys.executable, "-m", "insitu", "trace", "-q", "-e", script]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *words], capture_output=True, text=True, timeout=300
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("no new PID namespace may be made here")
    assert done.stdout.split() == ["1", "1"], done.stderr


def test_another_process_is_named_by_its_number() -> None:
    other = subprocess.Popen(["sleep", "60"])
    try:
        assert values_at_begin(f"comm({other.pid})", "comm(0x7fffffff)") == ["sleep", ""]
    finally:
        other.kill()
        other.wait()


def test_the_child_of_c_is_cpid() -> None:
    script = "tracepoint:sched:sched_process_exit /pid == cpid/ { print((has_cpid, (uint64)(cpid == args.pid))); }"
    assert run_trace("-c", "true", "-e", script).stdout.strip() == "(true, 1)"


def test_cpus_and_nodes_are_those_that_the_machine_has() -> None:
    cpus = int(Path("/sys/devices/system/cpu/possible").read_text().strip().rpartition("-")[2]) + 1
    os.sched_setaffinity(0, {(only := min(mine := os.sched_getaffinity(0)))})
    try:
        cpu, count, node = values_at_begin("cpu", "ncpus", "numaid")
    finally:
        os.sched_setaffinity(0, mine)
    assert (cpu, count) == (only, cpus)
    assert Path(f"/sys/devices/system/cpu/cpu{only}/node{node}").exists() or node == 0


def test_random_numbers_differ() -> None:
    assert len(set(values_at_begin(*["rand"] * 8))) > 1


def test_the_probe_knows_its_name_and_kind() -> None:
    assert values_at_begin("probe", "probetype") == ["BEGIN", "special"]
    script = "interval:ms:1 { print((probe, probetype, probetype())); exit(); }"
    assert list(insitu.trace(script).events()) == [("interval:ms:1", "interval", "interval")]


# Time


def test_clocks_are_the_kernels() -> None:
    clocks = [time.CLOCK_MONOTONIC, time.CLOCK_BOOTTIME, time.CLOCK_TAI, time.CLOCK_TAI, time.CLOCK_BOOTTIME]
    before = [time.clock_gettime_ns(clock) for clock in clocks]
    found = values_at_begin("nsecs(monotonic)", "nsecs(boot)", "nsecs(tai)", "nsecs(sw_tai)", "nsecs")
    after = [time.clock_gettime_ns(clock) for clock in clocks]
    slack = 1_000_000  # sw_tai is put together from two clocks that are read one after the other
    assert all(a - slack <= n <= b + slack for a, n, b in zip(before, found, after, strict=True))


def test_elapsed_counts_from_the_scripts_start_and_jiffies_go_on() -> None:
    script = "interval:ms:50 { print((elapsed, jiffies)); if (elapsed > 200000000) { exit(); } }"
    begun = time.monotonic_ns()
    found = list(insitu.trace(script).events())
    took = time.monotonic_ns() - begun
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(found))
    assert found[0][0] >= 50_000_000 and found[-1][0] <= took


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%H:%M", "%j %U %a %B", "%s", "%%f %e %Z", "%F %R"])
def test_strftime_shows_what_the_c_library_shows(form: str) -> None:
    boot = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    before = time.strftime(form)
    (shown,) = values_at_begin(f'strftime("{form}", {boot})')
    assert shown in (before, time.strftime(form))


def test_strftime_and_time_show_microseconds() -> None:
    first, second = values_at_begin('strftime("%f", 1000123000)', 'strftime("%f", 0)')
    assert (int(first) - int(second)) % 10**6 == 123
    printed = run_trace("-e", 'BEGIN { time("%Y %%\\n"); exit(); }').stdout
    assert printed.split() == [time.strftime("%Y"), "%"]


# Decisions of the compiler


def test_the_compiler_decides_what_kind_of_value_something_is() -> None:
    found = values_at_begin(
        "is_ptr(curtask)", "is_ptr(pid)", "is_integer(pid)", "is_unsigned_integer(nsecs)",
        "is_unsigned_integer(-1)",
        'is_str("a")', "is_str(1)", "is_literal(5)", "is_literal(pid)", "is_array(pton(\"::1\"))",
        "default_str_length",
        'kfunc_exist("vfs_read")', 'kfunc_exist("no_such_function")',
    )  # fmt: skip
    assert found == [True, False, True, True, False, True, False, True, False, True, 1024, True, False]


def test_assertions_stop_the_compiler_or_the_script() -> None:
    with pytest.raises(ScriptError, match="too few: 1"):
        insitu.trace('BEGIN { if ($# < 2) { fail("too few: %d", $#); } exit(); }', parameters=["x"])
    with pytest.raises(ScriptError, match="no pointer"):
        insitu.trace('BEGIN { static_assert(is_ptr(pid), "no pointer"); }')
    assert values_at_begin("1", parameters=["a", "b"]) == [1]
    done = run_trace("-e", 'BEGIN { assert(pid == 0, "not me"); printf("never"); }', status=1)
    assert "-e:1:9-35: ERROR: assertion failed: not me" in done.stderr and "never" not in done.stdout
    assert run_trace("-e", 'BEGIN { assert(pid != 0, "me"); printf("on"); exit(); }').stdout.strip() == "on"


def test_options_of_a_script_follow_two_dashes() -> None:
    options = 'getopt("n", 10, "a number"), getopt("s", "hello"), getopt("flag"), getopt("on", true)'
    script = f"BEGIN {{ print(({options})); exit(); }}"
    assert run_trace("-e", script).stdout.strip() == "(10, hello, false, true)"
    assert (
        run_trace("-e", script, "--", "--n=0x20", "--flag", "--s=bye", "--on=false").stdout.strip()
        == "(32, bye, true, false)"
    )
    assert list(insitu.trace(script, parameters=["--n=7"]).events()) == [(7, "hello", False, True)]
    assert "the script has no option --m" in run_trace("-e", script, "--", "--m=1", status=2).stderr
    wrong = run_trace("--verbse", "-e", "begin { exit(); }", status=2).stderr
    assert wrong == "insitu: the script has no option --verbse; did you mean '--verbose'? (it has none)\n"
    assert "--n needs a number" in run_trace("-e", script, "--", "--n=x", status=1).stderr
    assert "--on must be true or false" in run_trace("-e", script, "--", "--on=no", status=1).stderr


def test_options_and_parameters_are_numbers_as_scripts_write_them() -> None:
    script = 'BEGIN { print((getopt("n", 1), getopt("m", 0xffffffffffffffff), $1, $2, $3, $4, $5)); exit(); }'
    numbers = ["0775", "0x1F", "-010", "5ms", "18446744073709551615"]
    found = insitu.trace(script, parameters=["--n=18446744073709551615", *numbers]).events()
    assert list(found) == [(2**64 - 1, 2**64 - 1, 0o775, 31, -8, 5_000_000, 2**64 - 1)]
    found = insitu.trace(script, parameters=["--n=0775", "--m=1", *numbers]).events()
    assert next(iter(found))[:2] == (0o775, 1)
    for text in ("08", "0x", "1x", "-18446744073709551615", "18446744073709551616"):
        assert values_at_begin("$1", parameters=[text]) == [text]
    for text, truth in (("False", False), ("TRUE", True), ("0", False), ("1", True)):
        script = 'BEGIN { print(getopt("x", true)); exit(); }'
        assert list(insitu.trace(script, parameters=[f"--x={text}"]).events()) == [truth]


def test_a_script_may_define_what_the_language_has_too() -> None:
    script = "fn ppid() : int64 { return 5; } fn twice() : int64 { return 2 * tgid_of_parent(); } "
    script += 'macro tgid_of_parent() { pcomm != "" ? 21 : 0 } '
    script += "macro assert(x, y) { print(y) } BEGIN { print(ppid()); assert(false, 7); print(twice()); exit(); }"
    assert list(insitu.trace(script).events()) == [5, 7, 42]


def test_with_a_process_given_probes_run_in_that_process_only() -> None:
    script = (
        "tracepoint:syscalls:sys_enter_getppid { print(pid); } rawtracepoint:sys_enter /pid != PID/ { print(-1); }"
    )
    command = [sys.executable, "-c", "import os, sys; sys.stdin.readline(); os.getppid()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as other:
        trace = insitu.trace(script.replace("PID", str(other.pid)), pid=other.pid)
        with trace:
            os.getppid()
            other.communicate(b"\n")
            found = list(trace.events())
    assert found == [other.pid]
