"""Which kernels there are: fetched or built ones in the cache, installed ones, and any image given by its path."""

import json
import mmap
import platform
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.architecture import elf_machine_name, host_architecture
from insitu.lab.directories import cache_directory
from insitu.lab.kernels.kernel import INDEX, Kernel, release_order

__all__ = ["cached_kernels", "find_kernel", "installed_kernels", "kernel_at"]

_SETUP_BYTES: Final = 0x8000
_ARM64_MAGIC: Final = b"ARM\x64"  # at offset 56 of an arm64 Image: Documentation/arch/arm64/booting.rst


def find_kernel(name: str) -> Kernel:
    """The kernel of a short name, of a release or of an image's path; "host" is the running kernel.

    A short name means the newest cached kernel of that name. Raises InsituError if there is none; its remedy says
    how to get it.
    """
    if "/" in name or name.startswith("."):
        return kernel_at(Path(name))
    if name == "host":
        name = platform.release()
    for kernel in reversed([*installed_kernels(), *cached_kernels()]):
        if name in (kernel.name, kernel.release):
            return kernel
    raise InsituError(
        f"kernel {name!r} is neither installed nor fetched",
        remedy=f"insitu lab fetch {name}; insitu lab kernels lists the available ones",
    )


def cached_kernels() -> list[Kernel]:
    """The kernels in the cache (fetched or built), oldest release first."""
    kernels = []
    for index in cache_directory("kernels").glob(f"*/{INDEX}"):
        try:
            fields = json.loads(index.read_text())
            paths = {
                key: index.parent / fields[key]
                for key in ("image", "config", "modules", "debuginfo", "build")
                if fields.get(key)
            }
            origin = str(fields.get("origin", ""))
            kernels.append(Kernel(str(fields["name"]), str(fields["release"]), origin=origin, **paths))
        except (OSError, ValueError, AttributeError, KeyError, TypeError):
            continue  # not our index, or damaged: the kernel counts as not fetched
    return sorted(kernels, key=lambda kernel: release_order(kernel.release))


def installed_kernels(root: Path = Path("/")) -> list[Kernel]:
    """The kernels installed on this machine, or below another root directory, oldest release first."""
    kernels = []
    for image in (root / "boot").glob("vmlinuz-*"):
        release = image.name.removeprefix("vmlinuz-")
        modules = root / "lib/modules" / release
        config = root / "boot" / f"config-{release}"
        kernels.append(
            Kernel(
                release,
                release,
                image,
                config=config if config.exists() else None,
                modules=modules if modules.is_dir() else None,
                origin="installed",
            )
        )
    return sorted(kernels, key=lambda kernel: release_order(kernel.release))


def kernel_at(path: Path) -> Kernel:
    """The kernel whose bzImage or vmlinux is at ``path``.

    Its configuration, modules and debug information are looked for in three layouts: the source tree in which it was
    built (``.config``, ``vmlinux`` and the modules at its top), an unpacked package or another root (``boot/`` beside
    ``lib/modules/RELEASE``), and this machine's own directories. Raises InsituError if the file is not a kernel of
    this machine's architecture.
    """
    if not path.is_file():
        raise InsituError(f"no kernel image {path}", remedy="insitu lab kernels lists kernels by name")
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
    """What ``uname -r`` will print: from the boot header of a bzImage, from the banner in a vmlinux."""
    with image.open("rb") as file:
        start = file.read(_SETUP_BYTES)
        _check_architecture(image, start)
        if start[0x202:0x206] == b"HdrS" and len(start) >= 0x210:
            # kernel_version, a pointer less 0x200 (Documentation/arch/x86/boot.rst).
            (offset,) = struct.unpack_from("<H", start, 0x20E)
            words = start[offset + 0x200 : offset + 0x400].split(b"\0")[0].split()
            return words[0].decode(errors="replace") if words else image.name
        if start.startswith(b"\x7fELF"):
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as whole:
                banner = re.search(rb"Linux version ([\w.+~-]+) ", whole)
                return banner[1].decode() if banner else image.name
    raise InsituError(f"{image} is neither a bzImage nor an ELF kernel")


def _check_architecture(image: Path, start: bytes) -> None:
    """Raise InsituError if the image is known to be for another architecture than this machine's."""
    here = host_architecture()
    machine = here.machine
    if start.startswith(b"\x7fELF") and len(start) >= 20:
        order = ">" if start[5] == 2 else "<"  # EI_DATA
        (number,) = struct.unpack_from(f"{order}H", start, 18)  # e_machine
        machine = here.machine if number == here.elf_machine else elf_machine_name(number)
    elif start[56:60] == _ARM64_MAGIC:
        machine = "aarch64"
    elif start[0x202:0x206] == b"HdrS":
        machine = "x86_64"
    if machine != here.machine:
        raise InsituError(
            f"{image} is a kernel for {machine}, and this machine is {here.machine}",
            remedy="a guest runs this machine's programs, so both must match",
        )


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
