"""Mappings, forks, names and exits, for sources that record addresses but not what they mean."""

from collections.abc import Mapping
from typing import Any, Final

from insitu.record.events import Event, dummy_event
from insitu.record.source import Target
from insitu.record.sources.perf import PerfOptions, PerfSource

__all__ = ["ProcessesSource"]

_RING_PAGES: Final = 64


class ProcessesSource(PerfSource):
    """The records of a software event that counts nothing: the kernel adds what processes do."""

    id = "processes"

    def __init__(self) -> None:
        super().__init__(PerfOptions(ring_pages=_RING_PAGES))

    def choose(self, target: Target) -> tuple[list[Event], list[str]]:
        """That one event."""
        return [dummy_event()], []

    @property
    def options(self) -> Mapping[str, Any]:
        """None."""
        return {}

    def layout(self) -> Mapping[str, Any]:
        """As of any perf source, but that there are no samples."""
        return {**super().layout(), "samples": False}
