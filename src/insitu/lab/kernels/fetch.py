"""Fetch a distribution's kernel into the cache: download, unpack, index its modules. Nothing is installed."""

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.files import name_beside, write_whole
from insitu.lab.architecture import host_architecture
from insitu.lab.directories import cache_directory, need_space
from insitu.lab.kernels.apt_packages import Package, download, find_package, unpack
from insitu.lab.kernels.busybox import busybox
from insitu.lab.kernels.find_kernel import cached_kernels, kernel_at
from insitu.lab.kernels.kernel import INDEX, Kernel

__all__ = ["fetch", "fetch_debuginfo"]

Report = Callable[[str], None]

# Unpacked, a full Debian kernel of 6.1 is 400 MB; its debug package downloads 900 MB.
_SPACE_KERNEL: Final = 600 << 20
_SPACE_DEBUGINFO: Final = 2 << 30


def fetch(name: str, report: Report = lambda line: None) -> Kernel:
    """Fetch the kernel ``name`` unless the cache has the newest, and return it.

    ``name`` is a short name such as 6.1-cloud, a release, the path of a kernel's Debian package (``make bindeb-pkg``
    builds one), or the path of an image, which is used where it is. ``report`` is called with a line for every step.
    Raises InsituError with the step that failed and its remedy.
    """
    if "/" in name or name.endswith(".deb"):
        path = Path(name)
        return _from_package_file(path, report) if path.suffix == ".deb" else kernel_at(path)
    package = find_package(name)
    for kernel in cached_kernels():
        if kernel.release == package.release and kernel.origin == package.package:
            report(f"{package.name} ({package.release}) is in the cache")
            return kernel
    need_space(cache_directory("kernels"), _SPACE_KERNEL)
    with _scratch(cache_directory("kernels")) as scratch:
        report(f"downloading {package.package}")
        return _into_cache(download(package.package, scratch), package, report)


def _from_package_file(archive: Path, report: Report) -> Kernel:
    if not archive.is_file():
        raise InsituError(f"no package {archive}")
    need_space(cache_directory("kernels"), _SPACE_KERNEL)
    package, architecture = (_package_field(archive, name) for name in ("Package", "Architecture"))
    release = package.removeprefix("linux-image-").removesuffix("-unsigned")
    if release == package or "/" in release:
        raise InsituError(
            f"{archive} is not a kernel image's package", remedy="use linux-image-RELEASE_VERSION_ARCH.deb"
        )
    if architecture != host_architecture().debian:
        raise InsituError(f"{archive} is for {architecture}, and this machine is {host_architecture().debian}")
    return _into_cache(archive, Package(package, release, release), report)


def _package_field(archive: Path, name: str) -> str:
    """A field of a Debian package's control file; empty if the file is not a package."""
    command = ["dpkg-deb", "-f", str(archive), name]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _into_cache(archive: Path, package: Package, report: Report) -> Kernel:
    """Unpack and index an image package's file; it replaces a cached kernel of the same release."""
    kernels = cache_directory("kernels")
    with _scratch(kernels) as scratch:
        report(f"unpacking {archive.stat().st_size >> 20} MB")
        unpack(archive, scratch / "tree")
        report("indexing modules")
        _index(scratch / "tree", package)
        target = kernels / package.release
        shutil.rmtree(target, ignore_errors=True)
        (scratch / "tree").rename(target)
    return next(kernel for kernel in cached_kernels() if kernel.release == package.release)


def fetch_debuginfo(kernel: Kernel, report: Report = lambda line: None) -> Kernel:
    """Fetch the unstripped vmlinux from a fetched kernel's debug package, unless it is there."""
    if kernel.debuginfo is not None and kernel.debuginfo.exists():
        return kernel
    package = re.sub("-unsigned$", "", kernel.origin) + "-dbg"
    home = cache_directory("kernels") / kernel.release
    if not kernel.origin.startswith("linux-image-") or not home.is_dir():
        raise InsituError(
            f"debug information can be fetched for fetched kernels only, and {kernel.name} was not fetched",
            remedy="insitu lab kernels lists their names",
        )
    need_space(home, _SPACE_DEBUGINFO)
    with _scratch(home) as scratch:
        report(f"downloading {package}")
        archive = download(package, scratch)
        report(f"unpacking vmlinux from {archive.stat().st_size >> 20} MB")
        _extract_vmlinux(archive, kernel.release, home / "vmlinux-debug")
    index = home / INDEX
    fields = json.loads(index.read_text()) | {"debuginfo": "vmlinux-debug"}
    write_whole(index, json.dumps(fields, indent=1).encode())
    return next(found for found in cached_kernels() if found.release == kernel.release)


def _index(tree: Path, package: Package) -> None:
    """Run depmod on an unpacked image package and write its index."""
    image = tree / "boot" / f"vmlinuz-{package.release}"
    modules = _modules_below(tree) / package.release
    if not image.exists() or not modules.is_dir():
        raise InsituError(f"{package.package} has no boot/vmlinuz-{package.release}, or no modules for it")
    depmod = shutil.which("depmod", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    base = modules.parents[2]
    command = [depmod] if depmod else [str(busybox()), "depmod"]
    subprocess.run([*command, "-b", str(base), package.release], capture_output=True, check=True)
    fields = {
        "name": package.name,
        "release": package.release,
        "origin": package.package,
        "image": str(image.relative_to(tree)),
        "config": f"boot/config-{package.release}",
        "modules": str(modules.relative_to(tree)),
    }
    write_whole(tree / INDEX, json.dumps(fields, indent=1).encode())


def _modules_below(tree: Path) -> Path:
    usr_merged = tree / "usr/lib/modules"
    return usr_merged if usr_merged.is_dir() else tree / "lib/modules"


def _extract_vmlinux(archive: Path, release: str, target: Path) -> None:
    """Extract only ``vmlinux`` from a debug package's tar stream, not its thousands of modules."""
    member = f"./usr/lib/debug/boot/vmlinux-{release}"
    partial = Path(name_beside(target))
    stream = subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        with partial.open("xb") as file:
            # --occurrence lets tar stop at the first match, which comes early in the archive.
            tar = subprocess.run(
                ["tar", "-xO", "--occurrence=1", member],
                stdin=stream.stdout,
                stdout=file,
                stderr=subprocess.PIPE,
                check=False,
            )
        if tar.returncode or partial.stat().st_size == 0:
            reason = (tar.stderr.decode(errors="replace").strip().splitlines() or ["it is not in the package"])[-1]
            raise InsituError(f"cannot unpack {member} from {archive.name}: {reason}")
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
        stream.kill()
        stream.communicate()


@contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=directory) as scratch:
        yield Path(scratch)
