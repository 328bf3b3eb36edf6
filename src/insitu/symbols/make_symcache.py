"""Makes a symcache of an ELF file with DWARF in a process of its own, where a crash, a loop or a bomb ends only that.

See symcache_process, which is that process's program.
"""

import mmap
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from insitu.symbols.reader_limits import program, reader_limits

__all__ = ["Made", "make_symcache"]

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
    limits = reader_limits(os.fstat(descriptor).st_size, debug_bytes)
    if isinstance(limits, str):
        return Made(None, failure=limits)
    if split:
        limits = limits.more(_SPLIT_BYTES, _SPLIT_S)
    output = os.memfd_create("insitu-symcache", os.MFD_CLOEXEC)
    try:
        words = [descriptor, output, *limits, int(split), os.pathsep.join(sys.path)]
        places = [part for place in ((Path(), root), *beside) for part in place]
        done = subprocess.run(
            [*program("symcache_process.py"), *map(str, words), *map(str, places)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(descriptor, output),
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            timeout=4 * limits.seconds,  # of a disk that hangs
        )
        if done.returncode:
            return Made(None, failure=limits.failure(done.returncode))
        return Made(mmap.mmap(output, 0, access=mmap.ACCESS_READ), int(done.stdout))
    except (OSError, ValueError) as error:
        return Made(None, failure=f"cannot be read ({error})")
    except subprocess.TimeoutExpired:
        return Made(None, failure=f"reading it took more than {4 * limits.seconds} s")
    finally:
        os.close(output)
