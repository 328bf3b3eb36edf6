"""What to use instead where the kernel cannot probe a function: fentry if it can, tracepoints of like names."""

from __future__ import annotations

import re

from insitu.kernel import link_features
from insitu.probe.providers.base import Context
from insitu.symbols.btf import Kind

__all__ = ["can_trace_functions", "instead_of"]

_ANY_FUNCTION = "bpf_fentry_test1"  # every kernel with BPF trampolines has it, and nothing calls it


def can_trace_functions(context: Context) -> bool:
    """Whether fentry programs load here."""
    function = context.btf.find(_ANY_FUNCTION, Kind.FUNC)
    return function is not None and link_features.has_fentry(function.id)


def instead_of(function: str, context: Context) -> str:
    """A remedy for a function (or pattern) that cannot be probed the way that was asked."""
    function = function.partition("+")[0]
    hints = []
    if can_trace_functions(context) and ("*" in function or context.btf.find(function, Kind.FUNC)):
        hints.append(f"fentry:{function}")
    words = set(function.replace("*", "").split("_")) - {""}
    scored = []
    for name in context.tracefs.events():
        common = len(words & set(re.split("[:_]", name)))
        scored += [(-common, not name.startswith("syscalls:"), len(name), name)] if common else []
    hints += [f"tracepoint:{name}" for *_, name in sorted(scored)[:2]]
    use = f"use {' or perhaps '.join(hints)}" if hints else "insitu trace -l lists what there is"
    return f"{use}; or trace in a guest kernel: insitu lab"
