"""What the function_graph tracer costs for each call that it records, measured on this machine.

poll(2) on many eventfds calls eventfd_poll for each. With only poll traced, and with eventfd_poll too, poll's
duration differs by the whole cost of that many calls. The shortest eventfd_poll is the part within a call's own
duration, as the function itself takes a few nanoseconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from insitu.cache_home import own_cache
from insitu.convert.trace_calls import GraphDecoder
from insitu.convert.trace_pages import decode_pages, page_layout
from insitu.files import write_whole
from insitu.kernel import procfs
from insitu.kernel.trace_instance import trace_page_bytes
from insitu.symbols.frame import Frame

if TYPE_CHECKING:
    from insitu.kernel.trace_instance import TraceInstance
    from insitu.kernel.tracefs import Tracefs

__all__ = ["call_cost_ns"]

I64 = NDArray[np.int64]

_OUTER: Final = "do_sys_poll"
_INNER: Final = "eventfd_poll"
_CALLS: Final = 500
_TIMES: Final = 9


def call_cost_ns(tracefs: Tracefs, instance: TraceInstance) -> tuple[int, int]:
    """Nanoseconds within a call's own duration, and besides that in its caller's; (0, 0) where it cannot be measured.

    The instance is stopped, and nothing is set in it but its clock. A result is kept until the next boot.
    """
    home = own_cache("call-cost")
    kept = Path(home) / "this-boot.json" if home else None
    if kept is not None:
        with contextlib.suppress(OSError, ValueError, TypeError):
            boot, inside, outside = json.loads(kept.read_text())
            if boot == procfs.boot_id():
                return int(inside), int(outside)
    try:
        cost = _measured(tracefs, instance)
    except OSError:  # a function of another name, or none that can be traced
        return 0, 0
    if kept is not None:
        with contextlib.suppress(OSError):
            write_whole(kept, json.dumps([procfs.boot_id(), *cost]).encode())
    return cost


def _measured(tracefs: Tracefs, instance: TraceInstance) -> tuple[int, int]:
    fds = [os.eventfd(0, os.EFD_CLOEXEC) for _ in range(_CALLS)]
    try:
        poll = select.poll()
        for fd in fds:
            poll.register(fd, select.POLLIN)
        instance.write("set_ftrace_pid", str(threading.get_native_id()))
        alone, _ = _durations(tracefs, instance, poll, _OUTER)
        both, inner = _durations(tracefs, instance, poll, f"{_OUTER} {_INNER}")
    finally:
        for path in ("set_ftrace_pid", "set_ftrace_filter"):  # neither may restrict what is recorded then
            instance.write(path, "")
        for fd in fds:
            os.close(fd)
    if not (len(alone) and len(both) and len(inner)):
        return 0, 0
    whole = max(float(np.median(both) - np.median(alone)) / _CALLS, 0)
    inside = min(float(inner.min()), whole)
    return round(inside), round(whole - inside)


def _durations(tracefs: Tracefs, instance: TraceInstance, poll: select.poll, functions: str) -> tuple[I64, I64]:
    """How long calls of poll took, and calls of what it called, if that was traced too."""
    instance.write("set_ftrace_filter", functions)
    instance.write("current_tracer", "function_graph")
    size = trace_page_bytes(instance.read)
    try:
        instance.write("tracing_on", "1")
        for _ in range(_TIMES):
            poll.poll(0)
        instance.write("tracing_on", "0")
        pages = [page.ljust(size, b"\0") for cpu in instance.cpus for page in _pages(instance, cpu, size)]
    finally:
        instance.write("current_tracer", "nop")  # which empties the buffer
    memory = np.frombuffer(b"".join(pages), np.uint8)
    layout = page_layout(tracefs.read("events/header_page"), size)
    shapes = [tracefs.event("ftrace", name) for name in ("funcgraph_entry", "funcgraph_exit")]
    decoder = GraphDecoder({shape.id: shape for shape in shapes}, lambda found: [Frame(str(each)) for each in found])
    calls, _ = decoder.decode(decode_pages(memory, np.zeros(len(pages), np.int32), layout))
    outermost = calls.depth == min(calls.depth.tolist(), default=0)
    return calls.dur_ns[calls.exits & outermost], calls.dur_ns[calls.exits & ~outermost]


def _pages(instance: TraceInstance, cpu: int, size: int) -> Iterator[bytes]:
    fd = instance.open(f"per_cpu/cpu{cpu}/trace_pipe_raw", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while page := os.read(fd, size):
                yield page
    finally:
        os.close(fd)
