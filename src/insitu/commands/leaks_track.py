"""``insitu leaks --track``: trace allocations by the ready program mallocs, then copy the process."""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING

import numpy as np

from insitu import messages
from insitu.convert.open import open_session
from insitu.errors import InsituError
from insitu.inspect.heap.allocations import U64, Traced
from insitu.inspect.heap.last_moment import LastMoment
from insitu.inspect.heap.snapshot import Snapshot, take
from insitu.probe.bpftrace.scripts import read_script
from insitu.probe.compile import compile_script
from insitu.probe.options import Options
from insitu.probe.output.stream import TextOutput
from insitu.probe.providers.base import Context
from insitu.probe.source import ScriptError
from insitu.record.interrupts import Interrupts
from insitu.record.run import Request as RunRequest
from insitu.record.run import Run
from insitu.record.session_destination import SessionDestination
from insitu.record.sources.probe import ProbeSource
from insitu.record.sources.processes import ProcessesSource
from insitu.temporary_directories import TemporaryDirectory

if TYPE_CHECKING:
    from insitu.record.source import Target
    from insitu.session.reader import Session
    from insitu.session.weighted_stacks import WeightedStacks
    from insitu.symbols.frame import Frame

__all__ = ["track"]

_EVENTS = "event.block"


def track(
    args: argparse.Namespace, command: Sequence[str], pid: int
) -> tuple[Snapshot, Callable[[U64], Traced], int]:
    """Trace the allocations of a command until it is about to exit, or of a process.

    In both cases at most ``args.duration``, and until a signal asks to stop. Returns the copy of the process, what
    returns the blocks of certain addresses that were allocated since, and the command's status. Raises InsituError.
    """
    script = read_script("mallocs")
    options = Options.given([] if command else [str(pid)], unsafe=False)
    options.events = "record"
    context = Context(pid=pid or None, runs_command=bool(command))
    temporary = TemporaryDirectory(gettempdir(), "insitu-leaks-", "")
    try:
        compiled = compile_script(script, options, context, cached=True)
        probe = ProbeSource(
            compiled, script, context, lambda runtime: TextOutput(runtime.loaded, runtime.formatter(), io.BytesIO())
        )
        processes = _Processes(args.max_memory)
        path = Path(temporary.path) / "mallocs.insitu"
        request = RunRequest(tuple(command), (pid,) if pid else (), seconds=args.duration)
        with (
            Interrupts() as interrupts,
            contextlib.closing(Run(request, [processes, probe], SessionDestination(path), interrupts)) as running,
        ):
            running.open()
            running.start()
            if not args.quiet and not command and not args.duration:
                messages.note("allocations are traced; Ctrl-C shows what is lost of them")
            while running.turn():
                pass
            snapshot = processes.watch.snapshot() if processes.watch else take(pid, args.max_memory)
            copied_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            outcome = running.finish()
        for number, what in probe.lost:
            messages.warning(f"lost {number:,} {what}: the stacks of some blocks are not known")
        with open_session(path) as session:
            traced = _traced(session, copied_ns)
            return snapshot, lambda wanted: traced, outcome.exit_status
    except ScriptError as error:  # the script is ours: what failed is the machine's or the user's
        raise InsituError(f"cannot trace allocations: {error.plain}", remedy=error.remedy) from None
    finally:
        context.close()
        temporary.remove()


class _Processes(ProcessesSource):
    """Follows the command to its last moment, too."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(mappings=True)
        self._most_bytes = most_bytes
        self.watch: LastMoment | None = None

    def open(self, target: Target) -> None:
        super().open(target)
        if target.launched is not None:
            target.launched.traced()
            self.watch = LastMoment(target.launched.pid, target.launched.untraced, self._most_bytes)

    def close(self) -> None:
        if self.watch is not None:
            self.watch.let_go()
        super().close()


def _traced(session: Session, copied_ns: int) -> Traced:
    nothing = np.zeros(0, np.int64)
    rows: Sequence[tuple[int, ...]] = []
    if _EVENTS in session.tables:
        query = f"select address, asked_bytes, age_ns - (ts_ns - {copied_ns}), stack from {_EVENTS}"
        rows = session.sql(query).rows()
    if not rows:
        return Traced(nothing.astype(np.uint64), nothing, nothing, nothing.astype(np.int32), [()])
    address, asked, age, stack = zip(*rows, strict=True)
    known, index = np.unique(np.array([0, *stack], np.int64), return_inverse=True)
    tree = session.stacks()
    stacks = [_frames(tree, each) for each in known.tolist()]
    return Traced(
        np.array(address, np.uint64),
        np.array(asked, np.int64),
        np.array(age, np.int64),
        index.ravel()[1:].astype(np.int32),
        stacks,
    )


def _frames(tree: WeightedStacks, stack: int) -> tuple[Frame, ...]:
    """The frames of a stack, innermost first."""
    found = []
    while stack > 0:
        found.append(tree.frames[tree.frame[stack]])
        stack = int(tree.parent[stack])
    return tuple(found)
