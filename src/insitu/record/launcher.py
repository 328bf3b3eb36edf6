"""The recorded command: forked, held before exec until everything is attached, waited for."""

import contextlib
import errno
import os
import resource
import select
import signal
import struct
import threading
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from insitu.errors import InsituError
from insitu.record.interrupts import ASKING

__all__ = ["Launched", "executable"]

NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_KILL_AFTER_MS: Final = 5000
_RELEASE: Final = struct.Struct("=cI")  # and the size of the seccomp filter that follows


def executable(command: Sequence[str]) -> str:
    """Returns the file that the command runs, looked up in PATH as a shell does.

    Raises InsituError with a shell's status: 127 if it does not exist, 126 if it cannot be executed.
    """
    name = command[0]
    # As shutil.which() has it, whose module takes as long to import as all that a counter needs.
    paths = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(":")
    for path in paths:
        file = os.path.join(path, name)  # noqa: PTH118
        if os.access(file, os.X_OK) and not os.path.isdir(file):  # noqa: PTH112
            return file
    if "/" in name and os.path.exists(name):  # noqa: PTH110  # pathlib gives no more here
        reason = "is a directory" if os.path.isdir(name) else "not executable"  # noqa: PTH112
        raise InsituError(f"{name}: {reason}", status=NOT_EXECUTABLE)
    raise InsituError(f"{name}: command not found", status=NOT_FOUND)


def _environment() -> dict[str, str]:
    """The environment for a command: without LC_CTYPE where Python has set that for itself (PEP 538)."""
    found = dict(os.environ)
    if found.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8"):
        with contextlib.suppress(OSError), open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - without pathlib
            given = file.read().split(b"\0")
            if not any(each.startswith(b"LC_CTYPE=") for each in given):
                del found["LC_CTYPE"]
    return found


class Launched:
    """A forked child process that waits before exec until ``release``.

    If this process dies before that, the child exits without exec. ``ignoring`` are the signals that the command
    is to ignore, as this process did before it installed its handlers; ``variables`` are added to its environment.
    """

    def __init__(
        self,
        command: Sequence[str],
        ignoring: Sequence[int] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        path = executable(command)
        gate_read, self._gate = os.pipe()
        self._report, report_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._gate)
            _exec_when_released(path, command, ignoring, variables, gate_read, report_write)
        os.close(gate_read)
        os.close(report_write)
        self.pidfd = os.pidfd_open(self.pid)
        self._settled = False
        self._status: int | None = None
        self._let_go: threading.Event | None = None
        self.usage: resource.struct_rusage | None = None
        """Resources used by the command and its children that it waited for; valid once it has ended."""
        self._path = path
        self.seccomp_filter = b""
        """See kernel/seccomp.py; it is in force from exec on."""
        self.left_running = False
        """Set if it is to go on after ``close``: somebody asked to leave it."""

    def traced(self) -> None:
        """From now on a tracer waits for it, as the status of a tracee is reported once only."""
        self._let_go = threading.Event()

    def untraced(self, status: int | None) -> None:
        """The tracer has detached, or, with a ``status`` as wait(2) has it, has seen it end."""
        assert self._let_go is not None, "traced() comes first"
        self._status = status
        self._let_go.set()

    @property
    def held(self) -> bool:
        """Whether it is still waiting for release()."""
        return self._gate >= 0

    def settle(self) -> None:
        """Wait until the child has prepared itself and only waits: nothing of that is to be recorded. Idempotent."""
        if not self._settled:
            self._settled = True
            os.read(self._report, 1)

    def release(self) -> None:
        """Let the command run. Idempotent.

        Raises InsituError (status 126) if exec fails, such as for a file of another architecture.
        """
        if not self.held:
            return
        self.settle()
        os.write(self._gate, _RELEASE.pack(b"!", len(self.seccomp_filter)) + self.seccomp_filter)
        os.close(self._gate)
        self._gate = -1
        failure = os.read(self._report, 16)
        if failure:
            code = int(failure)
            self.wait()
            status = NOT_FOUND if code == errno.ENOENT else NOT_EXECUTABLE  # a script's interpreter that is missing
            what = "its interpreter does not exist" if code == errno.ENOENT else os.strerror(code)
            raise InsituError(f"{self._path}: {what}", status=status)

    def ended(self) -> bool:
        """Whether the command has ended; never blocks."""
        if self._let_go is not None and not self._let_go.is_set():
            return False
        if self._status is None:
            try:
                pid, status, self.usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:  # this program has waited for all its children: the status is not known
                pid, status = self.pid, 0
            if pid:
                self._status = status
        return self._status is not None

    def wait(self) -> None:
        """Wait for the command to end."""
        if self._let_go is not None:
            self._let_go.wait()
        if self._status is None:
            _, self._status, self.usage = os.wait4(self.pid, 0)

    def signal(self, number: int) -> None:
        """Send a signal to the command if it still runs."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def terminate(self) -> None:
        """Send SIGTERM, on which a stopped process acts only when it is continued."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def _end(self) -> None:
        """Terminate the command and wait for it, so that it does not stay a child of this process."""
        self.terminate()
        ends = select.poll()
        ends.register(self.pidfd, select.POLLIN)
        if not self.ended() and not ends.poll(_KILL_AFTER_MS):
            self.signal(signal.SIGKILL)
            ends.poll(_KILL_AFTER_MS)  # in vain where the kernel does not return, as from a dead NFS server
        self.ended()

    @property
    def exit_status(self) -> int:
        """Exit status as a shell gives it, 128 + n for signal n. Valid once the command has ended."""
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        return 128 - code if code < 0 else code

    def close(self) -> None:
        """Close the descriptors. A command that still runs is ended, one never released exits. Idempotent."""
        held = self.held
        if not held and not self.left_running and self.pidfd >= 0:
            self._end()
        for fd in (self._gate, self._report, self.pidfd):
            if fd >= 0:
                os.close(fd)
        self._gate = self._report = self.pidfd = -1
        if held:
            self.wait()


def _exec_when_released(
    path: str,
    command: Sequence[str],
    ignoring: Sequence[int],
    variables: Mapping[str, str],
    gate: int,
    report: int,
) -> None:
    """Runs in the child: never returns, and skips this process's clean-up."""
    try:
        # The parent's handlers and wake-up descriptor are of no use here, where Ctrl-C is to end the child.
        signal.set_wakeup_fd(-1)
        for asking in ASKING:
            signal.signal(asking, signal.SIG_IGN if asking in ignoring else signal.SIG_DFL)
        environment = {**_environment(), **variables}  # before it is released: from there on its time may be measured
        os.write(report, b"!")
        if released := os.read(gate, _RELEASE.size):
            # Python ignores these, and exec would pass that on.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            for number in ignoring:
                signal.signal(number, signal.SIG_IGN)
            if size := _RELEASE.unpack(released)[1]:
                from insitu.kernel import seccomp

                seccomp.install(os.read(gate, size))  # written at once, and less than a pipe holds
            os.execve(path, list(command), environment)
    except (OSError, ValueError) as error:
        os.write(report, str(getattr(error, "errno", None) or errno.EINVAL).encode())
    finally:
        os._exit(NOT_EXECUTABLE)
