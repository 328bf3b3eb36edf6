"""software:EVENT:COUNT and hardware:EVENT:COUNT: a probe for every COUNT-th event, where it happened."""

from __future__ import annotations

import os
from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.kernel import perf_event
from insitu.kernel.perf_event import Hardware, Software
from insitu.probe.providers.base import AttachPoint, AttachSpec, Context, Traits
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.matching import amount, missing, parts, select
from insitu.probe.providers.support.perf_attachment import Event, everywhere
from insitu.probe.providers.support.sampling import Sampling

__all__ = ["PROVIDERS"]

# Event -> its number, and after how many events the probe fires by default.
_SOFTWARE: dict[str, tuple[int, int]] = {
    "alignment-faults": (Software.ALIGNMENT_FAULTS, 1),
    "bpf-output": (Software.BPF_OUTPUT, 1),
    "context-switches": (Software.CONTEXT_SWITCHES, 1000),
    "cpu-clock": (Software.CPU_CLOCK, 1_000_000),
    "cpu-migrations": (Software.CPU_MIGRATIONS, 1),
    "dummy": (Software.DUMMY, 1),
    "emulation-faults": (Software.EMULATION_FAULTS, 1),
    "major-faults": (Software.PAGE_FAULTS_MAJ, 1),
    "minor-faults": (Software.PAGE_FAULTS_MIN, 100),
    "page-faults": (Software.PAGE_FAULTS, 100),
    "task-clock": (Software.TASK_CLOCK, 1_000_000),
}
_HARDWARE: dict[str, tuple[int, int]] = {
    "backend-stalls": (Hardware.STALLED_CYCLES_BACKEND, 1_000_000),
    "branch-instructions": (Hardware.BRANCH_INSTRUCTIONS, 100_000),
    "branch-misses": (Hardware.BRANCH_MISSES, 100_000),
    "bus-cycles": (Hardware.BUS_CYCLES, 100_000),
    "cache-misses": (Hardware.CACHE_MISSES, 1_000_000),
    "cache-references": (Hardware.CACHE_REFERENCES, 1_000_000),
    "cpu-cycles": (Hardware.CPU_CYCLES, 1_000_000),
    "frontend-stalls": (Hardware.STALLED_CYCLES_FRONTEND, 1_000_000),
    "instructions": (Hardware.INSTRUCTIONS, 1_000_000),
    "ref-cycles": (Hardware.REF_CPU_CYCLES, 1_000_000),
}
_ALIASES = {
    "branches": "branch-instructions",
    "cpu": "cpu-clock",
    "cs": "context-switches",
    "cycles": "cpu-cycles",
    "faults": "page-faults",
}


class Counter(Sampling):
    """Counting events of perf's, sampled."""

    def __init__(self, kind: str, alias: str, type_: int, events: dict[str, tuple[int, int]]) -> None:
        self.names = (kind, alias)
        self._type, self._events = type_, events
        self.traits = Traits(of_process=True, last_first=type_ == perf_event.Type.SOFTWARE)
        aliases = {alias: events[event] for alias, event in _ALIASES.items() if event in events}
        self._by_name = {**events, **aliases}

    def expand(self, spec: AttachSpec, context: Context) -> list[AttachPoint]:
        kind = self.names[0]
        event, count = parts(spec, f"{kind}:EVENT or {kind}:EVENT:COUNT", 1, 2)
        period = amount(count)
        if count and (period is None or not 0 < period < 1 << 63):
            raise InsituError(f"{spec}: {count} is not a number of events")
        # A pattern matches every event once: by its own name.
        found = select(event, self._events) or select(event, self._by_name)
        if not found:
            raise missing(f"{kind} event", event, self._by_name, f"one of {', '.join(self._by_name)}")
        return [self._point(name, period or self._by_name[name][1], count) for name in found]

    def _point(self, event: str, period: int, count: str) -> AttachPoint:
        """The name has the period only if the script has given it, as ``count``."""
        name = f"{self.names[0]}:{event}" + (f":{period}" if count else "")
        return AttachPoint(self.names[0], name, function=event, detail=period)

    def events(self, point: AttachPoint, context: Context) -> list[Event]:
        assert isinstance(point.detail, int)
        number, _ = self._by_name[point.function]
        attr = perf_event.Attr(type=self._type, config=number, sample_period=point.detail, disabled=1)
        return everywhere(attr, context.only_pid, point.cookie)

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        try:
            return super().attach(program_fd, points, context)
        except InsituError as error:
            if self._type == perf_event.Type.HARDWARE and isinstance(error.__cause__, OSError):
                raise _none_here(points[0].name) from None
            raise

    def listing(self, pattern: AttachSpec, context: Context) -> list[AttachPoint]:
        kind = self.names[0]
        found = sorted(select(pattern.parts[0] if pattern.parts else "*", self._by_name))
        there = [event for event in found if self._is_there(event)]
        if found and not there and self._type == perf_event.Type.HARDWARE:
            raise _none_here(str(pattern))
        return [AttachPoint(kind, f"{kind}:{event}:", function=event) for event in there]

    def _is_there(self, event: str) -> bool:
        """Whether this machine counts such events: few virtual ones have the processor's."""
        number, period = self._by_name[event]
        try:
            attr = perf_event.Attr(type=self._type, config=number, sample_period=period, disabled=1)
            os.close(perf_event.open_event(attr, pid=0, cpu=-1))
        except InsituError:
            return False
        return True


def _none_here(what: str) -> InsituError:
    return InsituError(
        f"{what}: no hardware counters (no PMU: virtual machine?)",
        remedy="software:cpu-clock or profile:hz:99 sample time instead",
    )


PROVIDERS = (
    Counter("software", "s", perf_event.Type.SOFTWARE, _SOFTWARE),
    Counter("hardware", "h", perf_event.Type.HARDWARE, _HARDWARE),
)
