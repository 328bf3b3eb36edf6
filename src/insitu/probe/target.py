"""The process that a script is about: a child (-c) held back until probes are attached, or an existing one (-p)."""

from __future__ import annotations

import contextlib
import os
import select
import signal

from insitu.errors import InsituError

__all__ = ["Target"]


class Target:
    """``child_pid`` is the value of ``cpid``, 0 without a child. ``fd`` becomes readable when the process ends.

    ``exit_status`` is that of a child that has exited, 128+N when signal N killed it.
    """

    def __init__(self) -> None:
        self.child_pid = 0
        self.exit_status: int | None = None
        self.fd = -1
        self._release_fd = -1
        self._failure_fd = -1
        self._reaped = False

    @classmethod
    def child(cls, command: str) -> Target:
        """Make a child that waits for release() and then becomes ``command``, split as a shell splits words."""
        import shlex

        try:
            words = shlex.split(command)
        except ValueError as error:
            raise InsituError(f"cannot read the command {command!r}: {error}", status=2) from None
        if not words:
            raise InsituError("the command is empty", status=2)
        target = cls()
        release_read, target._release_fd = os.pipe()
        target._failure_fd, failure_write = os.pipe()
        target.child_pid = os.fork()
        if target.child_pid == 0:
            _become(words, release_read, target._release_fd, failure_write)
        os.close(release_read)
        os.close(failure_write)
        target.fd = os.pidfd_open(target.child_pid)
        return target

    @classmethod
    def existing(cls, pid: int) -> Target:
        """Watch a process that runs already."""
        target = cls()
        try:
            target.fd = os.pidfd_open(pid)
        except OSError as error:
            raise InsituError(f"cannot trace process {pid}: {error.strerror}") from None
        return target

    def release(self) -> None:
        """Let the child go on to its command.

        :raises InsituError: when the command cannot be run.
        """
        if self._release_fd < 0:
            return
        os.write(self._release_fd, b".")
        os.close(self._release_fd)
        self._release_fd = -1
        failure = os.read(self._failure_fd, 4096).decode("utf-8", "replace")
        os.close(self._failure_fd)
        self._failure_fd = -1
        if failure:
            raise InsituError(failure, status=127)

    def has_ended(self) -> bool:
        """Whether the process has ended; a child is reaped."""
        if self.fd < 0 or not select.select([self.fd], [], [], 0)[0]:
            return False
        status = self._reap()
        if status is not None:
            self.exit_status = status if status >= 0 else 128 - status
        return True

    def _reap(self) -> int | None:
        """Wait for a child that has ended or is ending: its exit status, negative for a signal."""
        if self.child_pid and not self._reaped:
            self._reaped = True
            with contextlib.suppress(ChildProcessError):
                return os.waitstatus_to_exitcode(os.waitpid(self.child_pid, 0)[1])
        return None

    def close(self) -> None:
        """End the child if it still runs, as bpftrace does, and give back the descriptors."""
        if self.child_pid and not self._reaped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.child_pid, signal.SIGTERM)
            for fd in (self._release_fd, self._failure_fd):
                if fd >= 0:
                    os.close(fd)
            self._release_fd = self._failure_fd = -1
            self._reap()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def _become(words: list[str], release_read: int, release_write: int, failure_write: int) -> None:
    """In the child: wait, then exec. Never returns. An empty read means that the parent is gone."""
    try:
        os.close(release_write)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        if not os.read(release_read, 1):
            os._exit(0)
        os.close(release_read)
        os.set_inheritable(failure_write, False)
        os.execvp(words[0], words)
    except OSError as error:
        os.write(failure_write, f"cannot run {words[0]}: {error.strerror}".encode())
    finally:
        os._exit(127)
