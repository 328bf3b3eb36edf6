"""Latencies between two events as a source: a row of ``event.BEGIN_to_END`` for each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from insitu.record.ftrace.latencies import LatencyRequest, LatencyTracing, latency_script
from insitu.record.ftrace.tracepoints import has_hist_triggers
from insitu.record.source import Loss
from insitu.record.sources.generated import GeneratedSource
from insitu.record.sources.trace_pages import TracePagesSource

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.kernel.tracefs import Tracefs
    from insitu.record.source import Source, Target

__all__ = ["latency_source"]


def latency_source(request: LatencyRequest, tracefs: Tracefs, *, whole_system: bool, buffer_kb: int = 0) -> Source:
    """The source for a target: a synthetic event, where the kernel makes them and the whole machine is measured.

    Triggers see all threads, so those of single processes are measured by a BPF program.
    """
    if whole_system and has_hist_triggers(tracefs) and tracefs.exists("synthetic_events"):
        return _SyntheticSource(request, tracefs, buffer_kb)
    return _ScriptSource(request)


class _SyntheticSource(TracePagesSource):
    notes: Sequence[str] = ("measured by hist triggers and a synthetic event",)

    def __init__(self, request: LatencyRequest, tracefs: Tracefs, buffer_kb: int) -> None:
        self._request = request
        self._latencies = LatencyTracing(request, tracefs)
        super().__init__(self._latencies, buffer_kb=buffer_kb, tracefs=tracefs)
        self.at_end = self._latencies.read_results

    def layout(self) -> Mapping[str, Any]:
        """With the name of the pair of events for that of the synthetic event."""
        layout = super().layout()
        ours = self._latencies.name
        formats = [
            ["latency", self._request.label, text] if name == ours else [category, name, text]
            for category, name, text in layout["formats"]
        ]
        return {**layout, "formats": formats}

    def losses(self) -> Sequence[Loss]:
        """Those of the buffer, and events whose key found no free entry."""
        dropped = self._latencies.dropped
        return [*super().losses(), *([Loss("events without an entry: too many keys", dropped)] if dropped else [])]

    def close(self) -> None:
        super().close()
        with contextlib.suppress(OSError):  # what stays is removed by the next that starts
            self._latencies.close()


class _ScriptSource(GeneratedSource):
    id = "latency"

    def __init__(self, request: LatencyRequest) -> None:
        super().__init__()
        self._request = request
        self._roots: tuple[int, ...] = ()

    @property
    def notes(self) -> Sequence[str]:
        """What measures."""
        return ("measured by a BPF program",)

    def open(self, target: Target) -> None:
        """Load the program."""
        self._roots = target.roots
        self.open_script(latency_script(self._request, follows=bool(self._roots)), target, "cannot measure")

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Attach, then let the program know the target."""
        super().start(directory, start_ns)
        self.follow_threads(self._roots)
