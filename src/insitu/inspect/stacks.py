"""The stacks of all threads of a process now, by our own unwinder; kernel functions; the call that each waits in.

The process is stopped only while registers and stacks are copied (stopped_threads.py); all else is done afterwards.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.inspect.stopped_threads import Capture, StackCopy, capture
from insitu.kernel import procfs, ptrace
from insitu.kernel.ptrace_refusal import has_ended, refusal
from insitu.session.distinct import offsets_of
from insitu.symbols.frame import KERNEL, Frame
from insitu.symbols.process_map import ProcessMap
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import CUT, Unwinder
from insitu.symbols.user_stacks import UserStacks
from insitu.syscalls.native import syscall_name

__all__ = ["Call", "Process", "Thread", "stacks"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_MOST_DEPTH: Final = 2000
_WHY_NOT: Final = {
    "unstopped": "the kernel does not interrupt it (disk I/O, or another call that must end)",
    "ended": "it has ended",
    "left": "it was not reached in the time that the others may be stopped for",
}
_KERNEL_FRAME: Final = re.compile(r"\[<\w+>\] ([^\s+]+)(?:\+\w+/\w+)?(?: \[(\w+)\])?")


class Call(NamedTuple):
    """The system call that a thread is blocked in, with its six arguments."""

    name: str
    arguments: tuple[int, ...]


class Thread(NamedTuple):
    """A thread at that moment; ``frames`` are the user's, ``kernel`` the kernel's, innermost first."""

    tid: int
    name: str
    state: str
    """A letter, as in ps(1)."""
    call: Call | None
    frames: Sequence[Frame]
    addresses: Sequence[int]
    """Of each user frame that is not inlined: the instruction pointer, then return addresses."""
    kernel: Sequence[Frame]
    cut: bool
    """Whether the user stack goes on, but was not unwound further."""
    why: str
    """Why there is no user stack; "" if there is one."""


class Process(NamedTuple):
    """A process and its threads, the first of which is the main one."""

    pid: int
    name: str
    threads: Sequence[Thread]
    stopped_ns: int
    notes: Sequence[str]


class _Moment(NamedTuple):
    """What /proc said of a thread, before it was stopped: stopping it would change that."""

    name: str
    state: str
    call: Call | None
    kernel: Sequence[Frame]


def stacks(pid: int, *, inlines: bool = True, kernel: bool = False) -> Process:
    """The stacks of a process; ``kernel``: the kernel's functions too, which needs root.

    A kernel thread has only these. Raises InsituError if there is no such process, or it may not be traced.
    """
    try:
        name = _text(procfs.comm(pid))
        moments = {tid: _moment(tid, kernel) for tid in sorted(procfs.threads(pid))}
        live = next((tid for tid in (pid, *moments) if procfs.maps_text(tid)), 0)
        if not live:
            return _without_user_stacks(pid, name, moments)
        found = capture(pid, live)
    except (ProcessLookupError, FileNotFoundError):
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    except PermissionError as error:
        raise refusal(pid, pid, error) from None
    symbolizer = Symbolizer(inlines=inlines)
    threads, notes = _threads(found, moments, symbolizer)
    threads.sort(key=lambda thread: (thread.tid != pid, thread.tid))
    return Process(pid, name, threads, found.stopped_ns, [*notes, *symbolizer.notes])


def _without_user_stacks(pid: int, name: str, moments: dict[int, _Moment]) -> Process:
    why = "it has ended, and nobody has waited for it (a zombie)" if has_ended(pid) else "a kernel thread"
    threads = [Thread(tid, m.name, m.state, None, (), (), m.kernel, False, why) for tid, m in moments.items()]
    return Process(pid, name, threads, 0, ())


def _moment(tid: int, kernel: bool) -> _Moment:
    name, state, frames = "", "?", []
    with contextlib.suppress(OSError):
        name, state = _text(procfs.comm(tid)), procfs.scheduling(tid).state
        frames = kernel_frames(procfs.text(f"/proc/{tid}/stack") or "") if kernel else []
    return _Moment(name, state, _call(tid), frames)


def _call(tid: int) -> Call | None:
    """The call that a thread is blocked in; None: none, or that is not known."""
    words = (procfs.text(f"/proc/{tid}/syscall") or "").split()
    if len(words) < 9 or not words[0].isdigit():
        return None
    number = int(words[0])
    return Call(syscall_name(number), tuple(int(word, 16) for word in words[1:7]))


def kernel_frames(text: str) -> list[Frame]:
    """The functions of /proc/TID/stack, innermost first."""
    return [
        Frame(match[1], f"[{match[2]}]" if match[2] else "", kind=KERNEL) for match in _KERNEL_FRAME.finditer(text)
    ]


def _threads(
    found: Capture, moments: dict[int, _Moment], symbolizer: Symbolizer
) -> tuple[list[Thread], Sequence[str]]:
    spaces = ProcessMap()
    epoch = spaces.execed_with(found.pid, 0, [area for area in found.areas if "x" in area.permissions])
    unwinder = Unwinder(spaces, symbolizer.open_module, frame_pointers=True, max_depth=_MOST_DEPTH, mark_cut=True)
    bounds, addresses = unwinder.unwind(_samples(found.copies, epoch))
    named = _named(spaces, symbolizer, found.pid, epoch, bounds, addresses)
    threads = []
    for at, copy in enumerate(found.copies):
        known = moments.get(copy.tid) or _moment(copy.tid, False)  # begun since they were listed
        mine = addresses[bounds[at] : bounds[at + 1]].tolist()
        cut = bool(mine) and mine[-1] == CUT
        frames = [frame for each in named[bounds[at] : bounds[at + 1] - cut] for frame in each]
        own = mine[:-1] if cut else mine
        threads.append(Thread(copy.tid, known.name, known.state, known.call, frames, own, known.kernel, cut, ""))
    copied = {copy.tid for copy in found.copies}
    for tid in sorted({*moments, *found.unstopped} - copied):
        known = moments.get(tid) or _moment(tid, False)
        why = _WHY_NOT["unstopped" if tid in found.unstopped else "ended" if has_ended(tid) else "left"]
        threads.append(Thread(tid, known.name, known.state, known.call, (), (), known.kernel, False, why))
    return threads, unwinder.notes()


def _samples(copies: Sequence[StackCopy], epoch: int) -> UserStacks:
    sizes = np.array([len(each.stack) for each in copies], np.int64)
    return UserStacks(
        np.array([each.registers for each in copies], np.uint64).reshape(len(copies), -1),
        ptrace.SAMPLED_MASK,
        np.frombuffer(b"".join(each.stack for each in copies), np.uint8),
        offsets_of(sizes)[:-1],
        sizes,
        np.full(len(copies), epoch, np.int32),
        np.array([1 if each.compat else 2 for each in copies], np.uint64),
    )


def _named(
    spaces: ProcessMap, symbolizer: Symbolizer, pid: int, epoch: int, bounds: I64, addresses: U64
) -> list[tuple[Frame, ...]]:
    """The frames at each address: one function, and those inlined there."""
    # A return address may be the first of the next function: the call lies before it.
    called = np.ones(len(addresses), np.uint64)
    called[bounds[:-1][np.diff(bounds) > 0]] = 0
    distinct, inverse = np.unique(addresses - called, return_inverse=True)
    modules, offsets = spaces.find(epoch, distinct)
    frames: list[tuple[Frame, ...]] = [()] * len(distinct)
    for index in np.unique(modules).tolist():
        rows = np.flatnonzero(modules == index)
        made = (
            symbolizer.anonymous(pid, distinct[rows])
            if index < 0
            else symbolizer.user(spaces.modules[index], offsets[rows], distinct[rows])
        )
        for row, each in zip(rows.tolist(), made, strict=True):
            frames[row] = each
    return [frames[at] for at in inverse.tolist()]


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
