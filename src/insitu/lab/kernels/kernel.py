"""A kernel that can be booted: its image, configuration, modules and debug information, and its release's order."""

import contextlib
import functools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.files import write_whole
from insitu.lab.directories import cache_directory
from insitu.lab.kernels.vmlinux import is_elf, unpack_bzimage

__all__ = ["INDEX", "Kernel", "release_order", "short_name"]

INDEX: Final = "kernel.json"
"""The file that describes a cached kernel, in its directory."""

_UNPACKED_KEPT: Final = 10  # ELF images, some 60 MB each; kernel developers boot many


@dataclass(frozen=True)
class Kernel:
    """A kernel on this machine's disk.

    ``name`` is what users type (``6.1-cloud``), ``release`` what ``uname -r`` prints (``6.1.0-56-cloud-amd64``).
    ``modules`` is the directory that has ``modules.builtin`` and the modules: installed (with ``modules.dep``),
    or a source tree (with ``modules.order``). None if everything is built in, or if only the image is known.
    ``build`` is the directory that modules are built against, ``make -C BUILD M=$PWD modules``, of a built kernel.
    """

    name: str
    release: str
    image: Path
    config: Path | None = None
    modules: Path | None = None
    debuginfo: Path | None = None
    build: Path | None = None
    origin: str = ""

    @functools.cached_property
    def bootable(self) -> Path:
        """The ELF image to boot directly; the bzImage itself if it cannot be unpacked or must decompress itself."""
        # An ELF image's entry is C code of the kernel; with KASAN it touches shadow memory that is not mapped yet.
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
            write_whole(unpacked, kernel)
        return unpacked

    @property
    def checks(self) -> bool:
        """Whether it is built with checks or counters that make it many times slower than a distribution's kernel."""
        return any(self.options.get(name) == "y" for name in ("KASAN", "PROVE_LOCKING", "GCOV_PROFILE_ALL"))

    @functools.cached_property
    def options(self) -> dict[str, str]:
        """The build configuration without the CONFIG_ prefix: ``{"SMP": "y", ...}``; empty if it is not known."""
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
