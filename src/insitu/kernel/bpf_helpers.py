"""Which helper functions the running kernel's BPF has."""

from __future__ import annotations

import os
import struct
from functools import cache

from insitu.kernel.bpf import BpfError, load_program
from insitu.kernel.bpf_abi import ProgramType

__all__ = ["knows_helper"]

_CALL, _EXIT = 0x85, 0x95


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
