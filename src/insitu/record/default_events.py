"""What is counted unless somebody asks for something else: perf stat's sets."""

from typing import Final

from insitu.kernel import pmu
from insitu.record.event_names import NamedEvent, all_events

__all__ = ["default_events"]

_SOFTWARE: Final = "context-switches,cpu-migrations,page-faults"
_HARDWARE: Final = ("cycles", "instructions", "branches", "branch-misses")
_STALLED: Final = ("stalled-cycles-frontend", "stalled-cycles-backend")
_TOP_DOWN: Final = ("slots", "topdown-retiring", "topdown-bad-spec", "topdown-fe-bound", "topdown-be-bound")
_DETAILS: Final = (
    "L1-dcache-loads,L1-dcache-load-misses,LLC-loads,LLC-load-misses",
    "L1-icache-loads,L1-icache-load-misses,dTLB-loads,dTLB-load-misses,iTLB-loads,iTLB-load-misses",
    "L1-dcache-prefetches,L1-dcache-prefetch-misses",
)


def default_events(detail: int, *, whole_system: bool) -> list[NamedEvent]:
    """The events; ``detail`` (0 to 3) adds caches. Those of top-down level 1 are there where the CPU has them."""
    offered = pmu.read_pmu("cpu", pmu.DEVICES) or pmu.read_pmu("cpu_core", pmu.DEVICES)
    names = ["cpu-clock" if whole_system else "task-clock", _SOFTWARE, *_HARDWARE]
    if offered is not None:
        names += [name for name in _STALLED if name in offered.events]
        if set(_TOP_DOWN) <= offered.events.keys():
            # slots leads: the kernel takes the others with it alone.
            terms = ",".join(f"{offered.name}/{name}/" for name in _TOP_DOWN)
            names.append(f"{{{terms}}}")
    return all_events(",".join([*names, *_DETAILS[:detail]]))
