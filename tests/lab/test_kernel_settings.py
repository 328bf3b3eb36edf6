"""Settings, debug messages and latency tracers of real kernels: sysctl, dyndbg and latency in Debian's guests."""

import json
import os
import sys
from collections.abc import Iterable

import pytest
from tests.lab.kernels import LONG_TESTS

from insitu.capabilities.needs import NEEDS
from insitu.errors import InsituError
from insitu.lab import Guest

from .conftest import Guests

# QEMU 7.2 emulates AVX2 wrongly.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}
_BUSY = """
import os, time
os.sched_setaffinity(0, {0})
os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
until = time.monotonic() + 0.6
while time.monotonic() < until:
    pass
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
time.sleep(1.5)
"""


def _insitu(guest: Guest, *words: str, status: int = 0) -> tuple[str, str]:
    done = guest.run([sys.executable, "-m", "insitu", *words], env=_ENVIRONMENT, timeout=600)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.status == status, err
    return out, err


def _shell(guest: Guest, script: str) -> str:
    done = guest.run(["sh", "-c", script], timeout=300)
    assert done.status == 0, done.stderr.decode()
    return done.stdout.decode()


def test_a_setting_that_was_changed_is_the_one_that_differs_from_the_defaults(guest: Guest) -> None:
    before = _shell(guest, "cat /proc/sys/vm/swappiness").strip()
    _shell(guest, "echo 7 > /proc/sys/vm/swappiness")
    try:
        out, _ = _insitu(guest, "sysctl", "vm.swappiness", "vm.dirty_ratio", "--changed", "--json")
    finally:
        _shell(guest, f"echo {before} > /proc/sys/vm/swappiness")
    found = json.loads(out)["differences"]
    assert [(row["name"], row["here"], row["there"]) for row in found] == [("vm.swappiness", "7", before)]


def test_debug_messages_are_followed_and_their_flags_put_back(guest: Guest) -> None:
    control = "grep -c '=p' /proc/dynamic_debug/control || true"
    before = _shell(guest, control)
    query = ["file", "lib/kobject_uevent.c", "func", "kobject_uevent_env", "+p"]
    sites = _shell(guest, "grep -c '^lib/kobject_uevent.c:.*]kobject_uevent_env ' /proc/dynamic_debug/control")
    event = ["sh", "-c", "echo change > /sys/class/mem/null/uevent"]
    out, err = _insitu(guest, "dyndbg", *query, "--", *event)
    assert err.count("kobject_uevent_env") >= int(sites)
    assert any("kobject_uevent_env: " in line and "'null'" in line for line in out.splitlines())
    assert _shell(guest, control) == before


def test_the_deepest_stack_is_the_kernels(guest: Guest) -> None:
    out, _ = _insitu(guest, "latency", "stack", "--json", "--", "sh", "-c", "ls -R /sys/kernel > /dev/null")
    found = json.loads(out)
    (size,) = _shell(guest, "cat /sys/kernel/tracing/stack_max_size").split()
    assert found["stack"][0]["depth_bytes"] > 500
    assert int(size) == 0  # put back
    assert _shell(guest, "cat /proc/sys/kernel/stack_tracer_enabled").strip() == "0"


def test_a_tracer_that_the_kernel_lacks_is_reported_in_one_line(guest: Guest) -> None:
    _, err = _insitu(guest, "latency", "irqsoff", "-d", "1", status=1)
    assert "CONFIG_IRQSOFF_TRACER" in err and "stack" in err
    assert len(err.splitlines()) == 1


_USES = {
    "calls of kernel functions": ("calls", "-q", "-f", "vfs_read", "--", "cat", "/etc/hostname"),
    "dyndbg": ("dyndbg", "file", "lib/kobject_uevent.c", "+p", "-d", "0.1"),
    "latency, but for stack": ("latency", "osnoise", "-d", "0.1"),
}


def _as_user(guest: Guest, capabilities: Iterable[str], words: Iterable[str]) -> tuple[int, str]:
    """The status and messages of insitu run by a user with exactly these capabilities.

    The tree of files may be closed to that user: without DAC_OVERRIDE it may at least read everything.
    """
    names = {*capabilities} if "DAC_OVERRIDE" in capabilities else {*capabilities, "DAC_READ_SEARCH"}
    given = ",".join(f"+{name.lower()}" for name in names)
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", f"--inh-caps={given}"]
    command = [*user, f"--ambient-caps={given}", sys.executable, "-m", "insitu", *words]
    done = guest.run(command, env={**_ENVIRONMENT, "HOME": "/nonexistent"}, timeout=600)
    return done.status, done.stderr.decode()


def _try_with_just_its_capabilities(guest: Guest, use: str) -> None:
    (need,) = [each for each in NEEDS if each.use == use]
    status, said = _as_user(guest, need.capabilities, _USES[use])
    assert status == 0, said
    for lacking in need.capabilities:
        status, said = _as_user(guest, [each for each in need.capabilities if each != lacking], _USES[use])
        assert status != 0
        assert f"CAP_{lacking}" in said


@pytest.mark.parametrize("use", ["calls of kernel functions", "dyndbg"])
@pytest.mark.parametrize("guest", LONG_TESTS, indirect=True)
def test_the_documented_capabilities_are_enough_and_each_is_needed(guest: Guest, use: str) -> None:
    _try_with_just_its_capabilities(guest, use)


def test_those_of_latency(real_time: Guest) -> None:
    _try_with_just_its_capabilities(real_time, "latency, but for stack")


@pytest.fixture(scope="module")
def real_time(guests: Guests) -> Guest:
    """Debian's PREEMPT_RT kernel, which has more tracers: a third guest, for make test-kernels."""
    if not os.environ.get("INSITU_ALL_KERNELS"):
        pytest.skip("no 6.1-rt kernel but in make test-kernels")
    try:
        return guests.running("6.1-rt")
    except InsituError as error:
        pytest.skip(f"no 6.1-rt kernel: {error}")


def test_osnoise_finds_the_thread_that_was_in_the_way(real_time: Guest) -> None:
    out, _ = _insitu(real_time, "latency", "osnoise", "--json", "--", sys.executable, "-c", _BUSY)
    found = json.loads(out)
    # 0.6 s, less 5 % for others (sched_rt_runtime_us), which may come as one interruption.
    assert found["worst_ns"] >= 250_000_000
    worst = max(found["measured"], key=lambda row: row["latency_ns"])
    assert worst["cpu"] == 0 and worst["thread"] > 0


def test_the_longest_wakeup_is_shown_with_the_stack_of_its_waker(real_time: Guest) -> None:
    out, _ = _insitu(real_time, "latency", "wakeup_rt", "--json", "-d", "2")
    found = json.loads(out)["section"]
    assert found["latency_ns"] > 0 and "rt_prio" in found["task"]
    assert any("try_to_wake_up" in frame for frame in found["stacks"][0])
    tracing = "/sys/kernel/tracing"
    assert _shell(real_time, f"cat {tracing}/tracing_thresh; ls {tracing}/instances").split() == ["0"]


def test_timerlat_stops_at_its_threshold(real_time: Guest) -> None:
    out, _ = _insitu(real_time, "latency", "timerlat", "--threshold", "5", "--json", "-d", "60")
    found = json.loads(out)
    assert found["stopped"] and found["worst_ns"] > 5000
    assert _shell(real_time, "cat /sys/kernel/tracing/osnoise/stop_tracing_us").strip() == "0"
