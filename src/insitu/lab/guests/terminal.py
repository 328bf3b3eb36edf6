"""A guest's terminal on this process's terminal: raw bytes both ways, and the window size."""

import os
import selectors
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from insitu.errors import InsituError
from insitu.lab.guests.failures import death
from insitu.lab.guests.guest import Guest
from insitu.lab.guests.port_streams import GuestSilentError

__all__ = ["interact"]

_CHUNK: Final = 1 << 14
_STATUS_HANGUP: Final = 128 + signal.SIGHUP


def interact(guest: Guest, argv: Sequence[str]) -> int:
    """Run a command on the guest's terminal, connected to this process's; returns its exit status.

    If this process's terminal is closed, the status is that of SIGHUP. Raises InsituError without a terminal, and
    GuestError if the guest exits.
    """
    if not sys.stdin.isatty():
        raise InsituError("a shell needs a terminal", remedy="insitu lab run -- CMD works without one", status=2)
    columns, rows = shutil.get_terminal_size()
    port = guest.terminal(argv, rows, columns)
    status: int | None = None
    with _raw_terminal() as resized, selectors.PollSelector() as selector:
        for source in (port, guest.control.port, sys.stdin.fileno(), resized):
            selector.register(source, selectors.EVENT_READ)
        try:
            # The terminal's last bytes may arrive after the line on the control port.
            while ready := selector.select(None if status is None else 0.1):
                for key, _ in ready:
                    if key.fileobj is port:
                        os.write(sys.stdout.fileno(), port.recv(_CHUNK))
                    elif key.fileobj == resized:
                        os.read(resized, _CHUNK)
                        columns, rows = shutil.get_terminal_size()
                        guest.control.send(f"$busybox stty -F /dev/hvc0 rows {rows} cols {columns}")
                    elif key.fileobj == sys.stdin.fileno():
                        typed = os.read(sys.stdin.fileno(), _CHUNK)
                        if not typed:
                            return _STATUS_HANGUP
                        port.sendall(typed)
                    else:
                        ends = [line for line in guest.control.waiting_lines() if line.startswith("exit ")]
                        status = int(ends[0].removeprefix("exit ")) if ends else status
                        if ends:
                            selector.unregister(sys.stdin.fileno())
        except (GuestSilentError, ConnectionError):
            raise death(guest.directory / "console") from None
    return status or 0


@contextmanager
def _raw_terminal() -> Iterator[int]:
    """Raw mode inside the block; yields a descriptor that is readable after the window size has changed."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    old_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    old_handler = signal.signal(signal.SIGWINCH, lambda number, frame: None)
    tty.setraw(fd)
    try:
        yield reading
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, old_handler)
        signal.set_wakeup_fd(old_wakeup)
        os.close(reading)
        os.close(writing)
