"""Seccomp filters that stop a traced program at some calls only (Documentation/userspace-api/seccomp_filter.rst)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["ARCHITECTURES", "available", "install", "stop_at"]

ARCHITECTURES: Final = {
    "x86_64": 0xC000003E,
    "x32": 0xC000003E,  # numbers of x32 have bit 30 set
    "i386": 0x40000003,
    "aarch64": 0xC00000B7,
}
"""AUDIT_ARCH_* of each ABI."""

_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_MODE_FILTER: Final = 2
_RET_TRACE: Final = 0x7FF00000
_RET_ALLOW: Final = 0x7FFF0000
_MOST_INSTRUCTIONS: Final = 4096  # BPF_MAXINSNS

# struct sock_filter: code, jump if true, jump if false, k
_INSTRUCTION: Final = struct.Struct("<HBBI")
_LOAD_WORD: Final = 0x20
_JUMP: Final = 0x05
_JUMP_EQUAL: Final = 0x15
_JUMP_NOT_LESS: Final = 0x35
_RETURN: Final = 0x06
_NR_OFFSET: Final = 0
_ARCH_OFFSET: Final = 4  # struct seccomp_data

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)


def stop_at(calls: Mapping[str, Iterable[int]]) -> bytes | None:
    """Returns a filter (struct sock_filter[]) that stops the tracee at these calls, by ABI, and allows all.

    None where it would be longer than the kernel takes. Raises KeyError for an unknown ABI.
    """
    numbers: dict[int, set[int]] = {}
    for abi, those in calls.items():
        numbers.setdefault(ARCHITECTURES[abi], set()).update(those)
    code = [(_LOAD_WORD, 0, 0, _ARCH_OFFSET)]
    for arch, found in numbers.items():
        body = [(_LOAD_WORD, 0, 0, _NR_OFFSET)]
        for low, high in _runs(sorted(found)):
            body += [(_JUMP_NOT_LESS, 0, 2, low), (_JUMP_NOT_LESS, 1, 0, high + 1), (_RETURN, 0, 0, _RET_TRACE)]
        body.append((_RETURN, 0, 0, _RET_ALLOW))
        code += [(_JUMP_EQUAL, 1, 0, arch), (_JUMP, 0, 0, len(body)), *body]
    code.append((_RETURN, 0, 0, _RET_ALLOW))
    if len(code) > _MOST_INSTRUCTIONS:
        return None
    return b"".join(_INSTRUCTION.pack(*each) for each in code)


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs


def available() -> bool:
    """Whether this kernel has filters."""
    return int(_prctl(_PR_SET_SECCOMP, _MODE_FILTER, 0, 0, 0)) < 0 and ctypes.get_errno() == errno.EFAULT


def install(program: bytes) -> None:
    """Install a filter for this process, its children and the programs they execute. It cannot be removed.

    Without CAP_SYS_ADMIN programs that it runs gain no privileges from then on. Raises OSError.
    """
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // _INSTRUCTION.size, ctypes.addressof(code))  # struct sock_fprog
    kept = ctypes.create_string_buffer(header, len(header))
    arguments = (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(kept), 0, 0)
    if _prctl(*arguments) >= 0:
        return
    refused = ctypes.get_errno()
    if refused == errno.EACCES:
        _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if _prctl(*arguments) >= 0:
            return
        refused = ctypes.get_errno()
    raise OSError(refused, os.strerror(refused))
