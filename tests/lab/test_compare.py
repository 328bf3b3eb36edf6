"""The kernel swap on guests: a difference that the test makes is found, its counts are right."""

import pytest

from insitu.lab import Guest, guest
from insitu.lab.compare.compare import compare
from insitu.lab.compare.measure import folded_profile, system_calls
from insitu.lab.kernels.kernel import Kernel
from insitu.views.compare import compare_html, compare_json, verdict_text

# Does far more work where the test says so on the kernel's command line.
WORKLOAD = """
case $(cat /proc/cmdline) in *insitu.slow*) blocks=400000 ;; *) blocks=3000 ;; esac
dd if=/dev/zero of=/dev/null bs=64 count=$blocks 2>/dev/null
"""


@pytest.mark.timeout(600)
def test_a_workload_made_slower_in_one_guest_is_found(kernel_6_1: Kernel) -> None:
    sides = [("6.1", ""), ("6.1", "insitu.slow")]
    found = compare(sides, ["sh", "-c", WORKLOAD], runs=10, profile=False)
    assert found.verdict.differs
    assert found.verdict.ratio > 1.2
    assert verdict_text(found).startswith("6.1 insitu.slow is ")
    assert found.settings[0].setting == "command line insitu.slow"
    assert "insitu.slow" in compare_html(found)
    assert '"differs": true' in compare_json(found)


@pytest.mark.timeout(600)
def test_system_calls_are_counted_as_the_workload_makes_them(kernel_6_1: Kernel) -> None:
    with guest(kernel="6.1") as running:
        for _ in range(2):  # the second time shows that the first left the guest's tracing as it was
            calls = {call.name: call for call in system_calls(running, _dd(3000))}
            assert calls["write"].calls in _and_the_starters(3000)
            assert calls["write"].seconds > 0
            assert "wait4" not in calls, "the guest's own shells are not counted"


@pytest.mark.timeout(600)
def test_system_calls_of_a_workloads_children_are_counted(kernel_6_1: Kernel) -> None:
    with guest(kernel="6.1") as running:
        script = " ".join(_dd(500))
        calls = {call.name: call for call in system_calls(running, ["sh", "-c", f"{script}; {script}; true"])}
        assert calls["write"].calls in _and_the_starters(1000)


@pytest.mark.timeout(600)
def test_kernel_functions_appear_in_the_profile(kernel_6_1: Kernel) -> None:
    with guest(kernel="6.1") as running:
        assert _sampled(running)


def _sampled(running: Guest) -> bool:
    stacks = folded_profile(running, _dd(20_000)).splitlines()
    return any(stack.startswith("dd;") and "ksys_read_[k]" in stack for stack in stacks)


def _and_the_starters(writes: int) -> tuple[int, int]:
    """The workload's own, or one more: by the shell that turns the counting on before it becomes the workload."""
    return writes, writes + 1


def _dd(blocks: int) -> list[str]:
    return ["dd", "if=/dev/zero", "of=/dev/null", "bs=64", f"count={blocks}", "status=none"]
