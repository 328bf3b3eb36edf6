"""A kernel given by its image: what belongs to it lies beside the file, or where the system keeps such things."""

import mmap
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.kernels.kernel import Kernel

__all__ = ["kernel_at"]

_SETUP_BYTES: Final = 0x8000


def kernel_at(path: Path) -> Kernel:
    """The kernel whose bzImage or vmlinux is at ``path``.

    Its configuration, modules and debug information are looked for in the three layouts in which kernels lie about:
    a source tree in which it was built (``.config``, ``vmlinux`` and the modules at its top), an unpacked package
    or another root (``boot/`` beside ``lib/modules/RELEASE``), and this machine itself.
    """
    if not path.is_file():
        raise InsituError(f"no kernel image {path}", remedy="insitu lab kernels lists what has a name")
    image = path.resolve()
    release = _release(image)
    tree = next((folder for folder in image.parents if _is_source_tree(folder)), None)
    if tree is not None:
        modules = tree if (tree / "modules.order").exists() else None
        debuginfo = tree / "vmlinux"
        return Kernel(
            str(image),
            release,
            image,
            config=tree / ".config",
            modules=modules,
            debuginfo=debuginfo if debuginfo.exists() else None,
            origin="source tree",
        )
    return Kernel(
        str(image),
        release,
        image,
        config=_first(image.parent / name for name in (f"config-{release}", "config", ".config")),
        modules=_first(_module_directories(image, release)),
        debuginfo=_first(_debuginfo_files(image, release)),
        origin="image",
    )


def _release(image: Path) -> str:
    """What ``uname -r`` will say: from the boot header of a bzImage, from the banner in a vmlinux."""
    with image.open("rb") as file:
        start = file.read(_SETUP_BYTES)
        if start[0x202:0x206] == b"HdrS":
            # kernel_version, a pointer less 0x200 (Documentation/arch/x86/boot.rst).
            (offset,) = struct.unpack_from("<H", start, 0x20E)
            words = start[offset + 0x200 : offset + 0x400].split(b"\0")[0].split()
            return words[0].decode(errors="replace") if words else image.name
        if start.startswith(b"\x7fELF"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                banner = re.search(rb"Linux version ([\w.+~-]+) ", whole)
                return banner[1].decode() if banner else image.name
    raise InsituError(f"{image} is neither a bzImage nor an ELF kernel")


def _is_source_tree(folder: Path) -> bool:
    return (folder / ".config").is_file() and (folder / "Kbuild").is_file()


def _module_directories(image: Path, release: str) -> Iterator[Path]:
    for folder in image.parents:
        for place in ("lib/modules", "usr/lib/modules"):
            yield folder / place / release


def _debuginfo_files(image: Path, release: str) -> Iterator[Path]:
    yield image.parent / f"vmlinux-{release}"
    for folder in image.parents:
        yield folder / "usr/lib/debug/boot" / f"vmlinux-{release}"


def _first(paths: Iterator[Path]) -> Path | None:
    return next((path for path in paths if path.exists()), None)
