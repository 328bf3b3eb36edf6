"""The interface between a recording and its sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from insitu.record.launcher import Launched

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.interrupts import Interrupts

__all__ = ["Loss", "Source", "Target"]


class Loss(NamedTuple):
    """``number`` records lost on ``cpu`` (-1: not known)."""

    what: str
    number: int
    cpu: int = -1


class Target(NamedTuple):
    """What is recorded: a command (held before exec until all sources have begun), running processes, or all CPUs.

    A command may be given besides ``whole_system``, which then lasts as long as the command. ``interrupts`` counts
    the signals that ask to stop.
    """

    launched: Launched | None = None
    pids: tuple[int, ...] = ()
    whole_system: bool = False
    interrupts: Interrupts | None = None

    @property
    def roots(self) -> tuple[int, ...]:
        """The processes that it begins with: those that run, else the command's; none where it is all CPUs."""
        if self.whole_system:
            return ()
        return self.pids or ((self.launched.pid,) if self.launched else ())


class Source(Protocol):
    """One source of records. Several record into one session at once, all on CLOCK_MONOTONIC.

    Bytes go unchanged to files named ``*.records`` in the source's own directory, in records whose lengths let a
    reader find a torn one at the end. ``layout()`` says how to read them (see convert/sources.py).

    A source that records what the target has started beyond the target's end has a property ``follows`` besides:
    whether any of that is still alive. The recording goes on for as long.
    """

    id: str
    """Its name in the manifest, and of its directory in raw/."""

    @property
    def notes(self) -> Sequence[str]:
        """Lines for the user about what is not available."""

    @property
    def options(self) -> Mapping[str, Any]:
        """Its options, for the manifest."""

    def open(self, target: Target) -> None:
        """Open everything that may be refused; nothing has been written yet. Raises InsituError."""

    def layout(self) -> Mapping[str, Any]:
        """The content of layout.json; "kind" names the converter."""

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors that become readable when there is data to drain."""

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Start recording into files in ``directory`` (None: keep nothing). A held command is released afterwards."""

    def drain(self) -> int:
        """Move pending data to the files; returns the number of bytes. Raises OSError when the disk is full."""

    @property
    def wait_s(self) -> float:
        """Longest time between two drains, in seconds: at most this much is lost if the recorder is killed."""

    @property
    def ended(self) -> bool:
        """Whether the source has ended by itself (a script's exit())."""

    def stop(self, end_ns: int) -> None:
        """Stop recording and move the rest to the files. Raises OSError when the disk is full."""

    def losses(self) -> Sequence[Loss]:
        """Losses that the records themselves do not contain; read after ``stop``."""

    def close(self) -> None:
        """Release everything, also after a failure. Idempotent."""
