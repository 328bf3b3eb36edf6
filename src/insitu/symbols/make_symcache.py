"""Makes a symcache of an ELF file with DWARF in a process of its own, where a crash, a loop or a bomb ends only that.

See symcache_process, which is that process's program.
"""

import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from insitu.symbols.read_budget import megabytes

__all__ = ["Made", "make_symcache"]

_BASE_BYTES: Final = 1 << 30  # interpreter and libraries, mapped rather than used
_MEMORY_PER_BYTE: Final = 32  # of debug information
_BASE_S: Final = 20
_MAX_S: Final = 600
_BYTES_PER_S: Final = 2 << 20
_SPLIT_BYTES: Final = 4 << 30  # more where split units are joined, of which there may be 128 MB
_SPLIT_S: Final = 120


class Made(NamedTuple):
    """A symcache, ``missing`` of whose split units were not found; or None, and why."""

    data: mmap.mmap | None
    missing: int = 0
    failure: str = ""


def make_symcache(
    descriptor: int, debug_bytes: int, *, split: bool, beside: Sequence[tuple[Path, Path]], root: Path
) -> Made:
    """The symcache of an open file with ``debug_bytes`` of DWARF; time and memory are limited by that.

    ``split`` joins split units, which are looked for at ``beside`` and below ``root`` (see split_dwarf).
    """
    size = os.fstat(descriptor).st_size
    debug_bytes = min(debug_bytes, size)  # sections may share bytes
    if size > _physical_bytes():
        return Made(None, failure=f"a file of {megabytes(size)}")
    memory = _BASE_BYTES + size + _MEMORY_PER_BYTE * debug_bytes + split * _SPLIT_BYTES
    seconds = min(_BASE_S + debug_bytes // _BYTES_PER_S, _MAX_S) + split * _SPLIT_S
    output = os.memfd_create("insitu-symcache", os.MFD_CLOEXEC)
    try:
        words = [descriptor, output, min(memory, _physical_bytes()), seconds, int(split), os.pathsep.join(sys.path)]
        places = [part for place in ((Path(), root), *beside) for part in place]
        done = subprocess.run(
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("symcache_process.py")),
                *map(str, words),
                *map(str, places),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor, output),
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            timeout=4 * seconds,  # of a disk that hangs
        )
        if done.returncode:
            return Made(None, failure=_why(done.returncode, seconds))
        return Made(mmap.mmap(output, 0, access=mmap.ACCESS_READ), int(done.stdout))
    except (OSError, ValueError) as error:
        return Made(None, failure=f"cannot be read ({error})")
    except subprocess.TimeoutExpired:
        return Made(None, failure=f"reading it took more than {4 * seconds} s")
    finally:
        os.close(output)


def _physical_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _why(status: int, seconds: int) -> str:
    if status == -signal.SIGXCPU:
        return f"reading it took more than {seconds} s"
    if status == -signal.SIGABRT:  # symbolic aborts when memory runs out
        return "reading it took too much memory"
    return f"its reader ended with {signal.Signals(-status).name}" if status < 0 else "damaged"
