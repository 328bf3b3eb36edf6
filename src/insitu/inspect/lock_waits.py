"""Which thread waits for which: mutexes and rwlocks of the C library and their owners, threads that are joined.

A thread that waits for a lock waits in futex(2) for a word of it; the owner's thread id is in the lock, too.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from insitu.inspect.stacks import Process, Thread
from insitu.inspect.variable_names import VariableNames
from insitu.kernel import procfs
from insitu.kernel.process_memory import ProcessMemory
from insitu.symbols.frame import PYTHON

__all__ = ["Wait", "cycles", "unowned", "waits"]

# include/uapi/linux/futex.h: FUTEX_WAIT, FUTEX_LOCK_PI, FUTEX_WAIT_BITSET, FUTEX_LOCK_PI2
_COMMAND: Final = 0x7F
_WAIT, _LOCK_PI, _WAIT_BITSET, _LOCK_PI2 = 0, 6, 9, 13
# A wait with a timeout that was interrupted, as by us, goes on as restart_syscall, with its arguments.
_FUTEX: Final = ("futex", "restart_syscall")
_TID: Final = 0x3FFFFFFF
# sysdeps/nptl/bits/struct_mutex.h: int lock; unsigned count; int owner. struct_rwlock.h: readers, writers,
# wrphase_futex, writers_futex, pad, pad, int cur_writer
_OWNER: Final = 8
_WRPHASE, _WRITERS, _WRITER = 8, 12, 24


class Wait(NamedTuple):
    """A thread that waits for another one. ``kind``: mutex, rwlock, or thread (it is joined)."""

    waiter: Thread
    owner: Thread
    kind: str
    address: int
    """Of the lock."""
    name: str
    """Of the variable that the lock is in; "" if no symbol covers it."""


def waits(process: Process) -> list[Wait]:
    """The threads of a process that wait for other ones of it, each for one at most; none if it has ended."""
    threads = {thread.tid: thread for thread in process.threads}
    live = next((thread.tid for thread in process.threads if thread.frames), process.pid)
    try:
        memory, names = ProcessMemory(unchanged=True), VariableNames(live, list(procfs.areas(live)))
    except ProcessLookupError:
        return []
    found = []
    for thread in process.threads:
        if (what := _waits_for(thread, live, memory, threads)) is not None:
            kind, address, owner = what
            name = names.name(address) if kind != "thread" else ""
            found.append(Wait(thread, threads[owner], kind, address, name))
    return found


def unowned(process: Process, found: Sequence[Wait]) -> int:
    """How many other threads wait in futex(2): for what has no owner, or one that is not known."""
    waiters = {wait.waiter.tid for wait in found}
    calls = [thread.call for thread in process.threads if thread.tid not in waiters]
    return sum(call is not None and call.name == "futex" for call in calls)


def _waits_for(
    thread: Thread, pid: int, memory: ProcessMemory, threads: Mapping[int, Thread]
) -> tuple[str, int, int] | None:
    """What a thread waits for: kind, address and owner's thread."""
    call = thread.call
    if call is None or call.name not in _FUTEX:
        return None
    word, command = call.arguments[0], call.arguments[1] & _COMMAND
    if command not in (_WAIT, _LOCK_PI, _WAIT_BITSET, _LOCK_PI2):
        return None
    functions = [frame.function for frame in thread.frames[:12] if frame.kind != PYTHON]

    def number(address: int) -> int:
        data = memory.read(pid, address, 4)
        return struct.unpack("<I", data)[0] & _TID if len(data) == 4 else 0

    if any("pthread_rwlock" in name or "rwlock_" in name for name in functions):
        for offset in (_WRPHASE, _WRITERS):
            if (owner := number(word - offset + _WRITER)) in threads:
                return "rwlock", word - offset, owner
        return None
    if any("join" in name for name in functions):
        owner = number(word)
        return ("thread", word, owner) if owner in threads and owner != thread.tid else None
    if command in (_LOCK_PI, _LOCK_PI2):
        owner = number(word)
        return ("mutex", word, owner) if owner in threads else None
    # The futex word of a condition variable is in no mutex: no thread id is where the owner's would be.
    owner = number(word + _OWNER)
    is_lock = not functions or any("lock" in name for name in functions)
    return ("mutex", word, owner) if owner in threads and is_lock and number(word) in (1, 2) else None


def cycles(found: Sequence[Wait]) -> list[list[Wait]]:
    """The deadlocks: threads that wait for each other in a circle, each circle once."""
    by_waiter = {wait.waiter.tid: wait for wait in found}
    done: set[int] = set()
    circles = []
    for start in by_waiter:
        path: list[int] = []
        at = start
        while at in by_waiter and at not in done:
            done.add(at)
            path.append(at)
            at = by_waiter[at].owner.tid
        if at in path:
            circles.append([by_waiter[tid] for tid in path[path.index(at) :]])
    return circles
