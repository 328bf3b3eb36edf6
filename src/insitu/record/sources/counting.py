"""Counts of events, read at the end and at intervals; in a session, values of ``counter`` over time."""

from __future__ import annotations

import os
import select
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.files import new_file, write_all
from insitu.kernel import procfs
from insitu.record.counters import Count, Counted, Counters, Per, Place, Value, summed
from insitu.record.event_names import OWN
from insitu.record.source import Loss, Target
from insitu.record.sources.perf_attach import open_on_processes, open_on_task

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.control import Control

__all__ = ["CountingOptions", "CountingSource", "Reading"]

_VALUE: Final = struct.Struct("<qqd")  # ts_ns, track, value: see convert/counters.py
_KEPT_EVERY_S: Final = 1.0  # in a session, without an interval


class CountingOptions(NamedTuple):
    """What to count, where and when."""

    chosen: Sequence[Counted]
    per: Per = "all"
    cpus: Sequence[int] | None = None
    """Count on these CPUs, whatever runs there; None: what the target is."""
    tids: Sequence[int] = ()
    """Only these threads of the target."""
    every_thread: bool = False
    """All threads that there are, besides the command."""
    inherit: bool = True
    delay_s: float = 0.0
    """Until counting starts; below 0: until ``control`` says so."""
    interval_s: float = 0.0
    """Between two reports; 0: none but the last."""
    interval_count: int = 0
    """End after so many; 0: go on."""
    domains: Mapping[int, str] = MappingProxyType({})
    """The name of each CPU's core, socket or the like, for ``per`` "domain"."""
    control: Control | None = None
    """What starts and stops counting meanwhile; it stays open."""


class Reading(NamedTuple):
    """Counts of ``elapsed_s`` seconds, which end ``at_s`` after the start."""

    at_s: float
    elapsed_s: float
    counts: list[Count]


class CountingSource:
    """Counts a command, processes, threads or CPUs."""

    id = "counters"

    def __init__(self, options: CountingOptions, report: Callable[[Reading], None] | None = None) -> None:
        """``report`` is called at each interval, and at the end for what is left of one."""
        self._options = options
        self._report = report
        self._target = Target()
        self._counters: Counters | None = None
        self._cgroups: dict[str, int] = {}
        self._tracks: dict[tuple[str, Place], int] = {}
        self._sums: list[float] = []
        self._file = -1
        self._start_ns = 0
        self._last: list[Value] = []
        self._last_s = 0.0
        self._tick = 0
        self._enabled = self._stopped = False
        self.reports = 0
        self.notes: list[str] = []
        self._total = Reading(0.0, 0.0, [])

    @property
    def fds(self) -> Sequence[int]:
        """The control channel's."""
        return [self._options.control.fd] if self._options.control else []

    @property
    def options(self) -> Mapping[str, Any]:
        """The events, for the manifest."""
        return {"events": [each.event.name for each in self._options.chosen]}

    @property
    def _counts_command(self) -> bool:
        wanted = self._options
        return bool(self._target.launched) and wanted.cpus is None and not (self._target.pids or wanted.every_thread)

    @property
    def _opened(self) -> Counters:
        assert self._counters is not None, "open() comes first"
        return self._counters

    def open(self, target: Target) -> None:
        """Open all counters, disabled. Raises InsituError."""
        wanted, self._target = self._options, target
        on_exec = self._counts_command and not wanted.delay_s
        self._counters = counters = Counters(wanted.chosen, inherit=wanted.inherit, enable_on_exec=on_exec)
        self._enabled = on_exec
        if wanted.cpus is not None:
            for cgroup in {each.cgroup for each in wanted.chosen} - {""}:
                from insitu.kernel.cgroup_paths import open_cgroup

                self._cgroups[cgroup] = open_cgroup(cgroup)
            counters.open_on_cpus(wanted.cpus, self._cgroups)
        elif wanted.every_thread and counters.events:
            self.notes += open_on_processes(counters, counters.events, procfs.pids())
        elif target.launched and not target.pids:
            open_on_task(counters, counters.events, target.launched.pid, inherit=True)
        elif counters.events and wanted.tids:
            for tid in wanted.tids:
                open_on_task(counters, counters.events, tid, inherit=True)
        elif counters.events:
            self.notes += open_on_processes(counters, counters.events, target.pids)
        self.notes += counters.notes

    def layout(self) -> Mapping[str, Any]:
        """The tracks, whose values the records are."""
        tracks = []
        for number, count in enumerate(self._summed(self._opened.read(0))):
            event, place = count.counted.event, count.place
            self._tracks[event.name, place] = number
            tracks.append(
                {
                    "name": event.name,
                    "unit": event.unit or ("ns" if event.is_clock else "events"),
                    "cpu": place.cpu,
                    "thread": _with_process(place.tid) if place.tid >= 0 else None,
                    "device": " ".join(filter(None, (place.domain, place.cgroup and f"cgroup:{place.cgroup}"))),
                    "reason": count.counted.reason,
                }
            )
        return {"kind": "counters", "tracks": tracks}

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Start counting, unless exec(2) or the end of the delay does."""
        if directory is not None:
            self._file = new_file(directory / "counts.records")
        self._start_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._last = self._opened.read(0)
        self._sums = [0.0] * len(self._tracks)
        self._keep(self._summed(self._last))
        if not self._enabled and not self._options.delay_s:
            self._enable()

    def _enable(self) -> None:
        self._enabled = True
        self._opened.enable()

    @property
    def _elapsed_s(self) -> float:
        return (time.clock_gettime_ns(time.CLOCK_MONOTONIC) - self._start_ns) / 1e9

    @property
    def wait_s(self) -> float:
        """Until the next reading, or until the delay is over."""
        until = (self._tick + 1) * (self._options.interval_s or _KEPT_EVERY_S)
        if not self._enabled and self._options.delay_s >= 0:
            until = min(until, self._options.delay_s)
        return max(until - self._elapsed_s, 0.0)

    def drain(self) -> int:
        """Read the counters if it is time; returns the bytes written to the session."""
        now_s = self._elapsed_s
        if self._options.control:
            self._obey(self._options.control)
        if not self._enabled and now_s >= self._options.delay_s >= 0:
            self._enable()
        interval_s = self._options.interval_s or _KEPT_EVERY_S
        if now_s < (self._tick + 1) * interval_s:
            return 0
        self._tick = int(now_s / interval_s)
        if not self._options.interval_s and self._file < 0:
            return 0
        return self._read(now_s)

    def _obey(self, control: Control) -> None:
        """Do what the control channel says, if it says anything."""
        if not select.select([control.fd], [], [], 0)[0]:
            return
        for word in control.words():
            if word == "enable":
                self._enable()
            elif word == "disable":
                self._opened.disable()
            elif word == "stop":
                self._stopped = True
            elif word != "ping":
                self.notes.append(f"--control: unknown word {word[:40]!r} (enable, disable, ping and stop are known)")
                continue
            control.answer()

    def _summed(self, values: Sequence[Value]) -> list[Count]:
        return summed(self._options.chosen, values, self._options.per, self._options.domains)

    def _read(self, now_s: float) -> int:
        values = self._opened.read(round(now_s * 1e9))
        # Scaled by the interval's own times: what is scaled as a whole may fall from one reading to the next.
        delta = self._summed([now.since(before) for now, before in zip(values, self._last, strict=True)])
        if self._options.interval_s and self._report:
            self._report(Reading(now_s, now_s - self._last_s, delta))
            self.reports += 1
        self._last, self._last_s = values, now_s
        return self._keep(delta)

    def _keep(self, counts: Sequence[Count]) -> int:
        """Add counts to those of their tracks, and write these; returns the number of bytes."""
        if self._file < 0:
            return 0
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        data = b""
        for count in counts:
            event, place = count.counted.event, count.place
            if not count.counted.reason:
                track = self._tracks[event.name, place]
                self._sums[track] += count.value * event.scale
                data += _VALUE.pack(now_ns, track, self._sums[track])
        write_all(self._file, data)
        return len(data)

    @property
    def ended(self) -> bool:
        """Whether all reports were made, or all threads that were asked for have ended."""
        if self._stopped or (self._options.interval_count and self.reports >= self._options.interval_count):
            return True
        tids = self._options.tids
        return bool(tids) and not any(os.path.exists(f"/proc/{tid}") for tid in tids)  # noqa: PTH110

    def stop(self, end_ns: int) -> None:
        """Stop counting, and read the last counts."""
        if not self._counts_command:
            self._opened.disable()  # a command has ended, or ends in the time that is not counted any more
        elapsed_s = (end_ns - self._start_ns) / 1e9
        if not (self._options.interval_count and self.reports >= self._options.interval_count):
            self._read(elapsed_s)
        counts = self._summed(self._last)
        if not self._enabled:
            self.notes.append(
                f"nothing was counted: {elapsed_s * 1000:.0f} ms are less than the delay (-D)"
                if self._options.delay_s >= 0
                else "nothing was counted: nobody wrote 'enable' to the control channel"
            )
            counts = []
        self._total = Reading(elapsed_s, elapsed_s, counts)

    @property
    def total(self) -> Reading:
        """All that was counted; complete after ``stop``, the command's own times after its end."""
        times = self.times_s
        return self._total._replace(counts=[_timed(each, times) for each in self._total.counts])

    def details(self) -> Sequence[str]:
        """What each event was opened as, and what its counters read, for ``-v``."""
        return [
            f"{count.counted.event.name}: type {count.counted.event.type} config {count.counted.event.config:#x},"
            f" {count.counters} counters, {count.value} enabled {count.enabled_ns} ns running {count.running_ns} ns"
            for count in self.total.counts
            if not count.counted.reason
        ]

    @property
    def command_pid(self) -> int | None:
        """The command's process; None without one."""
        return self._target.launched.pid if self._target.launched else None

    @property
    def times_s(self) -> tuple[float, float] | None:
        """User and system time of the command and its children, after the run; None without a command."""
        usage = self._target.launched.usage if self._target.launched else None
        return (usage.ru_utime, usage.ru_stime) if usage else None

    def losses(self) -> Sequence[Loss]:
        """None: counters lose nothing."""
        return ()

    def close(self) -> None:
        """Close everything. Idempotent."""
        if self._counters:
            self._counters.close_events()
        for fd in (self._file, *self._cgroups.values()):
            if fd >= 0:
                os.close(fd)
        self._file = -1
        self._cgroups.clear()


def _timed(count: Count, times_s: tuple[float, float] | None) -> Count:
    """A count, of user_time and system_time with what is known when the command has ended."""
    event = count.counted.event
    if event.type != OWN or event.config == 0 or times_s is None:
        return count
    return count._replace(value=round(times_s[event.config - 1] * 1e9), running_ns=count.enabled_ns)


def _with_process(tid: int) -> tuple[int, int]:
    """The process of a thread, and the thread."""
    try:
        return procfs.status(tid).pid, tid
    except OSError:
        return tid, tid  # it has ended meanwhile
