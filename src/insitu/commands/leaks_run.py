"""``insitu leaks -- COMMAND``: run it, and copy it just before it exits, or after a time."""

from __future__ import annotations

import argparse
import contextlib
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from insitu.inspect.heap.snapshot import Snapshot
    from insitu.record.interrupts import Interrupts
    from insitu.record.launcher import Launched

__all__ = ["last_moment"]


def last_moment(
    args: argparse.Namespace,
    command: Sequence[str],
    variables: Mapping[str, str] = MappingProxyType({}),
    copied: Callable[[Snapshot], None] = lambda snapshot: None,
) -> tuple[Snapshot, int]:
    """Run a command until it is about to exit, or ``args.duration`` is over, which ends it; returns its status, too.

    ``variables`` are added to its environment. ``copied`` is called at once with the copy, before a
    command that still runs is ended.
    Signals that ask this process to stop are passed on to the command; Ctrl-C reaches it from the terminal.
    Raises InsituError.
    """
    from insitu.inspect.heap.last_moment import LastMoment
    from insitu.record.interrupts import Interrupts
    from insitu.record.launcher import Launched

    with (
        Interrupts() as interrupts,
        contextlib.closing(Launched(command, interrupts.ignored_before, variables)) as launched,
    ):
        launched.settle()
        launched.traced()
        watch = LastMoment(launched.pid, launched.untraced, args.max_memory)
        try:
            launched.release()
            _wait(launched, interrupts, args.duration)
            snapshot = watch.snapshot()
            copied(snapshot)
            return snapshot, launched.exit_status if launched.ended() else 0
        finally:
            watch.let_go()


def _wait(launched: Launched, interrupts: Interrupts, seconds: float | None) -> None:
    """Wait for the command's end, or so long."""
    poll = select.poll()
    poll.register(launched.pidfd, select.POLLIN)
    poll.register(interrupts.fd, select.POLLIN)
    until = time.monotonic() + seconds if seconds else None
    passed = 0
    while True:
        left = max(until - time.monotonic(), 0) if until else None
        ready = poll.poll(None if left is None else left * 1000)
        if launched.pidfd in dict(ready):
            launched.wait()
            return
        if until and time.monotonic() >= until:
            return
        if interrupts.seen() > passed:
            passed = interrupts.count
            # What the terminal sends, it sends to the command too; one more signal may come from elsewhere.
            if interrupts.last != signal.SIGINT or passed > 1:
                launched.signal(interrupts.last)
