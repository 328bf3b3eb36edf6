"""This machine's directories as a guest's file systems: 9p inside QEMU, or virtiofs with a server per directory."""

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.guests.machine import Options, escaped, shares, transport
from insitu.lab.guests.set_id_refusal import refusing_set_ids
from insitu.lab.kernels.kernel import Kernel

__all__ = ["SharedFiles"]

# Distributions install virtiofsd outside PATH.
_VIRTIOFSD_DIRECTORIES: Final = ("/usr/libexec", "/usr/lib/qemu", "/usr/lib/virtiofsd")

# virtiofsd's: without extended attributes, of which file capabilities are one.
_WRITABLE: Final = "no_xattr,cache=none,modcaps=-mknod:-setfcap:-fsetid"

_KILL_SECONDS: Final = 5.0
_CLONE_NEWNS: Final = 0x00020000  # include/uapi/linux/sched.h
_MS_REC_PRIVATE: Final = 0x4000 | 1 << 18  # include/uapi/linux/mount.h
_AT_FDCWD: Final = -100
_AT_RECURSIVE: Final = 0x8000  # include/uapi/linux/fcntl.h
_MOUNT_ATTR_RDONLY: Final = 1  # include/uapi/linux/mount.h
_SYS_MOUNT_SETATTR: Final = 442  # the same on all architectures


class SharedFiles:
    """The directories that one guest mounts, and the processes that serve them."""

    def __init__(self, kernel: Kernel, options: Options) -> None:
        self.transport = transport(kernel)
        self._kernel = kernel
        self._shares = shares(options)
        self._writable = bool(options.rw)
        self._servers: list[subprocess.Popen[bytes]] = []

    def before_qemu(self) -> Callable[[], None] | None:
        """What QEMU's process must do before its exec, if it is to serve a writable directory."""
        return refusing_set_ids() if self.transport == "9p" and self._writable else None

    def start(self, directory: Path, watch: Callable[[int], None]) -> list[str]:
        """Start the servers; returns QEMU's arguments. ``watch`` is called with the pid of each server."""
        if self.transport == "virtiofs":
            return self._start_virtiofs(directory, watch)
        arguments = []
        for tag, path, writable in self._shares:
            access = "" if writable else ",readonly=on"
            # Without root here, a chown by the guest's root fails; security_model=none ignores that.
            arguments += [
                "-fsdev",
                f"local,id={tag},path={escaped(path)},security_model=none,multidevs=remap{access}",
            ]
            arguments += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
        return arguments

    def close(self) -> None:
        """End the processes."""
        for server in self._servers:
            server.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_KILL_SECONDS)
        self._servers.clear()

    def _start_virtiofs(self, directory: Path, watch: Callable[[int], None]) -> list[str]:
        program = shutil.which("virtiofsd", path=":".join((os.environ.get("PATH", ""), *_VIRTIOFSD_DIRECTORIES)))
        if program is None or os.geteuid() != 0:
            lacking = "the program virtiofsd" if program is None else "root"
            raise InsituError(
                f"kernel {self._kernel.name} has no 9p, and virtiofs needs {lacking}",
                remedy="use a kernel with 9p, such as 6.1 instead of 6.1-cloud",
            )
        arguments = []
        for tag, path, writable in self._shares:
            address = directory / f"fs-{tag}"
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
                listener.bind(str(address))
                listener.listen(1)
                with (directory / f"fs-{tag}.log").open("wb") as log:
                    server = subprocess.Popen(
                        [
                            *(program, f"--fd={listener.fileno()}", "-f", "-o", f"source={path}"),
                            *("-o", "sandbox=chroot,log_level=err"),
                            *("-o", _WRITABLE if writable else "xattr,cache=auto"),
                        ],
                        pass_fds=[listener.fileno()],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        process_group=0,
                        preexec_fn=refusing_set_ids() if writable else _make_all_mounts_read_only,
                    )
            self._servers.append(server)
            watch(server.pid)
            arguments += ["-chardev", f"socket,id=fs-{tag},path={escaped(address)}"]
            arguments += ["-device", f"vhost-user-fs-pci,chardev=fs-{tag},tag={tag}"]
        return arguments


def _make_all_mounts_read_only() -> None:
    """In the child: enter a new mount namespace in which every mount is read-only, whatever the guest requests."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = (ctypes.c_uint64 * 4)(
        _MOUNT_ATTR_RDONLY, 0, 0, 0
    )  # struct mount_attr: set, clear, propagation, userns
    outcome = libc.unshare(_CLONE_NEWNS) or libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None)
    outcome = outcome or libc.syscall(
        _SYS_MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, ctypes.sizeof(attributes)
    )
    if outcome:
        raise OSError(ctypes.get_errno(), "cannot make a read-only view of the files")
