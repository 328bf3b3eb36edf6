"""Which Python functions blocked threads are in: read from their memory now and then, while they are blocked.

What a thread is in does not change while it is blocked: a reading counts if the thread was in the same wait before
and after it. How the time of waits from one place is divided among Python functions is sampled, as running time is.
"""

from __future__ import annotations

import json
import struct
import time
from collections import Counter
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from insitu.convert.wall_python import PYTHON_WAITS
from insitu.files import write_whole
from insitu.kernel import procfs
from insitu.kernel.process_memory import ProcessMemory
from insitu.record.sources.wall_script import BLOCKED, STARTED
from insitu.symbols.python_process import PythonFinder

if TYPE_CHECKING:
    from insitu.kernel.bpf_map import Map
    from insitu.symbols.python_frames import Interpreter, PythonFrame

__all__ = ["PythonWaits"]

_INTERVAL_S: Final = 0.05
_SHARE: Final = 50
"""Of the time, readings take at most one part in so many."""
_ANEW_S: Final = 2.0
_MOST_STACKS: Final = 20_000
_MOST_WAITS: Final = 100_000
_HEAD: Final = struct.Struct("<QQ")  # of convert.wall_maps.TASK: word, place

_Stack = tuple["PythonFrame", ...]


class PythonWaits:
    """Readings of the threads in ``task``, the script's map of them."""

    def __init__(self, task: Map) -> None:
        self._task = task
        self._memory, self._finder = ProcessMemory(), PythonFinder()
        self._interpreters: dict[int, Interpreter | None] = {}
        self._process: dict[int, int] = {}
        self._stacks: dict[_Stack, int] = {}
        self._counts: Counter[tuple[int, int]] = Counter()
        self._last: dict[int, tuple[int, int]] = {}  # by thread: the wait that it was in, and its stack
        self._next_s = self._anew_s = 0.0

    @property
    def wait_s(self) -> float:
        """How long the next reading may wait; long where there is no Python."""
        return _INTERVAL_S if any(self._interpreters.values()) else 10 * _INTERVAL_S

    def read(self) -> None:
        """Read what blocked threads are in, if it is time to."""
        began_s = time.monotonic()
        if began_s < self._next_s:
            return
        waits: dict[int, dict[int, tuple[int, int]]] = {}
        for key, value in self._task.items():
            tid = int.from_bytes(key, "little")
            word, place = _HEAD.unpack_from(value)
            if word & 7 in (BLOCKED, STARTED) and (pid := self._process_of(tid)):
                waits.setdefault(pid, {})[tid] = word, place
        self._find_interpreters(waits)
        found_s = time.monotonic()
        for pid, threads in waits.items():
            if interpreter := self._interpreters[pid]:
                self._read_process(interpreter, threads)
        now_s = time.monotonic()
        self._next_s = now_s + max(self.wait_s, _SHARE * (now_s - found_s))

    def _find_interpreters(self, pids: Collection[int]) -> None:
        """Look at new processes, and now and then at all: they may execute another program."""
        began_s = time.monotonic()
        anew = began_s >= self._anew_s
        self._interpreters = {
            pid: self._interpreter(pid) if anew or pid not in self._interpreters else self._interpreters[pid]
            for pid in pids
        }
        if anew:
            now_s = time.monotonic()
            self._anew_s = now_s + max(_ANEW_S, _SHARE * (now_s - began_s))

    def _read_process(self, interpreter: Interpreter, waits: dict[int, tuple[int, int]]) -> None:
        states: dict[int, int] | None = None
        for tid, (word, place) in waits.items():
            known = self._last.get(tid)
            if known and known[0] == word:
                stack = known[1]
            else:
                states = interpreter.threads() if states is None else states
                frames = interpreter.frames(states[tid]) if tid in states else ()
                now = self._task.lookup(struct.pack("<Q", tid))
                if now is None or _HEAD.unpack_from(now) != (word, place):
                    continue
                if frames not in self._stacks and len(self._stacks) >= _MOST_STACKS:
                    continue
                stack = self._stacks.setdefault(frames, len(self._stacks))
                self._last[tid] = word, stack
            # A thread that has slept since before has no place yet.
            wait = place or -tid, stack
            if wait in self._counts or len(self._counts) < _MOST_WAITS:
                self._counts[wait] += 1

    def _process_of(self, tid: int) -> int:
        """The process of a thread, 0 if it has ended; those of all threads of the process are kept."""
        if tid not in self._process:
            if len(self._process) > _MOST_WAITS:
                self._process.clear()
            try:
                pid = procfs.status(tid).pid
                self._process |= dict.fromkeys([tid, *procfs.threads(pid)], pid)
            except OSError:
                return 0
        return self._process[tid]

    def _interpreter(self, pid: int) -> Interpreter | None:
        try:
            return self._finder.interpreter(pid, procfs.areas(pid), partial(self._memory.read, pid))
        except OSError:  # it has ended
            return None

    def write(self, directory: Path) -> None:
        """Keep what was read, where there was Python."""
        if any(self._stacks):
            rows = [[place, stack, count] for (place, stack), count in self._counts.items()]
            content = {"stacks": [list(map(list, stack)) for stack in self._stacks], "waits": rows}
            write_whole(directory / PYTHON_WAITS, json.dumps(content).encode())
