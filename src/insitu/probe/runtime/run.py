"""Runs a compiled script: attach, drain its rings until something ends it, detach, show what is left."""

from __future__ import annotations

import select
import struct
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError
from insitu.probe.codegen.markers import Patch
from insitu.probe.compile import Compiled
from insitu.probe.layout import (
    EXIT_ASKED,
    LOST_MAP_FULL,
    LOST_NO_MEMORY,
    LOST_RING_FULL,
    LOST_ROUNDS,
    LOST_STACKS,
    MAX_ROUNDS,
    MAX_WHILE_ROUNDS,
    STACK_BUILD_ID,
    STACK_TRACE,
    Layout,
    holds_stacks,
)
from insitu.probe.output.formatting import Formatter
from insitu.probe.output.stream import Output
from insitu.probe.providers.base import Context
from insitu.probe.runtime.drain import Handler, RecordReader, Shape, record_shape
from insitu.probe.runtime.loader import Loaded, load
from insitu.probe.runtime.record_log import drain_into
from insitu.probe.runtime.symbols import Symbols
from insitu.probe.source import Source
from insitu.probe.types import Stack, Tuple, Type, UserSymbol, Variable

if TYPE_CHECKING:
    import threading

    from insitu.probe.runtime.stack_records import StackReader

__all__ = ["Runtime", "has_user_addresses"]

_EVENTS_LOST = "the ring buffer was full (set BPFTRACE_PERF_RB_PAGES higher)"
_LOST = {
    LOST_RING_FULL: f"events: {_EVENTS_LOST}",
    LOST_MAP_FULL: "updates: a map was full (set BPFTRACE_MAX_MAP_KEYS higher)",
    LOST_NO_MEMORY: "updates: no memory for a new key (set BPFTRACE_MAX_MAP_KEYS lower, to have it in advance)",
    LOST_STACKS: "stacks: stack id collision (set BPFTRACE_MAX_MAP_KEYS higher)",
    LOST_ROUNDS: f"loops: stopped after {MAX_ROUNDS} iterations ({MAX_WHILE_ROUNDS} of while)",
}

# What bpf_prog_info.recursion_misses counts: the kernel runs no program of a tracepoint while another, or bpf(2),
# has the CPU (bpf_prog_active), and no program of a raw tracepoint inside of itself.
_MISSED = (
    "events, perhaps of other processes, that no figure includes: "
    "they happened while a BPF program or map was in use on the same CPU"
)

_WALK_CHECK_S = 0.005


class Runtime:
    """One run of a script. Use: attach(), turn() until ``ended``, finish(); and close() in any case."""

    def __init__(
        self, compiled: Compiled, source: Source, context: Context, *, child_pid: int = 0, log_level: int = 0
    ) -> None:
        """Load the programs. ``child_pid`` is what ``cpid`` is: a command's process, 0 without one.

        :raises ScriptError: when the verifier refuses one.
        """
        self.compiled = compiled
        self.context = context
        context.child_pid = child_pid
        self.started_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self.boot_offset_ns = time.time_ns() - self.started_ns
        patches = {
            Patch.START_NS: self.started_ns,
            Patch.CHILD_PID: child_pid,
            Patch.ONLY_PID: context.only_pid or 0,
            Patch.CLOCK_OFFSET_NS: self.boot_offset_ns,
            Patch.TAI_OFFSET_NS: time.clock_gettime_ns(time.CLOCK_TAI) - time.clock_gettime_ns(time.CLOCK_BOOTTIME),
        }
        self.loaded: Loaded = load(compiled, source, patches, log_level=log_level)
        layouts = compiled.layout.maps
        self.symbols = Symbols(
            {layouts[n].name: m for n, m in self.loaded.maps.items() if layouts[n].type == STACK_TRACE},
            demangles=compiled.demangles,
            lines=compiled.shows_lines,
        )
        self.points = {
            point.cookie: (point.name, point.function) for program in compiled.programs for point in program.points
        }
        # What takes the bytes of events, whole records at a time (probe/runtime/record_log.py); without, they go.
        self.take_events: Callable[[memoryview], object] = _drop
        self._handlers: dict[int, tuple[Shape, Handler]] = {}
        self._readers = [
            RecordReader(ring, self._handlers)
            for number, ring in self.loaded.rings.items()
            if layouts[number].name == "ring"
        ]
        self._exit_map = next((m for n, m in self.loaded.maps.items() if layouts[n].name == "exit"), None)
        self._closed = False
        self.ended = False
        self._walks: threading.Thread | None = None
        self._shows_user_addresses = has_user_addresses(compiled.layout)
        if self._shows_user_addresses:
            # Processes may have ended when their stacks are shown.
            self.symbols.processes.listen(context.only_pid)
            if context.pid:
                self.symbols.processes.remember(context.pid)

    def formatter(self, *, on_terminal: bool = False) -> Formatter:
        """What turns the run's values into text, escaped for a terminal."""
        compiled = self.compiled
        return Formatter(
            self.symbols,
            self.points,
            compiled.layout.texts,
            self.boot_offset_ns,
            compiled.trailer,
            compiled.max_strlen,
            on_terminal,
            compiled.newer_form,
        )

    def close(self) -> None:
        """Detach and free everything. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._shows_user_addresses:
                self.symbols.processes.close()
            self.loaded.close()

    def attach(self) -> int:
        """Attach all probes, running those named begin first; returns how many."""
        count = self.loaded.attach(self.context, run_by_us=True)
        self.loaded.run("begin")
        count += self.loaded.attach(self.context, run_by_us=False)
        if any(program.points[0].kind == "iter" for program in self.loaded.programs):
            import threading

            # A walk of many objects would fill the rings: they are drained meanwhile.
            self._walks = threading.Thread(target=self.loaded.run, args=("iter",), daemon=True)
            self._walks.start()
        return count

    @property
    def is_over(self) -> bool:
        """Whether the script is made of begin, end and iterators only, which all have run: nothing more can happen.

        With a command, it lasts as long as that.
        """
        if self.context.child_pid or self._is_walking:
            return False
        return all(program.traits.finite for program in self.loaded.programs)

    @property
    def _is_walking(self) -> bool:
        """Whether iterators still run."""
        return self._walks is not None and self._walks.is_alive()

    @property
    def has_more(self) -> bool:
        """Whether turn() has left records to be handled."""
        return not all(reader.done for reader in self._readers)

    def handle_with(self, output: Output) -> None:
        """Let ``output`` handle the records."""
        for number, record in enumerate(self.compiled.layout.records):
            if record.kind != "emit":
                self._handlers[number] = (record_shape(record.fields), output.handler(record))

    def waiting_for_records(self) -> select.epoll:
        """What becomes readable when it is time to drain.

        A ring is readable whenever anything is in it. That of events is to be left alone until its programs wake
        their reader, so that draining takes much at a time: hence edges.
        """
        poll = select.epoll()
        for number, ring in self.loaded.rings.items():
            is_events = self.compiled.layout.maps[number].name == "events"
            poll.register(ring.fd, select.EPOLLIN | (select.EPOLLET if is_events else 0))
        return poll

    def turn(self, output: Output) -> None:
        """Handle what the rings hold; afterwards ``ended`` says whether the script has reached its end.

        It returns after each record that may have taken long, so that whoever asks to stop is not kept waiting.
        """
        over = self.is_over
        asked = self._exit_asked()  # before draining: what was sent before exit() is in the ring by now
        self._take()
        for reader in self._readers:
            reader.handle()
        output.flush()
        self.symbols.open_files()
        if asked is not None and output.exit_status is None:
            output.exit_status = asked
        if output.exit_status is not None or (over and not self.has_more):
            self.ended = True

    def _exit_asked(self) -> int | None:
        """The status that a program gave exit(), even when its record found the ring full."""
        if self._exit_map is None:
            return None
        (word,) = struct.unpack("<Q", self._exit_map.lookup(bytes(4)) or bytes(8))
        return word & 0xFF if word & EXIT_ASKED else None

    def take_exit(self) -> int:
        """The status that a program gave exit() since this was last asked; 0 for none."""
        asked = self._exit_asked() or 0
        if self._exit_map is not None:
            self._exit_map.update(bytes(4), bytes(8))
        return asked

    def finish(self, output: Output) -> None:
        """Silence the probes, run those named end, detach, and handle what is still in the rings.

        Iterators walk to their end, as when nothing else had ended the script: not after exit() or a signal.
        """
        while self._is_walking and self._exit_asked() is None and not output.interrupted():
            self.drain()
            time.sleep(_WALK_CHECK_S)
        if self._exit_map is not None and self._exit_asked() is None:
            self._exit_map.update(bytes(4), struct.pack("<Q", EXIT_ASKED))
        self.loaded.detach(run_by_us=False, silent=True)
        self.drain()
        output.hurries = False
        self.loaded.run("end")
        self.drain()
        self.loaded.detach()

    # Draining

    def drain(self) -> None:
        """Handle everything that has been taken, and what the rings hold now."""
        self._handle_all()
        self._take()
        self._handle_all()
        self.symbols.open_files()

    def _handle_all(self) -> None:
        for reader in self._readers:
            while not reader.done:
                reader.handle()

    def _take(self) -> None:
        """Take what the rings hold: records to be handled, and events, which go on at once."""
        if self._shows_user_addresses:
            self.symbols.processes.drain()
        for reader in self._readers:
            reader.take()
        for number, ring in self.loaded.rings.items():
            if self.compiled.layout.maps[number].name != "ring":
                drain_into(ring, self.take_events)

    def lost(self) -> list[tuple[int, str]]:
        """What was lost: counts and what they count."""
        found = []
        for number, layout in enumerate(self.compiled.layout.maps):
            if layout.name == "lost":
                for key, value in sorted(self.loaded.maps[number].items()):
                    (cell,), counts = struct.unpack("<I", key), struct.unpack(f"<{len(value) // 8}Q", value)
                    if any(counts):
                        found.append((sum(counts), _LOST[cell]))
            elif layout.name == "lost events":
                found += [(n, f'events "{label}": {_EVENTS_LOST}') for label, n in self.lost_events().items() if n]
        if self._shows_user_addresses and self.symbols.processes.lost:
            found.append((self.symbols.processes.lost, "mappings of processes: some functions have no names"))
        if self.loaded.recursion_misses:
            found.append((self.loaded.recursion_misses, _MISSED))
        return found

    def lost_events(self) -> dict[str, int]:
        """How many events of each label found the ring full."""
        layout = self.compiled.layout
        for number, each in enumerate(layout.maps):
            if each.name == "lost events":
                counts = [value for _, value in sorted(self.loaded.maps[number].items())]
                totals = (sum(struct.unpack(f"<{len(each) // 8}Q", each)) for each in counts)
                return dict(zip(layout.labels, totals, strict=True))
        return {}

    # What recordings need

    def recording_layout(self) -> dict[str, Any]:
        """The description of the bytes of events and maps: plain JSON."""
        from insitu.probe.runtime.event_layout import recording_layout

        if any(each.flags & STACK_BUILD_ID for each in self.compiled.layout.maps):
            message = "ustack(build_id) is only printed: a session has the build ids of all files that stacks are in"
            raise InsituError(message, remedy="record ustack")
        return recording_layout(
            self.compiled.layout,
            points=self.points,
            boot_offset_ns=self.boot_offset_ns,
            trailer=self.compiled.trailer,
            max_strlen=self.compiled.max_strlen,
        )

    @property
    def keeps_stacks(self) -> bool:
        """Whether anything that is recorded means stacks by id: fields of events, or maps."""
        layout = self.compiled.layout
        events: list[Type] = [record.fields for record in layout.records if record.kind == "emit"]
        maps = [kind for each in layout.maps for kind in (each.key, each.value) if kind is not None]
        return any(map(_has_stack, [*events, *maps]))

    def stack_reader(self) -> StackReader:
        """What reads the stacks that maps and variables hold by id."""
        from insitu.probe.runtime.stack_records import StackReader

        layouts = self.compiled.layout.maps
        return StackReader({n: m for n, m in self.loaded.maps.items() if holds_stacks(layouts[n])})


def _drop(records: memoryview) -> None:
    """What becomes of events that nobody takes."""


def _has_stack(kind: Type) -> bool:
    """Whether a value holds the id of a stack."""
    return isinstance(kind, Stack) or (isinstance(kind, Tuple) and any(map(_has_stack, kind.elements)))


def has_user_addresses(layout: Layout) -> bool:
    """Whether a script's records or maps hold addresses or stacks of processes."""
    stored: list[Type] = [record.fields for record in layout.records]
    stored += [kind for each in layout.maps for kind in (each.key, each.value) if kind is not None]
    return any(map(_has_user_address, stored))


def _has_user_address(kind: Type) -> bool:
    if isinstance(kind, Variable):
        kind = kind.element
    if isinstance(kind, Tuple):
        return any(map(_has_user_address, kind.elements))
    return isinstance(kind, UserSymbol) or (isinstance(kind, Stack) and kind.user)
