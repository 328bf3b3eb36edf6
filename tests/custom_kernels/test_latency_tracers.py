"""ftrace's latency tracers, each with a section that a module made long: `make test-custom-kernels`.

The module measures the section by its own clock, from inside: the tracer's time is a little more. Emulation may take
the CPU away at any time, so that only the lower bound is exact.
"""

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from insitu.lab import Guest

from .conftest import ENVIRONMENT, shell

pytestmark = pytest.mark.timeout(5400)

_MS = 300
_STEAL_NS = 500_000_000  # that emulation under load may add


def _latency(running: Guest, tracer: str, script: str, *options: str) -> dict[str, Any]:
    """What the tracer has found while a script ran; it leaves tracefs as it was."""
    state = "cd /sys/kernel/tracing; cat current_tracer tracing_on tracing_thresh tracing_max_latency; ls instances"
    before = shell(running, state)
    command = [sys.executable, "-m", "insitu", "latency", tracer, "--json", *options, "--", "sh", "-c", script]
    done = running.run(command, env=ENVIRONMENT, timeout=600)
    assert done.status == 0, done.stderr.decode(errors="replace")
    assert shell(running, state) == before
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _took_ns(running: Guest) -> int:
    return int(shell(running, "cat /sys/module/long_sections/parameters/took_ns"))


@pytest.mark.parametrize(
    ("tracer", "section", "function"),
    [
        ("irqsoff", "irqsoff", "without_interrupts"),
        ("preemptoff", "preemptoff", "without_preemption"),
        ("preemptirqsoff", "irqsoff", "without_interrupts"),
        ("preemptirqsoff", "preemptoff", "without_preemption"),
    ],
)
def test_the_longest_section_is_the_one_that_was_made_long(
    latency_guest: Guest, tracer: str, section: str, function: str
) -> None:
    found = _latency(latency_guest, tracer, f"echo {section} {_MS} > /proc/long_sections")["section"]
    took_ns = _took_ns(latency_guest)
    assert took_ns >= _MS * 990_000  # by the tracer's clock, which does not count exactly as the one that it waits by
    assert took_ns - 1000 <= found["latency_ns"] <= took_ns + _STEAL_NS  # in whole microseconds
    assert (found["started"], found["ended"]) == (function, function)
    # The kernel leaves out a fixed number of frames: the function that ended the section is among them.
    assert found["stacks"][-1][0].startswith((function, "run"))
    assert any(frame.startswith("vfs_write") for frame in found["stacks"][-1])
    assert found["task"].startswith("sh-")


@pytest.fixture
def clock(latency_guest: Guest, request: pytest.FixtureRequest) -> Iterator[str]:
    """The clock of the top level of tracefs meanwhile."""
    clock: str = request.param
    shell(latency_guest, f"echo {clock} > /sys/kernel/tracing/trace_clock")
    yield clock
    shell(latency_guest, "echo local > /sys/kernel/tracing/trace_clock")


@pytest.mark.parametrize("clock", ["mono", "global"], indirect=True)
def test_the_section_is_measured_by_the_clock_of_the_machine(latency_guest: Guest, clock: str) -> None:
    found = _latency(latency_guest, "irqsoff", f"echo irqsoff {_MS} > /proc/long_sections")["section"]
    assert found["started"] == "without_interrupts", found
    # The clocks may count a little differently.
    assert _took_ns(latency_guest) * 0.99 <= found["latency_ns"] <= _took_ns(latency_guest) + _STEAL_NS


@pytest.mark.parametrize("clock", ["counter"], indirect=True)
def test_a_clock_without_nanoseconds_is_refused(latency_guest: Guest, clock: str) -> None:
    said = shell(latency_guest, f"{sys.executable} -m insitu latency irqsoff -- true 2>&1 || true")
    assert f"{clock} has no nanoseconds" in said
    assert len(said.splitlines()) == 1


def test_a_section_below_the_threshold_is_not_kept(latency_guest: Guest) -> None:
    script = f"echo irqsoff {_MS} > /proc/long_sections"
    assert _latency(latency_guest, "irqsoff", script, "--threshold", "30000000")["section"] is None
    found = _latency(latency_guest, "irqsoff", script, "--threshold", str(_MS * 500))["section"]
    assert found["started"] == "without_interrupts"


@pytest.mark.parametrize(
    ("tracer", "policy"),
    [
        ("wakeup", "chrt -f 50"),  # an ordinary task's wakeup would be left for that of one with a higher priority
        ("wakeup_rt", "chrt -f 50"),
        ("wakeup_dl", "chrt -d --sched-runtime 5000000 --sched-deadline 20000000 --sched-period 20000000 0"),
    ],
)
def test_the_longest_wakeup_is_of_the_task_that_was_woken_late(
    latency_guest: Guest, tracer: str, policy: str
) -> None:
    # It is woken once more in the end: it may have begun to sleep only after the first.
    script = f"{policy} cat /proc/long_sections & echo wakeup {_MS} > /proc/long_sections; wait"
    found = _latency(latency_guest, tracer, script)["section"]
    took_ns = _took_ns(latency_guest)
    assert took_ns - 1000 <= found["latency_ns"] <= took_ns + _STEAL_NS
    assert found["task"].startswith("cat-")
    assert any(frame.startswith("waking_late") for frame in found["stacks"][0])
    assert any("__schedule" in frame for frame in found["stacks"][1])


def test_osnoise_finds_a_thread_that_had_the_cpu(latency_guest: Guest) -> None:
    script = f"sleep 2; chrt -f 50 sh -c 'echo preemptoff {_MS} > /proc/long_sections'; sleep 2"
    found = _latency(latency_guest, "osnoise", script)
    assert found["worst_ns"] >= _took_ns(latency_guest) - 1000
    assert max(found["measured"], key=lambda row: row["latency_ns"])["thread"] > 0


def test_timerlat_stops_at_a_timer_that_interrupts_disabled_made_late_and_keeps_the_stack(
    latency_guest: Guest,
) -> None:
    # Emulation alone makes timers late by some milliseconds.
    script = f"sleep 2; while :; do echo irqsoff {2 * _MS} > /proc/long_sections; sleep 1; done"
    found = _latency(latency_guest, "timerlat", script, "--threshold", str(_MS * 1000), "-d", "60")
    assert found["stopped"]
    assert found["worst_ns"] >= _MS * 1_000_000
    assert "without_interrupts" in found["interrupt_stack"], found["interrupt_stack"]


def test_hwlat_runs_and_ends(latency_guest: Guest) -> None:
    found = _latency(latency_guest, "hwlat", "sleep 4")
    assert {row["context"] for row in found["measured"]} <= {"inner", "outer"}
    assert all(row["latency_ns"] >= 0 for row in found["measured"])


def test_the_deepest_stack_has_the_function_with_the_large_frame(latency_guest: Guest) -> None:
    frames = _latency(latency_guest, "stack", "echo stack 0 > /proc/long_sections")["stack"]
    # A frame's size is what is between its return address and that of what it called.
    (large,) = [each for each in frames if each["location"].startswith("with_a_deep_stack")]
    assert large["size_bytes"] >= 3000
    assert large["depth_bytes"] >= large["size_bytes"]
