"""Kernels fetched from a package's file: a Debian package made here, with next to nothing in it."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.lab.kernels.fetch import fetch
from insitu.lab.kernels.find_kernel import find_kernel

pytestmark = pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")

RELEASE = "6.9.0-test"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _package(folder: Path, name: str) -> Path:
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: nobody\nDescription: test\n"
    )
    (tree / "boot").mkdir()
    image = bytearray(1024)
    image[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", image, 0x20E, 0x100)
    image[0x300 : 0x300 + len(RELEASE)] = RELEASE.encode()
    (tree / f"boot/vmlinuz-{RELEASE}").write_bytes(image)
    (tree / f"boot/config-{RELEASE}").write_text("CONFIG_SMP=y\n")
    modules = tree / "lib/modules" / RELEASE
    modules.mkdir(parents=True)
    for listing in ("modules.builtin", "modules.order"):
        (modules / listing).write_text("")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, folder], capture_output=True, check=True)
    return next(folder.glob("*.deb"))


def test_a_package_file_becomes_a_fetched_kernel(cache: Path, tmp_path: Path) -> None:
    kernel = fetch(str(_package(tmp_path, f"linux-image-{RELEASE}")))
    assert (kernel.name, kernel.release) == (RELEASE, RELEASE)
    assert find_kernel(RELEASE) == kernel
    assert kernel.options == {"SMP": "y"}
    assert kernel.image.is_relative_to(cache)


def test_another_package_is_refused(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InsituError, match="is not a kernel image's package"):
        fetch(str(_package(tmp_path, "coreutils")))


def test_a_truncated_package_is_refused_and_leaves_nothing(cache: Path, tmp_path: Path) -> None:
    archive = _package(tmp_path, f"linux-image-{RELEASE}")
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(InsituError):
        fetch(str(archive))
    assert list((cache / "insitu/kernels").iterdir()) == []


def test_an_image_needs_no_fetching(cache: Path, tmp_path: Path) -> None:
    archive = _package(tmp_path, f"linux-image-{RELEASE}")
    assert archive.exists()
    image = tmp_path / f"tree/boot/vmlinuz-{RELEASE}"
    assert fetch(str(image)).release == RELEASE
