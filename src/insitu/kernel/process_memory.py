"""Reads the memory of another process: process_vm_readv(2), or /proc/PID/mem where that is refused.

process_vm_readv(2) is fast, but it pins pages, for which the kernel copies those that a process shares with its
parent or child since a fork (mm/gup.c: gup_must_unshare, Linux 5.19): reading makes the process larger.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

__all__ = ["ProcessMemory", "read_at"]

_PAGE: Final = 4096  # the smallest; larger ones only make more parts
_LARGEST: Final = 1 << 20
_MOST_PARTS: Final = _LARGEST // _PAGE + 1

_libc = ctypes.CDLL(None, use_errno=True)
_readv = _libc.process_vm_readv
_readv.restype = ctypes.c_ssize_t
_ONE: Final = ctypes.c_ulong(1)
_NO_FLAGS: Final = ctypes.c_ulong(0)


class ProcessMemory:
    """A reader with buffers of its own, for one thread of this program.

    ``unchanged``: through /proc/PID/mem alone, which copies no page of the process; each read opens the file.
    """

    def __init__(self, *, unchanged: bool = False) -> None:
        self._unchanged = unchanged
        self._buffer = ctypes.create_string_buffer(_PAGE)
        self._view = memoryview(self._buffer)
        self._local = (ctypes.c_uint64 * 2)(ctypes.addressof(self._buffer), 0)
        self._remote = (ctypes.c_uint64 * (2 * _MOST_PARTS))()
        self._local_address = ctypes.byref(self._local)
        self._remote_address = ctypes.byref(self._remote)

    def read(self, tid: int, address: int, size: int) -> bytes:
        """Returns up to ``size`` bytes, at most 1 MiB: fewer where memory is not mapped from some page on."""
        size = min(size, _LARGEST)
        if size <= 0 or address + size > 1 << 64:
            return b""
        if self._unchanged:
            return _from_file(tid, address, size)
        if size > len(self._buffer):
            self._buffer = ctypes.create_string_buffer(size)
            self._view = memoryview(self._buffer)
            self._local[0] = ctypes.addressof(self._buffer)
        # A part is read whole or not at all, so that each ends with its page.
        remote, parts, left, start = self._remote, 0, size, address
        while left:
            length = _PAGE - start % _PAGE
            if length > left:
                length = left
            remote[2 * parts] = start
            remote[2 * parts + 1] = length
            parts += 1
            start += length
            left -= length
        self._local[1] = size
        got: int = _readv(tid, self._local_address, _ONE, self._remote_address, ctypes.c_ulong(parts), _NO_FLAGS)
        if got >= 0:
            return self._view[:got].tobytes()
        if ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
            return _from_file(tid, address, size)
        return b""


def _from_file(tid: int, address: int, size: int) -> bytes:
    try:
        fd = os.open(f"/proc/{tid}/mem", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return read_at(fd, address, size)
    finally:
        os.close(fd)


def read_at(file: int, address: int, size: int) -> bytes:
    """Up to ``size`` bytes from an open /proc/PID/mem: fewer where memory is not mapped from some page on."""
    try:
        return os.pread(file, size, address)
    except (OSError, OverflowError):
        return b""
