"""Runs a compiled script: attach, drain its rings until something ends it, detach, show what is left."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from insitu.probe.codegen.emitter import Patch
from insitu.probe.compile import Compiled
from insitu.probe.layout import (
    EXIT_ASKED,
    LOST_MAP_FULL,
    LOST_RING_FULL,
    LOST_ROUNDS,
    LOST_STACKS,
    MAX_ROUNDS,
    MAX_WHILE_ROUNDS,
    RUN_BY_US,
    STACK_TRACE,
    Layout,
)
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.stream import Output
from insitu.probe.providers.base import Context
from insitu.probe.runtime.decode import code
from insitu.probe.runtime.drain import Handler, drain_records, record_shape
from insitu.probe.runtime.loader import Loaded, load
from insitu.probe.runtime.symbols import Symbols
from insitu.probe.source import Source
from insitu.probe.target import Target
from insitu.probe.types import Stack, Tuple, Type, UserSymbol

if TYPE_CHECKING:
    from insitu.probe.runtime.events import EventTable

__all__ = ["Runtime", "interrupts"]

_POLL_MS = 100
_ENDING = {"begin", "end", "iter"}  # kinds that fire a number of times which is known
# Rings of typed events wake nobody: they are looked at this often.
_EVENT_POLL_MS = 5
_LOST = {
    LOST_RING_FULL: "events: the ring buffer was full (set BPFTRACE_PERF_RB_PAGES higher)",
    LOST_MAP_FULL: "updates: a map was full (set BPFTRACE_MAX_MAP_KEYS higher)",
    LOST_STACKS: "stacks: the stack map was full",
    LOST_ROUNDS: f"ends of loops: {MAX_ROUNDS} rounds at most, {MAX_WHILE_ROUNDS} of while",
}


class Runtime:
    """One run of a script. Use: attach(), drain_until_end(), finish(); and close() in any case."""

    def __init__(
        self, compiled: Compiled, source: Source, context: Context, target: Target, *, log_level: int = 0
    ) -> None:
        """Load the programs.

        :raises ScriptError: when the verifier refuses one.
        """
        self.compiled = compiled
        self.context = context
        self.target = target
        context.child_pid = target.child_pid
        self.started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.boot_offset_ns = time.time_ns() - self.started_ns
        patches = {
            Patch.START_NS: self.started_ns,
            Patch.CHILD_PID: target.child_pid,
            Patch.ONLY_PID: context.pid or 0,
            Patch.CLOCK_OFFSET_NS: self.boot_offset_ns,
            Patch.TAI_OFFSET_NS: time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        }
        self.loaded: Loaded = load(compiled, source, patches, log_level=log_level)
        layouts = compiled.layout.maps
        self.symbols = Symbols(
            {layouts[n].name: m for n, m in self.loaded.maps.items() if layouts[n].type == STACK_TRACE},
            demangles=compiled.demangles,
        )
        self.points = {
            point.cookie: (point.name, point.function) for program in compiled.programs for point in program.points
        }
        self.events = _tables(compiled.layout)
        self._handlers: dict[int, tuple[struct.Struct, Handler]] = {}
        self._exit_map = next((m for n, m in self.loaded.maps.items() if layouts[n].name == "exit"), None)
        self._closed = False
        self._walks: threading.Thread | None = None
        stored: list[Type] = [record.fields for record in compiled.layout.records]
        stored += [t for each in layouts for t in (each.key, each.value) if t is not None]
        self._shows_user_addresses = any(map(_has_user_address, stored))
        if self._shows_user_addresses:
            # Processes may have ended when their stacks are shown.
            self.symbols.processes.listen(context.pid or target.child_pid or None)
            if context.pid:
                self.symbols.processes.remember(context.pid)

    def formatter(self) -> Formatter:
        """What turns the run's values into text."""
        compiled = self.compiled
        return Formatter(
            self.symbols,
            self.points,
            compiled.layout.texts,
            self.boot_offset_ns,
            compiled.trailer,
            compiled.max_strlen,
        )

    def close(self) -> None:
        """Detach and free everything; end a child that was never let go. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._shows_user_addresses:
                self.symbols.processes.close()
            self.loaded.close()
            self.target.close()

    def attach(self) -> int:
        """Attach all probes, running those named begin first; let the target go: how many probes."""
        count = self.loaded.attach(RUN_BY_US, self.context)
        self.loaded.run("begin")
        count += self.loaded.attach(None, self.context)
        self.target.release()
        if any(program.points[0].kind == "iter" for program in self.loaded.programs):
            # A walk of many objects would fill the rings: they are drained meanwhile.
            self._walks = threading.Thread(target=self.loaded.run, args=("iter",), daemon=True)
            self._walks.start()
        return count

    def _walked_all(self) -> bool:
        """Whether iterators, and nothing that could still happen, are what the script is made of, and are done."""
        if self._walks is None or self._walks.is_alive():
            return False
        return all(program.points[0].kind in _ENDING for program in self.loaded.programs)

    def handle_with(self, output: Output) -> None:
        """Let ``output`` handle the records."""
        for number, record in enumerate(self.compiled.layout.records):
            if record.kind != "emit":
                self._handlers[number] = (record_shape(code(record.fields)), output.handler(record))

    def drain_until_end(
        self,
        output: Output,
        stop: Callable[[], bool],
        deadline: float | None = None,
        passed: Callable[[], None] | None = None,
    ) -> None:
        """Handle records until exit(), the target's end, ``stop()``, or the deadline (time.monotonic()).

        ``passed`` is called after each look at the rings.
        """
        poll = select.poll()
        for ring in self.loaded.rings.values():
            poll.register(ring.fd, select.POLLIN)
        if self.target.fd >= 0:
            poll.register(self.target.fd, select.POLLIN)
        wait_ms = _EVENT_POLL_MS if self.events else _POLL_MS
        while True:
            walked = self._walked_all()
            asked = self._exit_asked()  # before draining: what was sent before exit() is in the ring by now
            self.drain()
            output.flush()
            if passed is not None:
                passed()
            if asked is not None and output.exit_status is None:
                output.exit_status = asked
            if output.exit_status is not None or walked or stop():
                return
            if self.target.has_ended():
                self.drain()
                return
            remaining = wait_ms
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                remaining = min(wait_ms, int(left * 1000) + 1)
            poll.poll(remaining)  # a signal ends it early only with a handler that raises: _POLL_MS bounds the wait

    def _exit_asked(self) -> int | None:
        """The status that a program gave exit(), even when its record found the ring full."""
        if self._exit_map is None:
            return None
        (word,) = struct.unpack("<Q", self._exit_map.lookup(bytes(4)) or bytes(8))
        return word & 0xFF if word & EXIT_ASKED else None

    def finish(self, output: Output) -> None:
        """Silence the probes, run those named end, detach, and handle what is still in the rings."""
        if self._exit_map is not None and self._exit_asked() is None:
            self._exit_map.update(bytes(4), struct.pack("<Q", EXIT_ASKED))
        self.loaded.detach(RUN_BY_US, silent=True)
        self.drain()
        self.loaded.run("end")
        self.drain()
        self.loaded.detach(set())

    # Draining

    def drain(self) -> None:
        """Handle everything that the rings hold now."""
        if self._shows_user_addresses:
            self.symbols.processes.drain()
        for number, ring in self.loaded.rings.items():
            if self.compiled.layout.maps[number].name == "ring":
                drain_records(ring, self._handlers)
            else:
                label = self.compiled.layout.maps[number].name.removeprefix("ring.")
                self.events[label].drain(ring)

    def lost(self) -> list[tuple[int, str]]:
        """What was lost: counts and what they count."""
        found = []
        for number, layout in enumerate(self.compiled.layout.maps):
            if layout.name == "lost":
                for key, value in sorted(self.loaded.maps[number].items()):
                    (cell,), counts = struct.unpack("<I", key), struct.unpack(f"<{len(value) // 8}Q", value)
                    if any(counts):
                        found.append((sum(counts), _LOST[cell]))
        if self._shows_user_addresses and self.symbols.processes.lost:
            found.append((self.symbols.processes.lost, "mappings of processes: some functions have no names"))
        if self.loaded.recursion_misses:
            found.append((self.loaded.recursion_misses, "runs: a probe hit while its program ran on the same CPU"))
        return found


def _tables(layout: Layout) -> dict[str, EventTable]:
    """What emit() sends goes there, by label."""
    events = [record for record in layout.records if record.kind == "emit"]
    if not events:
        return {}
    from insitu.probe.runtime.events import EventTable

    return {record.text: EventTable(record) for record in events}


def _has_user_address(kind: Type) -> bool:
    if isinstance(kind, Tuple):
        return any(map(_has_user_address, kind.elements))
    return isinstance(kind, UserSymbol) or (isinstance(kind, Stack) and kind.user)


@contextlib.contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask to stop; a second one leaves at once. Yields the question whether one came."""
    received: list[int] = []

    def note(number: int, frame: Any) -> None:
        if received:
            # Everything attached hangs on descriptors: the kernel lets go of it with the process.
            os._exit(128 + number)
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, note) for number in numbers}
    except ValueError:  # not the main thread: signals are its business
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
