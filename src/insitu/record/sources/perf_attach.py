"""Opens a recording's events on its target: a command, running processes, or every CPU."""

import contextlib
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from mmap import PAGESIZE
from typing import Final, Protocol, TypeVar

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.perf_event import Attr, Software, Type, open_event, redirect, refusal
from insitu.kernel.perf_ring import Ring
from insitu.kernel.ptrace_refusal import all_ended
from insitu.record.events import Event

__all__ = ["Attached", "Opener", "open_on_processes", "open_on_task"]

# How often events are reopened because the process created a thread meanwhile. A try takes some milliseconds.
_TRIES: Final = 20


class Attached:
    """The open events by name, and a ring for each CPU that all events of that CPU write into.

    A ring belongs to a dummy event of this process: unlike the events of threads that exit, it can be polled until
    the end.
    """

    def __init__(self, cpus: Sequence[int], pages: int, clockid: int) -> None:
        self.descriptors: dict[str, list[int]] = {}
        self.rings: dict[int, Ring] = {}
        self.cpu_of: dict[int, int] = {}
        self.notes: list[str] = []
        self._owners: list[int] = []
        self._leaders: dict[tuple[int, int, int], int] = {}
        """The first event of a group on a thread and a CPU."""
        try:
            for cpu in cpus:
                self._add_ring(cpu, pages, clockid)
            smallest = min((ring.size for ring in self.rings.values()), default=0)
            if smallest < pages * PAGESIZE:
                wanted = pages * PAGESIZE >> 10
                self.notes.append(
                    f"ring buffers reduced to {smallest >> 10} KiB (from {wanted}): kernel.perf_event_mlock_kb"
                )
        except BaseException:
            self.close()
            raise

    def _add_ring(self, cpu: int, pages: int, clockid: int) -> None:
        attr = Attr(type=Type.SOFTWARE, config=Software.DUMMY, disabled=1, exclude_kernel=1)
        attr.use_clockid, attr.clockid = 1, clockid
        attr.watermark = 1  # at 0 bytes, which stands for half the ring
        try:
            owner = open_event(attr, pid=0, cpu=cpu)
        except InsituError as error:
            if refusal(error) == errno.ENODEV:  # taken offline since the list was read
                return
            raise
        self._owners.append(owner)
        self.rings[cpu] = _largest_ring(owner, pages)

    def open(self, event: Event, pid: int, *, inherit: bool) -> list[int]:
        """Open the event on a thread (-1: on all of them) on every CPU; returns the new descriptors.

        Raises InsituError, with nothing of this call left open.
        """
        event.attr.inherit = inherit
        opened: list[int] = []
        try:
            for cpu, ring in self.rings.items():
                place = event.group, pid, cpu
                fd = open_event(event.attr, pid=pid, cpu=cpu, group_fd=self._leaders.get(place, -1))
                opened.append(fd)
                if event.group >= 0:
                    self._leaders.setdefault(place, fd)
                redirect(fd, ring.fd)
                self.cpu_of[fd] = cpu
        except BaseException:
            for fd in opened:
                os.close(fd)
            self._leaders = {place: fd for place, fd in self._leaders.items() if fd not in opened}
            raise
        self.descriptors.setdefault(event.name, []).extend(opened)
        return opened

    def close_events(self) -> None:
        """Close all events, which ends the recording; rings stay readable."""
        for descriptors in self.descriptors.values():
            for fd in descriptors:
                os.close(fd)
        self.descriptors.clear()
        self.cpu_of.clear()
        self._leaders.clear()

    def close(self) -> None:
        """Close events and rings."""
        self.close_events()
        for ring in self.rings.values():
            ring.close()
        for owner in self._owners:
            os.close(owner)
        self.rings.clear()
        self._owners.clear()


E = TypeVar("E", contravariant=True)


class Opener(Protocol[E]):
    """What opens events on threads and keeps them open."""

    @property
    def descriptors(self) -> Mapping[str, Sequence[int]]:
        """The open descriptors, by event."""

    def open(self, event: E, pid: int, *, inherit: bool) -> list[int]:
        """Open the event on a thread; returns the new descriptors. Raises InsituError."""

    def close_events(self) -> None:
        """Close all events."""


def open_on_task(attached: Opener[E], events: Iterable[E], pid: int, *, inherit: bool) -> None:
    """Open all events on one thread (``inherit``: and on those that it creates), or with -1 on the whole system."""
    for event in events:
        attached.open(event, pid, inherit=inherit)


def open_on_processes(attached: Opener[E], events: Sequence[E], pids: Iterable[int]) -> list[str]:
    """Open all events on all threads of running processes, inherited by those created later; returns notes.

    A thread created between listing and opening may or may not have inherited an event, and the kernel does not
    say which. So the list is read again afterwards, and if it has grown, everything is reopened.
    Raises InsituError if the processes may not be traced, or have all ended.
    """
    notes: list[str] = []
    wanted = list(pids)
    for attempt in range(_TRIES):
        before = _all_threads(wanted)
        for tid in before:
            _open_unless_ended(attached, events, tid)
        if not any(attached.descriptors.values()):
            raise all_ended(wanted)
        if set(_all_threads(wanted)) <= set(before):
            break
        if attempt == _TRIES - 1:
            notes.append("threads are created faster than they can be attached to; some of the first may be missing")
            break
        attached.close_events()
    return notes


def _open_unless_ended(attached: Opener[E], events: Sequence[E], tid: int) -> None:
    try:
        open_on_task(attached, events, tid, inherit=True)
    except InsituError as error:
        if refusal(error) != errno.ESRCH:
            raise


def _all_threads(pids: Iterable[int]) -> list[int]:
    threads: list[int] = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            threads += procfs.threads(pid)
    return threads


def _largest_ring(fd: int, pages: int) -> Ring:
    """A ring of ``pages``, halved until it fits the user's limit on locked memory."""
    while True:
        try:
            return Ring(fd, pages)
        except InsituError as error:
            if refusal(error) != errno.EPERM or pages == 1:
                raise
            pages //= 2
