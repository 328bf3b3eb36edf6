"""One tick of `insitu top`, and the last minutes of them. Shares are of one CPU: 1.0 is one CPU all the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["MOST_ROWS", "CpuUse", "Disks", "History", "Machine", "Process", "Sample", "Tick", "Waits"]

MOST_ROWS: Final = 100_000
"""Rows of processes, threads and stacks that a History keeps at most."""


class CpuUse(NamedTuple):
    """What one CPU did, as shares of the tick; ``busy`` is all but idle and waiting for I/O."""

    busy: float
    user: float
    system: float
    io_wait: float
    steal: float


class Disks(NamedTuple):
    """What all disks did, per second; ``mean_ns`` is how long a request took on average, None without any."""

    reads: float
    writes: float
    read_bytes: float
    write_bytes: float
    mean_ns: float | None


class Waits(NamedTuple):
    """Latency of the block requests of a tick (BPF): ``p50_ns`` and ``p99_ns`` are exact to 1/16."""

    requests: int
    p50_ns: float
    p99_ns: float


class Machine(NamedTuple):
    """The machine. Sizes in bytes, rates per second, ``pressure`` the share of the tick in which some task waited for
    the resource (Documentation/accounting/psi.rst), ``temperature`` the hottest sensor's in degrees Celsius,
    ``temperatures`` those of CPUs that have a sensor."""

    cpus: Mapping[int, CpuUse]
    load: float
    running: int
    blocked: int
    switches: float
    forks: float
    memory_bytes: int
    available_bytes: int
    cache_bytes: int
    dirty_bytes: int
    swap_used_bytes: int
    faults: float
    major_faults: float
    pressure: Mapping[str, float]
    disks: Disks
    temperature: float | None
    temperatures: Mapping[int, float]


class Process(NamedTuple):
    """A process, or a thread. ``start`` is in clock ticks since boot: with the pid it identifies the process.

    ``wait`` is the time that its threads were runnable without a CPU, ``off_cpu`` that of their other waits, of those
    that ended in the tick. None is what could not be read.
    """

    pid: int
    parent: int
    start: int
    name: str
    state: str
    threads: int
    cpu: float
    wait: float | None
    off_cpu: float | None
    calls: float | None
    read_bytes: float | None
    write_bytes: float | None
    rss_bytes: int


class Sample(NamedTuple):
    """Where a thread was: ``kernel`` and ``user`` are addresses, innermost first."""

    pid: int
    tid: int
    kernel: tuple[int, ...]
    user: tuple[int, ...]


class Tick(NamedTuple):
    """All of ``dur_s`` seconds that ended at ``time_ns`` (CLOCK_REALTIME); ``calls`` are system calls a second."""

    number: int
    time_ns: int
    dur_s: float
    machine: Machine
    processes: Sequence[Process]
    threads: Sequence[Process]
    """Those of the process that is looked at; ``parent`` is that process."""
    hidden: int
    """Processes beyond the bound."""
    calls: float | None
    block: Waits | None
    on_cpu: Mapping[Sample, int]
    """Samples of stacks."""
    off_cpu: Mapping[Sample, int]
    """Nanoseconds off the CPU by stack, of the process that is looked at."""
    own_cpu: float
    """CPU time of insitu itself."""

    @property
    def rows(self) -> int:
        """What it takes of a History."""
        return len(self.processes) + len(self.threads) + len(self.on_cpu) + len(self.off_cpu)


class History:
    """The ticks of the last minutes, bounded in number and in rows. One thread may add to it while others read."""

    def __init__(self, most_ticks: int, most_rows: int = MOST_ROWS) -> None:
        self.ticks: tuple[Tick, ...] = ()
        """The ticks, oldest first."""
        self._most_ticks, self._most_rows = most_ticks, most_rows
        self._rows = 0

    def append(self, tick: Tick) -> None:
        """Add a tick; the oldest go to make room, but never the new one."""
        ticks = (*self.ticks, tick)
        self._rows += tick.rows
        first = 0
        while first < len(ticks) - 1 and (len(ticks) - first > self._most_ticks or self._rows > self._most_rows):
            self._rows -= ticks[first].rows
            first += 1
        self.ticks = ticks[first:]

    def until(self, end: int | None = None) -> Sequence[Tick]:
        """Returns the ticks of which the last is number ``end``, or the oldest if that is gone; None: all."""
        ticks = self.ticks
        if end is None or not ticks:
            return ticks
        return ticks[: max(1, end - ticks[0].number + 1)]

    def after(self, number: int) -> Sequence[Tick]:
        """Returns the ticks after number ``number``."""
        return [tick for tick in self.ticks if tick.number > number]
