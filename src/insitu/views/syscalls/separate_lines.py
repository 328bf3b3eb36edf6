"""A file for each thread: -ff."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from insitu.syscalls.call import Event, Executed, LostHere
from insitu.views.syscalls.lines import LinePrinter

__all__ = ["SeparateLines"]


class SeparateLines:
    """Prints each thread's events to PATH.TID. Files are opened to write each batch: threads may be many."""

    def __init__(self, path: str, make: Callable[[Callable[[str], object]], LinePrinter]) -> None:
        """``make`` returns a printer for what writes its text."""
        self._path = path
        self._make = make
        self._printers: dict[int, LinePrinter] = {}

    def deliver(self, events: Sequence[Event]) -> None:
        """Print events."""
        by_tid: dict[int, list[Event]] = {}
        for event in events:
            if isinstance(event, LostHere):
                for tid in self._printers.keys() | by_tid.keys():
                    by_tid.setdefault(tid, []).append(event)
                continue
            if isinstance(event, Executed) and event.old_tid != event.tid:
                self._write(by_tid)
                by_tid = {}
                if event.old_tid in self._printers:
                    self._printers[event.tid] = self._printers.pop(event.old_tid)
            by_tid.setdefault(event.tid, []).append(event)
        self._write(by_tid)

    def finish(self) -> None:
        """See LinePrinter."""
        for printer in self._printers.values():
            printer.finish()

    def _write(self, by_tid: dict[int, list[Event]]) -> None:
        for tid, events in by_tid.items():
            printer = self._printers.get(tid)
            if printer is None:
                printer = self._printers[tid] = self._printer(tid)
            printer.deliver(events)

    def _printer(self, tid: int) -> LinePrinter:
        path = f"{self._path}.{tid}"
        new = True

        def write(text: str) -> None:
            nonlocal new
            with open(path, "w" if new else "a", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
                file.write(text)
            new = False

        return self._make(write)
