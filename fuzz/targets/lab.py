"""What the lab reads from QEMU, guests and kernels' files."""

import os
import socket
from pathlib import Path
from typing import Any

from fuzz.registry import Read
from insitu.lab.guests import running_guests
from insitu.lab.guests.failures import console_tail, death, oom_kills
from insitu.lab.guests.port_streams import GuestSilentError, MarkedStream
from insitu.lab.kernels import find_kernel
from insitu.lab.kernels.kernel import INDEX, Kernel, release_order, short_name
from insitu.lab.kernels.kernel_modules import load_order
from insitu.lab.kernels.vmlinux import unpack_bzimage
from insitu.lab.memory_dump import name_system, unflatten
from insitu.lab.qemu_trace import parse_trace

__all__ = ["console", "guest_json", "kdump", "kernel_files", "kernel_image", "stream", "trace"]


def trace(directory: Path) -> Read:
    """QEMU's log."""

    def read(data: bytes) -> None:
        parse_trace(data.decode(errors="replace"), 5)

    return read


def console(directory: Path) -> Read:
    """A guest's console."""

    def read(data: bytes) -> None:
        path = directory / "console"
        path.write_bytes(data)
        console_tail(path)
        death(path)
        oom_kills(data.decode(errors="replace"))

    return read


def stream(directory: Path) -> Read:
    """What a guest sends on a port up to the mark of a command's end, in two pieces."""

    def read(data: bytes) -> None:
        here, there = socket.socketpair()
        here.setblocking(False)
        with here, there:
            half = len(data) // 2
            received: list[bytes] = []
            marked = MarkedStream(here, b"<<end 12345>>", received.append)
            for piece in (data[:half][:60000], data[half:][:60000]):
                there.sendall(piece)
                if not marked.ended:
                    try:
                        marked.receive()
                    except GuestSilentError:
                        return

    return read


def kernel_image(directory: Path) -> Read:
    """A bzImage or vmlinux."""

    def read(data: bytes) -> None:
        path = directory / "vmlinuz"
        path.write_bytes(data)
        kernel = find_kernel.kernel_at(path)
        short_name(kernel.release)
        release_order(kernel.release)
        unpack_bzimage(path)

    return read


def kdump(directory: Path) -> Read:
    """A dump as QEMU writes it."""

    def read(data: bytes) -> None:
        dump, ordered = directory / "dump", directory / "ordered"
        dump.write_bytes(data)
        try:
            unflatten(dump, ordered)
            name_system(ordered, "node", "6.1.0")
        finally:
            ordered.unlink(missing_ok=True)

    return read


def guest_json(directory: Path) -> Read:
    """The description of a running guest, and the index of a fetched kernel."""
    for name in ("guests/one", "kernels/one"):
        (directory / name).mkdir(parents=True)
    setattr(running_guests, "guests_directory", lambda: directory / "guests")  # noqa: B010
    setattr(find_kernel, "cache_directory", lambda kind: directory / kind)  # noqa: B010

    def read(data: bytes) -> None:
        (directory / "guests/one").mkdir(parents=True, exist_ok=True)
        (directory / "guests/one/guest.json").write_bytes(data)
        (directory / "kernels/one" / INDEX).write_bytes(data)
        running_guests.running_guests()
        find_kernel.cached_kernels()

    return read


def kernel_files(directory: Path) -> Read:
    """A kernel's configuration and lists of modules, of a package or a source tree that somebody made."""
    modules = directory / "modules"
    modules.mkdir()

    def read(data: bytes) -> None:
        from insitu.lab.kernels import kernel_modules

        for name in ("modules.dep", "modules.builtin", "modules.order", "config"):
            (modules / name).write_bytes(data)
        for cached in (kernel_modules._dependencies, kernel_modules._builtin):
            cached.cache_clear()
        for with_index in (True, False):
            if not with_index:
                os.unlink(modules / "modules.dep")  # noqa: PTH108
                kernel_modules._dependencies.cache_clear()
            kernel: Any = Kernel("k", "6.1", modules / "image", config=modules / "config", modules=modules)
            _ = (kernel.options, load_order(kernel, ()))
            for feature in kernel_modules.FEATURES:
                kernel_modules.has_feature(kernel, feature)

    return read
