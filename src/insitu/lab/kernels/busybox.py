"""A statically linked busybox: the guest's programs until this machine's own files are mounted there."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory
from insitu.lab.kernels.vmlinux import is_elf

__all__ = ["busybox"]


def busybox() -> Path:
    """The static busybox of this machine, or one fetched into the cache when there is none.

    Raises InsituError when there is none and apt cannot fetch the package busybox-static.
    """
    installed = shutil.which("busybox")
    for candidate in (Path(installed) if installed else None, cache_directory("busybox") / "busybox"):
        if candidate is not None and candidate.exists() and _is_static(candidate):
            return candidate
    return _fetch(cache_directory("busybox"))


def _is_static(program: Path) -> bool:
    # A dynamic program names its loader in the first page (PT_INTERP).
    with program.open("rb") as file:
        return is_elf(program) and b"/ld-linux" not in file.read(4096)


def _fetch(target: Path) -> Path:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target) as scratch:
        words = ["apt-get", "-q", "download", "busybox-static"]
        try:
            subprocess.run(words, cwd=scratch, capture_output=True, check=True)
            subprocess.run(
                ["dpkg-deb", "-x", next(Path(scratch).glob("*.deb")), scratch], capture_output=True, check=True
            )
            unpacked = next(path for path in Path(scratch).rglob("busybox") if path.is_file() and is_elf(path))
        except (OSError, subprocess.CalledProcessError, StopIteration):
            raise InsituError("the lab needs a static busybox", remedy="apt-get install busybox-static") from None
        unpacked.rename(target / "busybox")
    return target / "busybox"
