"""The kernel log as a source: each new message goes to a function (Documentation/ABI/testing/dev-kmsg)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.errors import InsituError

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Loss, Target

__all__ = ["KernelLogSource"]

_MOST_RECORD: Final = 1 << 14
_PER_DRAIN: Final = 4096


class KernelLogSource:
    """What the kernel logs from now on: the time (ns, of the kernel's local_clock()) and the text."""

    id, wait_s, ended = "kernel-log", 0.5, False
    notes: Sequence[str] = ()
    options: Mapping[str, Any] = {}

    def __init__(self, deliver: Callable[[int, str], object]) -> None:
        self._deliver = deliver
        self._fd = -1
        self._lost = 0

    @property
    def fds(self) -> Sequence[int]:
        """/dev/kmsg."""
        return [self._fd]

    def open(self, target: Target) -> None:
        """Raises InsituError where it may not be read."""
        try:
            self._fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise InsituError(
                f"cannot read the kernel log: {error.strerror}", remedy="needs root or CAP_SYSLOG"
            ) from None

    def layout(self) -> Mapping[str, Any]:
        """It is not recorded."""
        return {}

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Nothing: it begins where it was opened."""

    def drain(self) -> int:
        """Deliver new messages."""
        for _ in range(_PER_DRAIN):
            try:
                record = os.read(self._fd, _MOST_RECORD)
            except BlockingIOError:
                break
            except BrokenPipeError:  # overwritten before it was read
                self._lost += 1
                continue
            head, _, text = record.decode(errors="replace").partition(";")
            fields = head.split(",")
            if len(fields) > 2 and fields[2].isdecimal():
                self._deliver(1000 * int(fields[2]), text.split("\n")[0])
        return 0

    def stop(self, end_ns: int) -> None:
        """Deliver what is left."""
        self.drain()

    def losses(self) -> Sequence[Loss]:
        """Overwritten messages, counted once for each gap."""
        from insitu.record.source import Loss

        return [Loss("kernel log", self._lost)] if self._lost else []

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
