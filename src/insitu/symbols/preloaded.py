"""Libraries that the dynamic loader is to load into a command: whether it can, and by which environment."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.symbols.elf import Elf

__all__ = ["SAVED_AT", "interpreted_by", "library", "preloading", "refuse_unsuitable"]

SAVED_AT: Final = (1, 6, 7, 8, 13, 14, 15, 16)
"""Where struct registers of debug/allocator/call_origin.h has its place among those of ptrace.SAMPLED_MASK."""
_PT_INTERP: Final = 3
_MOST_INTERPRETERS: Final = 4  # as BINPRM_MAX_RECURSION of the kernel
_MOST_LINE: Final = 256
_X86_64: Final = 62  # EM_X86_64
_ALLOCATORS: Final = {
    b"je_malloc_conf": "jemalloc",
    b"mallctl": "jemalloc",
    b"tc_malloc": "tcmalloc",
    b"mi_malloc": "mimalloc",
}


def library(name: str) -> Path:
    """The file of a preloaded library: `make setup` builds it from debug/allocator."""
    return Path(__file__).parents[1] / "debug" / f"libinsitu-{name}.so"


def preloading(preloaded: Path) -> dict[str, str]:
    """The variable that has the loader load a library before others. Raises InsituError."""
    given = os.environ.get("LD_PRELOAD")
    if " " in str(preloaded) or ":" in str(preloaded):
        raise InsituError(f"{preloaded}: LD_PRELOAD cannot name a file with a space or colon in its path")
    return {"LD_PRELOAD": f"{preloaded}:{given}" if given else str(preloaded)}


def refuse_unsuitable(program: str, preloaded: Path, what: str) -> None:
    """Raises InsituError if a library, which is a ``what``, cannot be preloaded into the program of this file."""
    if not preloaded.exists():
        raise InsituError(
            f"the {what} is not built",
            remedy="make setup builds it on x86-64 with a C compiler: apt-get install build-essential",
        )
    path = interpreted_by(program)
    mode = Path(path).stat().st_mode
    if mode & (stat.S_ISUID | stat.S_ISGID) and os.geteuid():
        raise InsituError(
            f"{path} is set-uid or set-gid: the loader ignores LD_PRELOAD",
            remedy="run a copy without that bit, or as root",
        )
    with contextlib.suppress(OSError):  # none, or a file system without
        if os.geteuid() and os.getxattr(path, "security.capability"):
            raise InsituError(
                f"{path} has capabilities (setcap): the loader ignores LD_PRELOAD", remedy="run a copy, or as root"
            )
    elf = Elf(path)
    if elf.machine != _X86_64 or elf.layout.word_bytes != 8:
        raise InsituError(f"{path} is not a 64-bit x86-64 program: the {what} is one")
    loaders = [each for each in elf.segments if each["type"] == _PT_INTERP]
    if not loaders:
        raise InsituError(f"{path} is statically linked: nothing can be preloaded", remedy="link it dynamically")
    loader = elf.read(int(loaders[0]["offset"]), min(int(loaders[0]["filesz"]), _MOST_LINE)).rstrip(b"\0")
    if b"ld-musl" in loader:
        raise InsituError(f"{path} is linked with musl: the {what} needs glibc")
    _refuse_own_allocator(path, elf)


def interpreted_by(program: str) -> str:
    """The ELF program that runs: that of the first line of a script, and so on."""
    for _ in range(_MOST_INTERPRETERS):
        with open(program, "rb") as file:  # noqa: PTH123
            line = file.read(_MOST_LINE).partition(b"\n")[0]
        if not line.startswith(b"#!"):
            return program
        words = line[2:].split()
        if not words:
            return program
        program = os.fsdecode(words[0])
    return program


def _refuse_own_allocator(path: str, elf: Elf) -> None:
    for section in (".dynsym", ".symtab"):
        table = elf.symbols(section)
        if table is None:
            continue
        defined = table.entries[table.entries["shndx"] != 0]
        names = set(table.names([int(each) for each in defined["name"]]))
        if any(name.startswith(b"__asan_init") for name in (*names, *table.names(table.entries["name"].tolist()))):
            raise InsituError(
                f"{path} is built with AddressSanitizer, which has an allocator of its own",
                remedy="build it without -fsanitize=address",
            )
        if b"malloc" in names:
            which = next((known for name, known in _ALLOCATORS.items() if name in names), "its own")
            raise InsituError(
                f"{path} defines malloc itself (allocator: {which}): preloaded functions would not be called",
                remedy="build it with the C library's allocator",
            )
