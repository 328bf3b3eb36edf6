"""The traced process: a command held until probes are attached, or a running process."""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence

from insitu.errors import InsituError
from insitu.record.launcher import Launched

__all__ = ["TracedProcess"]


class TracedProcess:
    """A process as probe/runtime sees it. ``fd`` becomes readable when the process ends; -1: no process."""

    def __init__(self, launched: Launched | None = None, fd: int = -1) -> None:
        self.launched = launched
        self.fd = launched.pidfd if launched else fd

    @classmethod
    def command(cls, words: Sequence[str], ignoring: Sequence[int] = ()) -> TracedProcess:
        """A child that waits for release() before it executes the command. Raises InsituError."""
        return cls(Launched(words, ignoring))

    @classmethod
    def existing(cls, pid: int) -> TracedProcess:
        """A running process. Raises InsituError."""
        try:
            return cls(fd=os.pidfd_open(pid))
        except OSError as error:
            if error.errno in (errno.ESRCH, errno.EINVAL):
                raise InsituError(f"process {pid} does not exist", remedy="ps -e lists processes") from None
            raise InsituError(f"cannot trace process {pid}: {error.strerror}") from None

    @property
    def child_pid(self) -> int:
        """The value of ``cpid`` in the script: 0 without a command."""
        return self.launched.pid if self.launched else 0

    def release(self) -> None:
        """Let the command run. Raises InsituError when it cannot be executed."""
        if self.launched:
            self.launched.release()

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.fd >= 0 and bool(select.select([self.fd], [], [], 0)[0])

    def close(self) -> None:
        """End the command if it still runs, as bpftrace does, and close the descriptors. Idempotent."""
        if self.launched:
            self.launched.close()
        elif self.fd >= 0:
            os.close(self.fd)
        self.launched, self.fd = None, -1
