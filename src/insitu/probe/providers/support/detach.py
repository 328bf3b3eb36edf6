"""Detaching programs, all at once.

The kernel lets each close of a perf link and of a tracing event wait for an RCU grace period, some 30 to 80 ms. Waits
for links overlap when threads close them. Those for events do not, since the kernel holds a lock meanwhile
(kernel/trace/trace_event_perf.c: perf_trace_destroy); but an event whose link is closed runs no program any more, so
its close is left to a process that has nothing else to do. So are links whose programs do nothing any more, for which
some kernels (Debian's 6.1) hold a lock, too (kernel/trace/bpf_trace.c: perf_event_detach_bpf_prog).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from msgspec import Struct, field

from insitu.kernel.slow_close import close_in_parallel, close_later
from insitu.probe.providers.base import Attachment

__all__ = ["Descriptors", "close_together"]


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
    close_in_parallel(now if silent else links + now)
    close_later(links + later if silent else later)


def _disable(events: Sequence[int]) -> None:
    """A clock ticks on while links are closed. (Tracing events are closed only for their programs.)"""
    if events:
        from insitu.kernel import perf_event

        for event in events:
            with contextlib.suppress(OSError):
                perf_event.disable(event)
