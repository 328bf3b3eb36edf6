"""Architectures that the lab does not support, and kernels for another than this machine's, are refused by name."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.lab.architecture import host_architecture
from insitu.lab.guests.machine import qemu_program
from insitu.lab.kernels.apt_packages import find_package
from insitu.lab.kernels.fetch import fetch
from insitu.lab.kernels.find_kernel import find_kernel

EM_386, EM_AARCH64, EM_RISCV = 3, 183, 243  # elf.h


def elf(machine: int, data: int = 1) -> bytes:
    """The first bytes of an ELF file; ``data`` 1 is little-endian, 2 big-endian."""
    ident = bytes([0x7F, *b"ELF", 2, data, 1]).ljust(16, b"\0")
    return ident + struct.pack("<HH" if data == 1 else ">HH", 2, machine) + bytes(100)


@pytest.fixture
def on_aarch64(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = list(os.uname())
    fields[4] = "aarch64"
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))


@pytest.mark.usefixtures("on_aarch64")
def test_a_machine_that_is_not_supported_is_named() -> None:
    for ask in (host_architecture, qemu_program, lambda: find_package("6.1")):
        with pytest.raises(InsituError, match="does not support aarch64 yet; it supports x86_64"):
            ask()


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="needs an x86-64 machine")
@pytest.mark.parametrize(
    ("head", "machine"),
    [
        (elf(EM_AARCH64), "aarch64"),
        (elf(EM_RISCV), "riscv"),
        (elf(EM_386), "i386"),
        (elf(21, data=2), "ppc64"),
        (elf(9999), "ELF machine 9999"),
        (bytes(56) + b"ARM\x64" + bytes(100), "aarch64"),  # Documentation/arch/arm64/booting.rst
    ],
)
def test_an_image_of_another_architecture_is_refused(tmp_path: Path, head: bytes, machine: str) -> None:
    (tmp_path / "Image").write_bytes(head)
    with pytest.raises(InsituError, match=f"is a kernel for {machine}, and this machine is x86_64"):
        find_kernel(str(tmp_path / "Image"))


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb")
def test_a_package_of_another_architecture_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    control = tmp_path / "tree/DEBIAN/control"
    control.parent.mkdir(parents=True)
    name = "linux-image-6.9.0"
    control.write_text(f"Package: {name}\nVersion: 1\nArchitecture: arm64\nMaintainer: a\nDescription: d\n")
    archive = tmp_path / f"{name}_1_arm64.deb"
    subprocess.run(["dpkg-deb", "-b", tmp_path / "tree", archive], check=True, capture_output=True)
    with pytest.raises(InsituError, match="is for arm64, and this machine is amd64"):
        fetch(str(archive))
