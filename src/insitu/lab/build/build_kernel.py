"""Build a small guest kernel with features that distribution kernels lack, from the distribution's source package.

Sources, objects and logs are in the cache below ``builds``, finished kernels below ``kernels``, as fetched ones are.
``builds`` can be removed at any time; gdb then shows no source lines, and gcov no counts.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture
from insitu.lab.build.kernel_config import Configuration, configuration, refused_options
from insitu.lab.build.kernel_make import check_build_tools, compile_kernel, configure, has_pahole
from insitu.lab.build.source_package import Source, find_source, unpacked_source
from insitu.lab.directories import cache_directory, need_space
from insitu.lab.kernels.find_kernel import cached_kernels
from insitu.lab.kernels.kernel import INDEX, Kernel

__all__ = ["build"]

Report = Callable[[str], None]

_SPACE_OBJECTS: Final = 3 << 30

_PRODUCTS: Final = {"vmlinux": "vmlinux", "System.map": "System.map", "config": ".config"}
"""File kept of a build, besides the boot image -> where make leaves it."""


def build(version: str, features: Sequence[str], jobs: int = 0, report: Report = lambda line: None) -> Kernel:
    """Build a guest kernel of ``version`` (6.1) with ``features`` unless the cache has it, and return it.

    ``jobs`` is the number of parallel compilers, 0 for one per CPU; ``report`` is called with a line for every step.
    Raises InsituError for an unknown version or feature, missing tools, an option that Kconfig refuses, a full disk
    and compiler errors. A build that was stopped is resumed.
    """
    if jobs < 0:
        raise InsituError(f"-j {jobs}: must be at least 1", status=2)
    asked = configuration(features, types=has_pahole())
    source = find_source(version)
    name = f"{version}-{asked.label}"
    key = asked.key(source.version)
    built = _built(key)
    if built is not None:
        report(f"{built.name} ({built.release}) is in the cache")
        return built
    check_build_tools()
    if "DEBUG_INFO_BTF" not in asked.options:
        report("pahole is not installed, so the kernel will have no BTF (apt-get install dwarves)")
    directory = cache_directory("builds") / f"{name}-{key}"
    if " " in str(directory) or ":" in str(directory):
        raise InsituError(
            f"a kernel cannot be compiled in {directory.parent}: the path has a space or a colon",
            remedy="set XDG_CACHE_HOME to another directory",
        )
    begin = time.monotonic()
    with _sole_builder(directory), _no_space_explained(directory):
        objects = directory / "objects"
        tree = _configured(source, asked, objects, report)
        _compile(tree, objects, jobs or len(os.sched_getaffinity(0)), directory / "make.log", report)
        about = {"name": name, "configuration": key, "source": source.version, "build": str(objects)}
        kernel = _installed(objects, about)
        if "GCOV_KERNEL" not in asked.options:
            # With gcov all are kept: gcov needs the .gcno files beside the objects.
            _remove_objects(objects)
    report(f"built {kernel.release} in {(time.monotonic() - begin) / 60:.0f} min")
    return kernel


def _configured(source: Source, asked: Configuration, objects: Path, report: Report) -> Path:
    """Unpack the source and configure ``objects`` for it; returns the source tree."""
    objects.mkdir(exist_ok=True)
    tree = unpacked_source(source, report)
    report(f"configuring: guest{''.join(f', {feature}' for feature in asked.features)}")
    fragment = objects.parent / "asked.config"
    fragment.write_text(asked.text)
    refused = refused_options(asked, configure(tree, objects, fragment), tree)
    if refused:
        raise InsituError(
            f"{source.package} {source.version} refuses {', '.join('CONFIG_' + option for option in refused)}"
            f" with {', '.join(asked.features) or 'the guest configuration'}",
            remedy="leave out a feature, or choose another version",
        )
    return tree


def _compile(tree: Path, objects: Path, jobs: int, log: Path, report: Report) -> None:
    if not (objects / "vmlinux.o").exists():
        need_space(objects, _SPACE_OBJECTS)
    report(f"compiling with {jobs} parallel jobs; make's output goes to {log}")
    try:
        compile_kernel(tree, objects, jobs, log, report)
    except (KeyboardInterrupt, SystemExit):
        report("stopped; the same command resumes the build")
        raise


def _built(key: str) -> Kernel | None:
    """The cached kernel that was built with this key; None if there is none."""
    for index in cache_directory("kernels").glob(f"*/{INDEX}"):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            if json.loads(index.read_text()).get("configuration") == key:
                return next((kernel for kernel in cached_kernels() if kernel.image.parent == index.parent), None)
    return None


def _installed(objects: Path, about: dict[str, str]) -> Kernel:
    """Copy a build's products to the cached kernels; they replace an earlier kernel of the same release."""
    kernels = cache_directory("kernels")
    release = (objects / "include/config/kernel.release").read_text().strip()
    with tempfile.TemporaryDirectory(prefix=".build-", dir=kernels) as scratch:
        partial = Path(scratch) / "kernel"
        partial.mkdir()
        boot_image = Path(host_architecture().boot_image)
        shutil.copyfile(objects / boot_image, partial / boot_image.name)
        for product, path in _PRODUCTS.items():
            shutil.copyfile(objects / path, partial / product)
        fields = about | {"release": release, "origin": "built", "image": boot_image.name, "config": "config"}
        (partial / INDEX).write_text(json.dumps(fields | {"debuginfo": "vmlinux"}, indent=1))
        target = kernels / release
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    return next(kernel for kernel in cached_kernels() if kernel.image.parent == target)


def _remove_objects(objects: Path) -> None:
    """Remove what only this kernel's own build needs; modules can still be built against ``objects``."""
    for directory, folders, names in os.walk(objects):
        if Path(directory) == objects:
            folders[:] = [name for name in folders if name not in ("include", "scripts")]
        for name in names:
            if name.endswith((".o", ".a", ".cmd")) or name.startswith(
                ("vmlinux", ".vmlinux", ".tmp_vmlinux", "bzImage")
            ):
                (Path(directory) / name).unlink()


@contextlib.contextmanager
def _sole_builder(directory: Path) -> Iterator[None]:
    """Hold the lock that keeps a second build of the same kernel from writing to the same files."""
    directory.mkdir(exist_ok=True)
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InsituError(f"{directory.name} is being built by another process") from None
        yield


@contextlib.contextmanager
def _no_space_explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InsituError(
            f"no space left for {directory}", remedy="free some; the same command resumes the build"
        ) from None
