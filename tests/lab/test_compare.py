"""The kernel swap on guests: a difference that the test makes is found, its counts are right."""

import itertools
import os
from typing import Any

import pytest

from insitu.convert.formats.folded import write_folded
from insitu.errors import InsituError
from insitu.lab import Guest
from insitu.lab.compare.compare import compare
from insitu.lab.compare.guest_profile import kernel_shares, sample_in_guest
from insitu.lab.compare.measure import Run, measure, system_calls
from insitu.lab.guests.machine import Options
from insitu.lab.guests.running_guests import running_guests
from insitu.lab.kernels.kernel import Kernel
from insitu.views.compare import compare_html, compare_json, verdict_text

PATIENT = Options(boot_timeout=600)


@pytest.fixture
def running(guests: Any) -> Guest:
    """A guest under Debian's 6.1, shared with other tests."""
    found: Guest = guests.running("6.1")
    return found


def test_a_side_that_is_slower_is_found_with_what_differs(
    kernel_6_1: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = itertools.count()

    def timed(running: Guest, argv: list[str]) -> Run:
        """The workload runs in the guest; its time is made here, as another load of this machine would change it."""
        slow = b"insitu.slow" in running.run(argv).check().stdout
        return Run(1 + slow + next(number) * 1e-3, 0.1, 0.1, 0, 0, 0, 0)

    monkeypatch.setattr("insitu.lab.compare.compare.measure", timed)
    sides = [("6.1", ""), ("6.1", "insitu.slow")]
    found = compare(sides, ["cat", "/proc/cmdline"], runs=7, profile=False, options=PATIENT)
    assert found.verdict.differs
    assert found.verdict.ratio == pytest.approx(2, rel=0.05)
    assert found.parts[0].name == "waiting"
    assert verdict_text(found).startswith("6.1 insitu.slow is ")
    assert found.settings[0].setting == "command line insitu.slow"
    assert "insitu.slow" in compare_html(found)
    assert '"differs": true' in compare_json(found)


def test_a_run_is_measured_inside_the_guest(running: Guest) -> None:
    slept = measure(running, ["sleep", "1"])
    assert slept.wall >= 1
    assert slept.user + slept.sys < slept.wall
    assert slept.minor_faults > 0
    assert measure(running, _dd(20_000)).sys > 0
    with pytest.raises(InsituError, match=r"the workload exited with status 3 under 6\.1: sorry"):
        measure(running, ["sh", "-c", "echo sorry >&2; exit 3"])


def test_system_calls_are_counted_as_the_workload_makes_them(running: Guest) -> None:
    for _ in range(2):  # the second time shows that the first left the guest's tracing as it was
        calls = {call.name: call for call in system_calls(running, _dd(3000))}
        assert calls["write"].calls in _and_the_starters(3000)
        assert calls["write"].seconds > 0
        assert "wait4" not in calls, "the guest's own shells are not counted"


def test_system_calls_of_a_workloads_children_are_counted(running: Guest) -> None:
    script = " ".join(_dd(500))
    calls = {call.name: call for call in system_calls(running, ["sh", "-c", f"{script}; {script}; true"])}
    assert calls["write"].calls in _and_the_starters(1000)


def test_samples_are_named_by_the_guests_kernel_and_this_machines_files(running: Guest) -> None:
    stacks = sample_in_guest(running, _dd(60_000))
    listed = running.run(["cat", "/proc/kallsyms"]).check().stdout.decode().splitlines()
    shares = kernel_shares(stacks)
    # dd(1) reads and writes in the C library, in a loop that spends much of its time in the kernel.
    assert sum(shares.values()) > 0.1
    text = {name for _, kind, name in (line.split()[:3] for line in listed) if kind in "tTwW"}
    assert shares.keys() <= text
    folded = write_folded(stacks, suffixes=True).splitlines()
    assert any(line.startswith("dd;") and ";entry_SYSCALL_64" in line and ";ksys_read_[k]" in line for line in folded)


def test_a_workload_that_fails_while_sampled_is_reported(running: Guest) -> None:
    with pytest.raises(InsituError, match=r"the workload exited with status 3"):
        sample_in_guest(running, ["sh", "-c", "exit 3"])


def test_guests_of_a_comparison_have_the_name_that_was_given_and_their_kernels_functions_are_counted(
    kernel_6_1: Kernel,
) -> None:
    seen: set[str] = set()

    def report(line: str) -> None:
        seen.update(running.name for running in running_guests())

    name = f"pair-{os.getpid()}"
    found = compare([("6.1", ""), ("6.1", "quiet")], _dd(20_000), runs=1, options=PATIENT, name=name, report=report)
    assert {f"{name}-1", f"{name}-2"} <= seen
    assert not found.verdict.enough_runs
    for side in (found.first, found.second):
        assert {call.name: call.calls for call in side.calls}["write"] in _and_the_starters(20_000)
        assert "ksys_read_[k]" in side.folded
        assert 0 < sum(side.kernel_shares.values()) <= 1


def _and_the_starters(writes: int) -> tuple[int, int]:
    """The workload's own, or one more: by the shell that turns the counting on before it becomes the workload."""
    return writes, writes + 1


def _dd(blocks: int) -> list[str]:
    return ["dd", "if=/dev/zero", "of=/dev/null", "bs=64", f"count={blocks}", "status=none"]
