"""SIGINT, SIGTERM, SIGHUP and SIGQUIT as a descriptor for poll(2)."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Final, Self

from insitu.at_exit import do_now

__all__ = ["ASKING", "Interrupts"]

ASKING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""The signals that ask to stop."""


class Interrupts:
    """Within the context, the signals that ask to stop are counted instead of ending the process.

    ``fd`` becomes readable when one arrives. SIGHUP and SIGQUIT stay ignored if they were (nohup). SIGINT, which
    shells ignore for background jobs, is handled all the same, so that `kill -INT` ends such a recorder.
    ``ignored_before`` holds the signals that a command started within the context must go on ignoring.
    Outside the main thread Python delivers no signals: there the context has no effect.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first = self.last = 0
        """The first and the last signal that has arrived; 0: none."""
        self.time_over = False
        """Whether the duration of the run that ends now is over: that asks to stop as a signal does."""
        self._leaving = False
        self.fd, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before: dict[int, Any] = {}
        self._wake_before = -1
        self.ignored_before: list[int] = []

    def __enter__(self) -> Self:
        try:
            self._wake_before = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        except ValueError:
            return self
        for number in ASKING:
            if signal.getsignal(number) is signal.SIG_IGN:
                self.ignored_before.append(number)
                if number in (signal.SIGHUP, signal.SIGQUIT):
                    continue
            self._before[number] = signal.signal(number, self._count)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        if self._before:
            signal.set_wakeup_fd(self._wake_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self.fd)
        os.close(self._wake)

    @contextlib.contextmanager
    def abandonable(self) -> Iterator[None]:
        """For work that may take long and can be abandoned without loss: one more signal ends the process."""
        self._leaving = True
        try:
            yield
        finally:
            self._leaving = False

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self.first, self.last = self.first or number, number
        if self._leaving and self.count > 1:
            # Attachments are held by descriptors: the kernel detaches them when the process exits. Others are not.
            do_now()
            os._exit(128 + number)

    def asked(self) -> bool:
        """Returns whether any has arrived."""
        return self.count > 0

    def seen(self) -> int:
        """Returns how many have arrived; ``fd`` is not readable again before the next one."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 512)
        return self.count
