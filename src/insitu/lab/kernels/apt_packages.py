"""Kernels as the configured apt sources offer them: their names, and packages downloaded and unpacked.

Downloads go through apt-get, so mirrors, proxies and signatures are those the machine is configured for. Nothing is
installed. Kernels of other Debian releases come from the same mirrors.
"""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture
from insitu.lab.kernels.debian_releases import release_of, release_options
from insitu.lab.kernels.kernel import release_order, short_name

__all__ = ["Package", "download", "fetchable", "find_package", "unpack"]

# Signed images; the unsigned ones are the same kernels. Debian numbers by ABI (6.1.0-56) or release (6.12.117+deb12).
_IMAGE = r"linux-image-(\d+\.\d+\.\d+(?:-\d+|\+[\w.]+)?(?:\+[\w.]+)?(?:-cloud|-rt)?-%s)"


@dataclass(frozen=True)
class Package:
    """An apt package that has a kernel: its name, the kernel's release and the short name users type."""

    package: str
    release: str
    name: str


def fetchable() -> list[Package]:
    """The newest package of every short name in the configured apt sources; empty on a machine without apt."""
    return _newest(_image_names([])) if shutil.which("apt-cache") else []


def _image_names(options: list[str]) -> list[str]:
    """The names of all kernel image packages that apt knows, its lists chosen by ``options``."""
    command = ["apt-cache", *options, "pkgnames", "linux-image-"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()


def _newest(packages: list[str]) -> list[Package]:
    newest: dict[str, Package] = {}
    for package in packages:
        found = _image_package(package)
        known = newest.get(found.name) if found else None
        if found and (known is None or release_order(found.release) > release_order(known.release)):
            newest[found.name] = found
    return sorted(newest.values(), key=lambda package: (release_order(package.release), package.name))


def find_package(name: str) -> Package:
    """The package of a short name or a full release. Raises InsituError, which lists the available names.

    A name that the configured sources lack is looked for in the Debian release that has kernels of its version.
    """
    if not shutil.which("apt-get"):
        raise InsituError("fetching kernels needs apt", remedy="give -k the path of a bzImage instead")
    exact = _image_package(f"linux-image-{name}")
    if exact:
        return exact
    offered = fetchable()
    for package in offered:
        if package.name == name:
            return package
    if offered and (release := release_of(name)):
        for package in _newest(_image_names(release_options(release))):
            if package.name == name:
                return package
    if not offered:
        raise InsituError("apt has no kernel packages", remedy="apt-get update, as root")
    raise InsituError(
        f"no kernel {name!r} in the configured apt sources; available: {', '.join(p.name for p in offered)}",
        remedy="a later one may be in a suite such as backports; add it to apt's sources",
    )


def download(package: str, directory: Path) -> Path:
    """Download a package with apt-get into ``directory`` and return its path. Raises InsituError."""
    # Without this, root's apt complains that its sandbox user cannot write here.
    sandbox = ["-oAPT::Sandbox::User=root"] if os.getuid() == 0 else []
    command = ["apt-get", "-q", *sandbox, *_sources_of(package), "download", package]
    outcome = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    archives = list(directory.glob("*.deb"))
    if outcome.returncode or len(archives) != 1:
        complaint = (outcome.stderr.strip().splitlines() or ["apt-get gave no reason"])[-1].removeprefix("E: ")
        remedy = "" if "pace left" in complaint else "apt-get update, as root, brings its lists up to date"
        raise InsituError(f"cannot download {package}: {complaint}", remedy=remedy)
    return archives[0]


def _sources_of(package: str) -> list[str]:
    """apt's options for the sources that have a package: none if the configured ones do."""
    image = re.sub("-dbg$", "", package)
    release = release_of(image)
    return release_options(release) if release and image not in _image_names([]) else []


def unpack(archive: Path, directory: Path) -> None:
    """Unpack a Debian package's files below ``directory``; its scripts are not run."""
    outcome = subprocess.run(["dpkg-deb", "-x", archive, directory], capture_output=True, text=True, check=False)
    if outcome.returncode:
        reason = (outcome.stderr.strip().splitlines() or ["dpkg-deb gave no reason"])[-1]
        raise InsituError(f"cannot unpack {archive.name}: {reason}")


def _image_package(package: str) -> Package | None:
    match = re.fullmatch(_IMAGE % host_architecture().debian, package)
    return Package(match[0], match[1], short_name(match[1])) if match else None
