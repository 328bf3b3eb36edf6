"""Joins the two halves of calls."""

from __future__ import annotations

from insitu.syscalls.call import Call, Enter, Event, Executed, Exit, Exited

__all__ = ["Pairing"]


class Pairing:
    """Joins each thread's Enter and Exit; memory is bounded by the number of threads."""

    def __init__(self) -> None:
        self._entered: dict[int, Enter] = {}

    def feed(self, event: Event) -> Call | None:
        """Returns the call that ``event`` completes: by returning, or, without an exit, because its thread ends."""
        if isinstance(event, Enter):
            self._entered[event.tid] = event
        elif isinstance(event, Exit):
            enter = self._entered.pop(event.tid, None)
            return None if enter is None else Call(enter, event)
        elif isinstance(event, Exited):
            enter = self._entered.pop(event.tid, None)
            return None if enter is None else Call(enter)
        elif isinstance(event, Executed) and event.old_tid in self._entered:
            self._entered[event.tid] = self._entered.pop(event.old_tid)
        return None

    def rest(self) -> list[Call]:
        """Returns the calls that still run."""
        return [Call(enter) for enter in self._entered.values()]
