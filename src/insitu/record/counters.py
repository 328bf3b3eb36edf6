"""Counters: perf events that are read, not sampled, on threads, CPUs and cgroups."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import perf_event, pmu, procfs
from insitu.kernel.perf_event import Attr, Flag, ReadFormat, Type, open_event, refusal
from insitu.kernel.slow_close import close_later
from insitu.record.event_names import OWN, NamedEvent

__all__ = [
    "Count",
    "Counted",
    "Counters",
    "Per",
    "Place",
    "Value",
    "choose_counted",
    "count_value",
    "summed",
    "why_not",
]

Per = Literal["all", "cpu", "thread", "domain"]
"""What counts are kept apart by, besides cgroups; a domain is a core, a socket or the like."""

_VALUES: Final = struct.Struct("=QQQ")  # value, time enabled, time running: struct read_format
_ABSENT: Final = (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.ENXIO, errno.EINVAL)


class Place(NamedTuple):
    """Where a counter counts: on a CPU (-1: any), in a thread (-1: any), in a cgroup ("": any).

    ``domain`` is the name of the CPUs that are added up: S0-D0-C1.
    """

    cpu: int = -1
    tid: int = -1
    cgroup: str = ""
    domain: str = ""


class Counted(NamedTuple):
    """An event to count, in a cgroup ("": no matter which). With a ``reason`` it cannot be counted here."""

    event: NamedEvent
    cgroup: str = ""
    reason: str = ""


class Count(NamedTuple):
    """What has been counted of an event at a place.

    ``value`` is for the whole of the time: where the event had to share the PMU, the number counted in
    ``running_ns`` of the ``enabled_ns`` is scaled up. Times of several CPUs or threads are summed; ``counters`` is
    how many there are.
    """

    counted: Counted
    place: Place
    value: int = 0
    enabled_ns: int = 0
    running_ns: int = 0
    counters: int = 0


def count_value(count: Count) -> int | None:
    """The value of a count; None if there is none, as other events held the counters or it cannot be counted."""
    # Of a target that never ran there is nothing to count: that zero is one.
    return count.value if not count.counted.reason and (count.running_ns or not count.enabled_ns) else None


def why_not(event: NamedEvent, reason: str) -> str:
    """Why an event has no count: ``reason`` where it cannot be counted, else what happened to it."""
    if event.type == OWN:
        return "known when a command has ended"
    return reason or "other events held the counters all the time"


class Value(NamedTuple):
    """What a counter's read(2) returned; ``counted`` is the event's number."""

    counted: int
    place: Place
    value: int
    enabled_ns: int
    running_ns: int

    def since(self, earlier: Value) -> Value:
        """What was counted since an earlier reading of the same counter."""
        return self._replace(
            value=self.value - earlier.value,
            enabled_ns=self.enabled_ns - earlier.enabled_ns,
            running_ns=self.running_ns - earlier.running_ns,
        )


class _Counter(NamedTuple):
    counted: int
    place: Place
    fd: int


def choose_counted(
    events: Sequence[NamedEvent], cgroups: Sequence[str], *, whole_system: bool
) -> tuple[list[Counted], list[str]]:
    """The events, in their cgroups, with the reasons why some cannot be counted here; and notes for the user.

    Each is opened once on this process, so that what is refused is known before anything starts; of a category of
    tracepoints one, as the kernel takes tens of milliseconds to close the last event of each. Events that need
    the kernel's code counted, which this user may not, count user code alone, and their names end in ":u".
    """
    notes: list[str] = []
    wanted: dict[tuple[str, int, str], Counted] = {}
    tried: dict[NamedEvent, int] = {}
    for number, event in enumerate(events):
        cgroup = cgroups[number] if len(cgroups) > 1 and number < len(cgroups) else "".join(cgroups[:1])
        known = wanted.setdefault((event.name, event.type, cgroup), Counted(event, cgroup)).event
        if known.filter != event.filter:
            raise InsituError(f"{event.name} is there twice, with different filters", status=2)
    chosen = [_fitted(each.event, each.cgroup, notes, tried, whole_system) for each in wanted.values()]
    return chosen, list(dict.fromkeys(notes))


def _fitted(
    event: NamedEvent, cgroup: str, notes: list[str], tried: dict[NamedEvent, int], whole_system: bool
) -> Counted:
    if event.type == OWN:
        return Counted(event, cgroup)
    if event.cpus is not None and not whole_system:
        return Counted(event, cgroup, "this PMU counts for whole CPUs only: -a")
    if event.is_in_kernel and not event.kernel:
        return Counted(event, cgroup, "it happens in the kernel, which :u and --all-user leave out")
    code = _trial(event, tried)
    if code in (errno.EACCES, errno.EPERM) and event.user and event.kernel:
        if event.is_in_kernel:
            return Counted(event, cgroup, f"it happens in the kernel, which this user may not count ({_paranoid()})")
        event = event._replace(name=f"{event.base}:{event.modifiers}u", kernel=False, modifiers=f"{event.modifiers}u")
        notes.append(f"kernel code not counted ({_paranoid()}, without CAP_PERFMON)")
        code = _trial(event, tried)
    return Counted(event, cgroup, _reason(event, code))


def _trial(event: NamedEvent, tried: dict[NamedEvent, int]) -> int:
    """The errno of opening the event on this process, or on its PMU's first CPU; 0: it opens."""
    key = event
    if event.type == Type.TRACEPOINT and not event.name.startswith("ftrace:"):
        key = event._replace(name=event.name.partition(":")[0], config=0)
    if key not in tried:
        tried[key] = _refusal(event)
    return tried[key]


def _refusal(event: NamedEvent) -> int:
    try:
        if event.cpus is not None:
            os.close(_opened(event, -1, event.cpus[0] if event.cpus else 0))
        else:
            os.close(_opened(event, 0, -1))
    except InsituError as error:
        if refusal(error) in (*_ABSENT, errno.EACCES, errno.EPERM):
            return refusal(error)
        raise
    return 0


def _paranoid() -> str:
    """The setting by which the kernel decides, as a message shows it."""
    return f"perf_event_paranoid={procfs.sysctl('kernel.perf_event_paranoid')}"


def _reason(event: NamedEvent, code: int) -> str:
    if not code:
        return ""
    if code in (errno.EACCES, errno.EPERM):
        return f"permission denied ({_paranoid()}): run as root or with CAP_PERFMON"
    if event.type in (Type.HARDWARE, Type.HW_CACHE, Type.RAW):
        if not any(name.startswith(("cpu", "arm")) for name in pmu.pmu_names(pmu.DEVICES)):
            return "no PMU (virtual machine?)"
        return "not an event of this CPU's PMU"
    if code == errno.EINVAL and event.modifiers:
        return f"this PMU does not take the modifiers {event.modifiers}"
    return "this kernel or PMU cannot count it" if event.type >= Type.RAW else "not an event of this kernel"


def _opened(event: NamedEvent, pid: int, cpu: int, group_fd: int = -1, flags: int = 0, **attributes: int) -> int:
    """The descriptor of an event; PMUs that cannot exclude guests count them too. Raises InsituError."""
    attr: Attr = event.attr()
    attr.read_format = ReadFormat.TOTAL_TIME_ENABLED | ReadFormat.TOTAL_TIME_RUNNING
    for name, value in attributes.items():
        setattr(attr, name, value)
    try:
        fd = open_event(attr, pid=pid, cpu=cpu, group_fd=group_fd, flags=Flag.FD_CLOEXEC | flags)
    except InsituError as error:
        if refusal(error) != errno.EINVAL or not attr.exclude_guest or "H" in event.modifiers:
            raise
        attr.exclude_guest = 0
        fd = open_event(attr, pid=pid, cpu=cpu, group_fd=group_fd, flags=Flag.FD_CLOEXEC | flags)
    if event.filter:
        try:
            perf_event.set_filter(fd, event.filter)
        except OSError:
            os.close(fd)
            raise InsituError(
                f"--filter {event.filter}: not a filter for {event.name}",
                remedy=f"insitu trace -lv tracepoint:{event.base} lists its fields; such as 'nr == 1 && ret < 0'",
                status=2,
            ) from None
    return fd


class Counters:
    """The open counters of some events. ``inherit``: threads and processes that are started later count too."""

    def __init__(self, chosen: Sequence[Counted], *, inherit: bool, enable_on_exec: bool = False) -> None:
        self._chosen = chosen
        self._attributes = {"inherit": int(inherit), "enable_on_exec": int(enable_on_exec)}
        self._counters: list[_Counter] = []
        self._leaders: dict[tuple[int, Place], int] = {}
        self.notes: list[str] = []

    @property
    def events(self) -> list[int]:
        """The events that the kernel can count, by number."""
        return [number for number, each in enumerate(self._chosen) if not each.reason and each.event.type != OWN]

    @property
    def descriptors(self) -> dict[str, list[int]]:
        """The open descriptors."""
        return {"": [counter.fd for counter in self._counters]}

    def open(self, event: int, pid: int, *, inherit: bool = True) -> list[int]:
        """Count an event in a thread; returns the descriptors. Raises InsituError."""
        return [self._add(event, Place(tid=pid), pid, -1)]

    def open_on_cpus(self, cpus: Iterable[int], cgroup_fds: Mapping[str, int]) -> None:
        """Count all events on CPUs: whatever runs there, or what does of the event's cgroup. Raises InsituError."""
        self._attributes["inherit"] = 0
        wanted = tuple(cpus)
        for number in self.events:
            counted = self._chosen[number]
            own = counted.event.cpus
            flags, pid = (Flag.PID_CGROUP, cgroup_fds[counted.cgroup]) if counted.cgroup else (0, -1)
            for cpu in wanted:
                if own is None or cpu in own:
                    self._add(number, Place(cpu=cpu, cgroup=counted.cgroup), pid, cpu, flags)

    def _add(self, number: int, place: Place, pid: int, cpu: int, flags: int = 0) -> int:
        event = self._chosen[number].event
        key = event.group, place
        leader = self._leaders.get(key, -1)
        try:
            fd = _opened(event, pid, cpu, leader, flags, **self._attributes)
        except InsituError as error:
            if leader < 0 or refusal(error) not in (errno.EINVAL, errno.ENOENT):
                raise
            self.notes.append(f"{event.name} does not fit into its group: counted by itself")
            fd = _opened(event, pid, cpu, -1, flags, **self._attributes)
        if event.group >= 0:
            self._leaders.setdefault(key, fd)
        self._counters.append(_Counter(number, place, fd))
        return fd

    def enable(self) -> None:
        """Start all."""
        for counter in self._counters:
            perf_event.enable(counter.fd)

    def disable(self) -> None:
        """Stop all."""
        for counter in self._counters:
            perf_event.disable(counter.fd)

    def read(self, elapsed_ns: int) -> list[Value]:
        """What has been counted so far, of each counter, always in the same order."""
        first = self._counters[0].place._replace(cgroup="") if self._counters else Place()
        return [
            *(
                Value(each.counted, each.place, *_VALUES.unpack(os.read(each.fd, _VALUES.size)))
                for each in self._counters
            ),
            *(
                Value(number, first, elapsed_ns, elapsed_ns, elapsed_ns if each.event.config == 0 else 0)
                for number, each in enumerate(self._chosen)
                if each.event.type == OWN
            ),
        ]

    def close_events(self) -> None:
        """Close all. Idempotent.

        The last close of each trace event waits for an RCU grace period, 30 to 80 ms, one after the other: that
        is left to a process in the background.
        """
        waiting = []
        while self._counters:
            counter = self._counters.pop()
            if self._chosen[counter.counted].event.type == Type.TRACEPOINT:
                with contextlib.suppress(OSError):
                    perf_event.disable(counter.fd)
                waiting.append(counter.fd)
            else:
                os.close(counter.fd)
        close_later(waiting)
        self._leaders.clear()


def summed(
    chosen: Sequence[Counted], values: Iterable[Value], per: Per, domains: Mapping[int, str] = MappingProxyType({})
) -> list[Count]:
    """The sums of counters' values of each event in order, and of each place that ``per`` keeps apart.

    ``domains`` has the names of each CPU's.
    Events of one name in one cgroup, as of several PMUs of a kind, are added up.
    """
    sums: dict[tuple[str, Place], Count] = {}
    for counted in chosen:
        if counted.reason or per == "all":
            place = Place(cgroup=counted.cgroup)
            sums.setdefault((counted.event.name, place), Count(counted, place))
    for number, place, value, enabled, running in values:
        if 0 < running < enabled:
            value = value * enabled // running
        counted = chosen[number]
        kept = Place(
            place.cpu if per == "cpu" else -1,
            place.tid if per == "thread" else -1,
            counted.cgroup,
            domains.get(place.cpu, "") if per == "domain" else "",
        )
        key = counted.event.name, kept
        before = sums.get(key) or Count(counted, kept)
        sums[key] = before._replace(
            value=before.value + value,
            enabled_ns=before.enabled_ns + enabled,
            running_ns=before.running_ns + running,
            counters=before.counters + 1,
        )
    return list(sums.values())
