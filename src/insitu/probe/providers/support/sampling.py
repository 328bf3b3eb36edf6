"""What kinds on perf events of their own have in common: timers, counters, watchpoints."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from insitu.capabilities import links
from insitu.kernel.bpf_abi import ProgramType
from insitu.probe.providers.arguments import Argument
from insitu.probe.providers.base import AttachPoint, Context, ProgramKind, Traits
from insitu.probe.providers.support.detach import Descriptors
from insitu.probe.providers.support.perf_attachment import Event, attach_events

__all__ = ["Sampling"]


class Sampling(ABC):
    """Its programs get registers and no arguments; one serves any number of points."""

    traits = Traits()

    def arguments(self, point: AttachPoint, context: Context) -> list[Argument] | None:
        return None

    def program(self, point: AttachPoint, context: Context) -> ProgramKind:
        return ProgramKind(ProgramType.PERF_EVENT, "perf_event", shared=True, cookies=links.perf_links().available)

    def attach(self, program_fd: int, points: Sequence[AttachPoint], context: Context) -> Descriptors:
        return attach_events(program_fd, [event for point in points for event in self.events(point, context)])

    @abstractmethod
    def events(self, point: AttachPoint, context: Context) -> list[Event]:
        """What to open for a point."""
