"""The events that -e takes, in perf's words: names, tracepoints, raw codes, modifiers and groups."""

import fnmatch
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel.perf_event import Hardware, Software, Type

__all__ = ["NAMES", "NamedEvent", "named_events"]

NAMES: Final[dict[str, tuple[Type, int]]] = {
    "cycles": (Type.HARDWARE, Hardware.CPU_CYCLES),
    "instructions": (Type.HARDWARE, Hardware.INSTRUCTIONS),
    "cache-references": (Type.HARDWARE, Hardware.CACHE_REFERENCES),
    "cache-misses": (Type.HARDWARE, Hardware.CACHE_MISSES),
    "branches": (Type.HARDWARE, Hardware.BRANCH_INSTRUCTIONS),
    "branch-misses": (Type.HARDWARE, Hardware.BRANCH_MISSES),
    "bus-cycles": (Type.HARDWARE, Hardware.BUS_CYCLES),
    "ref-cycles": (Type.HARDWARE, Hardware.REF_CPU_CYCLES),
    "stalled-cycles-frontend": (Type.HARDWARE, Hardware.STALLED_CYCLES_FRONTEND),
    "stalled-cycles-backend": (Type.HARDWARE, Hardware.STALLED_CYCLES_BACKEND),
    "cpu-clock": (Type.SOFTWARE, Software.CPU_CLOCK),
    "task-clock": (Type.SOFTWARE, Software.TASK_CLOCK),
    "page-faults": (Type.SOFTWARE, Software.PAGE_FAULTS),
    "minor-faults": (Type.SOFTWARE, Software.PAGE_FAULTS_MIN),
    "major-faults": (Type.SOFTWARE, Software.PAGE_FAULTS_MAJ),
    "context-switches": (Type.SOFTWARE, Software.CONTEXT_SWITCHES),
    "cpu-migrations": (Type.SOFTWARE, Software.CPU_MIGRATIONS),
    "alignment-faults": (Type.SOFTWARE, Software.ALIGNMENT_FAULTS),
    "emulation-faults": (Type.SOFTWARE, Software.EMULATION_FAULTS),
    "cgroup-switches": (Type.SOFTWARE, Software.CGROUP_SWITCHES),
}
"""Event name, as users type it -> type and config of struct perf_event_attr."""

_ALIASES: Final = {
    "cpu-cycles": "cycles",
    "branch-instructions": "branches",
    "faults": "page-faults",
    "cs": "context-switches",
    "migrations": "cpu-migrations",
    "idle-cycles-frontend": "stalled-cycles-frontend",
    "idle-cycles-backend": "stalled-cycles-backend",
}
# include/uapi/linux/perf_event.h: enum perf_hw_cache_id, perf_hw_cache_op_id and perf_hw_cache_op_result_id
_CACHES: Final = {"L1-dcache": 0, "L1-icache": 1, "LLC": 2, "dTLB": 3, "iTLB": 4, "branch": 5, "node": 6}
_OPERATIONS: Final = {"load": 0, "store": 1, "prefetch": 2}
_CACHE: Final = re.compile(rf"({'|'.join(_CACHES)})-({'|'.join(_OPERATIONS)})(s|-misses)")
_RAW: Final = re.compile(r"r([0-9a-fA-F]{1,16})")
_MODIFIERS: Final = re.compile(r"[ukhp]+")
_MOST_PRECISE: Final = 3
_MOST_EVENTS: Final = 1000
_CLOCKS: Final = (Software.CPU_CLOCK, Software.TASK_CLOCK)


class NamedEvent(NamedTuple):
    """One event to sample on.

    ``name`` is as typed, with its modifiers; ``group`` is the same number for events in one pair of braces, which
    are counted together, and -1 for the others.
    """

    name: str
    type: int
    config: int
    user: bool = True
    kernel: bool = True
    precise: int = 0
    group: int = -1

    @property
    def is_counted(self) -> bool:
        """Whether it happens a number of times, so that each time is a sample; not a timer or a counter of cycles."""
        return self.type == Type.TRACEPOINT or (self.type == Type.SOFTWARE and self.config not in _CLOCKS)

    @property
    def is_in_kernel(self) -> bool:
        """Whether it only happens in the kernel, and so is invisible to users who may not trace the kernel."""
        switches = (Software.CONTEXT_SWITCHES, Software.CPU_MIGRATIONS, Software.CGROUP_SWITCHES)
        return self.type == Type.TRACEPOINT or (self.type == Type.SOFTWARE and self.config in switches)


def named_events(text: str) -> list[NamedEvent]:
    """The events of a list such as "cycles:u,sched:sched_switch,{page-faults,cs}:k".

    Raises InsituError (status 2) for a name that is not an event; tracefs is only opened for tracepoints.
    """
    found: list[NamedEvent] = []
    for number, (members, modifiers) in enumerate(_groups(text)):
        group = number if len(members) > 1 else -1
        for member in members:
            found += [event._replace(group=group) for event in _events(member, modifiers)]
    if len(found) > _MOST_EVENTS:
        raise InsituError(f"-e {text}: {len(found)} events, of which at most {_MOST_EVENTS} can be sampled", status=2)
    return list({event.name: event for event in found}.values())


def _groups(text: str) -> Iterator[tuple[list[str], str]]:
    """The parts of a list: an event, or the events in braces and the modifiers after them."""
    left = text
    while left:
        if left.startswith("{"):
            inside, closing, after = left[1:].partition("}")
            if not closing:
                raise InsituError(f"-e {text}: a '{{' without its '}}'", status=2)
            modifiers, _, left = after.partition(",")
            yield [name for name in inside.split(",") if name], modifiers.removeprefix(":")
        else:
            name, _, left = left.partition(",")
            if name:
                yield [name], ""


def _events(text: str, more: str) -> list[NamedEvent]:
    """One event, or all tracepoints that match a pattern, with its own and ``more`` modifiers."""
    name, colon, modifiers = text.rpartition(":")
    # "sched:sched_switch" has no modifiers, however much its name looks like some.
    if not (colon and _MODIFIERS.fullmatch(modifiers) and (":" in name or _is_own(name))):
        name, modifiers = text, ""
    modifiers += more
    if modifiers and not _MODIFIERS.fullmatch(modifiers):
        raise InsituError(f"-e {text}:{more}: unknown modifier", remedy="modifiers: u, k, h, p, pp, ppp", status=2)
    sides = {side for side in "ukh" if side in modifiers} or {"u", "k"}
    precise = min(modifiers.count("p"), _MOST_PRECISE)
    suffix = f":{modifiers}" if modifiers else ""
    return [
        NamedEvent(f"{each}{suffix}", kind, config, "u" in sides, "k" in sides, precise)
        for each, kind, config in _found(name)
    ]


def _is_own(name: str) -> bool:
    return name in NAMES or name in _ALIASES or bool(_CACHE.fullmatch(name) or _RAW.fullmatch(name))


def _found(name: str) -> list[tuple[str, int, int]]:
    own = _ALIASES.get(name, name)
    if own in NAMES:
        return [(own, *NAMES[own])]
    if cache := _CACHE.fullmatch(name):
        result = cache[3] == "-misses"
        return [(name, Type.HW_CACHE, _CACHES[cache[1]] | _OPERATIONS[cache[2]] << 8 | result << 16)]
    if raw := _RAW.fullmatch(name):
        return [(name, Type.RAW, int(raw[1], 16))]
    if ":" in name:
        return _tracepoints(name)
    raise InsituError(
        f"unknown event {name!r}", remedy=f"a tracepoint (sched:sched_switch) or one of: {', '.join(NAMES)}", status=2
    )


def _tracepoints(pattern: str) -> list[tuple[str, int, int]]:
    from insitu.kernel.tracefs import Tracefs

    tree = Tracefs.open()
    try:
        names = [pattern]
        if any(each in pattern for each in "*?["):
            names = fnmatch.filter(tree.events(), pattern)
            if not names:
                raise InsituError(
                    f"no tracepoint matches {pattern}", remedy="insitu trace -l 'tracepoint:*'", status=2
                )
        return [(name, Type.TRACEPOINT, tree.event(*name.split(":", 1)).id) for name in names]
    finally:
        tree.close()
