"""The names that the kernel gives to mappings (/proc/PID/maps): which are files, and which hold no file's code."""

import re
from typing import Final

__all__ = ["DELETED", "VDSO", "is_anonymous", "is_of_one_process"]

DELETED: Final = " (deleted)"
VDSO: Final = "[vdso]"

_ANONYMOUS: Final = re.compile(r"$|//anon|\[heap\]|\[stack|\[anon|\[uprobes\]|anon_inode:|/dev/zero|/SYSV[0-9a-f]{8}")
_MEMFD: Final = "/memfd:"


def is_anonymous(path: str) -> bool:
    """Whether a mapping of this name holds no file's code, so that only a JIT compiler's map can name it."""
    return _ANONYMOUS.match(path) is not None


def is_of_one_process(path: str) -> bool:
    """Whether mappings of this name in two processes may hold different code: anonymous memory, and memfds.

    A memfd (memfd_create(2)) may be a program or library as any file, or what a JIT compiler writes.
    """
    return path.startswith(_MEMFD) or is_anonymous(path)
