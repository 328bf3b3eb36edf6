"""The stacks of all threads of a process now, by our own unwinder; kernel functions; the call that each waits in.

The process is stopped only while registers and stacks are copied (stopped_threads.py); all else is done afterwards.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from insitu.convert.wall_python import with_python
from insitu.errors import InsituError
from insitu.inspect.python_stacks import PythonStacks
from insitu.inspect.stopped_threads import Capture, capture
from insitu.kernel import procfs
from insitu.kernel.ptrace_refusal import has_ended, refusal
from insitu.symbols.copied_stacks import named_stacks
from insitu.symbols.frame import KERNEL, Frame
from insitu.symbols.symbolizer import Symbolizer
from insitu.syscalls.descriptor_text import DescriptorText
from insitu.syscalls.descriptors import descriptor_arguments
from insitu.syscalls.native import syscall_abi, syscall_name

__all__ = ["Call", "Process", "Thread", "stacks"]

_WHY_NOT: Final = {
    "unstopped": "the kernel does not interrupt it (disk I/O, or another call that must end)",
    "ended": "it has ended",
    "left": "it was not reached in the time that the others may be stopped for",
}
_MOST_DESCRIPTOR: Final = (1 << 31) - 1  # what is larger is negative, such as AT_FDCWD
_MOST_FILES: Final = 64  # that are described in full
_KERNEL_FRAME: Final = re.compile(r"\[<\w+>\] ([^\s+]+)(?:\+\w+/\w+)?(?: \[(\w+)\])?")


class Call(NamedTuple):
    """The system call that a thread is blocked in, with its six arguments."""

    name: str
    arguments: tuple[int, ...]
    descriptor: int | None = None
    """The one that the call is about: its first argument, where that is one."""
    file: str = ""
    """What the descriptor is open on, as insitu syscalls -yy shows it; "" if that is not known."""


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
    call: tuple[int, ...] | None
    """The number of the call that it is blocked in, and its arguments."""
    kernel: Sequence[Frame]


def stacks(pid: int, *, inlines: bool = True, kernel: bool = False, python: bool = True) -> Process:
    """The stacks of a process; ``kernel``: the kernel's functions too, which needs root.

    ``python``: functions of Python (CPython 3.11 to 3.13) in place of the interpreter's own. Of a kernel thread there
    are only the kernel's. Raises InsituError if there is no such process, or it may not be traced.
    """
    try:
        name = _text(procfs.comm(pid))
        moments = {tid: _moment(tid, kernel) for tid in sorted(procfs.threads(pid))}
        live = next((tid for tid in (pid, *moments) if procfs.maps_text(tid)), 0)
        if not live:
            return _without_user_stacks(pid, name, moments)
        running = [tid for tid, moment in moments.items() if moment.state == "R"]
        interpreter = PythonStacks(pid, live, running) if python else None
        found = capture(pid, live, interpreter.while_stopped) if interpreter else capture(pid, live)
    except (ProcessLookupError, FileNotFoundError):
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    except PermissionError as error:
        raise refusal(pid, pid, error) from None
    symbolizer = Symbolizer(inlines=inlines)
    threads, notes = _threads(found, moments, symbolizer)
    if interpreter is not None:
        functions = interpreter.afterwards(found.copies)
        threads = [
            each._replace(frames=with_python(tuple(each.frames), functions.get(each.tid, ()))) for each in threads
        ]
        if interpreter.missed:
            count = interpreter.missed
            what = "1 thread, which" if count == 1 else f"{count} threads, which"
            notes = [*notes, f"no Python functions of {what} ran meanwhile: ask again"]
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


def _call(tid: int) -> tuple[int, ...] | None:
    """The number of the call that a thread is blocked in, and its arguments; None: none, or that is not known."""
    words = (procfs.text(f"/proc/{tid}/syscall") or "").split()
    if len(words) < 9 or not words[0].isdigit():
        return None
    return (int(words[0]), *(int(word, 16) for word in words[1:7]))


class _Calls:
    """Names calls, and says what their descriptors are open on."""

    def __init__(self) -> None:
        self._link, self._whole = DescriptorText(1), DescriptorText(2)
        self._known: dict[str, str] = {}

    def named(self, tid: int, found: tuple[int, ...] | None, narrow: bool = False) -> Call | None:
        if not found:
            return None
        number, *arguments = found
        call = Call(syscall_name(number, narrow=narrow), tuple(arguments))
        abi = syscall_abi(narrow=narrow)
        descriptor = arguments[0] & 0xFFFFFFFF
        if abi is None or 0 not in descriptor_arguments(abi, number) or descriptor > _MOST_DESCRIPTOR:
            return call
        return call._replace(descriptor=descriptor, file=self._file(tid, descriptor))

    def _file(self, tid: int, descriptor: int) -> str:
        link = self._link.describe(tid, descriptor)
        # The addresses of a socket take a look at all of the machine's.
        if link not in self._known and len(self._known) < _MOST_FILES:
            self._known[link] = self._whole.describe(tid, descriptor)
        return self._known.get(link, link)


def kernel_frames(text: str) -> list[Frame]:
    """The functions of /proc/TID/stack, innermost first."""
    return [
        Frame(match[1], f"[{match[2]}]" if match[2] else "", kind=KERNEL) for match in _KERNEL_FRAME.finditer(text)
    ]


def _threads(
    found: Capture, moments: dict[int, _Moment], symbolizer: Symbolizer
) -> tuple[list[Thread], Sequence[str]]:
    stacks, notes = named_stacks(found.pid, found.areas, found.copies, symbolizer)
    threads, calls = [], _Calls()
    for copy, (frames, addresses, cut) in zip(found.copies, stacks, strict=True):
        known = moments.get(copy.tid) or _moment(copy.tid, False)  # begun since they were listed
        call = calls.named(copy.tid, known.call, copy.compat)
        threads.append(Thread(copy.tid, known.name, known.state, call, frames, addresses, known.kernel, cut, ""))
    copied = {copy.tid for copy in found.copies}
    for tid in sorted({*moments, *found.unstopped} - copied):
        known = moments.get(tid) or _moment(tid, False)
        why = _WHY_NOT["unstopped" if tid in found.unstopped else "ended" if has_ended(tid) else "left"]
        threads.append(
            Thread(tid, known.name, known.state, calls.named(tid, known.call), (), (), known.kernel, False, why)
        )
    return threads, notes


def _text(name: bytes) -> str:
    return name.decode(errors="replace")
