"""What is refused to a process that writes files for a guest's root: set-id bits and device nodes on this machine.

Mount options do not help: nosuid and nodev act on the mount they are given for, and the bits that are stored on the
disk count again in every other mount. So the process that serves a guest's files is refused to store them.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from insitu.errors import InsituError

__all__ = ["refusing_set_ids"]

_NO_CAPABILITIES: Final = (4, 27, 31)  # FSETID, MKNOD, SETFCAP of include/uapi/linux/capability.h
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 24, 38, 22  # include/uapi/linux/prctl.h
_MODE_FILTER: Final = 2  # include/uapi/linux/seccomp.h

# Of a mode: set-user-id, set-group-id, and a bit that character and block devices have and files and pipes do not.
_REFUSED: Final = stat.S_ISUID | stat.S_ISGID | stat.S_IFCHR & stat.S_IFBLK

# By `uname -m`: AUDIT_ARCH_* (include/uapi/linux/audit.h), then number and argument of each call's mode.
_CALLS: Final = {
    "x86_64": (
        0xC000003E,
        # open, openat, creat; chmod, fchmod, fchmodat, fchmodat2; mknod, mknodat
        ((2, 2), (257, 3), (85, 1), (90, 1), (91, 1), (268, 2), (452, 2), (133, 1), (259, 2)),
    ),
}

# struct sock_filter, include/uapi/linux/filter.h: code, jump if true, jump if false, constant.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD, _IF_EQUAL, _IF_ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
# struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]
_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_ALLOW: Final = 0x7FFF0000
_REFUSE: Final = 0x00050000 | errno.EPERM


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def refusing_set_ids() -> Callable[[], None]:
    """A function for a child process before its exec: from then on, such calls fail with EPERM.

    Raises InsituError where the kernel has no seccomp filters.
    """
    if not Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        raise InsituError(
            "this kernel has no seccomp filters (CONFIG_SECCOMP_FILTER): a guest could leave set-user-id files",
            remedy="leave --rw out",
        )
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = _instructions()
    program = _Program(len(instructions) // _INSTRUCTION.size, instructions)

    def refuse() -> None:
        for capability in _NO_CAPABILITIES:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # refused to users who have none
        outcome = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        outcome = outcome or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
        if outcome:
            raise OSError(ctypes.get_errno(), "cannot install a seccomp filter")

    return refuse


def _instructions() -> bytes:
    architecture, calls = _CALLS[os.uname().machine]
    made = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    for number, argument in calls:
        made += [
            (_IF_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument),
            (_IF_ANY_BIT, 0, 1, _REFUSED),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    made.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(_INSTRUCTION.pack(*each) for each in made)
