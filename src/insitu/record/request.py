"""What a CPU profile is asked to be, and how its recording went."""

import math
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.record.events import MAX_STACK_BYTES, Stacks

__all__ = ["Outcome", "Request", "check"]

_MOST_HERTZ: Final = 10**9  # beyond it two samples would have the same time stamp
_MOST_PAGES: Final = 1 << 30


class Request(NamedTuple):
    """What to record. Exactly one of ``command``, ``pids`` and ``whole_system`` says of whom; a command may be
    given besides ``whole_system``, which then lasts as long as the command."""

    command: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    whole_system: bool = False
    seconds: float | None = None
    frequency: int = 99
    events: tuple[str, ...] = ()
    stacks: Stacks = "fp"
    stack_bytes: int = 8192
    user: bool = True
    kernel: bool = True
    ring_pages: int | None = None
    """Data pages of each CPU's ring, a power of two; by default 512 KiB, and 4 MiB with copies of stacks."""


class Outcome(NamedTuple):
    """How a recording went. ``exit_status`` is the command's, 0 without one."""

    exit_status: int
    bytes_written: int
    lost: int
    """Records that found no room in a ring, by the kernel's own count; -1 on kernels before 6.0."""
    notes: list[str]
    failure: str
    """Why recording ended early ("" if it did not): the disk is full, for example."""
    abandoned: bool
    """Asked to stop a second time, while the command was still ending."""


def check(request: Request) -> None:
    """Raise InsituError (status 2, wrong usage) for a request that makes no sense, whatever the machine."""
    kinds = bool(request.command) + bool(request.pids) + request.whole_system
    if kinds == 0:
        raise InsituError("nothing to profile", remedy="give -- COMMAND, -p PID or -a", status=2)
    if request.pids and kinds > 1:
        raise InsituError("-p PID cannot be combined with a command or -a", status=2)
    if not 0 < request.frequency <= _MOST_HERTZ:
        raise InsituError(f"{request.frequency} Hz is no sampling frequency", status=2)
    if request.seconds is not None and not 0 < request.seconds < math.inf:
        raise InsituError(f"{request.seconds} is no duration", status=2)
    if not (request.user or request.kernel):
        raise InsituError("neither user nor kernel code: nothing to record", status=2)
    if not 0 < request.stack_bytes <= MAX_STACK_BYTES or request.stack_bytes % 8:
        raise InsituError(
            f"{request.stack_bytes} bytes of stack: at most {MAX_STACK_BYTES}, and a multiple of 8", status=2
        )
    pages = request.ring_pages
    if pages is not None and (not 0 < pages <= _MOST_PAGES or pages & (pages - 1)):
        raise InsituError(f"{pages} pages: a ring has a power of two of them, at most {_MOST_PAGES}", status=2)
