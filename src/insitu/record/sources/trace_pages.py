"""Pages of a trace ring buffer, moved from the kernel to files as they are (trace_pipe_raw, splice(2))."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from insitu.errors import InsituError
from insitu.files import new_file, write_all
from insitu.kernel import procfs
from insitu.kernel.trace_instance import Shared, TraceInstance, trace_page_bytes
from insitu.kernel.tracefs import Tracefs
from insitu.plurals import counted
from insitu.record.delivery import Leaving
from insitu.record.source import Loss, Target

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TracePagesSource", "Tracing", "restrict_to"]

_WAIT_S: Final = 0.2
_PIPE_BYTES: Final = 1 << 20
_BUFFER_KB: Final = 4096
_SPLICE_MOVE, _SPLICE_NONBLOCK = 1, 2
_PAGE_TIME: Final = slice(0, 8)
_COMMIT: Final = slice(8, 12)  # of a page's header: the bytes that are used
_COMMIT_MASK: Final = (1 << 20) - 1
_PAGES_AT_ONCE: Final = 32
"""Of a CPU, before the deadline and signals are looked at: whoever is shown them may take longer than the kernel."""
_BUFFER_PERCENT: Final = "25"
"""Of a CPU's buffer, how much wakes the reader."""


class Tracing(Protocol):
    """What a recording switches on in its instance: events, a tracer, filters."""

    shares: Shared
    """What of the whole machine it has to change."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options, for the manifest."""

    @property
    def events(self) -> Sequence[tuple[str, str]]:
        """(category, name) of every event whose records may come."""

    def set_up(self, instance: TraceInstance, target: Target) -> None:
        """Switch everything on, through the instance, which puts it back; it is stopped.
        Raises InsituError, OSError."""


class TracePagesSource:
    """Records what a ``Tracing`` switches on, page by page; its converter is convert/trace_events.py.

    ``see`` is shown the pages that have been read, (CPU, page) each, and a time (CLOCK_MONOTONIC, ns) until which
    they are complete, on all CPUs together. ``at_end`` is called when it has stopped, while the instance is still
    there.
    """

    id = "trace"
    ended = False
    notes: Sequence[str] = ()

    def __init__(
        self,
        tracing: Tracing,
        *,
        buffer_kb: int = 0,
        tracefs: Tracefs | None = None,
    ) -> None:
        """``buffer_kb`` is for each CPU; 0: 4 MiB. ``tracefs`` is closed by its owner."""
        self._tracing = tracing
        self._buffer_kb = buffer_kb or _BUFFER_KB
        self.see: Callable[[list[tuple[int, bytes]], int], None] | None = None
        self.at_end: Callable[[TraceInstance], None] | None = None
        self._open_things = contextlib.ExitStack()
        if tracefs is None:
            tracefs = Tracefs.open()
            self._open_things.callback(tracefs.close)
        self.tracefs = tracefs
        self._instance: TraceInstance | None = None
        at_top = tracing.shares == "everything"  # a new instance has pages
        self._page_bytes = trace_page_bytes(tracefs.read) if at_top else os.sysconf("SC_PAGE_SIZE")
        self._raw: dict[int, int] = {}
        self._files: dict[int, int] = {}
        self._pipe: tuple[int, int] | None = None
        self._more = False
        self._target = Target()
        self._losses: list[Loss] = []

    @property
    def instance(self) -> TraceInstance:
        """The instance, once it is open."""
        assert self._instance is not None, "open() comes first"
        return self._instance

    @property
    def options(self) -> Mapping[str, Any]:
        """Those of what is switched on."""
        return self._tracing.options

    def open(self, target: Target) -> None:
        """Make the instance and set everything up; it is still stopped. Raises InsituError."""
        if platform.machine() not in ("x86_64", "aarch64"):
            raise InsituError(f"trace pages of {platform.machine()} cannot be read yet")
        self._target = target
        instance = TraceInstance.create(self.tracefs, shares=self._tracing.shares, buffer_kb=self._buffer_kb)
        self._instance = instance
        self._open_things.callback(instance.close)
        try:
            with contextlib.suppress(OSError):
                instance.write("buffer_percent", _BUFFER_PERCENT)
            self._tracing.set_up(instance, target)
            for cpu in instance.cpus:
                fd = instance.open(f"per_cpu/cpu{cpu}/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
                self._raw[cpu] = fd
                self._open_things.callback(os.close, fd)
        except OSError as error:
            raise InsituError(f"cannot set up tracing: {os.strerror(error.errno or 0)}") from None

    def layout(self) -> Mapping[str, Any]:
        """How to read the pages: their layout, and the formats of the events."""
        formats = []
        for category, name in dict.fromkeys((*_ALWAYS, *self._tracing.events)):
            with contextlib.suppress(OSError):
                formats.append([category, name, self.tracefs.read(f"events/{category}/{name}/format")])
        return {
            "kind": "trace_pages",
            "page_bytes": self._page_bytes,
            "header_page": self.tracefs.read("events/header_page"),
            "formats": formats,
        }

    @property
    def fds(self) -> Sequence[int]:
        """trace_pipe_raw of each CPU."""
        return tuple(self._raw.values())

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Start tracing."""
        if directory is not None:
            self._pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            for end in self._pipe:
                self._open_things.callback(os.close, end)
            with contextlib.suppress(OSError):  # beyond the user's limit: the default does too
                fcntl.fcntl(self._pipe[0], fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            for cpu in self._raw:
                self._files[cpu] = file = new_file(directory / f"cpu{cpu}.records")
                self._open_things.callback(os.close, file)
                fcntl.fcntl(file, fcntl.F_SETFL, 0)  # splice(2) refuses to append
        self.instance.write("tracing_on", "1")

    @property
    def wait_s(self) -> float:
        """No time, while there is more to show."""
        return 0.0 if self._more else _WAIT_S

    def drain(self) -> int:
        """Move what the kernel has recorded to the files, or some of it to whoever is shown it; returns the bytes."""
        return self._drained(at_end=False)

    def _drained(self, *, at_end: bool) -> int:
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        seen: list[tuple[int, bytes]] = []
        complete_ns, self._more = now_ns, False
        moved = 0
        for cpu, fd in self._raw.items():
            had = len(seen)
            moved += self._moved(cpu, fd, seen, at_end)
            if len(seen) - had == _PAGES_AT_ONCE:
                self._more = True
                # What is still there is not before the last page, which begins with the time of its first record.
                complete_ns = min(complete_ns, int.from_bytes(seen[-1][1][_PAGE_TIME], sys.byteorder) - 1)
        if self.see is not None:
            self.see(seen, complete_ns)
        return moved

    def _moved(self, cpu: int, fd: int, seen: list[tuple[int, bytes]], at_end: bool) -> int:
        """Full pages by splice(2), without a copy, if nobody wants to see them.

        The page that is being written is taken at the end, and where there was no full one: a reader that takes it
        again and again slows its writer down.
        """
        moved = 0
        if self._pipe is not None and self.see is None:
            moved = self._spliced(fd, self._files[cpu], at_end)
            if moved and not at_end:
                return moved
        everything = at_end and self.see is None
        for _ in itertools.repeat(None) if everything else range(_PAGES_AT_ONCE):
            if not (page := self._page(fd)):
                break
            if cpu in self._files:
                write_all(self._files[cpu], page)
                moved += len(page)
            if self.see is not None:
                seen.append((cpu, page))
            if not at_end and int.from_bytes(page[_COMMIT], "little") & _COMMIT_MASK < self._page_bytes // 2:
                break
        return moved

    def _spliced(self, fd: int, file: int, at_end: bool) -> int:
        """All pages at the end; before it no more than the buffer holds, as its writers may be faster."""
        assert self._pipe is not None
        moved, (out, into) = 0, self._pipe
        while at_end or moved < self._buffer_kb << 10:
            try:
                count = os.splice(fd, into, _PIPE_BYTES, flags=_SPLICE_MOVE | _SPLICE_NONBLOCK)
            except BlockingIOError:
                return moved
            if not count:
                return moved
            left = count
            while left:
                left -= os.splice(out, file, left, flags=_SPLICE_MOVE)
            moved += count
        return moved

    def _page(self, fd: int) -> bytes:
        """One page with what has been recorded in it so far; empty: nothing."""
        try:
            found = os.read(fd, self._page_bytes)
        except BlockingIOError:
            return b""
        return found + bytes(self._page_bytes - len(found)) if found else b""

    def stop(self, end_ns: int) -> None:
        """Stop tracing, and move the rest; some seconds of it where it is shown and the run did not end by itself.
        Raises OSError when the disk is full."""
        self.instance.write("tracing_on", "0")
        leaving = Leaving(self._target.interrupts)
        self._drained(at_end=True)
        while self._more:
            if leaving and not self._files:  # a recording is kept whole
                leaving.say(counted(self._waiting_events(), "event"))
                break
            self._drained(at_end=True)
        if self.at_end is not None:
            self.at_end(self.instance)
        for cpu in self.instance.cpus:
            counts = self.instance.counts(cpu)
            for what, name in _LOSSES.items():
                if number := counts.get(name, 0):
                    self._losses.append(Loss(what, number, cpu))

    def _waiting_events(self) -> int:
        return sum(self.instance.counts(cpu).get("entries", 0) for cpu in self.instance.cpus)

    def losses(self) -> Sequence[Loss]:
        """What the kernel overwrote or dropped, by CPU."""
        return self._losses

    def close(self) -> None:
        """Remove the instance, with everything that was switched on. Idempotent."""
        self._open_things.close()


# Records that come with others: stacks, and what is written to trace_marker.
_ALWAYS: Final = (("ftrace", "kernel_stack"), ("ftrace", "user_stack"), ("ftrace", "print"))
_LOSSES: Final = {
    "events overwritten before they were read": "overrun",
    "events dropped: the buffer was full": "dropped events",
    "events dropped: nested too deep": "commit overrun",
}


def restrict_to(instance: TraceInstance, target: Target, *, functions: bool = False) -> None:
    """Trace only the target's threads, and those that they start; the whole system if that is the target.

    ``functions``: what a tracer records as well. Raises OSError.
    """
    if target.whole_system:
        return
    tids = [tid for pid in target.roots for tid in _threads(pid)]
    for path, option in (("set_event_pid", "event-fork"), ("set_ftrace_pid", "function-fork")):
        if path == "set_ftrace_pid" and not functions:
            continue
        instance.write(f"options/{option}", "1")
        instance.write(path, " ".join(map(str, tids)))


def _threads(pid: int) -> Sequence[int]:
    try:
        return procfs.threads(pid)
    except OSError:
        return ()
