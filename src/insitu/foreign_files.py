"""The one door to files that others control: programs of processes, maps that they wrote, recordings that were sent.

A path is resolved below a root directory by openat2(2): no symbolic link, ".." or magic link of /proc leads out of
it. What it leads to is looked at before it is opened, since opening a device, a pipe or a terminal has effects.
"""

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Callable, Collection
from typing import Final

from insitu.errors import InsituError

__all__ = ["file_identity", "open_foreign", "open_kernel_link", "read_foreign"]

_OPENAT2: Final = 437  # on all machines
# include/uapi/linux/openat2.h: struct open_how and RESOLVE_*
_HOW: Final = struct.Struct("<QQQ")
_NO_MAGICLINKS, _NO_SYMLINKS, _IN_ROOT = 0x02, 0x04, 0x10
_PLACE: Final = os.O_PATH | os.O_CLOEXEC
_AT_FDCWD: Final = -100
_MOST_STEPS: Final = 1000
_STATFS_BYTES: Final = 256  # f_type comes first
# include/uapi/linux/magic.h: proc, sysfs, debugfs, tracefs, securityfs, cgroup and cgroup2, bpf, nsfs, selinuxfs,
# pstore, efivarfs, configfs
_OF_KERNEL: Final = frozenset(
    {0x9FA0, 0x62656572, 0x64626720, 0x74726163, 0x73636673, 0x27E0EB, 0x63677270, 0xCAFE4A11, 0x6E736673, 0xF97CFF8C}
    | {0x6165676C, 0xDE5E81E4, 0x62656570}
)
_CHUNK_BYTES: Final = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)


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

    Raises OSError: EINVAL unless it is a regular file, EPERM for one of another user, ELOOP for links; InsituError
    without /proc.
    """
    raw, top = os.fsencode(path), os.fspath(root)
    return _with_enough_descriptors(lambda: _reopened(_path_descriptor(raw, top, links), os.fsdecode(raw), owners))


def open_kernel_link(path: str) -> int:
    """Open the regular file that a magic link of /proc such as PID/exe leads to. Raises as open_foreign."""
    return _with_enough_descriptors(lambda: _reopened(os.open(path, _PLACE), path, None))


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


def file_identity(descriptor: int) -> str:
    """Identifies an open file and state of it on this machine.

    Whoever changes a file can choose its contents, build id and times, but not the time of the change.
    """
    found = os.fstat(descriptor)
    return f"{found.st_dev}-{found.st_ino}-{found.st_size}-{found.st_mtime_ns}-{found.st_ctime_ns}"


def _with_enough_descriptors(open_it: Callable[[], int]) -> int:
    """Call again under the hard limit: files stay open, and a whole machine maps more of them than the soft limit."""
    try:
        return open_it()
    except OSError as error:
        from insitu.limits import raise_descriptor_limit

        if error.errno != errno.EMFILE or not raise_descriptor_limit():
            raise
        return open_it()


def _path_descriptor(path: bytes, root: str, links: bool) -> int:
    """A descriptor of the place that ``path`` leads to, which is not opened."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, "the path contains a zero byte", os.fsdecode(path))
    in_our_root = root == "/"
    resolve = _NO_MAGICLINKS | (0 if links else _NO_SYMLINKS) | (0 if in_our_root else _IN_ROOT)
    directory = _AT_FDCWD if in_our_root else os.open(root, _PLACE | os.O_DIRECTORY)
    try:
        try:
            return _openat2(directory, path, _HOW.pack(_PLACE, 0, resolve))
        except OSError as error:
            # Before Linux 5.6, and where a sandbox refuses calls that it does not know.
            if error.errno not in (errno.ENOSYS, errno.EPERM):
                raise
            return _walked(path, directory, links)
    except OSError as error:
        is_link = error.errno == errno.ELOOP and not links
        what = "a symbolic link leads there, which is not followed" if is_link else error.strerror
        raise OSError(error.errno, what, os.fsdecode(path)) from None
    finally:
        if directory >= 0:
            os.close(directory)


def _openat2(directory: int, path: bytes, how: bytes) -> int:
    """openat2(2). Raises OSError."""
    descriptor: int = _libc.syscall(ctypes.c_long(_OPENAT2), directory, path, how, ctypes.c_size_t(len(how)))
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor


def _walked(path: bytes, root: int, links: bool) -> int:
    """What openat2() does, a step at a time: the place that ``path`` leads to below the directory ``root``."""
    if root == _AT_FDCWD:
        path = os.path.join(os.getcwdb(), path)  # noqa: PTH109, PTH118
    waiting = [name for name in reversed(path.split(b"/")) if name not in (b"", b".")]
    places = [os.open("/", _PLACE) if root == _AT_FDCWD else os.dup(root)]
    try:
        for _ in range(_MOST_STEPS):
            if not waiting:
                return os.dup(places[-1])
            name = waiting.pop()
            if name == b"..":
                if len(places) > 1:
                    os.close(places.pop())
                continue
            places.append(os.open(name, _PLACE | os.O_NOFOLLOW, dir_fd=places[-1]))
            if not stat.S_ISLNK(os.fstat(places[-1]).st_mode):
                continue
            if not links:
                break
            target = os.readlink(b"", dir_fd=places[-1])
            os.close(places.pop())
            if target.startswith(b"/"):
                while len(places) > 1:
                    os.close(places.pop())
            waiting += [part for part in reversed(target.split(b"/")) if part not in (b"", b".")]
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    finally:
        for place in places:
            os.close(place)


def _is_of_kernel(descriptor: int) -> bool:
    """Whether it is a file such as /proc/kmsg, which is a regular one to fstat(2) and consumed by who reads it."""
    found = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(descriptor, found):
        return False
    return ctypes.c_ulong.from_buffer(found).value & 0xFFFF_FFFF in _OF_KERNEL


def _reopened(descriptor: int, shown: str, owners: Collection[int] | None) -> int:
    """Open what an O_PATH descriptor stands for, if it is a regular file; the descriptor is closed."""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            kind = "a directory" if stat.S_ISDIR(found.st_mode) else "not a regular file"
            raise OSError(errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL, kind, shown)
        if _is_of_kernel(descriptor):
            raise OSError(errno.EINVAL, "not a regular file: the kernel writes it", shown)
        if owners is not None and found.st_uid not in owners:
            raise OSError(errno.EPERM, f"it belongs to user {found.st_uid}", shown)
        try:
            return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            if not os.path.exists("/proc/self/fd"):  # noqa: PTH110
                raise InsituError("/proc is not mounted", remedy="mount -t proc proc /proc") from None
            raise OSError(error.errno, os.strerror(error.errno or 0), shown) from None
    finally:
        os.close(descriptor)
