"""Counts selected calls for a summary, from events."""

from __future__ import annotations

from collections.abc import Sequence

from insitu.syscalls.call import Event
from insitu.syscalls.pairing import Pairing
from insitu.syscalls.selection import Selection
from insitu.views.syscalls.summary import Summary

__all__ = ["CallCounter"]


class CallCounter:
    """Counts calls that have returned, as strace(1) does it, into ``summary``."""

    def __init__(self, selection: Selection) -> None:
        self.summary = Summary()
        self._selection = selection
        self._pairing = Pairing()

    def deliver(self, events: Sequence[Event]) -> None:
        """Count the calls that return."""
        for event in events:
            self._selection.observe(event)
            call = self._pairing.feed(event)
            if call is None or call.exit is None or not self._selection.entry(call.enter):
                continue
            if self._selection.returned(call):
                self.summary.add(call)

    def finish(self) -> None:
        """Nothing is left to do."""
