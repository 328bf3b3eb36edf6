"""Reading standard input so that one signal always ends the wait for it."""

import contextlib
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import BinaryIO

__all__ = ["copy_input"]

_PIECE_BYTES = 1 << 20


def copy_input(to: BinaryIO) -> None:
    """Copy standard input, up to its end. Raises OSError, and what handlers of signals raise.

    Python looks for signals before it calls read(2), and read(2) returns early for a signal that comes while it
    waits; one in between would wait for input. Here poll(2) waits, also for the byte that a signal writes to a pipe.
    """
    fd = sys.stdin.fileno()
    with _wake_up_fd() as woken:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = [each for each, _ in poll.poll()]  # afterwards Python calls the handlers
            if woken in ready:
                os.read(woken, 512)
            if fd in ready:
                piece = os.read(fd, _PIECE_BYTES)
                if not piece:
                    break
                to.write(piece)
    to.flush()


@contextlib.contextmanager
def _wake_up_fd() -> Iterator[int]:
    """A descriptor that becomes readable when a signal with a handler comes."""
    woken, wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    before = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(before)
        os.close(woken)
        os.close(wake)
