"""A command's bytes between this process and a guest: standard input in, output and error out, exact and separate."""

import contextlib
import os
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["Completed", "Control", "GuestSilentError", "MarkedStream", "StdinFeed", "connect", "exchange"]

_CHUNK: Final = 1 << 16
_MAX_LINE: Final = 1 << 12


@dataclass(frozen=True)
class Completed:
    """A command that ran in a guest.

    ``status`` is its exit status, or 128 and the signal's number; ``seconds`` the wall time as seen from outside;
    ``oom_kills`` the processes that the guest's kernel killed for lack of memory meanwhile.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    oom_kills: tuple[str, ...] = ()

    def check(self) -> "Completed":
        """This result. Raises InsituError with the command's last error line unless its status is 0."""
        if self.status:
            last = (self.stderr.decode(errors="replace").strip().splitlines() or ["no error output"])[-1]
            raise InsituError(f"{self.argv[0]} ended with status {self.status} in the guest: {last}")
        return self


class GuestSilentError(Exception):
    """The guest did not answer in time (``gone`` is false), or its ports closed because QEMU ended."""

    def __init__(self, gone: bool) -> None:
        super().__init__()
        self.gone = gone


class Control:
    """The control port: scripts go to the guest's agent, lines come back."""

    def __init__(self, port: socket.socket) -> None:
        self.port = port
        self._pending = b""

    def send(self, script: str) -> None:
        """Have the agent run a shell script. Raises GuestSilentError when the guest is gone."""
        text = script.encode(errors="surrogateescape")
        try:
            self.port.settimeout(10)
            self.port.sendall(b"%d\n" % len(text) + text)
        except TimeoutError:
            raise GuestSilentError(gone=False) from None
        except OSError:
            raise GuestSilentError(gone=True) from None

    def line(self, deadline: float) -> str:
        """The agent's next line. Raises GuestSilentError at the deadline (of time.monotonic)."""
        while b"\n" not in self._pending:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise GuestSilentError(gone=False)
            self.port.settimeout(remaining)
            with contextlib.suppress(TimeoutError):
                self._receive()
        return self._take()

    def waiting_lines(self) -> list[str]:
        """What the agent has said so far, after the port turned readable."""
        self.port.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            self._receive()
        lines = []
        while b"\n" in self._pending:
            lines.append(self._take())
        return lines

    def _receive(self) -> None:
        try:
            received = self.port.recv(_CHUNK)
        except (BlockingIOError, TimeoutError):
            raise
        except OSError:
            received = b""
        if not received or len(self._pending) > _MAX_LINE:
            raise GuestSilentError(gone=True)
        self._pending += received

    def _take(self) -> str:
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode(errors="replace")


class MarkedStream:
    """Passes a port's bytes on to ``sink`` until ``marker``, which the agent writes behind a command's last byte.

    The control port cannot say where output ends, as ports are not ordered among each other.
    """

    def __init__(self, port: socket.socket, marker: bytes, sink: Callable[[bytes], object]) -> None:
        self.port = port
        self.ended = False
        self._marker = marker
        self._sink = sink
        self._held = b""

    def receive(self) -> None:
        """Take what is there. Raises GuestSilentError when the port has closed."""
        try:
            received = self.port.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            raise GuestSilentError(gone=True)
        data = self._held + received
        at = data.find(self._marker)
        if at >= 0:
            self.ended = True
            self._held = b""
            self._pass_on(data[:at])
            return
        longest = min(len(self._marker) - 1, len(data))
        kept = next(size for size in range(longest, -1, -1) if data.endswith(self._marker[:size]))
        self._held = data[len(data) - kept :]
        self._pass_on(data[: len(data) - kept])

    def _pass_on(self, data: bytes) -> None:
        if data:
            self._sink(data)


class StdinFeed:
    """Feeds a guest's standard input from bytes or from a file descriptor, as fast as the guest reads."""

    def __init__(self, port: socket.socket, token: str, source: bytes | int) -> None:
        self.port = port
        self.source = source if isinstance(source, int) else None
        # The agent waits for the token: before it, an empty port cannot be told from the end of the input.
        self._pending = memoryview(f"{token}\n".encode() + (source if isinstance(source, bytes) else b""))
        self._at_end = isinstance(source, bytes)
        port.setblocking(False)

    @property
    def wants_to_send(self) -> bool:
        """Whether bytes wait for room in the port."""
        return bool(self._pending)

    @property
    def wants_to_read(self) -> int | None:
        """The descriptor to wait for; None while what was read is not yet sent, or at the end."""
        return None if self._pending or self._at_end else self.source

    def read(self) -> None:
        """Take from the source; its end closes the port, which the command sees as the end of its input."""
        assert self.source is not None
        data = os.read(self.source, _CHUNK)
        self._pending = memoryview(data)
        self._at_end = not data
        self._finish()

    def send(self) -> None:
        """Send what the port has room for."""
        try:
            self._pending = self._pending[self.port.send(self._pending) :]
        except BlockingIOError:
            return
        except OSError:
            self._pending, self._at_end = memoryview(b""), True
        self._finish()

    def _finish(self) -> None:
        if self._at_end and not self._pending:
            with contextlib.suppress(OSError):
                self.port.shutdown(socket.SHUT_WR)


def connect(path: Path, deadline: float) -> socket.socket:
    """A connection to a socket that QEMU is about to open. Raises OSError at the deadline."""
    while True:
        port = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            port.connect(str(path))
            return port
        except OSError:
            port.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def exchange(control: Control, outputs: list[MarkedStream], feed: StdinFeed | None, deadline: float | None) -> int:
    """Carry bytes until the command has ended and all its output has arrived; its exit status.

    Raises GuestSilentError when ``deadline`` passes or the guest goes away.
    """
    status: int | None = None
    for output in outputs:
        output.port.setblocking(False)
    while status is None or not all(output.ended for output in outputs):
        # poll(2), unlike epoll(7), takes regular files, which standard input may be.
        with selectors.PollSelector() as selector:
            selector.register(control.port, selectors.EVENT_READ)
            for output in outputs:
                if not output.ended:
                    selector.register(output.port, selectors.EVENT_READ, output.receive)
            if feed is not None and status is None:
                if feed.wants_to_send:
                    selector.register(feed.port, selectors.EVENT_WRITE, feed.send)
                elif (source := feed.wants_to_read) is not None:
                    selector.register(source, selectors.EVENT_READ, feed.read)
            remaining = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = selector.select(remaining)
        if not ready and deadline is not None and time.monotonic() >= deadline:
            raise GuestSilentError(gone=False)
        for key, _ in ready:
            if key.data is not None:
                key.data()
                continue
            for line in control.waiting_lines():
                verb, _, value = line.partition(" ")
                if verb == "exit" and value.isdigit():
                    status = int(value)
    return status
