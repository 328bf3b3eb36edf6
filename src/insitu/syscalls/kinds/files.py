"""Files: stat and its like."""

from __future__ import annotations

import stat as mode_bits
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.capture import Bytes

__all__ = ["KINDS", "mode_text"]

_TYPES: Final = {
    mode_bits.S_IFREG: "S_IFREG",
    mode_bits.S_IFDIR: "S_IFDIR",
    mode_bits.S_IFLNK: "S_IFLNK",
    mode_bits.S_IFCHR: "S_IFCHR",
    mode_bits.S_IFBLK: "S_IFBLK",
    mode_bits.S_IFIFO: "S_IFIFO",
    mode_bits.S_IFSOCK: "S_IFSOCK",
}


def mode_text(mode: int) -> str:
    """Returns ``S_IFREG|0644``."""
    kind = _TYPES.get(mode & 0o170000)
    words = [kind] if kind else []
    for bit, word in ((0o4000, "S_ISUID"), (0o2000, "S_ISGID"), (0o1000, "S_ISVTX")):
        if mode & bit:
            words.append(word)
    return "|".join([*words, f"0{mode & 0o777 if kind else mode & ~0o7000:03o}"])


def _stat(argument: Argument) -> str | None:
    """struct stat of x86-64 (arch/x86/include/uapi/asm/stat.h)."""
    data = argument.read(144)
    if data is None:
        return None
    mode = int.from_bytes(data[24:28], "little")
    size = int.from_bytes(data[48:56], "little", signed=True)
    rdev = int.from_bytes(data[40:48], "little")
    what = f"st_size={size}"
    if mode & 0o170000 in (mode_bits.S_IFCHR, mode_bits.S_IFBLK):
        major = (rdev >> 8 & 0xFFF) | (rdev >> 32 & ~0xFFF)
        minor = (rdev & 0xFF) | (rdev >> 12 & ~0xFF)
        what = f"st_rdev=makedev({major:#x}, {minor:#x})"
    return f"{{st_mode={mode_text(mode)}, {what}, ...}}"


KINDS: Kinds = {"stat": Kind(_stat, Bytes(144))}
