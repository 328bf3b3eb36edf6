"""What the frames of waits say of them: what was waited for, and who ended it."""

from __future__ import annotations

import re
from itertools import dropwhile
from typing import Final

from insitu.convert.tracing_frames import is_tracing
from insitu.symbols.frame import WAKER, Frame

__all__ = ["Frames", "faulted", "is_idle", "waited_for", "with_waker", "without_ours", "without_start"]

Frames = tuple[Frame, ...]
"""Innermost first."""

# What threads wait for in futex(2), by the functions of libc that they are in.
_FUTEXES: Final = (
    ("join", re.compile(r"(__)?pthread_(time|clock)?join|.*clockjoin_ex")),
    ("condition", re.compile(r"(___?)?pthread_cond_")),
    ("barrier", re.compile(r"(__)?pthread_barrier_")),
    ("semaphore", re.compile(r"(__new_|__)?sem_")),
)
_START: Final = re.compile(r"_start$|__libc_start_|(__)?clone3?$|start_thread$")
_FAULT: Final = re.compile(r"(asm_)?exc_page_fault|do_page_fault|do_mem_abort|handle_mm_fault|faultin_page")
# Kernel threads call nothing of this to wait for work, but while they do some.
_AT_WORK: Final = re.compile(
    r"(__)?(mutex_lock|down(_|$)|rwsem_down|io_schedule|wait_on_|bit_wait|wait_for_|synchronize_|blk_|submit_bio_wait)"
)
_INTERRUPT: Final = re.compile(r"(asm_)?(sysvec_|common_interrupt)|__sysvec_|el[01].?_\d*.?_?irq|el[01]_interrupt")


def without_ours(frames: Frames) -> Frames:
    """A kernel stack without the frames of our program, which has no name any more, and of its tracepoint."""
    return tuple(dropwhile(_is_ours, frames))


def _is_ours(frame: Frame) -> bool:
    return not frame.symbolized or frame.function == "__schedule" or is_tracing(frame.function)


def without_start(frames: Frames) -> Frames:
    """A user stack without what comes before main() or a thread's function, which only unwinding shows."""
    end = len(frames)
    while end and (_START.match(frames[end - 1].function) or not frames[end - 1].module):
        end -= 1
    return frames[:end]


def waited_for(outside: Frames) -> str:
    """The cause of a wait in futex(2)."""
    for cause, pattern in _FUTEXES:
        if any(pattern.match(frame.function) for frame in outside):
            return cause
    return "lock"


def with_waker(kernel: Frames, user: Frames, frames: Frames) -> tuple[bool, Frames]:
    """Whether an interrupt has ended a wait, and the stack of the wait below that of what woke it, upside down."""
    at = next((at for at, frame in enumerate(kernel) if _INTERRUPT.match(frame.function)), None)
    waker = (*kernel, *user) if at is None else kernel[: at + 1]
    return at is not None, (*(frame._replace(kind=WAKER) for frame in reversed(waker)), *frames)


def faulted(kernel: Frames) -> bool:
    """Whether a wait was one for a page."""
    return any(_FAULT.match(frame.function) for frame in kernel)


def is_idle(kernel: Frames) -> bool:
    """Whether it is a kernel thread (kernel/kthread.c) that waits for work, by its stack."""
    functions = [frame.function for frame in kernel]
    return not {"kthread", "kthreadd"}.isdisjoint(functions) and not any(map(_AT_WORK.match, functions))
