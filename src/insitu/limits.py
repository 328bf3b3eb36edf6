"""This process's limits of descriptors and memory: raise them, or say which one it has reached."""

import errno
import os
import re
import resource
from typing import Final

from insitu.errors import InsituError

__all__ = [
    "ENGINE_BYTES",
    "EVENT_LOOP_FILES",
    "is_out_of_memory",
    "raise_descriptor_limit",
    "refuse_few_descriptors",
    "refuse_little_memory",
    "remedy",
]

ENGINE_BYTES: Final = 512 << 20
"""Of address space, what converting and reading a session needs at least."""
EVENT_LOOP_FILES: Final = 8
"""Descriptors that asyncio's event loop, its first socket and its modules need at most.

With fewer, the loop is half made: when Python removes that object, it prints a traceback.
"""

# The dynamic loader, threads and DuckDB say only in words that memory is short.
_NO_MEMORY: Final = (
    r"(?i)cannot allocate|failed to map segment|out of memory|can't (?:start|create) new thread"
    r"|resource temporarily unavailable|wouldblock"  # of a thread that has no memory for its stack
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, whatever its type: Polars has one that is no Exception."""
    may_say = isinstance(error, ImportError | RuntimeError) or type(error).__name__ == "PanicException"
    return isinstance(error, MemoryError) or (may_say and re.search(_NO_MEMORY, str(error)) is not None)


def remedy(text: str) -> str:
    """The remedy where an error's text says that a limit of this process is reached; "" where it does not."""
    if os.strerror(errno.EMFILE) in text:
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"this process may open {files} files; raise that: ulimit -n {max(1024, 2 * files)}"
    if not re.search(_NO_MEMORY, text):
        return ""
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory == resource.RLIM_INFINITY:
        return "free some memory, or use a machine that has more"
    return f"this process may have {memory >> 20} MiB; raise that: ulimit -v unlimited"


def raise_descriptor_limit() -> bool:
    """Let this process open as many files as the hard limit allows; False if it already may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == hard:
        return False
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return True


def refuse_few_descriptors(least: int) -> None:
    """Raise InsituError if this process cannot open ``least`` files more than it has open."""
    held: list[int] = []
    try:
        held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        held += [os.dup(held[0]) for _ in range(least - 1)]
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        text = os.strerror(errno.EMFILE)
        raise InsituError(f"{text}: {least} more are needed", remedy=remedy(text)) from None
    finally:
        for descriptor in held:
            os.close(descriptor)


def refuse_little_memory(least: int) -> None:
    """Raise InsituError if this process may not have ``least`` bytes: numpy, DuckDB and Polars would crash.

    That is only about a limit that somebody has set (``ulimit -v``).
    """
    memory = resource.getrlimit(resource.RLIMIT_AS)[0]
    if memory != resource.RLIM_INFINITY and memory < least:
        raise InsituError(
            f"out of memory: {least >> 20} MiB of address space are needed",
            remedy=remedy("out of memory"),
        )
