"""What to use instead where the kernel cannot probe a function: fentry if it can, tracepoints of like names."""

from __future__ import annotations

import re

from insitu.capabilities import links
from insitu.probe.providers.base import Context
from insitu.symbols.btf import Kind

__all__ = ["can_trace_functions", "instead_of", "successors"]

# Functions that well-known scripts name and that kernels have no more: renamed, or inlined everywhere. Where a kernel
# has several of the successors, the first is the closest.
_SUCCESSORS: dict[str, tuple[str, ...]] = {
    "blk_account_io_start": ("tracepoint:block:block_io_start", "tracepoint:block:block_rq_issue"),
    "blk_account_io_done": ("tracepoint:block:block_io_done", "tracepoint:block:block_rq_complete"),
    "blk_start_request": ("kprobe:blk_mq_start_request", "tracepoint:block:block_rq_issue"),
    "swap_readpage": ("kprobe:swap_read_folio",),
}
_ANY_FUNCTION = "bpf_fentry_test1"  # every kernel with BPF trampolines has it, and nothing calls it


def can_trace_functions(context: Context) -> bool:
    """Whether fentry programs load here."""
    function = context.btf.find(_ANY_FUNCTION, Kind.FUNC)
    return function is not None and links.fentry(function.id).available


def successors(function: str, context: Context) -> list[str]:
    """The attach points that replaced a function, as far as this kernel has them."""
    return [place for place in _SUCCESSORS.get(function.lstrip("_"), ()) if _exists(place, context)]


def _exists(place: str, context: Context) -> bool:
    """Whether this kernel has a tracepoint or function. The list of all functions takes it long to write."""
    kind, *names = place.split(":")
    if kind == "tracepoint":
        return context.tracefs.exists("/".join(("events", *names)))
    return any([function] == names for function, _ in context.functions)


def instead_of(function: str, context: Context) -> str:
    """A remedy for a function (or pattern) that cannot be probed the way that was asked."""
    function = function.partition("+")[0]
    hints = successors(function, context)[:1]
    if can_trace_functions(context) and ("*" in function or context.btf.find(function, Kind.FUNC)):
        hints.append(f"fentry:{function}")
    words = set(function.replace("*", "").split("_")) - {""}
    scored = []
    for name in [] if hints else context.tracefs.events():
        common = len(words & set(re.split("[:_]", name)))
        scored += [(-common, not name.startswith("syscalls:"), len(name), name)] if common else []
    hints += [f"tracepoint:{name}" for *_, name in sorted(scored)[:2]]
    use = f"use {' or '.join(hints)}" if hints else "insitu trace -l 'tracepoint:*' lists tracepoints"
    return f"{use}; or trace in a guest kernel: insitu lab"
