"""Which helper functions and instructions the running kernel's BPF has."""

from __future__ import annotations

import errno
import os
import struct
from functools import cache

from insitu.kernel.bpf import BpfError, load_program
from insitu.kernel.bpf_abi import ProgramType

__all__ = ["knows_fetching_atomics", "knows_helper"]

_CALL, _EXIT = 0x85, 0x95
_MOVE, _STORE, _ATOMIC = 0xB7, 0x7A, 0xDB  # rN = number; *(u64 *)(rN + off) = number; atomics of u64
_FETCH_ADD = 0x01  # BPF_ADD | BPF_FETCH of include/uapi/linux/bpf.h
_FRAME = 10  # the register of the stack's end


@cache
def knows_helper(number: int) -> bool:
    """Whether the kernel has a helper (___BPF_FUNC_MAPPER of include/uapi/linux/bpf.h) for tracing programs.

    Asked by loading a program that calls it with arguments that no helper takes: the refusal says why. True when
    nothing can be loaded at all, as without privileges.
    """
    call = struct.pack("<BBhi", _CALL, 0, 0, number) + struct.pack("<BBhi", _EXIT, 0, 0, 0)
    try:
        fd, _ = load_program(call, ProgramType.KPROBE, name="ask")
    except BpfError as error:
        return "invalid func" not in error.log and "unknown func" not in error.log
    os.close(fd)
    return True


@cache
def knows_fetching_atomics() -> bool:
    """Whether BPF has atomic additions that return what was there before: Linux 5.12, on some architectures later.

    Asked by loading one. True when nothing can be loaded at all, as without privileges.
    """
    code = (
        (_STORE, _FRAME, -8, 0),
        (_MOVE, 1, 0, 1),
        (_ATOMIC, 1 << 4 | _FRAME, -8, _FETCH_ADD),
        (_MOVE, 0, 0, 0),
        (_EXIT, 0, 0, 0),
    )
    try:
        fd, _ = load_program(b"".join(struct.pack("<BBhi", *each) for each in code), ProgramType.KPROBE, name="ask")
    except BpfError as error:
        return error.errno in (errno.EPERM, errno.EACCES)
    os.close(fd)
    return True
