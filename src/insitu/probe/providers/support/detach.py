"""Detaching programs, all at once.

The kernel lets each close of a perf link and of a tracing event wait for an RCU grace period, some 30 to 80 ms. Waits
for links overlap when threads close them. Those for events do not, since the kernel holds a lock meanwhile
(kernel/trace/trace_event_perf.c: perf_trace_destroy); but an event whose link is closed runs no program any more, so
its close is left to a process that has nothing else to do. So are links whose programs do nothing any more, for which
some kernels (Debian's 6.1) hold a lock, too (kernel/trace/bpf_trace.c: perf_event_detach_bpf_prog).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from insitu.probe.providers.base import Attachment

__all__ = ["Descriptors", "close_together"]

_MAX_THREADS = 64
# A shell that leaves a copy of itself in the background and ends. The copy reads to the end of a pipe, that is until
# we have closed our copies of the descriptors that it has inherited. Since it is not our child, the wait(2) of our
# program does not report it. (The pipe is at 2: shells give what is in the background an empty input.)
_KEEPER = ["/bin/sh", "-c", "read nothing <&2 &"]


class Descriptors(Struct):
    """An attachment that lasts as long as its descriptors: BPF links, and the perf events that some are made to.

    ``tracing`` are the events which wait when they are closed, and run no program without their links. Events
    without links (on kernels before 5.15) hold the program themselves, and are among ``events``.
    """

    links: list[int] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    tracing: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Detach. Idempotent."""
        close_together([self])


def close_together(attachments: Iterable[Attachment], *, silent: bool = False) -> None:
    """Detach them all, which takes hardly longer than one: on return, none of their programs runs any more.

    Where the programs are ``silent`` (they return at once), some may still be run for a moment.
    """
    now: list[int] = []
    links: list[int] = []
    later: list[int] = []
    for attachment in attachments:
        if isinstance(attachment, Descriptors):
            _disable(attachment.events)
            now += attachment.events
            links += attachment.links
            later += attachment.tracing
            attachment.links, attachment.events, attachment.tracing = [], [], []
        else:
            attachment.close()
    _close_all(now if silent else links + now)
    _close_later(links + later if silent else later)


def _disable(events: Sequence[int]) -> None:
    """A clock ticks on while links are closed. (Tracing events are closed only for their programs.)"""
    if events:
        from insitu.kernel import perf_event

        for event in events:
            with contextlib.suppress(OSError):
                perf_event.disable(event)


def _close_all(descriptors: Sequence[int]) -> None:
    """Close them in parallel; on return, all are closed."""
    shares = [descriptors[first::_MAX_THREADS] for first in range(min(_MAX_THREADS, len(descriptors)))]
    import threading

    threads = [threading.Thread(target=_close_each, args=(share,)) for share in shares[1:]]
    for thread in threads:
        thread.start()
    for share in shares[:1]:
        _close_each(share)
    for thread in threads:
        thread.join()


def _close_each(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _close_later(events: Sequence[int]) -> None:
    """Close our copies of the events at once; the kernel's work is done when their keeper ends."""
    if not events:
        return
    if os.getpid() == 1:  # whose children all orphans become
        _close_all(events)
        return
    # (importing subprocess would take as long as all else here.)
    reading, writing = os.pipe()
    nothing = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    actions = [*((os.POSIX_SPAWN_DUP2, nothing, fd) for fd in (0, 1)), (os.POSIX_SPAWN_DUP2, reading, 2)]
    try:
        for event in events:
            os.set_inheritable(event, True)
        shell = os.posix_spawn(_KEEPER[0], _KEEPER, os.environ, file_actions=actions, setsid=True)
        with contextlib.suppress(ChildProcessError):  # somebody else has waited for it
            os.waitpid(shell, 0)
    except (OSError, NotImplementedError):
        _close_all(events)  # no process to be had: then closing takes its time here
    else:
        _close_each(events)
    finally:
        for each in (reading, writing, nothing):
            os.close(each)
