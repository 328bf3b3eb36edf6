"""Traces processes by ptrace(2): one thread seizes them, waits for their stops, and makes events of these."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from insitu.kernel import procfs, ptrace
from insitu.kernel.process_memory import ProcessMemory
from insitu.kernel.ptrace_refusal import all_ended
from insitu.record.programs import with_program
from insitu.record.ptrace_attach import lost_privileges, seized
from insitu.record.ptrace_faults import Faults
from insitu.record.ptrace_signal import signal_event
from insitu.record.ptrace_stacks import Stacks
from insitu.record.ptrace_thread import Thread
from insitu.syscalls.call import NOTHING, Enter, Event, Executed, Exit, Exited, Forked, Stopped
from insitu.syscalls.collect import Collector
from insitu.syscalls.descriptor_text import DescriptorText
from insitu.syscalls.engine_options import EngineOptions
from insitu.syscalls.facts import facts_of

if TYPE_CHECKING:
    from insitu.record.launcher import Launched

__all__ = ["Engine"]

_MOST_WAITING: Final = 1 << 16
"""Events that nobody has taken, before the target has to wait."""
_MOST_NOTES: Final = 10
_MOST_STACKS: Final = 1 << 10
"""The same with stacks, each of which is copied."""
_ATTACH_S: Final = 1.0
"""How long the start waits for threads to stop: one that waits for a disk or a dead server does not."""
_DETACH_S: Final = 2.0
"""How long a tracee may take to stop for being detached; the kernel detaches the others when the thread ends."""
_WAKE: Final = signal.SIGURG
"""Interrupts a wait of the engine's thread. Its default is to be ignored."""
_DELAY_STEP_S: Final = 0.0005
"""How exact injected delays are: waiting for tracees cannot be limited in time."""
_RESTARTS: Final = {"x86_64": 219, "x32": 219 | 1 << 30, "i386": 0, "aarch64": 128}
"""The number of restart_syscall(2)."""
_FORKS: Final = (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE)


class Engine:
    """The tracer. Use: open(), begin(), take() as often as wanted, and end() in any case."""

    def __init__(self, options: EngineOptions, *, filtered: bool = False) -> None:
        """``filtered``: a seccomp filter of the command stops it at the calls to record."""
        self._options = options
        self._threads: dict[int, Thread] = {}
        self._events: deque[Event] = deque()
        self._told = False
        self._room = threading.Event()
        self._opened = threading.Event()
        self._begun = threading.Event()
        self._ready = threading.Event()
        self._stopping = self._muted = False
        self._finished = threading.Event()
        self._failure: BaseException | None = None
        self._worker: threading.Thread | None = None
        self._launched: Launched | None = None
        self.notes: list[str] = []
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._memory = ProcessMemory()
        self._descriptors = DescriptorText(options.descriptors) if options.descriptors else None
        self._collector = Collector(
            self._memory.read,
            string_limit=options.string_limit,
            verbose=options.verbose,
            describe=self._descriptors.describe if self._descriptors else None,
        )
        self.stacks = Stacks() if options.stacks else None
        self._most_waiting = _MOST_STACKS if options.stacks else _MOST_WAITING
        self._filtered = filtered
        self._registers = ptrace.Registers()
        self._faults = Faults(options.inject, self._registers)
        self.reads_programs = False
        """Whether Executed has the program's file and arguments."""
        self._attached: set[int] = set()
        """Threads that run since before, and have not stopped yet: what call they are in is to be seen."""
        self._early: set[int] = set()
        """Children that have stopped before their parents have reported them: they may have ended by then."""

    # Of the main thread

    def open(self, launched: Launched | None, pids: Sequence[int]) -> None:
        """Seize the held command, and all threads of processes. Raises InsituError."""
        self._launched = launched
        if launched is not None:
            launched.traced()
        self._wake_before = signal.signal(_WAKE, lambda number, frame: None)
        self._worker = threading.Thread(target=self._work, args=(tuple(pids),), name="insitu-ptrace", daemon=True)
        self._worker.start()
        self._opened.wait()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def begin(self) -> None:
        """Begin to record: from here on nothing that the target does is missed."""
        self._begun.set()
        self._ready.wait(_ATTACH_S)

    def take(self) -> list[Event]:
        """Returns the events since the last time. Raises what the engine has failed with."""
        self._told = False
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self.fd)
        events = [self._events.popleft() for _ in range(len(self._events))]
        self._room.set()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return events

    @property
    def waiting(self) -> int:
        """How many events there are to take."""
        return len(self._events)

    @property
    def finished(self) -> bool:
        """Whether the engine has let go of all tracees."""
        return self._finished.is_set()

    @property
    def ended(self) -> bool:
        """Whether nothing is left to trace, and all events have been taken."""
        return self._finished.is_set() and not self._events

    def stop(self) -> None:
        """Record no more. With a seccomp filter, which fails calls where no tracer is, the target stays traced."""
        if self._filtered:
            self._muted = True
            self._room.set()
        else:
            self.end()

    def end(self) -> None:
        """Detach from everything. Events may remain to be taken. Idempotent."""
        if self._worker is None:
            return
        self._stopping = True
        self._begun.set()
        self._room.set()
        while not self._finished.wait(0.01):
            with contextlib.suppress(ProcessLookupError):
                signal.pthread_kill(self._worker.ident or 0, _WAKE)
        self._worker.join()
        self._worker = None
        signal.signal(_WAKE, self._wake_before)

    def close(self) -> None:
        """Release the rest. Idempotent."""
        self.end()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    # Of the engine's own thread

    def _work(self, pids: Sequence[int]) -> None:
        try:
            try:
                self._seize(pids)
            finally:
                self._opened.set()
            self._attached = set(self._threads)
            self._begun.wait()
            if not self._stopping:
                self._interrupt_all()
                self._loop()
            self._detach_all()
        except BaseException as error:
            self._failure = error
        finally:
            if self._launched is not None:
                self._launched.untraced(None)
            self._opened.set()
            self._ready.set()
            self._finished.set()
            with contextlib.suppress(OSError):
                os.eventfd_write(self.fd, 1)

    def _seize(self, pids: Sequence[int]) -> None:
        options = ptrace.O_FOLLOW
        if self._filtered:
            options |= ptrace.O_TRACESECCOMP | ptrace.O_EXITKILL
        if self._launched is not None:
            self._seize_one(self._launched.pid, self._launched.pid, options)
            self._threads[self._launched.pid].hidden = True
        for pid in pids:
            # Threads may make threads until all are seized; those of seized ones are seized from the start.
            before = -1
            while len(self._threads) != before:
                before = len(self._threads)
                with contextlib.suppress(ProcessLookupError):
                    for tid in procfs.threads(pid):
                        if tid not in self._threads:
                            self._seize_one(pid, tid, options)
        if not self._threads:
            raise all_ended(pids)

    def _seize_one(self, pid: int, tid: int, options: int) -> None:
        if seized(pid, tid, options):
            self._threads[tid] = Thread(pid, tid)

    def _interrupt_all(self) -> None:
        for tid in self._threads:
            with contextlib.suppress(ProcessLookupError):
                ptrace.interrupt(tid)

    def _put(self, event: Event) -> None:
        if self._muted:
            return
        self._events.append(event)
        if not self._told:
            self._told = True
            os.eventfd_write(self.fd, 1)
        if len(self._events) > self._most_waiting:
            self._wait_for_room()

    def _wait_for_room(self) -> None:
        while len(self._events) > self._most_waiting and not (self._stopping or self._muted):
            self._room.clear()
            self._room.wait(0.1)

    def _loop(self) -> None:
        """Until nothing is left to trace, or the end is asked for."""
        wait = ptrace.Waiter().wait
        stops = ptrace.Stops()
        threads, faults, read_stop = self._threads, self._faults, stops.read
        resume = ptrace.continue_ if self._filtered else ptrace.syscall
        while not self._stopping:
            for tid, signal_number in faults.due() if faults.delayed else ():
                if tid in threads:
                    self._resume(threads[tid], signal_number)
            try:
                tid, status = wait(block=not faults.delayed)
            except ChildProcessError:
                return
            if not tid:
                if faults.delayed:
                    time.sleep(_DELAY_STEP_S)
                continue
            if status != ptrace.SYSCALL_STOP << 8 | 0x7F:
                self._other_stop(tid, status, stops)
                continue
            what = read_stop(tid)
            thread = threads.get(tid) or self._appeared(tid)
            number: int | None = 0
            if what == ptrace.ENTRY:
                number = self._entry(thread, stops)
            elif what == ptrace.EXIT:
                number = self._exit(thread, stops)
            if number is not None:
                resume(tid, number)

    def _entry(self, thread: Thread, stops: ptrace.Stops) -> int | None:
        """Record a call that begins; returns the signal that is injected, None while the thread is delayed."""
        abi, nr, arguments, _, stack_pointer = stops.call()
        if thread.hidden:
            if nr != facts_of(abi).numbers["execve"]:
                return 0
            thread.hidden = False  # the first call that is the command's own
        call, calls = (abi, nr), self._options.calls
        before, attached = thread.previous, False
        if before is not None and nr == _RESTARTS.get(abi):
            abi, nr, arguments = before
            attached = True
        else:
            thread.previous = (abi, nr, arguments)
        if calls is None or call in calls:
            head = (time.monotonic_ns(), thread.pid, thread.tid, abi, nr, arguments)
            enter = Enter(*head, NOTHING, 0, attached, stack_pointer)
            memory = self._collector.at_enter(enter)
            stack = 0 if self.stacks is None else self.stacks.copy(thread.pid, thread.tid)
            if stack or memory is not NOTHING:
                enter = Enter(*head, memory, stack, attached, stack_pointer)
            thread.enter = enter
            self._put(enter)
        if call in self._faults.calls:
            return self._faults.enter(thread, call)
        return 0

    def _exit(self, thread: Thread, stops: ptrace.Stops) -> int | None:
        """Record that a call has returned; returns 0, None while the thread is delayed."""
        thread.in_call = False
        result = stops.result()
        injection, thread.injection = thread.injection, None
        if injection is not None:
            result = self._faults.result(thread, injection, result)
        enter, thread.enter = thread.enter, None
        if enter is not None:
            memory = self._collector.at_exit(enter, result)
            event = Exit(time.monotonic_ns(), thread.pid, thread.tid, result, memory)
            if injection is not None:
                event = self._faults.marked(event, injection)
            self._put(event)
        return None if injection is not None and self._faults.holds(thread, injection) else 0

    def _other_stop(self, tid: int, status: int, stops: ptrace.Stops) -> None:
        if status & 0x7F != 0x7F:
            self._ended(tid, status)
            return
        number, event = status >> 8 & 0xFF, status >> 16
        thread = self._threads.get(tid)
        if thread is None:
            thread = self._appeared(tid)
        if event == ptrace.EVENT_STOP:
            if tid in self._attached:
                self._attach_done(thread)
            if number != signal.SIGTRAP:
                self._put(Stopped(time.monotonic_ns(), thread.pid, tid, number))
                ptrace.listen(tid)
                return
            number = 0
        elif event in _FORKS:
            with contextlib.suppress(ProcessLookupError):
                child = ptrace.event_message(tid)
                if child in self._early:
                    self._early.discard(child)
                elif child not in self._threads:
                    self._appeared(child, thread)
            number = 0
        elif event == ptrace.EVENT_EXEC:
            self._executed(thread)
            number = 0
        elif event == ptrace.EVENT_SECCOMP:
            self._filtered_call(thread, stops)
            return
        elif event:
            number = 0
        else:
            with contextlib.suppress(OSError):
                self._put(signal_event(time.monotonic_ns(), thread.pid, tid, ptrace.signal_info(tid)))
        self._resume(thread, number)

    def _attach_done(self, thread: Thread) -> None:
        """A thread that ran before has stopped: from here on its calls are seen."""
        with contextlib.suppress(OSError):
            thread.previous = self._registers.call(thread.tid)
        self._attached.discard(thread.tid)
        if not self._attached:
            self._ready.set()

    def _resume(self, thread: Thread, number: int = 0) -> None:
        if self._filtered and not thread.in_call:
            ptrace.continue_(thread.tid, number)
        else:
            ptrace.syscall(thread.tid, number)

    def _filtered_call(self, thread: Thread, stops: ptrace.Stops) -> None:
        """A call that the filter lets through to us: its entry. Its exit is to be a stop too."""
        number: int | None = 0
        if stops.read(thread.tid) == ptrace.SECCOMP:
            thread.in_call = True
            number = self._entry(thread, stops)
        if number is not None:
            self._resume(thread, number)

    def _appeared(self, tid: int, parent: Thread | None = None) -> Thread:
        """A new thread or process, which stops as a tracee before or after its parent reports it."""
        pid, parent_pid = tid, 0
        with contextlib.suppress(OSError):
            status = procfs.status(tid)
            pid, parent_pid = status.pid, status.ppid
        self._threads[tid] = thread = Thread(pid, tid)
        made_by = pid if pid != tid else parent_pid
        if parent is not None:
            self._put(Forked(time.monotonic_ns(), parent.pid, parent.tid, pid, tid))
        else:
            self._early.add(tid)
            self._put(Forked(time.monotonic_ns(), made_by, made_by, pid, tid))
        return thread

    def _executed(self, thread: Thread) -> None:
        """The thread that called execve() has become the process' leader, and the only one."""
        with contextlib.suppress(ProcessLookupError):
            old_tid = ptrace.event_message(thread.tid)
            if old_tid != thread.tid and old_tid in self._threads:
                caller = self._threads.pop(old_tid)
                thread.enter, thread.in_call = caller.enter, caller.in_call
            thread.hidden = False
            if self.stacks is not None:
                self.stacks.forget(thread.pid)
            if len(self.notes) < _MOST_NOTES and (note := lost_privileges(thread.pid)):
                self.notes.append(note)
            event = Executed(time.monotonic_ns(), thread.pid, thread.tid, old_tid)
            self._put(with_program(event) if self.reads_programs else event)

    def _ended(self, tid: int, status: int) -> None:
        thread = self._threads.pop(tid, None)
        self._attached.discard(tid)
        if self._launched is not None and tid == self._launched.pid:
            self._launched.untraced(status)
            self._launched = None
        if thread is not None:
            if self.stacks is not None:
                self.stacks.forget(thread.pid)
            self._put(Exited(time.monotonic_ns(), thread.pid, tid, status))

    def _detach_all(self) -> None:
        """Stop every tracee where it is and let it go on untraced, with the signals that were on their way."""
        for _, tid, number in self._faults.delayed:
            ptrace.detach(tid, number)
            self._threads.pop(tid, None)
        self._interrupt_all()
        wait = ptrace.Waiter().wait
        until = time.monotonic() + _DETACH_S
        while self._threads and time.monotonic() < until:
            try:
                tid, status = wait(block=False)
            except ChildProcessError:
                return
            if not tid:
                time.sleep(0.001)
            elif status & 0x7F != 0x7F:
                self._ended(tid, status)
            else:
                number = status >> 8 & 0xFF
                ptrace.detach(tid, 0 if status >> 16 or number == ptrace.SYSCALL_STOP else number)
                self._threads.pop(tid, None)
