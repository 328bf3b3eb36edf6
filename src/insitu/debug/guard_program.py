"""Whether a program can be guarded, and the environment that makes the dynamic loader load the allocator into it."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.elf import Elf
from insitu.symbols.function_addresses import FunctionAddresses

__all__ = ["LIBRARY", "Settings", "environment", "refuse_unsuitable"]

LIBRARY: Final = Path(__file__).with_name("libinsitu-guard.so")
"""Built by `make setup` from debug/allocator."""

_PT_INTERP: Final = 3
_MOST_INTERPRETERS: Final = 4  # as BINPRM_MAX_RECURSION of the kernel
_MOST_LINE: Final = 256
_LEAST_MEMORY: Final = 1 << 26
_X86_64: Final = 62  # EM_X86_64
_ALLOCATORS: Final = {
    b"je_malloc_conf": "jemalloc",
    b"mallctl": "jemalloc",
    b"tc_malloc": "tcmalloc",
    b"mi_malloc": "mimalloc",
}


class Settings(NamedTuple):
    """How to guard: struct settings of debug/allocator/guard.h, by the same names."""

    sample: int = 1
    slots: int = 0
    memory: int = 0
    """0: half of what is available when the command starts."""
    quarantine: int = 16384
    min: int = 0
    max: int = (1 << 64) - 1
    stack: int = 2048
    before: int = 0
    exact: int = 0
    mprotect: int = 0


def refuse_unsuitable(program: str) -> None:
    """Raises InsituError if the allocator cannot be preloaded into the program that this file starts."""
    if not LIBRARY.exists():
        raise InsituError(
            "the guard allocator is not built",
            remedy="make setup builds it on x86-64 with a C compiler: apt-get install build-essential",
        )
    path = _interpreted_by(program)
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
        raise InsituError(f"{path} is not a 64-bit x86-64 program: the guard allocator is one")
    loaders = [each for each in elf.segments if each["type"] == _PT_INTERP]
    if not loaders:
        raise InsituError(f"{path} is statically linked: no allocator can be preloaded", remedy="link it dynamically")
    loader = elf.read(int(loaders[0]["offset"]), min(int(loaders[0]["filesz"]), _MOST_LINE)).rstrip(b"\0")
    if b"ld-musl" in loader:
        raise InsituError(f"{path} is linked with musl: the guard allocator needs glibc")
    _refuse_own_allocator(path, elf)


def _interpreted_by(program: str) -> str:
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
                f"{path} defines malloc itself (allocator: {which}): a preloaded one would not be used",
                remedy="build it with the C library's allocator",
            )


def environment(settings: Settings, directory: Path, sites: Sequence[str], program: str) -> dict[str, str]:
    """The variables to add. ``sites`` are FUNCTION, of the program, or FILE:FUNCTION. Raises InsituError."""
    given = os.environ.get("LD_PRELOAD")
    if not settings.memory:
        settings = settings._replace(memory=max(procfs.available_memory() // 2, _LEAST_MEMORY))
    made = {
        "LD_PRELOAD": f"{LIBRARY}:{given}" if given else str(LIBRARY),
        "INSITU_GUARD_DIRECTORY": str(directory),
        "INSITU_GUARD_OPTIONS": ",".join(f"{name}={value}" for name, value in settings._asdict().items()),
    }
    if " " in str(LIBRARY) or ":" in str(LIBRARY):
        raise InsituError(f"{LIBRARY}: LD_PRELOAD cannot name a file with a space or colon in its path")
    if sites:
        made["INSITU_GUARD_SITES"] = "".join(line for site in sites for line in _site(site, program))
    return made


def _site(site: str, program: str) -> list[str]:
    """The lines FILE:START-END of a function, in hexadecimal; C++ names may be given without their parameters."""
    file, colon, function = site.rpartition(":")
    if not colon or file.endswith(":"):  # a::b
        file, function = _interpreted_by(program), site
    path = os.path.realpath(file)
    found = FunctionAddresses(Elf(path))
    ranges = {found.sized[function]} if function in found.sized else set()
    if not ranges:
        sizes = dict(found.sized.values())
        for name, with_parameters, start in found.readable(function.rpartition(":")[2].partition("(")[0]):
            if function in (name, with_parameters):
                ranges.add((start, sizes[start]))
    ranges = {(start, size) for start, size in ranges if size}
    if not ranges:
        raise InsituError(
            f"--site {site}: {path} has no function of this name", remedy="of a library: --site FILE:FUNCTION"
        )
    return [f"{path}:{start:x}-{start + size:x}\n" for start, size in sorted(ranges)]
