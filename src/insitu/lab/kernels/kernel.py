"""A kernel that can be booted: its image, configuration, modules and symbols, wherever they came from."""

import contextlib
import functools
import json
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory
from insitu.lab.kernels.vmlinux import is_elf, unpack_bzimage

__all__ = ["Kernel", "fetched_kernels", "find_kernel", "installed_kernels", "release_order", "short_name"]

INDEX: Final = "kernel.json"
_UNPACKED_KEPT: Final = 10  # ELF images, some 60 MB each; who builds kernels makes many


@dataclass(frozen=True)
class Kernel:
    """A kernel on this machine's disk.

    ``name`` is what users type (``6.1-cloud``), ``release`` what ``uname -r`` says (``6.1.0-56-cloud-amd64``).
    ``modules`` is the directory that holds ``modules.builtin`` and the modules: installed (with ``modules.dep``),
    or a source tree (with ``modules.order``). None when all that is needed is built in, or nothing is known but the
    image.
    """

    name: str
    release: str
    image: Path
    config: Path | None = None
    modules: Path | None = None
    debuginfo: Path | None = None
    origin: str = ""

    @functools.cached_property
    def bootable(self) -> Path:
        """The ELF image to boot directly; the bzImage itself when it cannot be unpacked here or must start."""
        # An ELF image's entry is C code of the kernel; with KASAN it touches shadow memory that is not there yet.
        if is_elf(self.image) or self.options.get("KASAN") == "y":
            return self.image
        status = self.image.stat()
        unpacked = cache_directory("vmlinux") / f"{self.release}-{status.st_size}-{status.st_mtime_ns}"
        if unpacked.exists():
            os.utime(unpacked)
        else:
            _keep_newest(unpacked.parent, _UNPACKED_KEPT - 1)
            kernel = unpack_bzimage(self.image)
            if kernel is None:
                return self.image
            partial = unpacked.with_suffix(".partial")
            partial.write_bytes(kernel)
            partial.rename(unpacked)
        return unpacked

    @property
    def checks(self) -> bool:
        """Whether it checks or counts so much that it is many times slower than a distribution's."""
        return any(self.options.get(name) == "y" for name in ("KASAN", "PROVE_LOCKING", "GCOV_PROFILE_ALL"))

    @functools.cached_property
    def options(self) -> dict[str, str]:
        """The build configuration without the CONFIG_ prefix: ``{"SMP": "y", ...}``; empty when it is not known."""
        if self.config is None or not self.config.exists():
            return {}
        pairs = re.findall(r"^CONFIG_(\w+)=(.*)$", self.config.read_text(errors="replace"), re.MULTILINE)
        return dict(pairs)


def _keep_newest(directory: Path, count: int) -> None:
    with contextlib.suppress(FileNotFoundError):  # another process may do the same
        files = sorted(directory.iterdir(), key=lambda path: path.stat().st_mtime)
        for path in files[: max(0, len(files) - count)]:
            path.unlink()


def short_name(release: str) -> str:
    """``6.1.0-56-cloud-amd64`` -> ``6.1-cloud``; ``6.12.117+deb12-amd64`` -> ``6.12``."""
    match = re.match(r"(\d+\.\d+)", release)
    if not match:
        return release
    flavour = re.search(r"-(cloud|rt)-", release)
    return match[1] + (f"-{flavour[1]}" if flavour else "")


def release_order(release: str) -> tuple[int, ...]:
    """A sort key: the numbers in a release, so that 6.1.0-9 comes before 6.1.0-56."""
    return tuple(int(number) for number in re.findall(r"\d+", release))


def fetched_kernels() -> list[Kernel]:
    """The kernels in the cache (fetched or built), oldest release first."""
    kernels = []
    for index in cache_directory("kernels").glob(f"*/{INDEX}"):
        try:
            fields = json.loads(index.read_text())
            paths = {
                key: index.parent / fields[key]
                for key in ("image", "config", "modules", "debuginfo")
                if fields.get(key)
            }
            kernels.append(Kernel(fields["name"], fields["release"], origin=fields.get("origin", ""), **paths))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # an index that is not ours, or damaged: the kernel counts as not fetched
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


def find_kernel(name: str) -> Kernel:
    """The kernel that a user means: a short name, a release, ``host`` for the running one, or a path to an image.

    A short name means the newest fetched kernel of that name. Raises InsituError with the way to get it.
    """
    if "/" in name or name.startswith("."):
        from insitu.lab.kernels.image import kernel_at

        return kernel_at(Path(name))
    if name == "host":
        name = platform.release()
    for kernel in reversed([*installed_kernels(), *fetched_kernels()]):
        if name in (kernel.name, kernel.release):
            return kernel
    raise InsituError(
        f"kernel {name!r} is not here", remedy=f"insitu lab fetch {name}; insitu lab kernels lists them"
    )
