"""Can kernels be run in guests here?"""

import os
import shutil
from pathlib import Path
from typing import Final, NamedTuple

from insitu.capabilities.result import Probe, Result, asked_once, no, partly, yes

__all__ = ["PROBES", "Emulator", "Kernels", "acceleration", "emulator", "kernels", "unpacking"]

# `uname -m` -> the suffix of QEMU's program and of Debian's package.
_QEMU: Final = {"x86_64": ("x86_64", "x86"), "aarch64": ("aarch64", "arm")}


class Emulator(NamedTuple):
    """``path`` is QEMU's program for this architecture."""

    path: str


class Kernels(NamedTuple):
    """``releases`` of the kernels in /boot."""

    releases: tuple[str, ...]


@asked_once
def emulator() -> Result[Emulator]:
    """Is QEMU installed?"""
    system, package = _QEMU.get(os.uname().machine, (os.uname().machine, "misc"))
    found = shutil.which(f"qemu-system-{system}")
    if found:
        return yes(found, Emulator(found))
    return no(f"qemu-system-{system} is not installed", f"apt-get install qemu-system-{package}")


@asked_once
def acceleration() -> Result[None]:
    """Is there KVM? It is neither opened nor tried: on some machines opening /dev/kvm hangs."""
    if not Path("/dev/kvm").exists():
        return partly(
            "no /dev/kvm: guests are emulated, about ten times slower", "nested virtualisation, or real hardware"
        )
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return partly("/dev/kvm: permission denied", "usermod -aG kvm USER, then log in again")
    return partly("/dev/kvm exists; whether it works is seen when a guest first boots")


@asked_once
def kernels() -> Result[Kernels]:
    """Which kernels does this machine have?"""
    images = sorted(path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*"))
    if images:
        return yes(", ".join(images), Kernels(tuple(images)))
    return partly("no kernel is installed in /boot", "insitu lab fetch 6.1-cloud", Kernels(()))


@asked_once
def unpacking() -> Result[None]:
    """Can a distribution's kernel packages be unpacked?"""
    found = shutil.which("dpkg-deb")
    if found:
        return yes(found)
    return no(
        "dpkg-deb is not installed: kernels cannot be unpacked", "install dpkg, or name a kernel image by its path"
    )


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("emulator", emulator),
    ("acceleration", acceleration),
    ("installed kernels", kernels),
    ("kernel packages", unpacking),
)
