"""perf events: samples and side-band records (mappings, names, forks, exits), from a ring per CPU."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from insitu.errors import InsituError
from insitu.files import new_file
from insitu.kernel import perf_event, procfs
from insitu.kernel.perf_ring import pages_for
from insitu.record.events import MAX_STACK_BYTES, Event, Stacks, choose
from insitu.record.source import Loss, Target
from insitu.record.sources.perf_attach import Attached, open_on_processes, open_on_task
from insitu.record.sources.ring_files import RingFiles
from insitu.record.synthesized import Synthesized, lost_in_records

__all__ = ["PerfOptions", "PerfSource"]

_MOST_HERTZ: Final = 10**9  # beyond it two samples would have the same time stamp
_MOST_PERIOD: Final = 1 << 63
_MOST_PAGES: Final = 1 << 30
_LARGEST_RECORD: Final = 65535
_BESIDE_STACK: Final = 256  # the head of a sample, and the registers


class PerfOptions(NamedTuple):
    """What to sample, how often, and how call stacks are recorded."""

    frequency: int | None = None
    """Samples a second; without it and ``period``, what suits each event: see record.events.choose."""
    period: int | None = None
    """Occurrences of an event per sample."""
    events: str = ""
    """A list as -e takes it."""
    stacks: Stacks = "fp"
    stack_bytes: int = 8192
    user: bool = True
    kernel: bool = True
    ring_pages: int | None = None
    """Data pages of each CPU's ring, a power of two; by default 512 KiB, and 4 MiB with copies of stacks."""
    max_stack: int = 127
    """Most frames of a stack that is unwound from a copy; 127 as with perf."""

    def check(self) -> None:
        """Raise InsituError (status 2) for options that are invalid on any machine."""
        if self.frequency is not None and not 0 < self.frequency <= _MOST_HERTZ:
            raise InsituError(f"-F {self.frequency}: must be at least 1", status=2)
        if self.period is not None and not 0 < self.period < _MOST_PERIOD:
            raise InsituError(f"-c {self.period}: must be at least 1", status=2)
        if self.frequency is not None and self.period is not None:
            raise InsituError("-F and -c exclude each other", status=2)
        if not (self.user or self.kernel):
            raise InsituError("user and kernel samples are both excluded", status=2)
        if not 0 < self.stack_bytes <= MAX_STACK_BYTES or self.stack_bytes % 8:
            raise InsituError(
                f"--stacks dwarf,{self.stack_bytes}: must be a multiple of 8, at most {MAX_STACK_BYTES}", status=2
            )
        pages = self.ring_pages
        if pages is not None and (not 0 < pages <= _MOST_PAGES or pages & (pages - 1)):
            raise InsituError(f"-m {pages}: must be a power of two, at most {_MOST_PAGES}", status=2)


class PerfSource:
    """Samples of a command, of processes or of all CPUs."""

    id = "perf"
    ended = False
    wait_s = 1.0  # a wake-up costs some 50 microseconds

    def __init__(self, wanted: PerfOptions) -> None:
        """Raises InsituError if ``wanted`` is invalid."""
        wanted.check()
        self._wanted = wanted
        self._events: list[Event] = []
        self._notes: list[str] = []
        self._attached: Attached | None = None
        self._files: RingFiles | None = None
        self._directory = Path()
        self._target = Target()
        self._losses: list[Loss] = []

    @property
    def notes(self) -> Sequence[str]:
        """Lines for the user about what is not available."""
        return self._notes

    @property
    def options(self) -> Mapping[str, Any]:
        """The options, for the manifest."""
        wanted = self._wanted
        return {
            "frequency_hz": next((event.attr.sample_period for event in self._events if event.attr.freq), 0),
            "stacks": wanted.stacks,
            "stack_bytes": wanted.stack_bytes if wanted.stacks == "dwarf" else 0,
            "user": wanted.user,
            "kernel": wanted.kernel,
            "ring_bytes": self._ring_bytes,
        }

    @property
    def _ring_bytes(self) -> int:
        """The size of the smallest ring; 0 before open()."""
        return min((ring.size for ring in self._attached.rings.values()), default=0) if self._attached else 0

    @property
    def fds(self) -> Sequence[int]:
        """The rings' descriptors."""
        return [ring.fd for ring in self._rings.rings.values()]

    @property
    def _rings(self) -> Attached:
        assert self._attached is not None, "open() comes first"
        return self._attached

    def open(self, target: Target) -> None:
        """Choose the events and open them, disabled. Raises InsituError."""
        wanted, self._target = self._wanted, target
        self._events, self._notes = self.choose(target)
        pages = wanted.ring_pages or (1024 if wanted.stacks == "dwarf" else 128)
        self._attached = attached = Attached(procfs.online_cpus(), pages, time.CLOCK_MONOTONIC)
        self._notes += attached.notes
        if wanted.stacks == "dwarf" and wanted.user:
            _check_room(wanted.stack_bytes, self._ring_bytes)
        if target.whole_system:
            open_on_task(attached, self._events, -1, inherit=False)
        elif target.launched:
            for event in self._events:
                event.attr.enable_on_exec = 1
            open_on_task(attached, self._events, target.launched.pid, inherit=True)
        else:
            self._notes += open_on_processes(attached, self._events, target.pids)

    def choose(self, target: Target) -> tuple[list[Event], list[str]]:
        """Returns the events for a target, and notes about what is not available."""
        wanted = self._wanted
        return choose(
            wanted.events,
            frequency=wanted.frequency,
            period=wanted.period,
            stacks=wanted.stacks,
            stack_bytes=wanted.stack_bytes,
            user=wanted.user,
            kernel=wanted.kernel,
            whole_system=target.whole_system,
        )

    def layout(self) -> Mapping[str, Any]:
        """The events, as struct perf_event_attr and ids."""
        events = [
            {
                "name": event.name,
                "attr": bytes(event.attr).hex(),
                "ids": [perf_event.event_id(fd) for fd in self._rings.descriptors[event.name]],
            }
            for event in self._events
        ]
        return {"kind": "perf", "events": events, "max_stack": self._wanted.max_stack}

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Enable the events, and write records of running processes."""
        assert directory is not None, "perf records go to files"
        self._directory = directory
        self._files = RingFiles(directory, self._rings.rings)
        if self._target.whole_system or not self._target.launched:  # else exec(2) enables the events
            for fd in self._rings.cpu_of:
                perf_event.enable(fd)
        # After enabling: a mapping made in between is then recorded twice rather than never.
        records = self._synthesized(start_ns)
        with os.fdopen(new_file(directory / "start.records"), "wb") as file:
            if self._target.whole_system:
                file.writelines(records.of_processes(procfs.pids()))
            elif self._target.launched:
                # Forked before the events were open. Its name comes with exec.
                pid = self._target.launched.pid
                file.write(records.fork(pid, os.getpid(), pid, os.getpid()))
            else:
                file.writelines(records.of_processes(self._target.pids))

    def drain(self) -> int:
        """Write the content of the rings."""
        return self._files.drain() if self._files else 0

    def stop(self, end_ns: int) -> None:
        """Disable the events, write the rest, and count the losses that the records do not report."""
        for fd in self._rings.cpu_of:
            perf_event.disable(fd)
        try:
            self.drain()
        finally:
            self._losses = self._unreported()
            self._rings.close_events()

    def losses(self) -> Sequence[Loss]:
        """Losses for which the kernel had no room in the ring to write PERF_RECORD_LOST."""
        return self._losses

    def close(self) -> None:
        """Close events, rings and files."""
        if self._files:
            self._files.close()
        if self._attached:
            self._attached.close()

    def _synthesized(self, time_ns: int) -> Synthesized:
        first = self._events[0]
        event_id = perf_event.event_id(self._rings.descriptors[first.name][0])
        return Synthesized(first.attr.sample_type, event_id, time_ns, mappings=bool(first.attr.mmap))

    def _unreported(self) -> list[Loss]:
        """Per CPU, the kernel's count of lost records minus those in PERF_RECORD_LOST; empty before Linux 6.0."""
        lost: dict[int, int] = {}
        for event in self._events:
            if event.attr.read_format & perf_event.ReadFormat.LOST:
                for fd in self._rings.descriptors[event.name]:
                    cpu = self._rings.cpu_of[fd]
                    lost[cpu] = lost.get(cpu, 0) + perf_event.read_lost(fd)
        found = []
        for cpu, count in lost.items():
            if count:
                count -= lost_in_records(self._directory / f"cpu{cpu}.records")
                if count > 0:
                    found.append(Loss("ring buffer", count, cpu))
        return found


def _check_room(stack_bytes: int, ring_bytes: int) -> None:
    """Raise InsituError if no sample with a copy of a stack fits into a ring."""
    if 0 < ring_bytes < min(stack_bytes + _BESIDE_STACK, _LARGEST_RECORD):
        raise InsituError(
            f"a sample with {stack_bytes} bytes of stack does not fit into a ring buffer of {ring_bytes} bytes",
            remedy=f"use -m {pages_for(stack_bytes)} or more, or copy less (--stacks dwarf,N)",
            status=2,
        )
