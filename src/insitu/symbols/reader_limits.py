"""Time and memory of a process in which a library reads debug information of others, by the size of the file."""

import os
import signal
import sys
from pathlib import Path
from typing import Final, NamedTuple

from insitu.symbols.read_budget import megabytes

__all__ = ["ReaderLimits", "program", "reader_limits"]

_BASE_BYTES: Final = 1 << 30  # interpreter and libraries, mapped rather than used
_MEMORY_PER_BYTE: Final = 32  # of debug information
_BASE_S: Final = 20
_MAX_S: Final = 600
_BYTES_PER_S: Final = 2 << 20


class ReaderLimits(NamedTuple):
    """Bytes of address space (RLIMIT_AS), and seconds of CPU time (RLIMIT_CPU)."""

    memory: int
    seconds: int

    def more(self, memory: int, seconds: int) -> "ReaderLimits":
        """Limits that are so much higher; memory never above the machine's."""
        return ReaderLimits(min(self.memory + memory, _physical_bytes()), self.seconds + seconds)

    def failure(self, status: int) -> str:
        """What the end of a process with these limits means. ``status``: as subprocess has it, not 0."""
        if status == -signal.SIGXCPU:
            return f"reading it took more than {self.seconds} s"
        if status == -signal.SIGABRT:  # native libraries abort when memory runs out
            return "reading it took too much memory"
        return f"its reader ended with {signal.Signals(-status).name}" if status < 0 else "damaged"


def reader_limits(file_bytes: int, debug_bytes: int) -> ReaderLimits | str:
    """The limits for a file with so much debug information; or, for one that is too large, what it is."""
    if file_bytes > _physical_bytes():
        return f"a file of {megabytes(file_bytes)}"
    debug_bytes = min(debug_bytes, file_bytes)  # sections may share bytes
    memory = _BASE_BYTES + file_bytes + _MEMORY_PER_BYTE * debug_bytes
    return ReaderLimits(min(memory, _physical_bytes()), min(_BASE_S + debug_bytes // _BYTES_PER_S, _MAX_S))


def program(name: str) -> list[str]:
    """The command that runs a module of this directory as a script, without ``site``, which would take longest."""
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name(name))]


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
