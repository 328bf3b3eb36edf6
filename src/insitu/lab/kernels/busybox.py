"""A statically linked busybox: the guest's programs until this machine's own files are mounted there."""

import shutil
import tempfile
from pathlib import Path

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory
from insitu.lab.kernels.apt_packages import download, unpack
from insitu.lab.kernels.vmlinux import is_elf

__all__ = ["busybox"]


def busybox() -> Path:
    """The path of this machine's static busybox, or of one fetched into the cache.

    Raises InsituError if there is none and apt cannot download the package busybox-static.
    """
    installed = shutil.which("busybox")
    for candidate in (Path(installed) if installed else None, cache_directory("busybox") / "busybox"):
        if candidate is not None and candidate.exists() and _is_static(candidate):
            return candidate
    return _fetch(cache_directory("busybox"))


def _is_static(program: Path) -> bool:
    # A dynamic program names its loader near its beginning (PT_INTERP).
    with program.open("rb") as file:
        return is_elf(program) and b"/ld-linux" not in file.read(4096)


def _fetch(target: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as scratch:
        tree = Path(scratch) / "tree"
        try:
            unpack(download("busybox-static", Path(scratch)), tree)
            unpacked = next(path for path in tree.rglob("busybox") if path.is_file() and is_elf(path))
        except (OSError, InsituError, StopIteration):
            raise InsituError("the lab needs a static busybox", remedy="apt-get install busybox-static") from None
        unpacked.rename(target / "busybox")
    return target / "busybox"
