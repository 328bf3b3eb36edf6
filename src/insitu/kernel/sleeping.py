"""Threads that are asleep: where they wait, by /proc, which says so without waking them."""

import struct
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.kernel import procfs

__all__ = ["SLEEPING", "SleepingThread", "packed", "sleeping_thread", "unpacked"]

SLEEPING: Final = "sleeping.records"
"""The name of a file of packed threads."""

_STACK_BYTES: Final = 8192
_WCHAN_BYTES: Final = 64  # KSYM_NAME_LEN is more, and such names are rare
# Time, thread, process, CPU, state, stack pointer, instruction pointer, wchan, bytes of the stack, the stack.
_ROW: Final = struct.Struct(f"<qiiiiQQ{_WCHAN_BYTES}sI{_STACK_BYTES}s")
# State in /proc/TID/stat -> task state (include/linux/sched.h).
_STATES: Final = {"S": 0x1, "D": 0x2, "T": 0x4, "t": 0x8, "P": 0x40, "I": 0x80}


class SleepingThread(NamedTuple):
    """A thread that did not run at ``ts_ns`` (CLOCK_MONOTONIC); ``state`` is as prev_state of sched_switch has it.

    ``sp`` and ``pc`` are its user registers, 0 where they are not available; ``stack`` is a copy of what is on its
    user stack. ``wchan`` is the kernel function that it waits in; "" if the kernel does not say.
    """

    ts_ns: int
    tid: int
    pid: int
    cpu: int
    state: int
    sp: int
    pc: int
    wchan: str
    stack: bytes


def sleeping_thread(pid: int, tid: int) -> SleepingThread | None:
    """Where a thread of process ``pid`` waits; None if it does not. Raises OSError if it does not exist."""
    ts_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    before = procfs.scheduling(tid)
    if before.state not in _STATES:
        return None
    sp, pc = procfs.user_registers(tid)
    try:
        stack = procfs.memory(pid, sp, _STACK_BYTES) if sp else b""
    except (OSError, ValueError, OverflowError):
        stack = b""
    wchan = procfs.text(f"/proc/{tid}/wchan") or ""
    if procfs.scheduling(tid) != before:
        return None
    wchan = "" if wchan == "0" else wchan
    return SleepingThread(ts_ns, tid, pid, before.cpu, _STATES[before.state], sp, pc, wchan, stack)


def packed(thread: SleepingThread) -> bytes:
    """A thread as bytes of fixed length."""
    *numbers, wchan, stack = thread
    return _ROW.pack(*numbers, str(wchan).encode(), len(thread.stack), stack)


def unpacked(data: bytes | memoryview) -> Iterator[SleepingThread]:
    """The threads in a file of packed ones; a torn last one is left out."""
    for ts_ns, tid, pid, cpu, state, sp, pc, wchan, size, stack in _ROW.iter_unpack(
        data[: len(data) // _ROW.size * _ROW.size]
    ):
        name = wchan.rstrip(b"\0").decode(errors="replace")
        yield SleepingThread(ts_ns, tid, pid, cpu, state, sp, pc, name, stack[:size])
