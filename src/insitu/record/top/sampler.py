"""The source of `insitu top`: takes a tick at each interval, keeps the last minutes, and passes each on."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from insitu.errors import InsituError, with_remedy
from insitu.record.top.functions import Functions
from insitu.record.top.kernel_counts import Counts, KernelCounts
from insitu.record.top.machine import MachineFiles
from insitu.record.top.processes import ProcessFiles, with_children
from insitu.record.top.tick import History, Process, Tick

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Loss, Target

__all__ = ["HISTORY_S", "Sampled", "Sampler"]

HISTORY_S: Final = 300.0
"""Seconds that one can go back."""
_MOST_TICKS: Final = 3000
_LEAST_TICK_S: Final = 0.1  # of the last, which nothing but the end ends


class Sampled(Protocol):
    """What views need of a Sampler."""

    history: History
    functions: Functions
    notes: Sequence[str]
    on_tick: Callable[[Tick], object]

    @property
    def has_kernel_counts(self) -> bool:
        """Whether calls, stacks and off-CPU times are known."""

    def look_at(self, pid: int) -> None:
        """Take threads and stacks of waits of this process too; 0: of none."""


class Sampler:
    """Samples a target; see record.source.Source. ``history`` holds the ticks."""

    id = "top"

    def __init__(
        self,
        interval_s: float,
        *,
        uses_bpf: bool = True,
        most: int | None = None,
        on_tick: Callable[[Tick], object] = lambda tick: None,
    ) -> None:
        """``on_tick`` is called with each tick. It ends by itself after ``most`` ticks."""
        self.history = History(min(_MOST_TICKS, max(2, round(HISTORY_S / interval_s))))
        self.on_tick = on_tick
        self.functions = Functions()
        """What names functions."""
        self.notes: Sequence[str] = ()
        self._interval_s, self._uses_bpf, self._most = interval_s, uses_bpf, most
        self._kernel: KernelCounts | None = None
        self._machine: MachineFiles | None = None
        self._processes: ProcessFiles | None = None
        self._members: set[int] | None = None
        self._looked = self._number = 0
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.stopping = False
        """Whether stop_soon() was called."""
        self._began = self._own_s = 0.0

    @property
    def has_kernel_counts(self) -> bool:
        """Whether a BPF program counts."""
        return self._kernel is not None

    @property
    def options(self) -> Mapping[str, Any]:
        """The interval."""
        return {"interval_s": self._interval_s}

    def layout(self) -> Mapping[str, Any]:
        """Nothing is recorded as it comes."""
        return {"kind": "top"}

    def open(self, target: Target) -> None:
        """Open what is read. Without BPF, ``notes`` says what is missing and why."""
        target = target._replace(pids=with_children(target.pids))
        if not target.whole_system:
            self._members = set(target.roots)
        if self._uses_bpf:
            kernel = KernelCounts()
            try:
                kernel.open(target)
                self._kernel = kernel
                self.functions.symbols = kernel.symbols
            except InsituError as error:
                kernel.close()
                self.notes = (
                    with_remedy(f"no functions, system calls or off-CPU times: {error.message}", error.remedy),
                )

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Begin the first tick."""
        if self._kernel is not None:
            self._kernel.start(None, start_ns)
            self._kernel.look_at(self._looked)
        self._began, self._own_s = time.monotonic(), time.process_time()
        self._machine = MachineFiles()
        self._processes = ProcessFiles(self._is_shown, waits=self._kernel is None)

    def look_at(self, pid: int) -> None:
        """From the next tick on, take the threads of this process too, and the stacks of its waits; 0: of none."""
        self._looked = pid
        if self._kernel is not None:
            self._kernel.look_at(pid)

    def stop_soon(self) -> None:
        """End the run, from any thread."""
        self.stopping = True
        with contextlib.suppress(OSError):
            os.write(self._wake_write, b"!")

    @property
    def fds(self) -> Sequence[int]:
        """One that stop_soon() makes readable."""
        return [self._wake_read]

    @property
    def wait_s(self) -> float:
        """Seconds until the tick is over."""
        return max(0.0, self._began + self._interval_s - time.monotonic())

    @property
    def ended(self) -> bool:
        """Whether it was asked to stop, or has taken as many ticks as were wanted."""
        return self.stopping or (self._most is not None and self._number >= self._most)

    def drain(self) -> int:
        """Take a tick if it is time."""
        if self.wait_s <= 0 and not self.ended:
            self._take()
        return 0

    def _take(self) -> None:
        assert self._machine is not None
        assert self._processes is not None
        counts = self._kernel.take(time.clock_gettime_ns(time.CLOCK_BOOTTIME)) if self._kernel else None
        if self._kernel is not None and self._members is not None:
            self._members = self._kernel.members()
        now, own_s = time.monotonic(), time.process_time()
        dur_s = now - self._began
        rows = self._processes.read(dur_s)
        threads = self._processes.threads(self._looked, dur_s)
        if counts is not None:
            rows = [_counted(row, counts, dur_s) for row in rows]
        self._number += 1
        tick = Tick(
            number=self._number,
            time_ns=time.time_ns(),
            dur_s=dur_s,
            machine=self._machine.read(dur_s),
            processes=rows,
            threads=threads,
            hidden=self._processes.hidden,
            calls=sum(counts.calls.values()) / dur_s if counts else None,
            block=counts.block if counts else None,
            on_cpu=counts.on_cpu if counts else {},
            off_cpu=counts.off_cpu if counts else {},
            own_cpu=(own_s - self._own_s) / dur_s,
        )
        self._began, self._own_s = now, own_s
        self.functions.drain()
        self.history.append(tick)
        self.on_tick(tick)

    def _is_shown(self, pid: int, parent: int) -> bool:
        if self._members is None:
            return True
        if self._kernel is None and parent in self._members:
            self._members.add(pid)
        return pid in self._members

    def stop(self, end_ns: int) -> None:
        """Take what is left of the last tick, as of a command that has ended, and stop counting."""
        if not self.ended and time.monotonic() - self._began >= _LEAST_TICK_S:
            self._take()
        if self._kernel is not None:
            self._kernel.stop(end_ns)

    def losses(self) -> Sequence[Loss]:
        """What the program could not count."""
        return self._kernel.losses() if self._kernel is not None else ()

    def close(self) -> None:
        """Release everything. Idempotent."""
        for each in (self._kernel, self._machine, self._processes):
            if each is not None:
                each.close()
        for fd in (self._wake_read, self._wake_write):
            if fd >= 0:
                os.close(fd)
        self._wake_read = self._wake_write = -1


def _counted(row: Process, counts: Counts, dur_s: float) -> Process:
    """A row of /proc with what was counted."""
    return row._replace(
        wait=counts.waited_ns.get(row.pid, 0) / 1e9 / dur_s,
        off_cpu=counts.away_ns.get(row.pid, 0) / 1e9 / dur_s,
        calls=counts.calls.get(row.pid, 0) / dur_s,
    )
