"""Distribution kernels that can be fetched: what the configured apt sources offer, under short names."""

import re
import shutil
import subprocess
from dataclasses import dataclass

from insitu.errors import InsituError
from insitu.lab.kernels.kernel import release_order, short_name

__all__ = ["Package", "fetchable", "find_package"]

# Signed images; the unsigned ones are the same kernels. Debian numbers by ABI (6.1.0-56) or release (6.12.117+deb12).
_IMAGE = re.compile(r"linux-image-(\d+\.\d+\.\d+(?:-\d+|\+[\w.]+)?(?:\+[\w.]+)?(?:-cloud|-rt)?-amd64)")


@dataclass(frozen=True)
class Package:
    """An apt package that holds a kernel: its name, the kernel's release and the short name users type."""

    package: str
    release: str
    name: str


def fetchable() -> list[Package]:
    """The newest package of every short name that the configured apt sources offer; empty where there is no apt."""
    if not shutil.which("apt-cache"):
        return []
    listing = subprocess.run(["apt-cache", "pkgnames", "linux-image-"], capture_output=True, text=True, check=False)
    newest: dict[str, Package] = {}
    for package in listing.stdout.split():
        match = _IMAGE.fullmatch(package)
        if not match:
            continue
        found = Package(package, match[1], short_name(match[1]))
        known = newest.get(found.name)
        if known is None or release_order(found.release) > release_order(known.release):
            newest[found.name] = found
    return sorted(newest.values(), key=lambda package: (release_order(package.release), package.name))


def find_package(name: str) -> Package:
    """The package for a short name or a full release. Raises InsituError naming what there is."""
    if not shutil.which("apt-get"):
        raise InsituError("fetching kernels needs apt", remedy="give -k the path of a bzImage instead")
    match = _IMAGE.fullmatch(f"linux-image-{name}")
    if match:
        return Package(match[0], match[1], short_name(match[1]))
    offered = fetchable()
    for package in offered:
        if package.name == name:
            return package
    if not offered:
        raise InsituError("apt knows no kernel packages", remedy="apt-get update, as root")
    raise InsituError(
        f"no kernel {name!r} in the configured apt sources, which offer {', '.join(p.name for p in offered)}",
        remedy="a later one may be in a suite such as backports; add it to apt's sources",
    )
