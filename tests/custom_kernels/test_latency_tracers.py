"""ftrace's latency tracers, each with a section that a module made long: `make test-custom-kernels`.

The module measures the section by its own clock, from inside: the tracer's time is a little more. Emulation may take
the CPU away at any time, so that only the lower bound is exact.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from insitu.lab import Guest, guest
from insitu.lab.build.build_kernel import build
from insitu.lab.kernels.kernel import Kernel

pytestmark = pytest.mark.timeout(5400)

_MODULE = Path(__file__).parent / "long_sections"
_MS = 40
_STEAL_NS = 100_000_000  # that emulation under load may add
# QEMU 7.2 emulates AVX2 wrongly.
_ENVIRONMENT = {**os.environ, "NPY_DISABLE_CPU_FEATURES": "X86_V3"}


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return build("6.1", ["irqsoff", "latency"], report=print)


@pytest.fixture(scope="module")
def module(kernel: Kernel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module, built against what `insitu lab build` keeps."""
    directory = tmp_path_factory.mktemp("module")
    for source in ("Makefile", "long_sections.c"):
        (directory / source).write_bytes((_MODULE / source).read_bytes())
    command = ["make", "-C", str(kernel.build), f"M={directory}", "modules"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return directory / "long_sections.ko"


@pytest.fixture(scope="module")
def built(kernel: Kernel, module: Path) -> Iterator[Guest]:
    with guest(kernel=kernel.name, cpus=1) as running:  # whoever is woken has to wait for the waker
        _shell(running, f"insmod {module}")
        yield running


def _shell(running: Guest, script: str) -> str:
    done = running.run(["sh", "-c", script], timeout=300)
    assert done.status == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode(errors="replace")


def _latency(running: Guest, tracer: str, script: str, *options: str) -> dict[str, Any]:
    """What the tracer has found while a script ran; it leaves tracefs as it was."""
    state = "cd /sys/kernel/tracing; cat current_tracer tracing_on tracing_thresh tracing_max_latency; ls instances"
    before = _shell(running, state)
    command = [sys.executable, "-m", "insitu", "latency", tracer, "--json", *options, "--", "sh", "-c", script]
    done = running.run(command, env=_ENVIRONMENT, timeout=600)
    assert done.status == 0, done.stderr.decode(errors="replace")
    assert _shell(running, state) == before
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _took_ns(running: Guest) -> int:
    return int(_shell(running, "cat /sys/module/long_sections/parameters/took_ns"))


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
    built: Guest, tracer: str, section: str, function: str
) -> None:
    found = _latency(built, tracer, f"echo {section} {_MS} > /proc/long_sections")["section"]
    took_ns = _took_ns(built)
    assert took_ns >= _MS * 1_000_000
    assert took_ns - 1000 <= found["latency_ns"] <= took_ns + _STEAL_NS  # in whole microseconds
    assert (found["started"], found["ended"]) == (function, function)
    assert any(frame.startswith(function) for frame in found["stacks"][-1])
    assert found["task"].startswith("sh-")


def test_a_section_below_the_threshold_is_not_kept(built: Guest) -> None:
    script = f"echo irqsoff {_MS} > /proc/long_sections"
    assert _latency(built, "irqsoff", script, "--threshold", "900000")["section"] is None
    found = _latency(built, "irqsoff", script, "--threshold", "20000")["section"]
    assert found["started"] == "without_interrupts"


@pytest.mark.parametrize(
    ("tracer", "policy"),
    [
        ("wakeup", ""),
        ("wakeup_rt", "chrt -f 50"),
        ("wakeup_dl", "chrt -d --sched-runtime 5000000 --sched-deadline 20000000 --sched-period 20000000 0"),
    ],
)
def test_the_longest_wakeup_is_of_the_task_that_was_woken_late(built: Guest, tracer: str, policy: str) -> None:
    # It is woken once more in the end: it may have begun to sleep only after the first.
    script = f"{policy} cat /proc/long_sections & sleep 2; echo wakeup {_MS} > /proc/long_sections; wait"
    found = _latency(built, tracer, script)["section"]
    took_ns = _took_ns(built)
    assert took_ns - 1000 <= found["latency_ns"] <= took_ns + _STEAL_NS
    assert found["task"].startswith("cat-")
    assert any(frame.startswith("waking_late") for frame in found["stacks"][0])
    assert any("__schedule" in frame for frame in found["stacks"][1])


def test_osnoise_finds_a_thread_that_had_the_cpu(built: Guest) -> None:
    script = f"sleep 2; chrt -f 50 sh -c 'echo preemptoff {_MS} > /proc/long_sections'; sleep 2"
    found = _latency(built, "osnoise", script)
    assert found["worst_ns"] >= _took_ns(built) - 1000
    assert max(found["measured"], key=lambda row: row["latency_ns"])["thread"] > 0


def test_timerlat_stops_at_a_timer_that_interrupts_disabled_made_late_and_keeps_the_stack(built: Guest) -> None:
    # Emulation alone makes timers late by some milliseconds.
    script = f"sleep 2; while :; do echo irqsoff {10 * _MS} > /proc/long_sections; sleep 1; done"
    found = _latency(built, "timerlat", script, "--threshold", str(8 * _MS * 1000), "-d", "60")
    assert found["stopped"]
    assert found["worst_ns"] >= 8 * _MS * 1_000_000
    assert "without_interrupts" in found["interrupt_stack"], found["interrupt_stack"]


def test_hwlat_runs_and_ends(built: Guest) -> None:
    found = _latency(built, "hwlat", "sleep 4")
    assert {row["context"] for row in found["measured"]} <= {"inner", "outer"}
    assert all(row["latency_ns"] >= 0 for row in found["measured"])


def test_the_deepest_stack_has_the_function_with_the_large_frame(built: Guest) -> None:
    frames = _latency(built, "stack", "echo stack 0 > /proc/long_sections")["stack"]
    # A frame's size is what is between its return address and that of what it called.
    (large,) = [each for each in frames if each["location"].startswith("with_a_deep_stack")]
    assert large["size_bytes"] >= 3000
    assert large["depth_bytes"] >= large["size_bytes"]
