"""QEMU's process: its directory of sockets, the connections to them, and its end."""

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from insitu.errors import InsituError
from insitu.files import write_whole
from insitu.kernel import procfs
from insitu.lab.directories import guests_directory
from insitu.lab.guests.bounded_logs import CONSOLE, KEPT_BYTES, QEMU_LOG, BoundedLogs
from insitu.lab.guests.port_streams import connect
from insitu.lab.guests.running_guests import qemu_start_time
from insitu.lab.guests.watchdog import Watchdog
from insitu.lab.qmp import Qmp

__all__ = ["QemuProcess"]

_KILL_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 10.0
_MAX_SOCKET_PATH: Final = 107  # sun_path, unix(7)


class QemuProcess:
    """The process of the guest ``name``; until start() only its directory and the watchdog of that."""

    def __init__(self, name: str) -> None:
        """Make the directory. Raises InsituError if a guest of this name is running."""
        directory = guests_directory() / name
        if len(os.fsencode(directory / "terminal")) > _MAX_SOCKET_PATH:
            raise InsituError(f"--name {name!r} is too long for a socket's path below {directory.parent}", status=2)
        try:
            directory.mkdir(mode=0o700)
        except FileExistsError:
            raise InsituError(
                f"a guest named {name} is running already", remedy="insitu lab ps; insitu lab stop", status=2
            ) from None
        self.directory = directory
        self._watchdog = Watchdog(directory)
        self._logs = BoundedLogs({directory / name: KEPT_BYTES[name] for name in (CONSOLE, QEMU_LOG)})
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: list[socket.socket] = []
        self._qmp: Qmp | None = None

    def start(self, command: Sequence[str], before: Callable[[], None] | None = None) -> None:
        """Start QEMU, which calls ``before`` just before its exec; its output goes to qemu.log."""
        with (self.directory / QEMU_LOG).open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C then reaches only this process, which stops the guest.
                process_group=0,
                preexec_fn=before,
            )
        self._logs.start()
        self.watch(self._process.pid)

    def watch(self, pid: int) -> None:
        """Kill this process, too, after the owner has exited."""
        self._watchdog.watch(pid)

    def describe(self, fields: Mapping[str, Any]) -> None:
        """Write guest.json, which `insitu lab ps` and the commands that reach a guest by its name read."""
        assert self._process is not None
        pid = self._process.pid
        own = {"pid": os.getpid(), "qemu": pid, "qemu_start": qemu_start_time(pid), "started": time.time()}
        write_whole(self.directory / "guest.json", json.dumps({**fields, **own}).encode())

    @property
    def qmp(self) -> Qmp:
        """A connection to QEMU's monitor."""
        if self._qmp is None:
            self._qmp = Qmp(self.directory / "qmp")
        return self._qmp

    def connect(self, name: str) -> socket.socket:
        """A connection to the socket ``name``, as soon as QEMU has opened it. Raises InsituError if it does not."""
        deadline = time.monotonic() + _CONNECT_SECONDS
        while True:
            try:
                return self.connected(name, time.monotonic())
            except OSError:
                assert self._process is not None
                if self._process.poll() is None and time.monotonic() < deadline:
                    time.sleep(0.005)
                    continue
                log = (self.directory / QEMU_LOG).read_text(errors="replace").strip().splitlines()
                reason = log[-1] if log else "it opened no socket"
                raise InsituError(f"QEMU does not start: {reason}") from None

    def connected(self, name: str, deadline: float) -> socket.socket:
        """A connection to the socket ``name``, closed with the process. Raises OSError."""
        port = connect(self.directory / name, deadline)
        self._sockets.append(port)
        return port

    def vcpu_steal(self) -> float:
        """Seconds that the threads of vCPUs were runnable and waited for a CPU, summed; 0 if not reported."""
        assert self._process is not None
        nanoseconds = 0
        for cpu in self.qmp.execute("query-cpus-fast"):
            with contextlib.suppress(OSError, IndexError, ValueError):
                nanoseconds += procfs.run_delay_ns(self._process.pid, cpu["thread-id"])
        return nanoseconds / 1e9

    def kill(self) -> None:
        """Close the connections and end the process."""
        self._logs.close()
        for port in self._sockets:
            port.close()
        self._sockets.clear()
        if self._qmp is not None:
            self._qmp.close()
            self._qmp = None
        if self._process is not None:
            self._process.kill()
            # A process that hangs in the kernel does not even react to SIGKILL.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_KILL_SECONDS)
            self._process = None

    def release(self) -> None:
        """After kill(): remove the directory."""
        self._watchdog.release()
