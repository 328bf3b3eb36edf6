"""The functions of sampled stacks: names, and how much each costs."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from insitu.record.top.tick import Sample, Tick
from insitu.symbols.frame import CORE_TEXT, KERNEL, Frame, module_label

if TYPE_CHECKING:
    from insitu.probe.runtime.symbols import Symbols

__all__ = ["WINDOW_S", "Cost", "Functions", "recent", "stacks_of"]

WINDOW_S: Final = 20.0
"""Seconds whose samples functions and stacks are made of."""

_MOST_STACKS: Final = 100  # of merged()
_MOST_FRAMES: Final = 100_000  # that are remembered
# A wait's stack is taken by a program that sched_switch runs, called by these: they are the innermost frames.
_SWITCHES: Final = frozenset(("__traceiter_sched_switch", "__schedule", "schedule"))
_TAKEN_WITHIN: Final = 8


class Cost(NamedTuple):
    """A function's: ``own`` where it ran (or waited) itself, ``total`` with what it called, each stack once."""

    function: str
    module: str
    own: int
    total: int


class Functions:
    """Names addresses, and remembers. Without ``symbols`` addresses stay numbers. May be used by several threads."""

    def __init__(self) -> None:
        self.symbols: Symbols | None = None
        self._known: dict[tuple[int, int], Frame] = {}
        self._lock = threading.Lock()

    def drain(self) -> None:
        """Take over what processes have mapped; to be called once a tick."""
        with self._lock:
            if self.symbols is not None:
                self.symbols.processes.drain()
                self.symbols.open_files()

    def frames(self, sample: Sample) -> tuple[Frame, ...]:
        """Returns the frames of a stack, innermost first, the kernel's before the user's.

        Of a wait, those of the scheduler and of the program that took the stack are left out.
        """
        with self._lock:
            if len(self._known) > _MOST_FRAMES:
                self._known.clear()
            kernel = [*self._side(0, sample.kernel)]
            ends = [at for at, frame in enumerate(kernel[:_TAKEN_WITHIN]) if frame.function in _SWITCHES]
            return (*kernel[ends[-1] + 1 if ends else 0 :], *self._side(sample.pid, sample.user))

    def costs(self, stacks: Mapping[Sample, int]) -> list[Cost]:
        """Returns the cost of each function, the largest own first."""
        own: Counter[tuple[str, str]] = Counter()
        total: Counter[tuple[str, str]] = Counter()
        for sample, value in stacks.items():
            names = self._named_stack(sample)
            own[names[0]] += value
            for name in set(names):
                total[name] += value
        found = [Cost(*name, own[name], value) for name, value in total.items()]
        return sorted(found, key=lambda cost: (-cost.own, -cost.total, cost.function))

    def own_costs(self, stacks: Mapping[Sample, int]) -> list[Cost]:
        """Returns the costs of functions that ran themselves, by naming the innermost frames alone."""
        leaves: Counter[Sample] = Counter()
        for sample, value in stacks.items():
            leaf = sample._replace(tid=0, kernel=sample.kernel[:1], user=() if sample.kernel else sample.user[:1])
            leaves[leaf] += value
        return self.costs(leaves)

    def merged(
        self, stacks: Mapping[Sample, int], through: tuple[str, str] | None
    ) -> list[tuple[tuple[tuple[str, str], ...], int]]:
        """Returns stacks of functions and modules, innermost first, with their value, the largest first.

        ``through``: only those with this function.
        """
        found: Counter[tuple[tuple[str, str], ...]] = Counter()
        for sample, value in stacks.items():
            names = self._named_stack(sample)
            if through is None or through in names:
                found[names] += value
        return found.most_common(_MOST_STACKS)

    def _named_stack(self, sample: Sample) -> tuple[tuple[str, str], ...]:
        return tuple((frame.function, frame.module) for frame in self.frames(sample)) or (("[unknown]", ""),)

    def _side(self, pid: int, addresses: Sequence[int]) -> Iterable[Frame]:
        for at, address in enumerate(addresses):
            address -= at > 0  # a return address may be the next function's
            frame = self._known.get((pid, address))
            if frame is None:
                frame = self._known[pid, address] = self._named(pid, address)
            yield frame

    def _named(self, pid: int, address: int) -> Frame:
        if self.symbols is None:
            return Frame(f"{address:#x}", symbolized=False)
        if not pid:
            known = self.symbols.kernel(address)
            name = known[0] if known else f"{address:#x}"
            return Frame(name, CORE_TEXT, kind=KERNEL, symbolized=known is not None)
        found = self.symbols.user(address, pid)
        if found is not None:
            return Frame(found[0], found[2])
        place = self.symbols.processes.find(pid, address)
        module = place.module.path if place is not None else ""
        return Frame(module_label(module), module, symbolized=False)


def recent(ticks: Sequence[Tick]) -> Sequence[Tick]:
    """Returns the last of some ticks: those whose samples are shown."""
    begin = ticks[-1].time_ns - WINDOW_S * 1e9 if ticks else 0
    return [tick for tick in ticks if tick.time_ns > begin]


def stacks_of(ticks: Iterable[Tick], pid: int, tid: int, *, waits: bool) -> dict[Sample, int]:
    """Returns the stacks of some ticks added up, of a process (0: of all) and a thread (0: of all of it)."""
    found: Counter[Sample] = Counter()
    for tick in ticks:
        for sample, value in (tick.off_cpu if waits else tick.on_cpu).items():
            if pid in (0, sample.pid) and tid in (0, sample.tid):
                found[sample] += value
    return dict(found)
