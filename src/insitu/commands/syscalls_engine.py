"""Which engine `insitu syscalls` uses: eBPF where privileges and the kernel allow it, else ptrace."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from insitu import messages
from insitu.commands.syscalls_settings import Settings
from insitu.errors import InsituError
from insitu.quick_imports import QuickImports
from insitu.syscalls.call import Event
from insitu.syscalls.call_sets import resolve

if TYPE_CHECKING:
    from insitu.record.source import Source

__all__ = ["backend", "engine", "records"]


def records(args: argparse.Namespace) -> bool:
    """Whether -o is a session."""
    return args.output is not None and (args.output.endswith(".insitu") or os.path.isdir(args.output))  # noqa: PTH112


def backend(args: argparse.Namespace, found: Settings) -> tuple[str, str]:
    """Returns the engine, "bpf" or "ptrace", and why. Raises InsituError for what the chosen one cannot do."""
    needs_ptrace = "-e inject=" if found.engine.inject else "--seccomp-bpf" if args.seccomp_bpf else ""
    if args.backend == "bpf" and needs_ptrace:
        raise InsituError(f"{needs_ptrace} needs the ptrace engine", remedy="without --backend bpf", status=2)
    if args.backend != "auto":
        return args.backend, f"--backend {args.backend}"
    if needs_ptrace:
        return "ptrace", f"for {needs_ptrace}"
    with QuickImports():
        from insitu.capabilities.result import State
        from insitu.capabilities.tracing import raw_tracepoints

    if args.stack_traces and not records(args) and not args.all:
        return "ptrace", "for -k: it unwinds by DWARF"
    result = raw_tracepoints()
    if result.state is State.YES:
        return "bpf", "privileged, and the kernel can"
    return "ptrace", f"no eBPF: {result.reason}" if result.reason else "no eBPF"


def engine(args: argparse.Namespace, found: Settings, deliver: Callable[[Sequence[Event]], None] | None) -> Source:
    """Returns it; ``deliver`` gets the events as they come, without it a session is recorded. Raises InsituError."""
    chosen, reason = backend(args, found)
    if args.verbose:
        messages.note(f"engine: {chosen} ({reason})")
    if chosen == "ptrace":
        from insitu.record.sources.ptrace import PtraceSource

        source = PtraceSource(found.engine, deliver)
        for option, lacks in (("-a", args.all), ("-k", args.stack_traces and not hasattr(source, "stack_frames"))):
            if lacks:
                remedy = "run as root, without --backend ptrace"
                raise InsituError(f"{option} needs the eBPF engine: {reason}", remedy=remedy)
        return source
    with QuickImports():
        from insitu.record.sources.syscalls import SyscallsSource
    calls = found.engine.calls
    if calls is not None:  # a launched command is recorded from its execve on
        calls |= resolve("execve,execveat")
    return SyscallsSource(found.engine._replace(calls=calls), deliver)
