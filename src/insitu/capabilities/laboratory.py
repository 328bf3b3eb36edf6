"""Can kernels be run in guests here?"""

import os
import shutil
from pathlib import Path
from typing import Final

from insitu.capabilities.result import Answer, Probe, no, partly, yes

__all__ = ["PROBES"]

# `uname -m` -> the name's end of QEMU's program and of Debian's package.
_QEMU: Final = {"x86_64": ("x86_64", "x86"), "aarch64": ("aarch64", "arm")}


def _qemu() -> Answer:
    system, package = _QEMU.get(os.uname().machine, (os.uname().machine, "misc"))
    found = shutil.which(f"qemu-system-{system}")
    if found:
        return yes(found)
    return no(f"qemu-system-{system} is not installed", f"apt-get install qemu-system-{package}")


def _acceleration() -> Answer:
    # Neither opened nor tried: there are machines whose /dev/kvm never answers.
    if not Path("/dev/kvm").exists():
        return partly(
            "no /dev/kvm: guests run in software, some ten times slower", "nested virtualisation, or real hardware"
        )
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return partly("/dev/kvm: permission denied", "usermod -aG kvm USER, then log in again")
    return partly("/dev/kvm is there; whether it works is seen when a guest first boots")


def _kernels() -> Answer:
    images = sorted(path.name.removeprefix("vmlinuz-") for path in Path("/boot").glob("vmlinuz-*"))
    if images:
        return yes(", ".join(images))
    return partly("no kernel is installed in /boot", "insitu lab fetch 6.1-cloud")


def _unpacking() -> Answer:
    found = shutil.which("dpkg-deb")
    if found:
        return yes(found)
    return no(
        "dpkg-deb is not installed: kernels cannot be unpacked", "install dpkg, or name a kernel image by its path"
    )


PROBES: Final[tuple[tuple[str, Probe], ...]] = (
    ("emulator", _qemu),
    ("acceleration", _acceleration),
    ("installed kernels", _kernels),
    ("kernel packages", _unpacking),
)
