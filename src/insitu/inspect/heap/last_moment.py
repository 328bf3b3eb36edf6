"""Copy a process just before it exits, when all its memory and the registers of all its threads are still there.

The kernel stops a traced thread at the begin of its end (PTRACE_EVENT_EXIT): of its own, by exit_group(2) of another
thread, or by a signal. Until the last of them has gone on, the memory stays (do_exit() of kernel/exit.c).
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from insitu.errors import InsituError
from insitu.inspect.heap.snapshot import Snapshot, take, take_stopped
from insitu.kernel import procfs, ptrace
from insitu.kernel.ptrace_refusal import refusal

__all__ = ["LastMoment"]

_STOP_WITHIN_S: Final = 0.5  # after the first of the threads
_PAUSE_S: Final = 0.0002
_WAKE: Final = signal.SIGURG
"""Interrupts a wait of the tracer's thread. Its default is to be ignored."""
_WAKE_AGAIN_S: Final = 0.01
_EXIT_OF_A_THREAD: Final = ("x86_64", 60)
_EXIT_OF_ALL: Final = ("x86_64", 231)
_SIGNAL: Final = 0x7F  # of a status as wait(2) has it


class LastMoment:
    """Traces a process that is held before exec, until it is about to exit, and copies it then.

    The process runs on untraced when this program ends, however that ends. Children are not traced.
    """

    def __init__(self, pid: int, ended: Callable[[int | None], None], most_bytes: int = 0) -> None:
        """Trace it. ``ended`` is called, by another thread, with its status (wait(2)), or None if it was let go of.

        Raises InsituError if it may not be traced.
        """
        self._pid = pid
        self._call_at_end = ended
        self._most = most_bytes
        self._running = {pid}
        self._held: list[int] = []
        self._until = 0.0
        self._executed = self._all_end = self._leaving = False
        self._status: int | None = None
        self._snapshot: Snapshot | None = None
        self._failure: BaseException | None = None
        self._registers = ptrace.Registers()
        self._seized = threading.Event()
        self._wake_before = signal.signal(_WAKE, lambda number, frame: None)
        self._worker = threading.Thread(target=self._work, name="insitu-tracer", daemon=True)
        self._worker.start()
        self._seized.wait()
        if self._failure is not None:
            raise self._failure

    def let_go(self) -> None:
        """Trace no more, and wait until that is done. Idempotent."""
        self._leaving = True
        while self._worker.is_alive():
            with suppress(ProcessLookupError):
                signal.pthread_kill(self._worker.ident or 0, _WAKE)
            self._worker.join(_WAKE_AGAIN_S)
        signal.signal(_WAKE, self._wake_before)

    def snapshot(self) -> Snapshot:
        """The copy of the process before its end, or as it is now if it has not come to that. It is let go of.

        Raises InsituError if there is none.
        """
        self.let_go()
        if self._failure is not None:
            raise self._failure
        if self._snapshot is not None:
            return self._snapshot
        if self._status is not None:
            raise InsituError(
                f"process {self._pid} was not seen before its end: it was killed",
                remedy="insitu leaks PID while it runs",
            )
        return take(self._pid, self._most)

    # Of the tracer's thread. When it ends, the kernel lets go of all tracees.

    def _work(self) -> None:
        try:
            try:
                ptrace.seize(self._pid, ptrace.O_TRACE_THREADS | ptrace.O_TRACEEXIT)
            except OSError as error:
                raise refusal(self._pid, self._pid, error) from None
            self._seized.set()
            self._loop()
        except BaseException as error:
            self._failure = error
        finally:
            self._call_at_end(self._status)
            self._seized.set()

    def _loop(self) -> None:
        waiter = ptrace.Waiter()
        while not self._leaving:
            try:
                tid, status = waiter.wait(block=not self._held)
            except ChildProcessError:
                return
            if tid:
                self._changed(tid, status)
            elif self._held:
                if time.monotonic() > self._until:
                    self._end_of_all()
                else:
                    time.sleep(_PAUSE_S)

    def _changed(self, tid: int, status: int) -> None:
        number, event = os.WSTOPSIG(status), status >> 16
        if not os.WIFSTOPPED(status):
            self._gone(tid)
            if tid == self._pid:
                self._status = status
        elif event == ptrace.EVENT_EXIT:
            self._ending(tid)
        elif event == ptrace.EVENT_EXEC:
            self._executed = True
            self._running = {tid}
            ptrace.continue_(tid)
        elif event == ptrace.EVENT_STOP and number != signal.SIGTRAP:
            ptrace.listen(tid)
        elif event == ptrace.EVENT_STOP and not self._is_own(tid):
            ptrace.detach(tid)  # clone() can make processes, too
        else:
            self._running.add(tid)
            ptrace.continue_(tid, 0 if event else number)

    def _is_own(self, tid: int) -> bool:
        try:
            return procfs.status(tid).pid == self._pid
        except OSError:
            return False

    def _ending(self, tid: int) -> None:
        """A thread is about to end: is it the end of all of them?"""
        try:
            call, status = self._registers.call(tid), ptrace.event_message(tid)
        except OSError:  # killed in this moment
            self._gone(tid)
            return
        alone = call is not None and call[:2] == _EXIT_OF_A_THREAD and not status & _SIGNAL
        others = self._running - {tid}
        if not self._executed or (alone and others and not self._held):
            self._running.discard(tid)
            ptrace.continue_(tid)
            return
        self._until = self._until if self._held else time.monotonic() + _STOP_WITHIN_S
        self._held.append(tid)
        self._all_end |= (
            bool(status & _SIGNAL) or (alone and not others) or (call is not None and call[:2] == _EXIT_OF_ALL)
        )
        self._gone(tid)

    def _gone(self, tid: int) -> None:
        self._running.discard(tid)
        if self._held and not self._running:
            self._end_of_all()

    def _end_of_all(self) -> None:
        """Copy the process, unless its threads only make room for another program (exec), and let them end."""
        if self._all_end and self._snapshot is None:
            try:
                self._snapshot = take_stopped(self._pid, self._held, len(self._running), self._most)
            except InsituError as error:
                self._failure = error
        for tid in self._held:
            ptrace.continue_(tid)
        self._held.clear()
