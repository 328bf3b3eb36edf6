"""The kernel swap: the same workload under two kernels, interleaved and repeated, and whether the kernel matters."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Final

from insitu.errors import InsituError
from insitu.lab.compare.kernel_settings import Difference, differences, read_settings
from insitu.lab.compare.measure import Call, Run, folded_profile, measure, system_calls
from insitu.lab.compare.verdict import Verdict, judge
from insitu.lab.guests.guest import Guest
from insitu.lab.guests.machine import Options
from insitu.lab.kernels.find_kernel import find_kernel

__all__ = ["Comparison", "Part", "Side", "compare", "kernel_seconds", "parse_sides"]

_WARM_UPS: Final = 1
_MIN_SHARE: Final = 0.05


@dataclass(frozen=True)
class Side:
    """One kernel's part: its runs, system calls of one run, and folded stacks of one run."""

    name: str
    release: str
    runs: tuple[Run, ...]
    calls: tuple[Call, ...] = ()
    folded: str = ""


@dataclass(frozen=True)
class Part:
    """A part of the wall time's difference, in seconds per run, and as a share of the whole difference."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Comparison:
    """Two sides, the verdict on their wall times, and what the difference is made of (empty within noise).

    ``busy`` says that the wall times differ, but by no more than what this machine's own load may have done.
    """

    workload: tuple[str, ...]
    first: Side
    second: Side
    verdict: Verdict
    settings: tuple[Difference, ...] = ()
    parts: tuple[Part, ...] = field(default=())
    busy: bool = False


def parse_sides(text: str) -> list[tuple[str, str]]:
    """``6.1,6.12`` or ``6.1,6.1:mitigations=off`` as kernel names and words for their command lines."""
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
        for number in range(runs):
            report(f"run {number + 1} of {runs}")
            # The first side alternates, so that neither always runs after the other, whose data is in the caches.
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                taken[side].append(measure(guests[side], workload))
        found = []
        for (kernel, words), guest, side_runs in zip(sides, guests, taken, strict=True):
            label = f"{kernel} {words}".strip()
            done = Side(label, guest.kernel.release, tuple(side_runs))
            if profile:
                report(f"counting system calls and sampling under {label}")
                done = replace(
                    done, calls=tuple(system_calls(guest, workload)), folded=folded_profile(guest, workload)
                )
            found.append(done)
    return concluded(tuple(workload), found[0], found[1], tuple(settings))


def concluded(
    workload: tuple[str, ...], first: Side, second: Side, settings: tuple[Difference, ...] = ()
) -> Comparison:
    """The comparison of two sides that have been measured."""
    verdict = judge([run.wall for run in first.runs], [run.wall for run in second.runs])
    busy = verdict.differs and not _differs_in_any_case(first, second, slower_second=verdict.ratio > 1)
    if busy:
        verdict = replace(verdict, differs=False)
    parts = _parts(first, second) if verdict.differs else ()
    return Comparison(workload, first, second, verdict, settings, parts, busy)


def _differs_in_any_case(first: Side, second: Side, *, slower_second: bool) -> bool:
    """Whether the slower side would be slower had it alone never waited for a CPU of this machine."""
    faster, slower = (first, second) if slower_second else (second, first)
    least = [max(run.wall - run.host_wait, run.wall / 100) for run in slower.runs]
    verdict = judge([run.wall for run in faster.runs], least)
    return verdict.differs and verdict.ratio > 1


def _parts(first: Side, second: Side) -> tuple[Part, ...]:
    """What the difference of the mean wall times is made of: user, system, waiting; then kernel functions."""
    whole = _mean(second, "wall") - _mean(first, "wall")
    user, system = (_mean(second, kind) - _mean(first, kind) for kind in ("user", "sys"))
    seconds = {"user time": user, "system time": system, "waiting": whole - user - system}
    a, b = kernel_seconds(first), kernel_seconds(second)
    seconds |= {f"{name} (kernel)": b.get(name, 0) - a.get(name, 0) for name in {*a, *b}}
    parts = [Part(name, value, value / whole) for name, value in seconds.items() if value / whole >= _MIN_SHARE]
    return tuple(sorted(parts, key=lambda part: -part.share))


def kernel_seconds(side: Side) -> dict[str, float]:
    """Kernel function -> seconds of its own per run: its share of the samples, times the measured CPU time.

    Empty where the guest's kernel could not be sampled.
    """
    own: Counter[str] = Counter()
    total = 0
    for line in side.folded.splitlines():
        stack, _, count = line.rpartition(" ")
        leaf = stack.rpartition(";")[2]
        total += int(count)
        if leaf.endswith("_[k]"):
            own[leaf.removesuffix("_[k]")] += int(count)
    cpu = _mean(side, "user") + _mean(side, "sys")
    return {name: count * cpu / total for name, count in own.items()}


def _mean(side: Side, kind: str) -> float:
    return float(sum(getattr(run, kind) for run in side.runs)) / len(side.runs)
