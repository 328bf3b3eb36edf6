"""Lines of what happened on several CPUs, held until no earlier one can come, and written in the order of time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

__all__ = ["HeldLines"]


class HeldLines:
    """``written`` counts the lines (each may have several rows) that have been written."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._held: list[tuple[int, int, str]] = []
        self.written = 0

    def hold(self, lines: Iterable[tuple[int, int, str]]) -> None:
        """Take the time (ns) of each, its place among those of the same time, and its text."""
        self._held += lines

    def write(self, until_ns: int) -> None:
        """Write what happened until then. Raises BrokenPipeError when the reader has gone."""
        self._held.sort()
        ready = next((at for at, each in enumerate(self._held) if each[0] > until_ns), len(self._held))
        if ready:
            self._out.write("".join(f"{line}\n" for _, _, line in self._held[:ready]))
            self._out.flush()
            self.written += ready
            del self._held[:ready]
