"""Which glibc a process has: its heap is read for versions whose structures are known, and refused for others."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.module_files import ModuleFile, open_module
from insitu.symbols.process_map import Module

__all__ = ["UNKNOWN", "glibc_version", "refuse_unknown"]

_OLDEST, _NEWEST = (2, 31), (2, 41)
"""2.42 has other caches of threads (struct tcache_perthread_struct of malloc/malloc.c)."""
UNKNOWN: Final = "which glibc it is is not known (a static program, or its file is not here): read as 2.31 to 2.41"
_NAME: Final = re.compile(rb"libc\.so\.6|libc-(\d{1,3})\.(\d{1,3})\.so")
_BANNER: Final = re.compile(rb"GNU C Library [^\n\0]{0,200}?release version (\d{1,3})\.(\d{1,3})")
_MOST_BYTES: Final = 4 << 20  # of .rodata; 2.36 has 0.3 MiB


def glibc_version(pid: int, areas: Sequence[procfs.Area]) -> tuple[int, int] | None:
    """The version of the C library that is mapped, by its file; None if it has none or the file is not there.

    ``pid`` 0: the process is not running on this machine.
    """
    for area in areas:
        named = _NAME.fullmatch(area.path.rpartition(b"/")[2].removesuffix(b" (deleted)"))
        if not named:
            continue
        if named[1]:
            return int(named[1]), int(named[2])
        path = area.path.decode("utf-8", "surrogateescape")
        module = Module(path, pid=pid, inode=(area.major, area.minor, area.inode))
        file = open_module(module, live=bool(pid))
        if not isinstance(file, ModuleFile):
            return None
        try:
            found = _BANNER.search(file.elf.section_bytes(".rodata", _MOST_BYTES))
        except (OSError, InsituError):
            return None
        return (int(found[1]), int(found[2])) if found else None
    return None


def refuse_unknown(version: tuple[int, int] | None) -> None:
    """Raise InsituError for a version whose heap is not known."""
    if version is not None and not _OLDEST <= version <= _NEWEST:
        low, high = (".".join(map(str, each)) for each in (_OLDEST, _NEWEST))
        raise InsituError(
            f"the C library is glibc {version[0]}.{version[1]}, whose heap insitu leaks does not know",
            remedy=f"it knows {low} to {high}",
        )
