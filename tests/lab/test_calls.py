"""Calls of kernel functions: as many as the program made, with callers and durations that add up; nothing is left."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.lab.kernels import LONG_TESTS

from insitu.lab import Guest

from .module_build import built_module

CALLS = 200
_PROGRAM = """
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>
int main(void)
{
    uint64_t one = 1;
    int fd = eventfd(0, 0), bad = 0;
    for (int i = 0; i < CALLS; i++)
        bad |= write(fd, &one, sizeof one) != sizeof one;
    return bad;
}
"""
_WAYS = {"loop": "copy_by_loop", "assembly": None, "prefetch": "copy_with_prefetch"}
_CASE = """
parameter=/sys/module/copyways/parameters/run
insmod {module} || exit 1
for way in {ways}; do
    $I calls -g copy_pages --json -- sh -c "echo $way > $parameter" || exit 1
    cat $parameter
    echo $way
done
rmmod copyways
"""
_SETTINGS = (
    "current_tracer set_graph_function set_ftrace_filter max_graph_depth trace_clock tracing_on buffer_percent"
)
_ENDED = Path(__file__).with_name("ended_recordings.py")
# Moments before and after each write to tracefs, of which an emulated guest tries a part.
_EACH_MOMENT = 1 if os.environ.get("INSITU_ALL_KERNELS") else 11
_STATE = f'cd /sys/kernel/tracing; ls instances; for f in {_SETTINGS}; do cat "$f"; done'


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    built = tmp_path_factory.mktemp("calls") / "writes"
    subprocess.run(
        ["gcc", "-O2", f"-DCALLS={CALLS}", "-x", "c", "-o", built, "-"], input=_PROGRAM.encode(), check=True
    )
    return built


def run(guest: Guest, script: str) -> str:
    """Run a shell script in the guest, in a directory of its own, with insitu as $I; its standard output."""
    start = f'cd "$(mktemp -d)"; I="{sys.executable} -m insitu"\n'
    found = guest.run(["sh", "-c", start + script], env=dict(os.environ), timeout=900)
    assert found.status == 0, found.stderr.decode()
    return found.stdout.decode()


@pytest.mark.parametrize("guest", LONG_TESTS, indirect=True)
def test_every_call_of_a_function_is_shown_with_what_it_called(guest, program) -> None:
    before = run(guest, _STATE)
    lines = [
        json.loads(line) for line in run(guest, f"$I calls -g vfs_write --depth 3 --json -- {program}").splitlines()
    ]
    roots = [at for at, line in enumerate(lines) if line["depth"] == 0]
    trees = [lines[first:last] for first, last in zip(roots, [*roots[1:], len(lines)], strict=True)]
    writes = [tree for tree in trees if "eventfd_write" in {line["function"] for line in tree}]
    assert len(writes) == CALLS
    for tree in writes:
        assert tree[0]["function"] == "vfs_write"
        assert max(line["depth"] for line in tree) <= 2
        if not any(line["interrupt"] for line in tree):  # which may come while a record is being written
            assert sum(line["self_ns"] for line in tree) == tree[0]["dur_ns"]
    assert run(guest, _STATE) == before


@pytest.mark.parametrize("guest", LONG_TESTS, indirect=True)
def test_only_the_target_is_counted_and_its_calls_are_recorded_with_the_cost_of_tracing(guest, program) -> None:
    found = run(
        guest,
        f"(while :; do {program}; done) & other=$!\n"
        f"$I calls --count 'eventfd_*' --json -- {program}; echo\n"
        f"$I calls -g vfs_write -o run.insitu -q -- {program}\n"
        "kill $other; $I report run.insitu --json --limit 0; echo; cat run.insitu/session.json",
    )
    counted, rest = json.JSONDecoder().raw_decode(found)
    reported, end = json.JSONDecoder().raw_decode(found[rest:].lstrip())
    manifest = json.loads(found[rest:].lstrip()[end:])
    counts = {row["function"]: row["calls"] for row in counted["functions"]}
    assert counts["eventfd_write"] == CALLS
    functions = {row["function"]: row for row in reported["calls"] if row["category"] == "kernel function"}
    assert functions["eventfd_write"]["calls"] == CALLS
    assert functions["vfs_write"]["calls_traced"]
    assert manifest["lost"] == 0
    inside_ns, outside_ns = next(
        each["options"]["call_cost_ns"] for each in manifest["sources"] if each["id"] == "trace"
    )
    assert inside_ns > 0
    assert outside_ns >= 0


@pytest.mark.parametrize("guest", LONG_TESTS, indirect=True)
def test_calls_without_durations_have_their_stacks(guest, program) -> None:
    found = run(guest, f"$I calls -f 'eventfd_w*' -n eventfd_poll --stack --json -- {program}")
    lines = [json.loads(line) for line in found.splitlines()]
    assert [line["function"] for line in lines] == ["eventfd_write"] * CALLS
    assert all(line["stack"][0] == "vfs_write" for line in lines)
    assert "do_syscall_64" in lines[0]["stack"]


def test_a_tracer_of_somebody_else_is_not_disturbed_and_a_wrong_name_is_refused(guest) -> None:
    found = run(
        guest,
        "$I calls -g vfs_opem -- true 2>&1; echo $?\n"
        "cd /sys/kernel/tracing; echo vfs_open > set_ftrace_filter; echo function > current_tracer\n"
        "$I calls -g vfs_open -- true 2>&1 | grep -o 'the tracer function is on'\n"
        "cat current_tracer set_ftrace_filter\n"
        "echo function_graph > current_tracer\n"
        "$I calls -g vfs_open -- true 2>&1; echo $?; cat current_tracer set_ftrace_filter tracing_on\n"
        "echo nop > current_tracer; echo > set_ftrace_filter",
    )
    refused, usage, *lines = found.splitlines()
    assert "did you mean 'vfs_open'?" in refused
    assert usage == "2"
    if guest.kernel.name == "6.1":  # where -g needs the top level
        assert lines.pop(0) == "the tracer function is on"
    assert lines[:2] == ["function", "vfs_open"]
    said, status, *state = lines[2:]
    assert "in use: the tracer function_graph is on" in said
    assert status != "0"
    assert state == ["function_graph", "vfs_open", "1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_settings_that_somebody_had_made_are_put_back_whenever_a_recording_ends(guest, number) -> None:
    """On SIGINT by the recorder, after SIGKILL by the next one. 6.1 uses the top level, 6.12 the lists alone."""
    words = ["calls", "-g", "vfs_write", "-f", "vfs_*", "--depth", "3", "--", "true"]
    command = [sys.executable, str(_ENDED), str(int(number)), "0", str(_EACH_MOMENT), *words]
    done = guest.run(command, env=dict(os.environ), timeout=1700)
    assert done.status == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert found["tried"] > 2
    assert not found["wrong"]
    if number == signal.SIGKILL:
        assert found["left"] > 1  # so that there was something to put back


def test_two_that_count_run_at_once_and_one_that_would_disturb_them_is_refused(guests) -> None:
    """Where instances have the graph tracer, and the machine the lists of functions."""
    found = run(
        guests.running("6.12"),
        "$I calls --count 'eventfd_*' --json -a -d 300 > first & first=$!\n"
        "until grep -q function_graph /sys/kernel/tracing/instances/*/current_tracer; do sleep 0.1; done\n"
        "$I calls --count 'vfs_write' --json -- sh -c 'echo > /dev/null' > second; echo $?\n"
        "$I calls -g vfs_write -- true 2>&1; echo $?; kill -INT $first; wait $first\n"
        "grep -c '\"vfs_write\"' second; cd /sys/kernel/tracing; cat set_graph_function; ls instances",
    )
    counted, refused, status, functions, lists = found.splitlines()
    assert (counted, status, functions, lists) == ("0", "1", "1", "#### all functions enabled ####")
    assert "in use: another insitu uses it" in refused


@pytest.mark.parametrize("guest", LONG_TESTS, indirect=True)
def test_a_full_disk_a_missing_mount_and_a_removed_instance_are_survived(guest, program) -> None:
    before = run(guest, _STATE)
    found = run(
        guest,
        "mkdir full && mount -t tmpfs -o size=96k none full\n"
        f"$I calls -g vfs_write -q -o full/run.insitu -- {program} 2>&1 | tail -n 1; umount full\n"
        f"$I calls -f eventfd_write -q -o run.insitu -- sh -c 'umount -l /sys/kernel/tracing; {program}' 2>&1\n"
        "mount -t tracefs nodev /sys/kernel/tracing; $I report run.insitu --json --limit 0 | grep -c eventfd_write\n"
        "echo; $I events --hist syscalls:sys_enter_getppid --key common_pid -- "
        "sh -c 'rmdir /sys/kernel/tracing/instances/insitu*' 2>&1; echo $?",
    )
    full, rest = found.split("\n", 1)
    assert "No space left" in full
    removed, status = rest.rpartition("\n\n")[2].splitlines()
    assert removed == "insitu: somebody has removed the tracefs instance in which the events were counted"
    assert status == "1"
    assert run(guest, _STATE) == before


def test_an_untraceable_callee_is_named_by_its_callers_machine_code(guest) -> None:
    """pipe_ioctl() writes the number of bytes by __put_user_4, which is assembly."""
    script = "import fcntl, os, termios; fcntl.ioctl(os.pipe()[0], termios.FIONREAD, bytes(4))"
    found = run(
        guest,
        f"$I calls -g pipe_ioctl -q -o run.insitu -- {sys.executable} -c '{script}'\n"
        "$I report run.insitu --callees pipe_ioctl --json",
    )
    callees = json.loads(found)
    assert callees["calls"] >= 1  # Python asks whether its own streams are terminals, too
    assert any(name.startswith("__put_user") for name in callees["untraceable"])
    assert not any(name.startswith("__put_user") for name in callees["not_traced"])


def test_an_untraceable_copy_costs_what_is_left_of_its_callers_time(guests, kernel_6_1, tmp_path) -> None:
    """The case of docs/cases/three-ways-to-copy.md, against the module's own clock, call by call."""
    module = built_module(Path(__file__).parent / "copy_ways", kernel_6_1.release, tmp_path)
    found = run(guests.running("6.1"), _CASE.format(module=module, ways=" ".join(_WAYS)))
    costs, clocks = {}, {}
    for way, callee in _WAYS.items():
        part, found = found.split(f"\n{way}\n")
        lines = part.splitlines()
        calls = [json.loads(line) for line in lines if line.startswith("{")]
        clock = np.array([int(line) for line in lines if line.isdecimal()])
        if callee is None:
            cost = np.array([call["self_ns"] for call in calls if call["function"] == "copy_pages"])
        else:
            cost = np.array([call["dur_ns"] for call in calls if call["function"] == callee])
        assert len(cost) == len(clock) == 200
        assert np.median(cost / clock) == pytest.approx(1, abs=0.05)
        costs[way], clocks[way] = np.median(cost), np.median(clock)
    best, second = sorted(clocks, key=clocks.__getitem__)[:2]
    assert clocks[second] < 1.1 * clocks[best] or min(costs, key=costs.__getitem__) == best
