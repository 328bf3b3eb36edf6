"""Attaching a program to perf events: by links with cookies where the kernel has them, else by the older ioctl."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from insitu.capabilities import links
from insitu.errors import InsituError
from insitu.kernel import bpf, perf_event, procfs
from insitu.probe.providers.support.detach import Descriptors

__all__ = ["Event", "attach_events", "everywhere", "on_one_cpu"]


class Event(Struct, frozen=True):
    """One perf_event_open(2) call: what, on which thread (-1: all) and CPU (-1: any), and the program's cookie."""

    attr: perf_event.Attr
    pid: int
    cpu: int
    cookie: int = 0


def attach_events(program_fd: int, events: Sequence[Event], *, tracing: bool = False) -> Descriptors:
    """Open the events and attach the program to each; on an error, nothing stays open. ``tracing``: see Descriptors.

    :raises InsituError: for what the kernel refuses.
    """
    attachment = Descriptors()
    linked = links.perf_links().available
    opened = attachment.tracing if tracing and linked else attachment.events
    try:
        for event in events:
            descriptor = perf_event.open_event(event.attr, pid=event.pid, cpu=event.cpu)
            opened.append(descriptor)
            if linked:
                attachment.links.append(bpf.link_perf_event(program_fd, descriptor, event.cookie))
            else:
                _set_bpf(descriptor, program_fd)
            perf_event.enable(descriptor)
    except BaseException:
        attachment.close()
        raise
    return attachment


def _set_bpf(descriptor: int, program_fd: int) -> None:
    try:
        perf_event.set_bpf(descriptor, program_fd)
    except OSError as error:
        raise InsituError(f"cannot attach to a perf event: {error.strerror}") from None


def everywhere(attr: perf_event.Attr, pid: int | None, cookie: int = 0) -> list[Event]:
    """The event on every CPU or, with a pid, on each thread of the process and those that it will start."""
    if pid is None:
        return [Event(attr, -1, cpu, cookie) for cpu in procfs.online_cpus()]
    attr.inherit = 1
    try:
        return [Event(attr, tid, -1, cookie) for tid in procfs.threads(pid)]
    except ProcessLookupError:
        raise InsituError(f"process {pid} does not exist", remedy="ps -e lists processes") from None


def on_one_cpu(attr: perf_event.Attr, cookie: int = 0) -> list[Event]:
    """The event on the first CPU only: a clock that ticks once, or a trace event, which any CPU's hits reach."""
    return [Event(attr, -1, procfs.online_cpus()[0], cookie)]
