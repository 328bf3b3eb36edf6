"""The interface between a recording and what it records from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from insitu.record.launcher import Launched

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Loss", "Source", "Target"]


class Loss(NamedTuple):
    """``number`` records that could not be delivered on ``cpu`` (-1: not known)."""

    what: str
    number: int
    cpu: int = -1


class Target(NamedTuple):
    """What is recorded: a command (held before exec until all sources have begun), running processes, or all CPUs.

    A command may be given besides ``whole_system``, which then lasts as long as the command.
    """

    launched: Launched | None = None
    pids: tuple[int, ...] = ()
    whole_system: bool = False


class Source(Protocol):
    """One source of records. Several record into one session at once, all on CLOCK_MONOTONIC.

    Bytes go to files named ``*.records`` in the source's own directory, as they come: whole records, or ones whose
    torn end a reader can tell. ``layout()`` says how to read them (see convert/sources.py).
    """

    id: str
    """The name of its directory in raw/, and what it is called in the manifest."""

    @property
    def notes(self) -> Sequence[str]:
        """Lines for the user about what could not be had."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What was asked of it, for the manifest."""

    def open(self, target: Target) -> None:
        """Open whatever may be refused. Nothing has been written anywhere yet. Raises InsituError."""

    def layout(self) -> Mapping[str, Any]:
        """What layout.json is to hold; "kind" names the converter."""

    @property
    def fds(self) -> Sequence[int]:
        """Descriptors that become readable when there is something to drain."""

    def start(self, directory: Path, start_ns: int) -> None:
        """Begin to record into files in ``directory``. A held command runs afterwards."""

    def drain(self) -> int:
        """Move what has gathered to the files, quickly; the number of bytes. Raises OSError when the disk is full."""

    @property
    def wait_s(self) -> float:
        """How long it may be left alone: what has come since is lost if the recorder is killed."""

    @property
    def ended(self) -> bool:
        """Whether the source itself has reached its end (a script's exit())."""

    def stop(self, end_ns: int) -> None:
        """Stop recording and move the rest to the files. Raises OSError when the disk is full."""

    def losses(self) -> Sequence[Loss]:
        """What was lost and is not told in the records themselves; asked after ``stop``."""

    def close(self) -> None:
        """Let go of everything, whatever happened before. Idempotent."""
