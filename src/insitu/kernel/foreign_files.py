"""The one door to files that others control: programs of processes, maps that they wrote, recordings that were sent.

A path is resolved below a root directory by openat2(2): no symbolic link, ".." or magic link of /proc leads out of
it. What it leads to is looked at before it is opened, since opening a device, a pipe or a terminal has effects.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Collection
from typing import Final

from insitu.kernel.syscalls import syscall

__all__ = ["open_foreign", "open_kernel_link", "read_foreign"]

# include/uapi/linux/openat2.h: struct open_how and RESOLVE_*
_HOW: Final = struct.Struct("<QQQ")
_NO_MAGICLINKS, _NO_SYMLINKS, _IN_ROOT = 0x02, 0x04, 0x10
_CHUNK_BYTES: Final = 1 << 20


def open_foreign(
    path: str | bytes | os.PathLike[str],
    *,
    root: str | os.PathLike[str] = "/",
    links: bool = True,
    owners: Collection[int] | None = None,
) -> int:
    """Open a regular file for reading; returns a descriptor that never blocks.

    ``path`` is resolved below the directory ``root``, which itself may be a link such as /proc/PID/root; a relative
    path below "/" begins at the current directory. Without ``links``, no part of it may be a symbolic link; with
    ``owners``, the file must belong to one of these users.

    Raises OSError: EINVAL for what is no regular file, EPERM for one of another user, ELOOP for links.
    """
    descriptor = _path_descriptor(os.fsencode(path), os.fspath(root), links)
    return _reopened(descriptor, os.fsdecode(path), owners)


def open_kernel_link(path: str) -> int:
    """Open the regular file that a magic link of /proc such as PID/exe leads to. Raises as open_foreign."""
    return _reopened(os.open(path, os.O_PATH | os.O_CLOEXEC), path, None)


def read_foreign(
    path: str | bytes | os.PathLike[str],
    most: int,
    *,
    root: str | os.PathLike[str] = "/",
    links: bool = True,
    owners: Collection[int] | None = None,
) -> bytes:
    """The first ``most`` bytes of a file, or all of it if it is shorter. Raises as open_foreign."""
    descriptor = open_foreign(path, root=root, links=links, owners=owners)
    try:
        parts = []
        while most > 0 and (part := os.read(descriptor, min(most, _CHUNK_BYTES))):
            parts.append(part)
            most -= len(part)
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _path_descriptor(path: bytes, root: str, links: bool) -> int:
    """A descriptor of the place that ``path`` leads to, which is not opened."""
    in_our_root = root == "/"
    flags = os.O_PATH | os.O_CLOEXEC
    resolve = _NO_MAGICLINKS | (0 if links else _NO_SYMLINKS) | (0 if in_our_root else _IN_ROOT)
    if b"\0" in path:
        raise OSError(errno.EINVAL, "the path contains a zero byte", os.fsdecode(path))
    directory = -100 if in_our_root else os.open(root, flags | os.O_DIRECTORY)  # AT_FDCWD
    try:
        how = ctypes.create_string_buffer(_HOW.pack(flags, 0, resolve))
        name = ctypes.create_string_buffer(path)
        return syscall("openat2", directory, ctypes.addressof(name), ctypes.addressof(how), _HOW.size)
    except OSError as error:
        # Before Linux 5.6, and where a sandbox refuses calls that it does not know. Other roots are not opened there.
        if error.errno in (errno.ENOSYS, errno.EPERM) and in_our_root:
            return _checked_by_hand(path, links)
        raise OSError(error.errno, os.strerror(error.errno or 0), os.fsdecode(path)) from None
    finally:
        if directory >= 0:
            os.close(directory)


def _checked_by_hand(path: bytes, links: bool) -> int:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    shown = os.fsdecode(path)
    if not links and os.readlink(f"/proc/self/fd/{descriptor}") != os.path.abspath(shown):  # noqa: PTH100, PTH115
        os.close(descriptor)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)
    return descriptor


def _reopened(descriptor: int, shown: str, owners: Collection[int] | None) -> int:
    """Open what an O_PATH descriptor stands for, if it is a regular file; the descriptor is closed."""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise OSError(errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL, kind, shown)
        if owners is not None and found.st_uid not in owners:
            raise OSError(errno.EPERM, f"it belongs to user {found.st_uid}", shown)
        try:
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), shown) from None
    finally:
        os.close(descriptor)
