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


def run_command(command: Sequence[str], variables: Mapping[str, str], interrupts: Interrupts | None = None) -> int:
    """Run it to its end; returns its exit status, 128 + n for signal n.

    Signals that ask this process to stop are passed on to the command; Ctrl-C reaches it from the terminal.
    ``interrupts``, entered by a caller that does more, keeps them.
    Raises InsituError (status 126 or 127) where it cannot be run.
    """
    with (
        contextlib.nullcontext(interrupts) if interrupts else Interrupts() as asked,
        contextlib.closing(Launched(command, asked.ignored_before, variables)) as launched,
    ):
        launched.release()
        poll = select.poll()
        poll.register(launched.pidfd, select.POLLIN)
        passed = asked.count
        while not launched.ended():
            poll.poll(_TURN_MS)
            if asked.count > passed:
                passed = asked.count
                # What the terminal sends, it sends to the command too; one more signal may come from elsewhere.
                if asked.last != signal.SIGINT or passed > 1:
                    launched.signal(asked.last)
        return launched.exit_status
