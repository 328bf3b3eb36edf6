"""A guest's virtio-serial ports: the control port, and a command's input, output and errors, byte for byte."""

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

    ``status`` is its exit status, or 128 + N for signal N; ``seconds`` the wall time measured outside the guest;
    ``oom_kills`` the processes that the guest's OOM killer killed meanwhile.
    """

    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    oom_kills: tuple[str, ...] = ()

    def check(self) -> "Completed":
        """Return this result. Raises InsituError with the last line of standard error unless ``status`` is 0."""
        if self.status:
            last = (self.stderr.decode(errors="replace").strip().splitlines() or ["no error output"])[-1]
            raise InsituError(f"{self.argv[0]} ended with status {self.status} in the guest: {last}")
        return self


class GuestSilentError(Exception):
    """The guest did not respond in time, or (``gone``) its ports closed because QEMU exited."""

    def __init__(self, gone: bool) -> None:
        super().__init__()
        self.gone = gone


class Control:
    """The control port: the guest's agent runs the scripts sent to it and sends lines back."""

    def __init__(self, port: socket.socket) -> None:
        self.port = port
        self._pending = b""

    def send(self, script: str) -> None:
        """Send a shell script to the agent, which runs it. Raises GuestSilentError if the guest does not take it."""
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
        """The whole lines that have arrived; for a port that is readable."""
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
    """Passes a port's bytes to ``sink`` up to ``marker``, which the agent writes after a command's last byte.

    The control port cannot mark the end of output, as the order between ports is undefined.
    """

    def __init__(self, port: socket.socket, marker: bytes, sink: Callable[[bytes], object]) -> None:
        self.port = port
        self.ended = False
        self._marker = marker
        self._sink = sink
        self._held = b""

    def receive(self) -> None:
        """Read what has arrived. Raises GuestSilentError if the port has closed."""
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
        # The agent waits for the token: until this side has connected, reading the port returns end of file.
        self._pending = memoryview(f"{token}\n".encode() + (source if isinstance(source, bytes) else b""))
        self._at_end = isinstance(source, bytes)
        port.setblocking(False)

    @property
    def wants_to_send(self) -> bool:
        """Whether there are bytes to send."""
        return bool(self._pending)

    @property
    def wants_to_read(self) -> int | None:
        """The descriptor to read from next; None while earlier bytes are not sent, or at the end of the input."""
        return None if self._pending or self._at_end else self.source

    def read(self) -> None:
        """Read from the source; at its end the port is closed, which ends the command's input."""
        assert self.source is not None
        data = os.read(self.source, _CHUNK)
        self._pending = memoryview(data)
        self._at_end = not data
        self._finish()

    def send(self) -> None:
        """Send as much as the port takes."""
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
    """Connect to a socket that QEMU will create. Raises OSError at the deadline (of time.monotonic)."""
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
    """Transfer bytes until the command has ended and all its output has arrived; returns its exit status.

    Raises GuestSilentError at ``deadline`` (of time.monotonic), or if the guest exits.
    """
    status: int | None = None
    for output in outputs:
        output.port.setblocking(False)
    while status is None or not all(output.ended for output in outputs):
        # Standard input may be a regular file, which poll(2) supports and epoll(7) does not.
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
