"""System calls by ptrace(2): for programs of one's own, without privilege."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.files import new_file
from insitu.kernel import seccomp
from insitu.record.programs import with_program
from insitu.record.ptrace_engine import Engine
from insitu.record.sources.ring_files import write_all
from insitu.syscalls.call import Event, Executed
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.event_bytes import encode

if TYPE_CHECKING:
    from pathlib import Path

    from insitu.record.source import Loss, Target

__all__ = ["PtraceSource"]

_GATHER_S: Final = 0.003
_ENOUGH: Final = 256


class PtraceSource:
    """Traces a command or running processes, with all threads and children."""

    id = "syscalls"

    def __init__(self, options: EngineOptions, deliver: Callable[[Sequence[Event]], None] | None = None) -> None:
        """``deliver`` gets batches of events, in order of time."""
        self._options = options
        self._deliver = deliver
        self._engine: Engine | None = None
        self._file = -1
        self._pids: Sequence[int] = ()

    @property
    def notes(self) -> Sequence[str]:
        """What the target does differently because it is traced."""
        return self._engine.notes if self._engine else ()

    @property
    def options(self) -> Mapping[str, Any]:
        """The engine, and what was asked for."""
        return {"engine": "ptrace", "string_limit": self._options.string_limit}

    def open(self, target: Target) -> None:
        """Seize the target. Raises InsituError."""
        program = self._filter(target)
        self._engine = Engine(self._options, filtered=bool(program))
        if target.launched is not None:
            target.launched.seccomp_filter = program
        self._pids = target.pids
        self._engine.open(target.launched, target.pids)

    def _filter(self, target: Target) -> bytes:
        calls = self._options.calls
        if not self._options.seccomp or calls is None or target.launched is None or target.pids:
            return b""
        numbers: dict[str, list[int]] = {}
        for abi, nr in calls.union(*(each.calls for each in self._options.inject)):
            numbers.setdefault(abi, []).append(nr)
        return (seccomp.stop_at(numbers) if seccomp.available() else None) or b""

    def layout(self) -> Mapping[str, Any]:
        """See syscalls/event_bytes.py."""
        return {"kind": "syscalls_ptrace", "string_limit": self._options.string_limit}

    @property
    def fds(self) -> Sequence[int]:
        """Readable when there are events."""
        return [self._engine.fd] if self._engine else []

    def start(self, directory: Path | None, start_ns: int) -> None:
        """Begin to trace."""
        assert self._engine is not None, "open() comes first"
        if directory is not None:
            self._file = new_file(directory / "events.records")
            self._engine.reads_programs = True
            now = time.monotonic_ns()
            known = (with_program(Executed(now, pid, pid, pid)) for pid in self._pids)
            write_all(self._file, [memoryview(b"".join(map(encode, known)))])
        self._engine.begin()

    def drain(self) -> int:
        """Deliver and write the events so far."""
        if self._engine is None:
            return 0
        if self._engine.waiting < _ENOUGH and not self._engine.finished:
            time.sleep(_GATHER_S)  # one turn of the loop for many stops of the target
        events = self._engine.take()
        if self._engine.stacks is not None:
            self._engine.stacks.unwind()
        if events and self._deliver is not None:
            self._deliver(events)
        if events and self._file >= 0:
            return write_all(self._file, [memoryview(b"".join(map(encode, events)))])
        return 0

    @property
    def wait_s(self) -> float:
        """Events announce themselves."""
        return 1.0

    def stack_frames(self, stack: int) -> str:
        """Returns the stack of an entry as text (-k), a line for each frame, innermost first."""
        stacks = self._engine.stacks if self._engine else None
        return "\n".join(stacks.lines(stack)) if stacks is not None else ""

    @property
    def ended(self) -> bool:
        """Whether all traced processes have ended."""
        return self._engine is not None and self._engine.ended

    @property
    def follows(self) -> bool:
        """Whether any traced process is alive."""
        return self._engine is not None and not self._engine.ended

    def stop(self, end_ns: int) -> None:
        """Detach, and deliver the rest."""
        if self._engine is not None:
            self._engine.stop()
            self.drain()

    def losses(self) -> Sequence[Loss]:
        """None: the target waits for us."""
        return ()

    def close(self) -> None:
        """Detach. Idempotent."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
