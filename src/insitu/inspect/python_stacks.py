"""The Python functions that the threads of a process are in, in place of the interpreter's own.

Of threads that run, they are read while the process is stopped; of all others afterwards, so that it is stopped no
longer: what a blocked thread is in does not change.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

from insitu.convert.wall_python import python_frames
from insitu.kernel import procfs, ptrace
from insitu.kernel.process_memory import ProcessMemory
from insitu.symbols.copied_stacks import StackCopy
from insitu.symbols.frame import Frame
from insitu.symbols.python_process import PythonFinder

__all__ = ["PythonStacks"]

_STOPPED_S: Final = 0.005
_BLOCKS_WITHIN_S: Final = 0.1
_PAUSE_S: Final = 0.001


class PythonStacks:
    """Reads the functions of a process's threads, if it is one of CPython whose memory can be read."""

    def __init__(self, pid: int, live: int, running: Collection[int]) -> None:
        """``live`` is a thread that has not ended, ``running`` are those that were not blocked. Raises OSError."""
        self._running = set(running)
        memory = ProcessMemory(unchanged=True)
        self._interpreter = PythonFinder().interpreter(pid, procfs.areas(live), partial(memory.read, live))
        self._states = self._interpreter.threads() if self._interpreter else {}
        self._frames: dict[int, tuple[Frame, ...]] = {}
        self.missed = 0
        """Threads of Python that ran while they were looked at."""

    def while_stopped(self, copies: Sequence[StackCopy]) -> None:
        """Read those of threads that ran: nothing changes now."""
        deadline = time.monotonic() + _STOPPED_S
        for copy in copies:
            if copy.tid in self._running and copy.tid in self._states and time.monotonic() < deadline:
                self._read(copy.tid)

    def afterwards(self, copies: Sequence[StackCopy]) -> dict[int, tuple[Frame, ...]]:
        """By thread: its functions, innermost first. Reads those that are blocked where they were."""
        deadline = time.monotonic() + _BLOCKS_WITHIN_S
        for copy in copies:
            if copy.tid not in self._states or copy.tid in self._frames:
                continue
            while not self._read_blocked(copy):
                if time.monotonic() > deadline:
                    self.missed += 1
                    break
                time.sleep(_PAUSE_S)
        return self._frames

    def _read_blocked(self, copy: StackCopy) -> bool:
        """Read a thread's functions, if it is where it was before and after that, and has not run meanwhile."""
        try:
            before = procfs.switches(copy.tid)
            if procfs.user_registers(copy.tid)[0] != copy.registers[ptrace.SAMPLED_SP]:
                return False
            self._read(copy.tid)
            if procfs.switches(copy.tid) == before:
                return True
        except OSError:  # it has ended
            pass
        self._frames.pop(copy.tid, None)
        return False

    def _read(self, tid: int) -> None:
        assert self._interpreter is not None
        self._frames[tid] = python_frames(self._interpreter.frames(self._states[tid]))
