"""One workload under two kernels, interleaved and repeated, and whether the kernel makes a difference."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from insitu.errors import InsituError
from insitu.lab.compare.guest_profile import kernel_shares, sample_in_guest
from insitu.lab.compare.kernel_settings import Difference, differences, read_settings
from insitu.lab.compare.measure import Call, Run, measure, system_calls
from insitu.lab.guests.failures import GuestError
from insitu.lab.guests.guest import Guest
from insitu.lab.guests.machine import Options
from insitu.lab.kernels.find_kernel import find_kernel
from insitu.verdict import Verdict, judge, turns

__all__ = ["Comparison", "Conditions", "Part", "Side", "compare", "kernel_seconds", "parse_sides"]

_WARM_UPS: Final = 1
_MIN_SHARE: Final = 0.05


@dataclass(frozen=True)
class Side:
    """One kernel's measurements: its runs, and of one more run each the system calls and the CPU samples.

    ``kernel_shares`` maps kernel functions to their share of the samples (self time); ``folded`` are the samples as
    folded stacks whose kernel frames end in _[k].
    """

    name: str
    release: str
    runs: tuple[Run, ...]
    calls: tuple[Call, ...] = ()
    kernel_shares: Mapping[str, float] = field(default_factory=dict)
    folded: str = ""


@dataclass(frozen=True)
class Part:
    """A part of the difference in wall time: seconds per run, and its share of the whole difference."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Conditions:
    """Where and when it was measured. ``emulated``: without KVM. ``date`` is ISO 8601, local time."""

    host: str
    host_cpus: int
    date: str
    cpus: int
    memory: str
    emulated: bool


@dataclass(frozen=True)
class Comparison:
    """Two sides, the verdict on their wall times, and the parts of the difference (empty if there is none).

    ``busy`` means that the wall times differ, but by no more than vCPU steal (host contention) could explain.
    """

    workload: tuple[str, ...]
    first: Side
    second: Side
    verdict: Verdict
    settings: tuple[Difference, ...] = ()
    parts: tuple[Part, ...] = field(default=())
    busy: bool = False
    conditions: Conditions | None = None


def parse_sides(text: str) -> list[tuple[str, str]]:
    """Parse ``6.1,6.12`` or ``6.1,6.1:mitigations=off`` into kernel names and words for their command lines.

    Raises InsituError unless there are two kernels.
    """
    sides = [(name, words) for name, _, words in (side.partition(":") for side in text.split(","))]
    if len(sides) != 2 or not all(name for name, _ in sides):
        raise InsituError(f"{text!r} does not name two kernels", remedy="-k 6.1,6.12", status=2)
    return sides


def compare(
    sides: Sequence[tuple[str, str]],
    workload: Sequence[str],
    *,
    runs: int = 10,
    options: Options | None = None,
    profile: bool = True,
    name: str = "",
    report: Callable[[str], None] = lambda line: None,
) -> Comparison:
    """Run ``workload`` under two kernels ``runs`` times each, interleaved, and judge whether the kernel matters.

    ``sides`` are two kernel names, each with words for its command line. ``profile`` adds one run on each side that
    counts system calls and one that is sampled. The guests are called NAME-1 and NAME-2 if ``name`` is given.
    Raises InsituError if the workload fails.
    """
    if runs < 1:
        raise InsituError(f"-n {runs}: must be at least 1", status=2)
    base = options or Options()
    if base.disks:
        raise InsituError("two guests cannot use the same --disk", remedy="compare without it", status=2)
    with ExitStack() as stack:
        guests = []
        for number, (kernel, words) in enumerate(sides, start=1):
            report(f"booting {kernel}")
            machine = replace(base, append=f"{base.append} {words}".strip())
            guest_name = f"{name}-{number}" if name else ""
            guests.append(stack.enter_context(Guest(find_kernel(kernel), machine, guest_name)))
        settings = differences(*(read_settings(guest) for guest in guests))
        for guest in guests:
            for _ in range(_WARM_UPS):
                measure(guest, workload)
        taken: tuple[list[Run], list[Run]] = ([], [])
        for number, side in turns(runs):
            report(f"run {number} of {runs}")
            taken[side].append(measure(guests[side], workload))
        conditions = _conditions(guests, base)
        found = []
        for (kernel, words), guest, side_runs in zip(sides, guests, taken, strict=True):
            label = f"{kernel} {words}".strip()
            done = Side(label, guest.kernel.release, tuple(side_runs))
            if profile:
                report(f"counting system calls and sampling under {label}")
                done = _profiled(done, guest, workload, report)
            found.append(done)
    return replace(concluded(tuple(workload), found[0], found[1], tuple(settings)), conditions=conditions)


def _conditions(guests: Sequence[Guest], options: Options) -> Conditions:
    system = os.uname()
    return Conditions(
        host=f"{system.nodename}, Linux {system.release}",
        host_cpus=len(os.sched_getaffinity(0)),
        date=datetime.now().astimezone().isoformat(" ", "minutes"),
        cpus=options.cpus,
        memory=options.memory,
        emulated=any(guest.accelerator == "tcg" for guest in guests),
    )


def _profiled(side: Side, guest: Guest, workload: Sequence[str], report: Callable[[str], None]) -> Side:
    """The side with system calls and samples; ``report`` is called with what could not be had, and why."""
    from insitu.convert.formats.folded import write_folded

    calls = system_calls(guest, workload)
    if not calls:
        report(f"no system calls counted under {side.name}: its kernel has no hist triggers")
    try:
        stacks = sample_in_guest(guest, workload)
    except GuestError:
        raise
    except InsituError as error:
        report(f"no samples under {side.name}: {error}")
        return replace(side, calls=tuple(calls))
    for what, count in stacks.losses.items():
        report(f"{count} lost under {side.name}: {what}")
    for note in stacks.notes:
        report(f"under {side.name}: {note}")
    folded = write_folded(stacks, value="count", suffixes=True)
    return replace(side, calls=tuple(calls), kernel_shares=kernel_shares(stacks), folded=folded)


def concluded(
    workload: tuple[str, ...], first: Side, second: Side, settings: tuple[Difference, ...] = ()
) -> Comparison:
    """Judge two measured sides."""
    verdict = judge([run.wall for run in first.runs], [run.wall for run in second.runs])
    busy = verdict.differs and not _differs_despite_steal(first, second, slower_second=verdict.ratio > 1)
    if busy:
        verdict = replace(verdict, differs=False)
    parts = _parts(first, second) if verdict.differs else ()
    return Comparison(workload, first, second, verdict, settings, parts, busy)


def _differs_despite_steal(first: Side, second: Side, *, slower_second: bool) -> bool:
    """Whether the slower side would still be slower without its vCPU steal."""
    faster, slower = (first, second) if slower_second else (second, first)
    least = [max(run.wall - run.vcpu_steal, run.wall / 100) for run in slower.runs]
    verdict = judge([run.wall for run in faster.runs], least)
    return verdict.differs and verdict.ratio > 1


def _parts(first: Side, second: Side) -> tuple[Part, ...]:
    """Split the difference of the mean wall times into user, system and waiting time, and by kernel function."""
    whole = _mean(second, "wall") - _mean(first, "wall")
    user, system = (_mean(second, kind) - _mean(first, kind) for kind in ("user", "sys"))
    seconds = {"user time": user, "system time": system, "waiting": whole - user - system}
    a, b = kernel_seconds(first), kernel_seconds(second)
    seconds |= {f"{name} (kernel)": b.get(name, 0) - a.get(name, 0) for name in {*a, *b}}
    parts = [Part(name, value, value / whole) for name, value in seconds.items() if value / whole >= _MIN_SHARE]
    return tuple(sorted(parts, key=lambda part: -part.share))


def kernel_seconds(side: Side) -> dict[str, float]:
    """Kernel function -> seconds of self time per run: its share of the samples times the measured CPU time.

    Empty if the guest's kernel could not be sampled.
    """
    cpu = _mean(side, "user") + _mean(side, "sys")
    return {name: share * cpu for name, share in side.kernel_shares.items()}


def _mean(side: Side, kind: str) -> float:
    return float(sum(getattr(run, kind) for run in side.runs)) / len(side.runs)
