"""The running kernel's own BTF, and that of its loaded modules (/sys/kernel/btf)."""

# Paths are plain text: a start that needs one type is not to import pathlib.
# ruff: noqa: PTH123, PTH208

from __future__ import annotations

import os
import sys
from functools import cache

from insitu.errors import InsituError
from insitu.symbols.btf import Btf

__all__ = ["from_file", "module", "modules", "vmlinux"]

_MAX_BYTES = 1 << 28
_DIRECTORY = "/sys/kernel/btf"


@cache
def vmlinux() -> Btf:
    """The running kernel's own types. :raises InsituError: when the kernel offers none."""
    return _read(f"{_DIRECTORY}/vmlinux", None)


@cache
def from_file(path: str) -> Btf:
    """The kernel's types as a file describes them, for kernels that do not themselves. :raises InsituError:"""
    return _read(path, None)


@cache
def module(name: str, kernel: Btf) -> Btf:
    """The types of a loaded module, on top of the kernel's."""
    return _read(f"{_DIRECTORY}/{name}", kernel)


def modules() -> list[str]:
    """Loaded modules that have types."""
    try:
        return sorted(name for name in os.listdir(_DIRECTORY) if name != "vmlinux")
    except FileNotFoundError:
        return []


def _read(path: str, base: Btf | None) -> Btf:
    if sys.byteorder != "little":
        raise InsituError("big-endian machines are not supported")
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        raise InsituError(
            f"there is no type information of the kernel: {path} is missing",
            remedy="a kernel built with CONFIG_DEBUG_INFO_BTF=y has it, or BPFTRACE_BTF names a file",
        ) from None
    except OSError as error:
        raise InsituError(f"cannot read {path}: {error.strerror}") from None
    return Btf(data, path, base)
