"""Runs a command without recording anything: with variables added to its environment, until it has ended."""

from __future__ import annotations

import contextlib
import select
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from insitu.record.interrupts import Interrupts
from insitu.record.launcher import Launched

__all__ = ["run_command"]

_TURN_MS: Final = 500


def run_command(command: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run it to its end; returns its exit status, 128 + n for signal n.

    Signals that ask this process to stop are passed on to the command; Ctrl-C reaches it from the terminal.
    Raises InsituError (status 126 or 127) where it cannot be run.
    """
    with (
        Interrupts() as interrupts,
        contextlib.closing(Launched(command, interrupts.ignored_before, variables)) as launched,
    ):
        launched.release()
        poll = select.poll()
        poll.register(launched.pidfd, select.POLLIN)
        passed = 0
        while not launched.ended():
            poll.poll(_TURN_MS)
            if interrupts.count > passed:
                passed = interrupts.count
                # What the terminal sends, it sends to the command too; one more signal may come from elsewhere.
                if interrupts.last != signal.SIGINT or passed > 1:
                    launched.signal(interrupts.last)
        return launched.exit_status
