"""Constants that scripts take from C headers. BTF has enumerators but no #defines, so these are written down.

From include/linux/socket.h, include/uapi/asm-generic/errno-base.h, include/linux/sched.h, fcntl.h, stat.h, signal.h.
"""

from __future__ import annotations

import errno
import signal
import socket
import stat

from insitu.kernel.version import running_version
from insitu.syscalls.native import syscall_numbers

__all__ = ["CONSTANTS"]

CONSTANTS: dict[str, int] = {
    **{name: int(getattr(socket, name)) for name in dir(socket) if name.startswith(("AF_", "IPPROTO_", "SOCK_"))},
    **{name: number for number, name in errno.errorcode.items()},
    **{member.name: int(member) for member in signal.Signals},
    **{f"__NR_{name}": number for name, number in syscall_numbers().items()},
    **{name: getattr(stat, name) for name in dir(stat) if name.startswith("S_I") and name[3].isupper()},
    "LINUX_VERSION_CODE": running_version(),
    "NULL": 0,
    "true": 1,
    "false": 0,
    "TASK_RUNNING": 0,
    "TASK_INTERRUPTIBLE": 1,
    "TASK_UNINTERRUPTIBLE": 2,
    "__TASK_STOPPED": 4,
    "__TASK_TRACED": 8,
    "EXIT_DEAD": 16,
    "EXIT_ZOMBIE": 32,
    "TASK_PARKED": 64,
    "TASK_DEAD": 128,
    "TASK_WAKEKILL": 256,
    "TASK_WAKING": 512,
    "TASK_NOLOAD": 1024,
    "TASK_NEW": 2048,
    "PAGE_SIZE": 4096,
    "PATH_MAX": 4096,
    "TASK_COMM_LEN": 16,
    "IFNAMSIZ": 16,
    "O_RDONLY": 0,
    "O_WRONLY": 1,
    "O_RDWR": 2,
    "O_CREAT": 0o100,
    "O_EXCL": 0o200,
    "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000,
    "INT8_MIN": -(2**7),
    "INT8_MAX": 2**7 - 1,
    "INT16_MIN": -(2**15),
    "INT16_MAX": 2**15 - 1,
    "INT32_MIN": -(2**31),
    "INT32_MAX": 2**31 - 1,
    "INT64_MIN": -(2**63),
    "INT64_MAX": 2**63 - 1,
    "UINT8_MAX": 2**8 - 1,
    "UINT16_MAX": 2**16 - 1,
    "UINT32_MAX": 2**32 - 1,
    "UINT64_MAX": 2**64 - 1,
}
