"""Kernel modules for guests, built here against Debian's headers of the guest's kernel."""

import fcntl
import shutil
import subprocess
from pathlib import Path

from insitu.lab.directories import cache_directory
from insitu.lab.kernels.apt_packages import download, unpack

__all__ = ["built_module"]


def built_module(source: Path, release: str, directory: Path) -> Path:
    """The module that ``source`` (a directory with kbuild's Makefile) makes for a kernel, built in ``directory``."""
    headers = _headers(release)
    work = directory / source.name
    shutil.copytree(source, work)
    made = subprocess.run(
        ["make", "-C", headers, f"M={work}", "modules"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return next(work.glob("*.ko"))


def _headers(release: str) -> Path:
    """The headers' directory in the cache, its packages downloaded if they are not there."""
    root = cache_directory("headers") / release
    headers = root / "usr" / "src" / f"linux-headers-{release}"
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that run tests download them once
        done = root / "done"
        if not done.exists():
            shutil.rmtree(root, ignore_errors=True)
            root.mkdir(parents=True)
            wanted = [f"linux-headers-{release}"]
            for package in wanted:  # with those it depends on: -common, and linux-kbuild
                place = root / package
                place.mkdir()
                archive = download(package, place)
                unpack(archive, root)
                depends = subprocess.run(
                    ["dpkg-deb", "-f", archive, "Depends"], capture_output=True, text=True, check=True
                )
                names = [each.split()[0] for each in depends.stdout.split(",") if each.strip()]
                wanted += [
                    each
                    for each in names
                    if each.startswith(("linux-headers-", "linux-kbuild-")) and each not in wanted
                ]
            makefile = headers / "Makefile"
            makefile.write_text(makefile.read_text().replace("/usr/src/", f"{root}/usr/src/"))
            done.touch()
    return headers
