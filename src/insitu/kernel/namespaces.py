"""The namespaces that this process lives in."""

from __future__ import annotations

import os
from functools import cache

__all__ = ["pid_namespace"]

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # include/linux/proc_ns.h: PROC_PID_INIT_INO


@cache
def pid_namespace() -> tuple[int, int] | None:
    """Device and inode of our PID namespace, for bpf_get_ns_current_pid_tgid(); None when it is the initial one."""
    try:
        found = os.stat("/proc/self/ns/pid")  # noqa: PTH116 - pathlib alone would double a start's imports
    except OSError:  # no /proc here: what the kernel calls processes is all there is
        return None
    if found.st_ino == _INITIAL_PID_NAMESPACE:
        return None
    # The kernel compares with its own dev_t (include/linux/kdev_t.h: MINORBITS is 20).
    return os.major(found.st_dev) << 20 | os.minor(found.st_dev), found.st_ino
