"""The distribution's kernel source packages, and their unpacked trees in the cache."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.directories import cache_directory, need_space
from insitu.lab.kernels.apt_packages import download, unpack
from insitu.lab.kernels.kernel import release_order

__all__ = ["Source", "find_source", "unpacked_source"]

# The tree of 6.12 takes 1.6 GB, the package and the archive inside it 150 MB each.
_SPACE_BYTES: Final = 2 << 30


@dataclass(frozen=True)
class Source:
    """An apt package with a kernel's source: ``linux-source-6.1`` in version ``6.1.192-2``."""

    package: str
    version: str

    @property
    def tree(self) -> Path:
        """Where its tree is in the cache, or will be."""
        return cache_directory("builds") / f"{self.package}_{re.sub(r'[^0-9A-Za-z.+~-]', '_', self.version)}"


def find_source(kernel: str) -> Source:
    """The newest source package of a kernel version such as 6.1. Raises InsituError, which lists what apt offers."""
    if not shutil.which("apt-cache"):
        raise InsituError("building a kernel needs apt, for the distribution's source package")
    package = f"linux-source-{kernel}"
    if re.fullmatch(r"\d+\.\d+", kernel):
        command = ["apt-cache", "show", "--no-all-versions", package]
        shown = subprocess.run(command, capture_output=True, text=True, check=False)
        version = re.search(r"^Version: (\S+)$", shown.stdout, re.MULTILINE)
        if shown.returncode == 0 and version:
            return Source(package, version[1])
    listing = subprocess.run(["apt-cache", "pkgnames", "linux-source-"], capture_output=True, text=True, check=False)
    offered = re.findall(r"^linux-source-(\d+\.\d+)$", listing.stdout, re.MULTILINE)
    if not offered:
        raise InsituError("apt has no kernel source packages", remedy="apt-get update, as root")
    raise InsituError(
        f"no source of kernel {kernel!r} in the configured apt sources; "
        f"available: {', '.join(sorted(offered, key=release_order))}",
        remedy="a later one may be in a suite such as backports; add it to apt's sources",
    )


def unpacked_source(source: Source, report: Callable[[str], None]) -> Path:
    """Download and unpack the source unless the cache has its tree; returns the tree."""
    tree = source.tree
    if tree.is_dir():
        return tree
    need_space(tree.parent, _SPACE_BYTES)
    with tempfile.TemporaryDirectory(prefix=".source-", dir=tree.parent) as scratch:
        report(f"downloading {source.package} {source.version}")
        package = download(source.package, Path(scratch))
        report(f"unpacking {package.stat().st_size >> 20} MB of source")
        unpack(package, Path(scratch) / "package")
        package.unlink()
        partial = Path(scratch) / "tree"
        partial.mkdir()
        archives = list((Path(scratch) / "package/usr/src").glob("linux-source-*.tar.*"))
        if len(archives) != 1:
            raise InsituError(f"{source.package} has no source archive in usr/src")
        command = ["tar", "-x", "-f", str(archives[0]), "--strip-components=1", "-C", str(partial)]
        outcome = subprocess.run(command, capture_output=True, text=True, check=False)
        if outcome.returncode:
            reason = (outcome.stderr.strip().splitlines() or ["tar gave no reason"])[0]
            raise InsituError(f"cannot unpack {archives[0].name}: {reason}")
        partial.rename(tree)
    return tree
