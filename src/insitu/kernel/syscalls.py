"""System calls that the C library does not wrap, by number: the way to perf_event_open(2), bpf(2) and their like."""

import ctypes
import os
from typing import Final

__all__ = ["NUMBERS", "syscall"]

# Calls since Linux 5.1 have one number on all machines.
_EVERYWHERE: Final = {"fsopen": 430, "fsconfig": 431, "fsmount": 432, "cachestat": 451}

# arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h, by `uname -m`.
_NUMBERS: Final[dict[str, dict[str, int]]] = {
    "x86_64": _EVERYWHERE
    | {"mount": 165, "unshare": 272, "move_pages": 279, "perf_event_open": 298, "bpf": 321, "userfaultfd": 323},
    "aarch64": _EVERYWHERE
    | {"mount": 40, "unshare": 97, "move_pages": 239, "perf_event_open": 241, "bpf": 280, "userfaultfd": 282},
}

NUMBERS: Final = _NUMBERS.get(os.uname().machine, {})
"""Call name -> number on this machine; empty on a machine that is not in the table."""

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def syscall(name: str, *arguments: int) -> int:
    """Make the system call ``name`` with integer arguments (pointers as addresses); returns what it returns.

    Raises OSError with the kernel's errno; ENOSYS where this machine's number of the call is not known.
    """
    import errno

    number = NUMBERS.get(name)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: no call number known for {os.uname().machine}")
    # Unwrapped Python integers would be passed as 32-bit ints.
    result: int = _syscall(ctypes.c_long(number), *(ctypes.c_long(argument) for argument in arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return result
