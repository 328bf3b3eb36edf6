"""Mappings, forks, names and exits, for sources that record addresses only."""

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

    def __init__(self) -> None:
        super().__init__(PerfOptions(ring_pages=_RING_PAGES))

    def choose(self, target: Target) -> tuple[list[Event], list[str]]:
        """The dummy event."""
        return [dummy_event()], []

    @property
    def options(self) -> Mapping[str, Any]:
        """No options."""
        return {}

    def layout(self) -> Mapping[str, Any]:
        """The layout of a perf source without samples."""
        return {**super().layout(), "samples": False}
