"""Fault injection: what is done to calls at their stops, and the threads that are held for a while."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterable, Iterator

from insitu.kernel import ptrace
from insitu.record.ptrace_thread import Thread
from insitu.syscalls.call import Exit
from insitu.syscalls.injection import Injection

__all__ = ["Faults"]


class Faults:
    """The injections of a run. Its methods are called while the thread is stopped."""

    def __init__(self, injections: Iterable[Injection], registers: ptrace.Registers) -> None:
        self.calls = {call: each for each in injections for call in each.calls}
        """Injections by (abi, number)."""
        self.delayed: list[tuple[int, int, int]] = []
        """A heap: when a delay is over, of which thread, and the signal that it then gets."""
        self._registers = registers

    def enter(self, thread: Thread, call: tuple[str, int]) -> int | None:
        """Inject into one of ``calls``; returns the signal that the thread gets, None while it is delayed."""
        injection = self.calls[call]
        thread.invocations[call] = invocation = thread.invocations.get(call, 0) + 1
        if not injection.applies(invocation):
            return 0
        thread.injection = injection
        if injection.result is not None:
            self._registers.set_call(thread.tid, -1)
        if injection.delay_enter_us:
            self._delay(thread, injection.delay_enter_us, injection.signal)
            return None
        return injection.signal

    def result(self, thread: Thread, injection: Injection, result: int) -> int:
        """Returns what a call returns: what is injected, else ``result``."""
        if injection.result is None:
            return result
        self._registers.set_result(thread.tid, injection.result)
        return injection.result

    def marked(self, event: Exit, injection: Injection) -> Exit:
        """Returns the event with what was injected."""
        delayed = bool(injection.delay_enter_us or injection.delay_exit_us)
        return event._replace(injected=injection.result is not None, delayed=delayed)

    def holds(self, thread: Thread, injection: Injection) -> bool:
        """Whether the thread is held at its call's exit."""
        if injection.delay_exit_us:
            self._delay(thread, injection.delay_exit_us, 0)
        return bool(injection.delay_exit_us)

    def due(self) -> Iterator[tuple[int, int]]:
        """Returns the threads whose delays are over, and the signals that they get."""
        while self.delayed and self.delayed[0][0] <= time.monotonic_ns():
            _, tid, number = heapq.heappop(self.delayed)
            yield tid, number

    def _delay(self, thread: Thread, delay_us: int, number: int) -> None:
        heapq.heappush(self.delayed, (time.monotonic_ns() + delay_us * 1000, thread.tid, number))
