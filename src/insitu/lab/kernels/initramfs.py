"""The guest's initramfs, a cpio archive: busybox, two scripts, and the modules it needs to mount the host's files."""

from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

from insitu.lab.kernels.busybox import busybox
from insitu.lab.kernels.kernel import Kernel
from insitu.lab.kernels.kernel_modules import load_order, module_bytes

__all__ = ["archive", "build", "minimal"]

_DIRECTORY: Final = 0o040755
_FILE: Final = 0o100755
_LINK: Final = 0o120777
_FOLDERS: Final = ("bin", "dev", "host", "lower", "modules", "proc", "run", "sys", "upper")


def build(kernel: Kernel, features: tuple[str, ...]) -> bytes:
    """The archive for a kernel whose guest needs ``features``, keys of insitu.lab.kernels.kernel_modules.FEATURES."""
    return archive(_entries(kernel, features))


def minimal(init: bytes) -> bytes:
    """The archive of a guest that has busybox and runs only the script ``init``."""
    folder = [("bin", _DIRECTORY, b""), ("dev", _DIRECTORY, b"")]
    programs = [("bin/busybox", _FILE, busybox().read_bytes()), ("bin/sh", _LINK, b"busybox")]
    return archive([*folder, *programs, ("init", _FILE, init)])


def archive(entries: Iterable[tuple[str, int, bytes]]) -> bytes:
    """A cpio archive in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst).

    An entry is a name, a mode and its content (of a symbolic link, its target).
    """
    parts = []
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], start=1):
        path = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields) + path
        parts += [header, bytes(-len(header) % 4), content, bytes(-len(content) % 4)]
    return b"".join(parts)


def _entries(kernel: Kernel, features: tuple[str, ...]) -> Iterator[tuple[str, int, bytes]]:
    for folder in _FOLDERS:
        yield folder, _DIRECTORY, b""
    yield "bin/busybox", _FILE, busybox().read_bytes()
    yield "bin/sh", _LINK, b"busybox"
    scripts = files("insitu.lab.guests")
    yield "init", _FILE, scripts.joinpath("guest_init.sh").read_bytes()
    yield "agent", _FILE, scripts.joinpath("guest_agent.sh").read_bytes()
    paths: list[Path] = load_order(kernel, features)
    for path in paths:
        yield f"modules/{_plain(path)}", _FILE, module_bytes(path)
    yield "modules/order", 0o100644, "".join(f"{_plain(path)}\n" for path in paths).encode()


def _plain(path: Path) -> str:
    return path.name.split(".ko")[0] + ".ko"
