"""abi::__cxa_demangle (Itanium C++ ABI, 3.4) for names that others wrote.

A back reference (S_, T_) stands for an earlier part of the name, which may hold some itself: 300 bytes can expand to
gigabytes. Names that cannot expand far are demangled here; the others in a process with limits of time and memory.
"""

import atexit
import ctypes
import math
import os
import re
import struct
import subprocess
import threading
from typing import IO, Final

from insitu.symbols.reader_limits import program

__all__ = ["cxa_demangle"]

_MAX_EXPANDED_BYTES: Final = 1 << 22
_REFERENCE: Final = re.compile(rb"[ST][0-9A-Z]*_")
_PACK: Final = re.compile(rb"Dp|sp")  # the pattern is repeated for each element of a pack
_FEW: Final = 8
_MAX_ENDED: Final = 8

_libc: ctypes.CDLL | None = None
_libstdcxx: ctypes.CDLL | None = None


def cxa_demangle(name: bytes) -> str | None:
    """The whole demangled name; None for one that is not mangled, or expands too far.

    libstdc++ is there wherever this package is: the wheel of duckdb needs it.
    """
    return _called(name) if _is_bounded(name) else _other_process.demangled(name)


def _is_bounded(name: bytes) -> bool:
    """Whether ``name`` can only expand to some megabytes."""
    references = len(_REFERENCE.findall(name))
    if len(_PACK.findall(name)) > 1:
        return False
    if references <= _FEW:
        return True
    # Parameters of templates (T_) in encodings within encodings (Z) mean another argument at each level. Without, r
    # references are best spent as r / 3 parts that each have three references to the one before.
    return b"Z" not in name[2:] and references <= 3 * math.log(_MAX_EXPANDED_BYTES / len(name), 3)


def _called(name: bytes) -> str | None:
    global _libc, _libstdcxx
    if _libstdcxx is None or _libc is None:
        try:
            _libc, _libstdcxx = ctypes.CDLL(None), ctypes.CDLL("libstdc++.so.6")
        except OSError:
            return None
        _libstdcxx.__cxa_demangle.restype = ctypes.c_void_p
        _libstdcxx.__cxa_demangle.argtypes = [ctypes.c_char_p] + [ctypes.c_void_p] * 3
        _libc.free.argtypes = [ctypes.c_void_p]
    text = _libstdcxx.__cxa_demangle(name, None, None, None)
    if not text:
        return None
    try:
        return ctypes.string_at(text).decode(errors="replace")
    finally:
        _libc.free(text)


class _OtherProcess:
    """A process that demangles. A name that ends it stays mangled; after some such names, so do all it would get."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._of_pid = 0
        self._ended = 0
        self._lock = threading.Lock()

    def demangled(self, name: bytes) -> str | None:
        with self._lock:
            if self._of_pid != os.getpid():  # after a fork the process answers the parent
                self._process, self._of_pid = None, os.getpid()
            if self._ended >= _MAX_ENDED:
                return None
            try:
                reply = self._asked(name)
            except OSError:
                reply = None
            if reply is None:
                self._ended += 1
                self.end()
                return None
            return reply.decode(errors="replace") or None

    def _asked(self, name: bytes) -> bytes | None:
        if self._process is None:
            self._process = subprocess.Popen(
                program("demangle_process.py"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            atexit.register(self.end)
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        requests.write(struct.pack("<I", len(name)) + name)
        requests.flush()
        head = replies.read(4)
        return replies.read(*struct.unpack("<I", head)) if len(head) == 4 else None

    def end(self) -> None:
        """End the process; the next name gets a new one."""
        process, self._process = self._process, None
        if process is None or self._of_pid != os.getpid():
            return
        atexit.unregister(self.end)
        process.kill()
        for stream in (process.stdin, process.stdout):
            _close(stream)
        process.wait()


def _close(stream: IO[bytes] | None) -> None:
    try:
        if stream is not None:
            stream.close()
    except OSError:  # what was not written yet
        pass


_other_process = _OtherProcess()
