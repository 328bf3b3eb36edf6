"""What must be installed for a kernel to be compiled."""

import shutil
import subprocess
from typing import Final

from insitu.errors import InsituError

__all__ = ["check_build_tools", "has_pahole"]

_PROGRAMS: Final = {
    "gcc": "gcc",
    "make": "make",
    "ld": "binutils",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "perl": "perl",
    "tar": "tar",
    "xz": "xz-utils",
}
"""Program -> the Debian package that has it (Documentation/process/changes.rst)."""

_HEADERS: Final = {"stdio.h": "libc6-dev", "gelf.h": "libelf-dev", "zlib.h": "zlib1g-dev"}
"""Header -> its Debian package; objtool and resolve_btfids, which the kernel builds for itself, include them."""


def check_build_tools() -> None:
    """Raise InsituError naming everything that is missing, and the command that installs it."""
    missing = {program: package for program, package in _PROGRAMS.items() if not shutil.which(program)}
    missing |= {header: package for header, package in _HEADERS.items() if not _has_header(header)}
    if missing:
        raise InsituError(
            f"compiling a kernel needs {', '.join(missing)}",
            remedy=f"apt-get install {' '.join(missing.values())}, as root",
        )


def has_pahole() -> bool:
    """Whether the program that makes BTF of debug information is here."""
    return shutil.which("pahole") is not None


def _has_header(name: str) -> bool:
    if not shutil.which("gcc"):
        return False
    words = ["gcc", "-E", "-x", "c", "-"]
    text = f"#include <{name}>\n".encode()
    return subprocess.run(words, input=text, capture_output=True, check=False).returncode == 0
