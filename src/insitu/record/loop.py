"""The event loop of recordings and scripts: waits, drains the sources, and decides when to stop."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insitu.record.interrupts import Interrupts
    from insitu.record.launcher import Launched
    from insitu.record.source import Source

__all__ = ["Loop"]

# How long a command, which gets Ctrl-C too, may take to exit before it is sent SIGTERM.
_GRACE_S = 1.0
_LONGEST_WAIT_S = 86400.0  # poll(2) takes no more than 24 days
# How long a command may take to exit on SIGTERM before it is sent SIGKILL, where nobody asked to stop.
_KILL_AFTER_S = 5.0


class Loop:
    """Drains sources until the target (with what a source follows of it) or a source ends, the duration is over, or a
    signal asks to stop.

    Use: ``while loop.turn(): ...``; then stop the sources, ``end_command()``, ``exit_status``; and close it.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        drain: Callable[[], object],
        *,
        launched: Launched | None = None,
        pids: Sequence[int] = (),
        seconds: float | None = None,
        interrupts: Interrupts | None = None,
    ) -> None:
        """``drain`` is called whenever there may be data to drain. ``seconds`` count from now."""
        self._sources = sources
        self._drain = drain
        self._launched = launched
        self._interrupts = interrupts
        self._began = time.monotonic()
        self._seconds = seconds
        self._owned: set[int] = set()
        self._abandoned = self._terminated = False
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._owned.add(os.pidfd_open(pid))
        self._targets = {launched.pidfd} if launched else set(self._owned)
        self._over = bool(pids) and not self._targets
        self._ending = False
        self.time_over = False
        """Whether it ended because the duration is over."""
        self._poll = select.poll()
        for fd in self._targets:
            self._poll.register(fd, select.POLLIN)
        for source in sources:
            for fd in source.fds:
                self._poll.register(fd, select.POLLIN)
        if interrupts:
            self._poll.register(interrupts.fd, select.POLLIN)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the loop was made."""
        return time.monotonic() - self._began

    def turn(self) -> bool:
        """Wait for an event, and drain; returns False when the recording is over."""
        if self._over or (self._interrupts is not None and self._interrupts.seen()):
            return False
        wait_s = min((*(source.wait_s for source in self._sources), _LONGEST_WAIT_S))
        if self._seconds is not None:
            left = self._seconds - self.elapsed_s
            if left <= 0:
                self.time_over = True
                return False
            wait_s = min(wait_s, left)
        for fd, _ in self._poll.poll(wait_s * 1000):
            if fd in self._targets:
                self._poll.unregister(fd)
                self._targets.remove(fd)
                self._ending = not self._targets
        self._drain()
        if any(source.ended for source in self._sources):
            self._over = True
        if self._ending and not any(getattr(source, "follows", False) for source in self._sources):
            self._over = True
        return not self._over

    def end_command(self, *, at_once: bool = True) -> bool:
        """End the command and wait for it; returns whether a second signal came and it was left running.

        Not ``at_once``: wait until it exits by itself. Where nobody asked to stop (a duration is over), a command
        that does not exit on SIGTERM is killed, and left where even that does not end it.
        """
        launched = self._launched
        if launched is None:
            return False
        poll = select.poll()
        poll.register(launched.pidfd, select.POLLIN)
        asked = 0
        if self._interrupts is not None:
            poll.register(self._interrupts.fd, select.POLLIN)
            asked = self._interrupts.seen()
        if at_once:
            if asked:
                poll.poll(_GRACE_S * 1000)
            self._terminated = not asked and not launched.ended()
            launched.terminate()
        unattended = at_once and not asked
        waits = [_GRACE_S, _KILL_AFTER_S - _GRACE_S, _KILL_AFTER_S] if unattended else [_GRACE_S]
        while not launched.ended():
            expired = not poll.poll(waits.pop(0) * 1000 if waits else None)
            if self._interrupts is not None and self._interrupts.seen() > asked:
                self._abandoned = launched.left_running = True
                return True
            if expired and at_once and not self._keep_waiting(launched, len(waits), unattended=unattended):
                break
        return False

    def _keep_waiting(self, launched: Launched, waits_left: int, *, unattended: bool) -> bool:
        """Say that the command still runs, and do what comes next; returns whether to wait on."""
        from insitu import messages

        if not unattended:
            messages.note("waiting for the command to end; Ctrl-C leaves it running")
        elif waits_left == 2:
            messages.note(
                f"waiting for the command to end; killed after {_KILL_AFTER_S:g} s; Ctrl-C leaves it running"
            )
        elif waits_left == 1:
            messages.note(f"the command did not end within {_KILL_AFTER_S:g} s of SIGTERM: killed")
            launched.signal(signal.SIGKILL)
        else:
            messages.note("the command cannot be killed (waiting in the kernel?) and is left behind")
            launched.left_running = True
            return False
        return True

    def exit_status(self, *, failed: bool = False) -> int:
        """The command's exit status as a shell gives it; 0 without one, or if the recording's end terminated it.

        Of a signal if that has left the command running, and always of SIGQUIT, by which the user gives up.
        """
        if self._interrupts is not None and (self._abandoned or self._interrupts.first == signal.SIGQUIT):
            return 128 + (self._interrupts.last if self._abandoned else signal.SIGQUIT)
        if self._launched is None:
            return 0
        if self._launched.left_running:
            return 128 + signal.SIGKILL
        return 0 if self._terminated and not failed else self._launched.exit_status

    def close(self) -> None:
        """Close the descriptors of watched processes. Idempotent."""
        while self._owned:
            os.close(self._owned.pop())
