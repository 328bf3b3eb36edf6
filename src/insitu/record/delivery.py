"""Records that are shown while they come: kept in a spool, and delivered in small pieces.

A traced program may leave the recorder little of a CPU. Between two pieces the deadline and signals are looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from insitu import messages
from insitu.record.spool import Spool

if TYPE_CHECKING:
    from insitu.record.interrupts import Interrupts

__all__ = ["LEAVE_AFTER_S", "Delivery", "Leaving"]

_PIECE_BYTES: Final = 1 << 16

LEAVE_AFTER_S: Final = 2.0
"""For how long what has been recorded is still shown once the time is over or somebody has asked to stop."""


class Leaving:
    """Whether it is time to leave the rest: some seconds after it was first seen that the run is to stop.

    That is so when a signal has come, and when its duration is over; not when the target has ended by itself.
    """

    def __init__(self, interrupts: Interrupts | None, after_s: float = LEAVE_AFTER_S) -> None:
        self._interrupts, self._after_s = interrupts, after_s
        self._until_s: float | None = None

    def __bool__(self) -> bool:
        if self._interrupts is None or not (self._interrupts.asked() or self._interrupts.time_over):
            return False
        now_s = time.monotonic()
        if self._until_s is None:
            self._until_s = now_s + self._after_s
        return now_s >= self._until_s

    def say(self, left: str) -> None:
        """Say what is left out, as in "3 events"."""
        why = "interrupted" if self._interrupts and self._interrupts.asked() else "the time is over"
        messages.note(f"{why}: {left} not shown (-o NAME.insitu records all)")

    def say_bytes(self, left_bytes: int) -> None:
        """Say how many bytes of records are left out."""
        self.say(f"{max(left_bytes >> 10, 1)} KiB of records")


class Delivery:
    """Takes the bytes of a BPF ring, and delivers whole records of them in order."""

    def __init__(self, deliver: Callable[[bytes], object]) -> None:
        self._deliver = deliver
        self._spool = Spool()

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._spool)

    def take(self, records: memoryview) -> None:
        """Keep whole records. Raises OSError when the disk is full."""
        from insitu.probe.runtime.record_walk import whole_bytes

        at = 0
        while at < len(records):
            piece = whole_bytes(records[at : at + _PIECE_BYTES]) or len(records) - at
            self._spool.append(records[at : at + piece])
            at += piece

    def some(self, until_s: float) -> None:
        """Deliver what waits, until a time (time.monotonic())."""
        while self._spool and time.monotonic() < until_s:
            self._deliver(self._spool.take())

    def rest(self, leaving: Leaving) -> None:
        """Deliver everything that waits, unless it is time to leave it."""
        while self._spool:
            if leaving:
                leaving.say_bytes(self._spool.size_bytes)
                return
            self._deliver(self._spool.take())

    def close(self) -> None:
        """Give everything back. Idempotent."""
        self._spool.close()
