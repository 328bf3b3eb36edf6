"""A guest's console and QEMU's log: a guest that prints for ever must not fill this machine's disk.

Of each file the last bytes are kept; the blocks of earlier ones are given back while the file keeps its size, so that
positions in it stay valid for whoever reads it.
"""

import contextlib
import ctypes
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["CONSOLE", "KEPT_BYTES", "QEMU_LOG", "BoundedLogs", "drop_all_but"]

CONSOLE: Final = "console"
QEMU_LOG: Final = "qemu.log"
KEPT_BYTES: Final = {CONSOLE: 8 << 20, QEMU_LOG: 256 << 20}
"""The bytes kept of each; of QEMU's log, as many as `insitu lab trace` reads."""

_LOOK_SECONDS: Final = 0.5
_PUNCH_HOLE: Final = 0x1 | 0x2  # FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, include/uapi/linux/falloc.h

_libc = ctypes.CDLL(None, use_errno=True)


class BoundedLogs:
    """Looks at files twice a second from start() to close(), in a thread, and keeps the last bytes of each."""

    def __init__(self, kept: Mapping[Path, int]) -> None:
        self._kept = kept
        self._end = threading.Event()

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._watch, name="insitu-lab-logs", daemon=True).start()

    def close(self) -> None:
        """End at the next look."""
        self._end.set()

    def _watch(self) -> None:
        while not self._end.wait(_LOOK_SECONDS):
            for path, kept in self._kept.items():
                with contextlib.suppress(OSError):  # gone, or no descriptor is left
                    drop_all_but(path, kept)


def drop_all_but(path: Path, kept: int) -> None:
    """Give back a file's blocks but those of its last ``kept`` bytes; it must be written to with O_APPEND.

    On a file system without holes, the file is emptied once it is larger. Raises OSError.
    """
    status = path.lstat()
    excess = status.st_size - kept
    if excess <= 0 or status.st_blocks * 512 <= kept:
        return
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        if _libc.fallocate(fd, _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(excess)):
            os.ftruncate(fd, 0)
    finally:
        os.close(fd)
