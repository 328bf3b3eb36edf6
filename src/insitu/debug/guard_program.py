"""The environment that makes the dynamic loader load the guard allocator into a program."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.elf import Elf
from insitu.symbols.function_addresses import FunctionAddresses
from insitu.symbols.preloaded import interpreted_by, library, preloading

__all__ = ["LIBRARY", "WHAT", "Settings", "environment"]

LIBRARY: Final = library("guard")

WHAT: Final = "guard allocator"

_LEAST_MEMORY: Final = 1 << 26


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


def environment(settings: Settings, directory: Path, sites: Sequence[str], program: str) -> dict[str, str]:
    """The variables to add. ``sites`` are FUNCTION, of the program, or FILE:FUNCTION. Raises InsituError."""
    if not settings.memory:
        settings = settings._replace(memory=max(procfs.available_memory() // 2, _LEAST_MEMORY))
    made = {
        **preloading(LIBRARY),
        "INSITU_GUARD_DIRECTORY": str(directory),
        "INSITU_GUARD_OPTIONS": ",".join(f"{name}={value}" for name, value in settings._asdict().items()),
    }
    if sites:
        made["INSITU_GUARD_SITES"] = "".join(line for site in sites for line in _site(site, program))
    return made


def _site(site: str, program: str) -> list[str]:
    """The lines FILE:START-END of a function, in hexadecimal; C++ names may be given without their parameters."""
    file, colon, function = site.rpartition(":")
    if not colon or file.endswith(":"):  # a::b
        file, function = interpreted_by(program), site
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
