"""QEMU's machine protocol (docs/interop/qmp-spec.txt in QEMU), synchronously over a Unix socket.

The lab waits on guest ports, QEMU and this socket in one selector, where the asyncio library qemu.qmp would need a
second thread that runs its loop.
"""

import json
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from insitu.errors import InsituError

__all__ = ["Qmp", "QmpError"]

_MAX_MESSAGE_BYTES: Final = 64 << 20


class QmpError(InsituError):
    """QEMU refused a command, or its socket went away."""


class Qmp:
    """A connection, ready for commands. Raises QmpError when QEMU does not answer within ``timeout`` seconds."""

    def __init__(self, path: Path, timeout: float = 10.0) -> None:
        self.events: list[dict[str, Any]] = []
        self._pending = b""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise QmpError(f"QEMU does not answer on {path}: {error.strerror or error}") from None
        self._receive(time.monotonic() + timeout)
        self.execute("qmp_capabilities")

    def execute(self, command: str, *, timeout: float = 60.0, **arguments: Any) -> Any:
        """Run a command; its return value. Underscores in argument names stand for QMP's hyphens."""
        message: dict[str, Any] = {"execute": command}
        if arguments:
            message["arguments"] = {name.replace("_", "-"): value for name, value in arguments.items()}
        deadline = time.monotonic() + timeout
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise QmpError(f"QEMU is gone: {error.strerror or error}") from None
        while True:
            answer = self._receive(deadline)
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise QmpError(f"QEMU refuses {command}: {answer['error'].get('desc', 'no reason given')}")
            self.events.append(answer)

    def human(self, line: str) -> str:
        """Run a line of the human monitor; what it prints."""
        return str(self.execute("human-monitor-command", command_line=line))

    def close(self) -> None:
        """Close the connection; QEMU goes on."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\n" not in self._pending:
            try:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                received = self._socket.recv(1 << 16)
            except TimeoutError:
                raise QmpError("QEMU does not answer its monitor") from None
            except OSError as error:
                raise QmpError(f"QEMU is gone: {error.strerror or error}") from None
            if not received:
                raise QmpError("QEMU is gone: it closed its monitor")
            self._pending += received
            if len(self._pending) > _MAX_MESSAGE_BYTES:
                raise QmpError("QEMU's monitor sends a message without an end")
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            raise QmpError("QEMU's monitor sends what is not JSON") from None
        if not isinstance(message, dict):
            raise QmpError("QEMU's monitor sends what is not a message")
        return message
