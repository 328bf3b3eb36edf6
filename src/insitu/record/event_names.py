"""The events that -e takes, in perf's words: names, tracepoints, raw codes, PMUs' events, modifiers and groups."""

import fnmatch
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.kernel import pmu
from insitu.kernel.perf_event import Attr, Hardware, Software, Type

__all__ = ["NAMES", "OWN", "OWN_NAMES", "NamedEvent", "all_events", "listed_events", "named_events"]

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
_CACHE: Final = re.compile(rf"({'|'.join(_CACHES)})-({'|'.join(_OPERATIONS)})(s|es|-misses)")
_RAW: Final = re.compile(r"r([0-9a-fA-F]{1,16})")
_MODIFIERS: Final = re.compile(r"[ukhpPIGHSDWe]+")
_PMU_EVENT: Final = re.compile(r"([\w.*?\[\]-]+)/([^/]*)/(?::?([ukhpPIGHSDWe]+))?")
_MOST_PRECISE: Final = 3
_UNOPENED: Final = "-e {}: a '}}' without its '{{'"
_BRACES: Final = "-e {}: braces belong around a whole group, and none within another"
_MOST_EVENTS: Final = 1000
_CLOCKS: Final = (Software.CPU_CLOCK, Software.TASK_CLOCK)


OWN: Final = -1
"""The type of what the recorder counts itself, in nanoseconds; the config is its place in OWN_NAMES."""
OWN_NAMES: Final = ("duration_time", "user_time", "system_time")
"""Elapsed time, and the command's own times, which are known when it has ended."""


class NamedEvent(NamedTuple):
    """One event to sample or count.

    ``name`` is as typed, with its modifiers; ``group`` is the same number for events in one pair of braces, which
    are counted together, and -1 for the others. ``words`` are config1 to config3. ``cpus`` are the CPUs that count
    for the others, of a PMU that is not each CPU's own. A count times ``scale`` is in ``unit``. ``filter`` is what a
    tracepoint's fields must be to be counted.
    """

    name: str
    type: int
    config: int
    user: bool = True
    kernel: bool = True
    precise: int = 0
    group: int = -1
    words: tuple[int, int, int] = (0, 0, 0)
    modifiers: str = ""
    cpus: tuple[int, ...] | None = None
    unit: str = ""
    scale: float = 1.0
    filter: str = ""

    @property
    def base(self) -> str:
        """The name without modifiers."""
        return self.name.removesuffix(f":{self.modifiers}") if self.modifiers else self.name

    @property
    def is_clock(self) -> bool:
        """Whether it counts nanoseconds of CPU time."""
        return self.type == Type.SOFTWARE and self.config in _CLOCKS

    @property
    def is_counted(self) -> bool:
        """Whether it happens a number of times, so that each time is a sample; not a timer or a counter of cycles."""
        return self.type == Type.TRACEPOINT or (self.type == Type.SOFTWARE and self.config not in _CLOCKS)

    @property
    def is_in_kernel(self) -> bool:
        """Whether it only happens in the kernel, and so is invisible to users who may not trace the kernel."""
        switches = (Software.CONTEXT_SWITCHES, Software.CPU_MIGRATIONS, Software.CGROUP_SWITCHES)
        return self.type == Type.TRACEPOINT or (self.type == Type.SOFTWARE and self.config in switches)

    def attr(self) -> Attr:
        """What perf_event_open(2) is given of it, disabled."""
        attr = Attr(type=self.type, config=self.config, disabled=1, precise_ip=self.precise)
        attr.config1, attr.config2, attr.config3 = self.words
        attr.exclude_user, attr.exclude_kernel = not self.user, not self.kernel
        attr.exclude_hv = bool(set("uk") & set(self.modifiers)) and "h" not in self.modifiers
        guest, host = "G" in self.modifiers, "H" in self.modifiers
        is_cpu_pmu = self.type not in (Type.SOFTWARE, Type.TRACEPOINT) and self.cpus is None
        # As perf does: this host's own work unless its guests are asked for.
        attr.exclude_guest, attr.exclude_host = is_cpu_pmu and not guest, guest and not host
        attr.exclude_idle, attr.pinned, attr.exclusive = (each in self.modifiers for each in "IDe")
        return attr


def named_events(text: str) -> list[NamedEvent]:
    """The events of a list such as "cycles:u,sched:sched_switch,{page-faults,cs}:k", each once, to sample.

    Raises InsituError (status 2) for a name that is not an event; tracefs is only opened for tracepoints.
    """
    found = {(event.name, event.type): event for event in all_events(text)}
    for event in found.values():
        if event.type == OWN:
            raise InsituError(f"{event.name} cannot be sampled", remedy="insitu stat counts it", status=2)
    return list(found.values())


def all_events(text: str) -> list[NamedEvent]:
    """The events of a list, as often as they are in it, to count. Raises as ``named_events`` does."""
    found: list[NamedEvent] = []
    for number, (members, modifiers) in enumerate(_groups(text)):
        group = number if len(members) > 1 else -1
        for member in members:
            found += [event._replace(group=group) for event in _events(member, modifiers)]
    if len(found) > _MOST_EVENTS:
        raise InsituError(f"-e {text}: {len(found)} events, of which at most {_MOST_EVENTS} can be open", status=2)
    return found


def listed_events() -> list[str]:
    """The names of all events but tracepoints: perf's own, and those of this machine's PMUs."""
    of_pmus = (pmu.read_pmu(each, pmu.DEVICES) for each in pmu.pmu_names(pmu.DEVICES))
    named = [name for device in of_pmus if device is not None for name in sorted(device.events)]
    return list(dict.fromkeys([*NAMES, *OWN_NAMES, *_cache_names(), *named]))


def _groups(text: str) -> Iterator[tuple[list[str], str]]:
    """The parts of a list: an event, or the events in braces and the modifiers after them."""
    left = text
    while left:
        if left.startswith("{"):
            inside, closing, after = left[1:].partition("}")
            if not closing:
                raise InsituError(f"-e {text}: a '{{' without its '}}'", status=2)
            modifiers, _, left = after.partition(",")
            if "}" in modifiers and "{" not in inside:
                raise InsituError(_UNOPENED.format(text), status=2)
            if "{" in inside or "{" in modifiers or (modifiers and modifiers[0] != ":"):
                raise InsituError(_BRACES.format(text), status=2)
            yield [name for name in _split(inside) if name], modifiers.removeprefix(":")
        else:
            name = next(_split(left))
            left = left[len(name) + 1 :]
            if "}" in name and "{" not in name:
                raise InsituError(_UNOPENED.format(text), status=2)
            if "{" in name:
                raise InsituError(_BRACES.format(text), status=2)
            if name:
                yield [name], ""


def _split(text: str) -> Iterator[str]:
    """The names between commas; those between slashes separate a PMU's terms."""
    yield from re.findall(r"((?:/[^/]*/|[^,/]|/)*)(?:,|$)", text)


def _events(text: str, more: str) -> list[NamedEvent]:
    """One event, or all tracepoints that match a pattern, with its own and ``more`` modifiers."""
    if match := _PMU_EVENT.fullmatch(text):
        name, modifiers = text[: match.end(2) + 1], match[3] or ""
    else:
        name, modifiers = _parted(text)
    modifiers += more
    if modifiers and not _MODIFIERS.fullmatch(modifiers):
        raise InsituError(
            f"-e {text}{':' * bool(more)}{more}: unknown modifier",
            remedy="modifiers: u k h G H I p pp ppp P S D e W",
            status=2,
        )
    sides = {side for side in "ukh" if side in modifiers} or {"u", "k"}
    precise = _MOST_PRECISE if "P" in modifiers else min(modifiers.count("p"), _MOST_PRECISE)
    suffix = f":{modifiers}" if modifiers else ""
    return [
        each._replace(
            name=f"{each.name}{suffix}",
            user="u" in sides,
            kernel="k" in sides,
            precise=precise,
            modifiers=modifiers,
        )
        for each in _found(name)
    ]


def _parted(text: str) -> tuple[str, str]:
    """A name and the modifiers after it; those of an event that is not a tracepoint may be wrong."""
    own, colon, after = text.partition(":")
    if colon and _is_own(own):
        return own, after or ":"
    tracepoint, _, after = text.rpartition(":")
    # "sched:sched_switch" has no modifiers, however much its name looks like some.
    return (tracepoint, after) if ":" in tracepoint and _MODIFIERS.fullmatch(after) else (text, "")


def _is_own(name: str) -> bool:
    known = name in NAMES or name in _ALIASES or bool(_CACHE.fullmatch(name) or _RAW.fullmatch(name))
    return known or bool(_of_pmus(name))


def _found(name: str) -> list[NamedEvent]:
    own = _ALIASES.get(name, name)
    if own in NAMES:
        return [NamedEvent(own, *NAMES[own])]
    if name in OWN_NAMES:
        return [NamedEvent(name, OWN, OWN_NAMES.index(name), unit="ns")]
    if cache := _CACHE.fullmatch(name):
        result = cache[3] == "-misses"
        config = _CACHES[cache[1]] | _OPERATIONS[cache[2]] << 8 | result << 16
        return [NamedEvent(name, Type.HW_CACHE, config)]
    if raw := _RAW.fullmatch(name):
        return [NamedEvent(name, Type.RAW, int(raw[1], 16))]
    if typed := _PMU_EVENT.fullmatch(name):
        return _with_terms(typed[1], typed[2], name)
    if ":" in name:
        return _tracepoints(name)
    if found := _of_pmus(name):
        return found
    raise InsituError(
        f"unknown event {name!r}{nearest(name, [*listed_events(), *_ALIASES])}",
        remedy="-e list lists the names; a tracepoint is CATEGORY:NAME, such as sched:sched_switch",
        status=2,
    )


def _cache_names() -> list[str]:
    return [
        f"{cache}-{operation}{result}"
        for cache in _CACHES
        for operation in _OPERATIONS
        for result in ("es" if operation == "prefetch" else "s", "-misses")
    ]


def _of_pmus(name: str) -> list[NamedEvent]:
    """The event of that name of the PMUs that have it, as sysfs lists it."""
    return [_of_pmu(device, name, name, name) for device in pmu.pmus_with(name, pmu.DEVICES)]


def _with_terms(pattern: str, terms: str, typed: str) -> list[NamedEvent]:
    """The events of "PMU/terms/", of which ``name=`` is what it is called."""
    devices = pmu.find_pmus(pattern, pmu.DEVICES)
    if not devices:
        names = pmu.pmu_names(pmu.DEVICES)
        raise InsituError(
            f"-e {typed}: no PMU {pattern!r}{nearest(pattern, names)}",
            remedy=f"this machine has: {', '.join(names) or 'none'}",
            status=2,
        )
    words = terms.split(",")
    called = next((word[5:] for word in words if word.startswith("name=")), typed)
    left = ",".join(word for word in words if not word.startswith("name="))
    return [_of_pmu(device, left, called, typed) for device in devices]


def _of_pmu(device: pmu.Pmu, terms: str, name: str, typed: str) -> NamedEvent:
    words, named = device.encoded(terms, typed)
    return NamedEvent(
        name,
        device.type,
        words["config"],
        words=(words["config1"], words["config2"], words["config3"]),
        cpus=device.cpus,
        unit=named.unit,
        scale=named.scale,
    )


def _tracepoints(pattern: str) -> list[NamedEvent]:
    from insitu.kernel.tracefs import Tracefs, event_directory

    tree = Tracefs.open()
    try:
        names = [pattern]
        if any(each in pattern for each in "*?["):
            names = fnmatch.filter(tree.events(), pattern)
            if not names:
                raise InsituError(
                    f"no tracepoint matches {pattern}", remedy="insitu trace -l 'tracepoint:*'", status=2
                )
        elif not tree.exists(event_directory(pattern)):
            raise InsituError(
                f"there is no tracepoint {pattern}{nearest(pattern, tree.events())}",
                remedy="insitu trace -l 'tracepoint:*' lists them",
                status=2,
            )
        return [NamedEvent(name, Type.TRACEPOINT, tree.event(*name.split(":", 1)).id) for name in names]
    finally:
        tree.close()
