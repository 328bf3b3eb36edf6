"""The kernel's own functions by which it records an event: innermost in stacks taken at a tracepoint.

Which of them there are depends on who else traces: with one program the tracepoint calls it directly, with two it
does so through __traceiter_NAME().
"""

from __future__ import annotations

import re
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import KERNEL

__all__ = ["is_tracing", "without_tracing"]

I32 = NDArray[np.int32]

# include/linux/tracepoint.h, include/trace/{bpf_probe,perf,trace_events}.h, kernel/trace/bpf_trace.c
_TRACING: Final = re.compile(
    r"__traceiter_|__bpf_trace_|bpf_trace_run\d|bpf_prog_[0-9a-f]{16}|bpf_trampoline_|trace_call_bpf|"
    r"perf_trace_|perf_tp_event|perf_syscall_(enter|exit)|"
    r"(do_)?trace_event_raw_event_|trace_event_buffer_(commit|reserve|lock_reserve)|ftrace_syscall_(enter|exit)|"
    r"ftrace_trampoline|ftrace_(regs_)?(caller|call)"
)


def is_tracing(function: str) -> bool:
    """Whether a kernel function is one of those."""
    return _TRACING.match(function) is not None


def without_tracing(writer: SessionWriter, stack: I32) -> I32:
    """Stacks without such functions at their leaf."""
    found, inverse = distinct(stack)
    parent, frame = writer.stacks.parent, writer.stacks.frame
    frames = writer.frames.frames
    while True:
        leaf, at = distinct(frame[found])  # -1 of no stack
        ours = [each >= 0 and frames[each].kind == KERNEL and is_tracing(frames[each].function) for each in leaf]
        dropped = np.array(ours, np.bool_)[at]
        if not dropped.any():
            return found[inverse]
        found = np.where(dropped, parent[found], found)
