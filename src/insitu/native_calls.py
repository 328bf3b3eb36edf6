"""Ends a command whose signals Python cannot handle: while a library runs (a query, a sort), handlers wait."""

import _thread
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Final

__all__ = ["handled", "second_signal_ends"]

_AT_ONCE_S: Final = 0.3  # timeout(1) sends its signal twice: to the command and to the process group

_handled_s = [0.0]


def handled() -> None:
    """For handlers: Python has come to handle a signal."""
    _handled_s[0] = time.monotonic()


@contextlib.contextmanager
def second_signal_ends() -> Iterator[None]:
    """Within the context, a signal ends the process if Python still has not handled an earlier one.

    Handlers that Python calls work as usual. Outside the main thread it has no effect.
    """
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    try:
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    except ValueError:
        os.close(reading)
        os.close(writing)
        yield
        return
    _thread.start_new_thread(_watch, (reading,))
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)


def _watch(reading: int) -> None:
    """Read the numbers of signals, which the C part of Python writes at once."""
    first_s = -1.0
    while number := os.read(reading, 1):
        now_s = time.monotonic()
        if first_s <= _handled_s[0]:
            first_s = now_s
        elif now_s - first_s > _AT_ONCE_S and number[0] in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os._exit(128 + number[0])
    os.close(reading)
