"""Stop the threads of a process, copy their registers and stacks, and let them run again.

The tracer is a thread of its own: when it ends, however it ends, the kernel lets go of all that it has seized, also
those that could not be stopped in time.
"""

from __future__ import annotations

import bisect
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from insitu.kernel import procfs, ptrace
from insitu.kernel.process_memory import read_at
from insitu.kernel.ptrace_refusal import has_ended, refusal
from insitu.symbols.copied_stacks import StackCopy

__all__ = ["Capture", "Stop", "capture", "while_stopped"]

T = TypeVar("T")

_MOST_STACK_BYTES: Final = 1 << 18
"""Of one thread: some 2,000 frames of 128 bytes."""
_MOST_BYTES: Final = 1 << 28
_STOPS_WITHIN_S: Final = 0.5
_COPIES_WITHIN_S: Final = 0.5
_PAUSE_S: Final = 0.0002


class Capture(NamedTuple):
    """What was copied of a process. ``unstopped``: threads that did not stop in time, such as in disk I/O.

    Of very many threads, those that would keep the others stopped for too long are in neither.
    """

    pid: int
    areas: Sequence[procfs.Area]
    copies: Sequence[StackCopy]
    unstopped: Sequence[int]
    stopped_ns: int
    """For how long the process was stopped: from the first stop to when the last thread ran again."""


class Stop(NamedTuple):
    """Which threads did not stop in time, and for how long the others were stopped."""

    unstopped: Sequence[int]
    stopped_ns: int


def capture(pid: int, live: int, meanwhile: Callable[[Sequence[StackCopy]], None] = lambda copies: None) -> Capture:
    """Copy the stacks of all threads of a process, of which the thread ``live`` has not ended.

    ``meanwhile`` is called with the copies before the threads run again, and must be quick.
    Raises InsituError, and ProcessLookupError if there is none.
    """
    # All that does not need a stop comes before it.
    areas = list(procfs.areas(live))
    writable = sorted((area.start, area.end) for area in areas if "w" in area.permissions)

    # Not by process_vm_readv(2): see process_memory.py. Who may not open it may not stop threads either.
    memory = -1
    with suppress(OSError):
        memory = os.open(f"/proc/{live}/mem", os.O_RDONLY | os.O_CLOEXEC)

    def copied(stopped: Sequence[int]) -> list[StackCopy]:
        copies = _copies(stopped, writable, memory)
        meanwhile(copies)
        return copies

    try:
        copies, stop = while_stopped(pid, copied)
    finally:
        if memory >= 0:
            os.close(memory)
    return Capture(pid, areas, copies, stop.unstopped, stop.stopped_ns)


def while_stopped(pid: int, action: Callable[[Sequence[int]], T]) -> tuple[T, Stop]:
    """Stop a process, call ``action`` with the threads that have stopped, and let them run again.

    ``action`` is called by the tracer's thread: it may use insitu.kernel.ptrace. Raises InsituError if the process
    may not be traced, ProcessLookupError if there is none, and what ``action`` raises.
    """
    found: list[tuple[T, Stop]] = []
    errors: list[BaseException] = []

    def work() -> None:
        # The process waits for this thread alone, which ends then.
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), -20)
        try:
            found.append(_Tracer(pid).call(action))
        except BaseException as error:
            errors.append(error)

    tracer = threading.Thread(target=work, name="insitu-tracer")
    tracer.start()
    tracer.join()
    if errors:
        raise errors[0]
    return found[0]


class _Tracer:
    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._running: set[int] = set()
        self._stopped: dict[int, int] = {}  # thread -> the signal that is to be delivered to it

    def call(self, action: Callable[[Sequence[int]], T]) -> tuple[T, Stop]:
        self._seize()
        begin = time.monotonic_ns()
        try:
            for tid in list(self._running):
                self._interrupt(tid)
            self._wait()
            result = action(list(self._stopped))
        finally:
            for tid, number in self._stopped.items():
                ptrace.detach(tid, number)
        return result, Stop(sorted(self._running), time.monotonic_ns() - begin)

    def _seize(self) -> None:
        """Become the tracer of all threads, also of those that begin meanwhile. Raises InsituError."""
        while new := [tid for tid in procfs.threads(self._pid) if tid not in self._running]:
            seized = False
            for tid in new:
                try:
                    ptrace.seize(tid, 0)
                except ProcessLookupError:
                    continue
                except OSError as error:
                    if has_ended(tid):
                        continue
                    raise refusal(self._pid, tid, error) from None
                self._running.add(tid)
                seized = True
            if not seized:
                break
        if not self._running:
            raise refusal(self._pid, self._pid, ProcessLookupError())

    def _interrupt(self, tid: int) -> None:
        try:
            ptrace.interrupt(tid)
        except ProcessLookupError:
            self._running.discard(tid)

    def _wait(self) -> None:
        """Wait until all have stopped or ended, but not for those that the kernel does not interrupt."""
        waiter = ptrace.Waiter()
        deadline = time.monotonic() + _STOPS_WITHIN_S
        while self._running:
            try:
                tid, status = waiter.wait(block=False)
            except ChildProcessError:
                self._running.clear()
                return
            if not tid:
                if time.monotonic() > deadline:
                    return
                time.sleep(_PAUSE_S)
                continue
            self._running.discard(tid)
            if os.WIFSTOPPED(status):
                number = os.WSTOPSIG(status)
                # A stop that we asked for is an event; another one is a signal that still has to be delivered.
                self._stopped[tid] = 0 if status >> 16 else number


def _copies(stopped: Sequence[int], writable: Sequence[tuple[int, int]], memory: int) -> list[StackCopy]:
    state = ptrace.Registers()
    copies, left = [], _MOST_BYTES
    deadline = time.monotonic() + _COPIES_WITHIN_S
    for tid in stopped:
        if time.monotonic() > deadline:
            break
        try:
            registers = state.as_samples(tid)
        except OSError:  # killed in this moment
            continue
        pointer = registers[ptrace.SAMPLED_SP]
        size = min(_area_end(writable, pointer) - pointer, _MOST_STACK_BYTES, left)
        stack = read_at(memory, pointer, size) if size > 0 else b""
        left -= len(stack)
        copies.append(StackCopy(tid, registers, stack, state.narrow))
    return copies


def _area_end(areas: Sequence[tuple[int, int]], address: int) -> int:
    """The end of the area that an address is in, of ascending ones; 0 if it is in none."""
    at = bisect.bisect_right(areas, address, key=lambda area: area[0]) - 1
    return areas[at][1] if at >= 0 and address < areas[at][1] else 0
