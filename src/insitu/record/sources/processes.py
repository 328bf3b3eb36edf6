"""Mappings, forks, names and exits, for sources that record ids and addresses only."""

from collections.abc import Mapping
from typing import Any, Final

from insitu.record.events import Event, dummy_event
from insitu.record.source import Target
from insitu.record.sources.perf import PerfOptions, PerfSource

__all__ = ["ProcessesSource"]

_RING_PAGES: Final = 64


class ProcessesSource(PerfSource):
    """The side-band records (mappings, names, forks, exits) of a dummy event, without samples."""

    id = "processes"

    def __init__(self, *, mappings: bool = True) -> None:
        """Without ``mappings``, which only addresses need: forks, names and exits."""
        super().__init__(PerfOptions(ring_pages=_RING_PAGES))
        self._maps = mappings

    def choose(self, target: Target) -> tuple[list[Event], list[str]]:
        """The dummy event."""
        return [dummy_event(mappings=self._maps)], []

    @property
    def options(self) -> Mapping[str, Any]:
        """No options."""
        return {}

    def layout(self) -> Mapping[str, Any]:
        """The layout of a perf source without samples."""
        return {**super().layout(), "samples": False}
