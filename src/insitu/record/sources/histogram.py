"""A histogram of an event as a source: counted in the kernel, read at the end, or in intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from insitu.errors import InsituError
from insitu.kernel.trace_instance import TraceInstance
from insitu.kernel.tracefs import Tracefs, event_directory
from insitu.probe.runtime.frames import map_columns
from insitu.probe.runtime.map_content import read_map
from insitu.record.ftrace.hist_fields import HistField
from insitu.record.ftrace.histogram_script import histogram_of, histogram_script
from insitu.record.ftrace.histograms import (
    Histogram,
    HistogramRequest,
    added_since,
    parse_hist,
    trigger_text,
)
from insitu.record.ftrace.tracepoints import has_hist_triggers, write_checked
from insitu.record.row_log import RowLog
from insitu.record.source import Loss, Target
from insitu.record.sources.generated import GeneratedSource
from insitu.record.sources.trace_pages import restrict_to
from insitu.session.schema import Column, Table

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["HistogramSource", "ScriptHistogram", "TriggerHistogram", "histogram_source", "histogram_table"]


def histogram_source(request: HistogramRequest, tracefs: Tracefs, interval_s: float = 0) -> HistogramSource:
    """A hist trigger where the kernel has them; else, and for text that a field only points at, a BPF program.

    ``interval_s``: how often it is read; 0: at the end only.
    """
    if has_hist_triggers(tracefs) and not any(key.is_pointer_to_text for key in request.keys):
        return TriggerHistogram(request, tracefs, interval_s)
    return ScriptHistogram(request, interval_s)


def histogram_table(request: HistogramRequest) -> Table:
    """The session's table: a column for each key, the hits, and the sum of each value."""
    taken = {"ts_ns", "hits"}
    columns = (
        Column("ts_ns", "timestamp", "when it was read; the rows have what was counted since it was read before"),
        *(
            Column(f"key_{key.name}" if key.name in taken else key.name, _column_type(key), f"key {key.text}")
            for key in request.keys
        ),
        Column("hits", "count", "events"),
        *(Column(f"sum_{each.name}", "integer" if each.is_signed else "unsigned", "sum") for each in request.values),
    )
    name = request.event.name
    return Table(f"histogram.{name.partition(':')[2]}", f"Events {name} counted by their keys.", columns)


def _column_type(key: HistField) -> str:
    is_text = key.is_stack or key.is_text or key.is_pointer_to_text
    if is_text or key.modifier not in ("", "buckets", "usecs"):
        return "text"
    return "integer" if key.is_signed else "unsigned"


class HistogramSource:
    """What both kinds have in common. ``histogram`` is all that was counted, once it has stopped.

    ``see`` is shown what was counted in each interval, the last one included.
    """

    id = "histogram"
    ended = False
    engine = ""
    """What counts, for the user."""

    def __init__(self, request: HistogramRequest, interval_s: float = 0) -> None:
        self._request = request
        self._interval_s = interval_s
        self._next_s = math.inf
        self._log = RowLog(histogram_table(request))
        self.histogram: Histogram | None = None
        self.see: Callable[[Histogram], None] | None = None

    @property
    def fds(self) -> Sequence[int]:
        """None: it is read when it is time to."""
        return ()

    @property
    def wait_s(self) -> float:
        """Until it is read next."""
        return min(1.0, max(0.0, self._next_s - time.monotonic()))

    @property
    def notes(self) -> Sequence[str]:
        """What counts."""
        return (f"counted by {self.engine}",)

    @property
    def options(self) -> Mapping[str, Any]:
        """The event, keys and values, and what counts."""
        return {
            "event": self._request.event.name,
            "keys": [key.text for key in self._request.keys],
            "values": [value.text for value in self._request.values],
            "engine": self.engine,
        }

    def open(self, target: Target) -> None:
        """Set it up; nothing is counted yet. Raises InsituError."""
        raise NotImplementedError

    def layout(self) -> Mapping[str, Any]:
        """As rows of its table."""
        return self._log.layout

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Count from now on."""
        if directory is not None:
            self._log.open(directory)
        if self._interval_s:
            self._next_s = time.monotonic() + self._interval_s

    def drain(self) -> int:
        """Read it, if an interval is over."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return 0
        self._next_s += self._interval_s * (1 + (now_s - self._next_s) // self._interval_s)
        return self._keep(self._read())

    def stop(self, end_ns: int) -> None:
        """Read it, and keep it as ``histogram``."""
        raise NotImplementedError

    def _read(self) -> Histogram:
        """All that has been counted so far."""
        raise NotImplementedError

    def _keep(self, whole: Histogram) -> int:
        """Keep what has been counted since the last time; returns the bytes written."""
        found = added_since(self.histogram, whole)
        self.histogram = whole
        if self.see is not None:
            self.see(found)
        if not self._log.is_open:
            return 0
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        names = [column.name for column in histogram_table(self._request).columns]
        for row in found.rows:
            keys = [";".join(key) if isinstance(key, tuple) else key for key in row.keys]
            values = [
                value if field.is_signed else value & (1 << 64) - 1
                for field, value in zip(self._request.values, row.values, strict=True)
            ]
            self._log.append(**dict(zip(names, [now, *keys, row.hits, *values], strict=True)))
        return self._log.write()

    def losses(self) -> Sequence[Loss]:
        """Events that found no free entry, and entries that could not be read."""
        found = self.histogram
        losses = (
            []
            if found is None
            else [
                Loss("events without an entry: the histogram was full", found.dropped),
                Loss("entries that could not be read", found.damaged),
            ]
        )
        return [loss for loss in losses if loss.number]

    def close(self) -> None:
        """Release everything. Idempotent."""
        self._log.close()


class TriggerHistogram(HistogramSource):
    """By a hist trigger in an instance of our own; set_event_pid restricts triggers too."""

    engine = "a hist trigger"

    def __init__(self, request: HistogramRequest, tracefs: Tracefs, interval_s: float = 0) -> None:
        """``tracefs`` is closed by its owner."""
        super().__init__(request, interval_s)
        self._tracefs = tracefs
        self._directory = event_directory(request.event.name)
        self._instance: TraceInstance | None = None

    def open(self, target: Target) -> None:
        """Add the trigger, paused."""
        self._instance = TraceInstance.create(self._tracefs, buffer_kb=1)
        newer = self._request.where.newer_syntax if self._request.where else ""
        text = trigger_text(self._request, command="pause")
        restrict_to(self._instance, target)
        write_checked(self._instance, f"{self._directory}/trigger", text, text, newer)

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Continue it."""
        super().start(directory, start_ns)
        assert self._instance is not None, "open() comes first"
        # A trigger belongs to the event, and counts while the instance traces.
        self._instance.write("tracing_on", "1")
        self._instance.append(f"{self._directory}/trigger", trigger_text(self._request, command="continue"))

    def stop(self, end_ns: int) -> None:
        """Pause it, and read the histogram. Raises InsituError where the kernel's text cannot be read."""
        assert self._instance is not None, "open() comes first"
        try:
            self._instance.append(f"{self._directory}/trigger", trigger_text(self._request, command="pause"))
        except FileNotFoundError:
            raise _removed() from None
        self._keep(self._read())

    def _read(self) -> Histogram:
        assert self._instance is not None, "open() comes first"
        try:
            text = self._instance.read(f"{self._directory}/hist")
        except FileNotFoundError:
            raise _removed() from None
        return parse_hist(text, self._request)

    def close(self) -> None:
        """Remove the trigger with its instance."""
        super().close()
        if self._instance is not None:
            self._instance.close()


def _removed() -> InsituError:
    return InsituError("somebody has removed the tracefs instance in which the events were counted")


class ScriptHistogram(HistogramSource):
    """By a program in the probe language, in the target's processes and those that they start."""

    engine = "a BPF program"

    def __init__(self, request: HistogramRequest, interval_s: float = 0) -> None:
        super().__init__(request, interval_s)
        self._probe = GeneratedSource()
        self._roots: tuple[int, ...] = ()

    @property
    def fds(self) -> Sequence[int]:
        """Those of the program's rings."""
        return self._probe.fds

    def open(self, target: Target) -> None:
        """Load the program."""
        self._roots = target.roots
        text = histogram_script(self._request, follows=bool(self._roots))
        self._probe.open_script(text, target, f"cannot count {self._request.event.name}")

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach it."""
        super().start(directory, start_ns)
        self._probe.start(None, start_ns)
        self._probe.follow_threads(self._roots)

    def drain(self) -> int:
        """What the program reports, and its maps, if an interval is over."""
        return self._probe.drain() + super().drain()

    def stop(self, end_ns: int) -> None:
        """Detach it, and read its maps."""
        self._probe.stop(end_ns)
        self._keep(self._read())

    def _read(self) -> Histogram:
        runtime = self._probe.runtime
        text = runtime.formatter().text
        maps = {
            layout.name: map_columns(layout, read_map(layout, runtime.loaded.maps[number]), text)[0]
            for number, layout in enumerate(runtime.compiled.layout.maps)
            if layout.name in ("@hits", *(f"@v{n}" for n in range(len(self._request.values))))
        }
        # An event without an entry is lost in each of the maps.
        lost = sum(count for count, _ in self._probe.lost) // (1 + len(self._request.values))
        return histogram_of(self._request, maps, lost)

    def close(self) -> None:
        """Unload the program."""
        super().close()
        self._probe.close()
