"""Kernels given by the path of their image, as somebody has them who builds kernels, and the real-time flavour."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from insitu.lab import guest
from insitu.lab.guests.failures import GuestError
from insitu.lab.kernels.find_kernel import installed_kernels
from insitu.lab.kernels.kernel import Kernel


def _copied(kernel: Kernel, image: Path) -> Path:
    image.parent.mkdir(parents=True)
    return Path(shutil.copyfile(kernel.image, image))


def _uname(kernel: str) -> str:
    with guest(kernel=kernel, memory="512M") as running:
        return running.run(["uname", "-r"]).check().stdout.decode().strip()


def test_a_bzimage_in_its_source_tree_boots_with_the_trees_modules(kernel_6_1: Kernel, tmp_path: Path) -> None:
    assert kernel_6_1.config is not None
    assert kernel_6_1.modules is not None
    image = _copied(kernel_6_1, tmp_path / "arch/x86/boot/bzImage")
    shutil.copyfile(kernel_6_1.config, tmp_path / ".config")
    (tmp_path / "Kbuild").touch()
    # What a tree has, and what depmod has not made there: the lists, but no modules.dep.
    for name in ("modules.order", "modules.builtin"):
        shutil.copyfile(kernel_6_1.modules / name, tmp_path / name)
    (tmp_path / "kernel").symlink_to(kernel_6_1.modules / "kernel")
    assert _uname(str(image)) == kernel_6_1.release


def test_a_bzimage_in_another_root_boots_with_that_roots_modules(kernel_6_1: Kernel, tmp_path: Path) -> None:
    assert kernel_6_1.modules is not None
    image = _copied(kernel_6_1, tmp_path / "boot" / f"vmlinuz-{kernel_6_1.release}")
    (tmp_path / "lib/modules").mkdir(parents=True)
    (tmp_path / "lib/modules" / kernel_6_1.release).symlink_to(kernel_6_1.modules)
    assert _uname(str(image)) == kernel_6_1.release
    [installed] = installed_kernels(tmp_path)
    assert (installed.release, installed.image) == (kernel_6_1.release, image)


def test_a_bzimage_without_the_modules_it_needs_names_what_is_missing(kernel_6_1: Kernel, tmp_path: Path) -> None:
    image = _copied(kernel_6_1, tmp_path / "boot/vmlinuz")
    with pytest.raises(GuestError, match="no driver for virtio serial ports"):
        _uname(str(image))


def test_the_real_time_kernel_boots(fetched: Callable[[str], Kernel]) -> None:
    kernel = fetched("6.1-rt")
    with guest(kernel="6.1-rt", memory="512M", boot_timeout=300) as running:
        # kernel/ksysfs.c of the PREEMPT_RT patches.
        assert running.run(["cat", "/sys/kernel/realtime"]).check().stdout == b"1\n"
        assert running.run(["uname", "-r"]).check().stdout.decode().strip() == kernel.release
