"""What file descriptors are open on, and which arguments are some."""

from __future__ import annotations

import functools
import stat

from insitu.syscalls.decode import signature_of

__all__ = ["descriptor_arguments", "open_on"]


def open_on(mode: int, inode: int, path: str) -> str:
    """Returns what /proc/PID/fd shows of an open file, given its inode's mode and its path."""
    if stat.S_ISSOCK(mode):
        return f"socket:[{inode}]"
    if stat.S_ISFIFO(mode) and not path.startswith("/"):
        return f"pipe:[{inode}]"
    return path if path.startswith("/") else f"anon_inode:{path}"


@functools.cache
def descriptor_arguments(abi: str, nr: int) -> tuple[int, ...]:
    """Returns the positions of a call's arguments that are descriptors."""
    parameters = signature_of(abi, nr).parameters
    return tuple(index for index, each in enumerate(parameters) if each.kind in ("fd", "dirfd"))
