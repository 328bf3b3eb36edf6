"""The running kernel's file with debug information: where it is, and how far from it the kernel runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.symbols.data_symbols import find_symbol
from insitu.symbols.debug_files import more_places
from insitu.symbols.elf import Elf
from insitu.symbols.kallsyms import remedy, symbol_address

__all__ = ["FIRST", "find_vmlinux", "slide"]

FIRST: Final = "_text"
"""The symbol where the kernel begins."""

_NOTES: Final = Path("/sys/kernel/notes")
_PLACES: Final = (
    "/usr/lib/debug/boot/vmlinux-{0}",
    "/usr/lib/debug/lib/modules/{0}/vmlinux",
    "/lib/modules/{0}/build/vmlinux",
)


def find_vmlinux(path: str | None = None) -> str:
    """The vmlinux at ``path``, else in the directories of ``also_look_in`` or where packages install it.

    Raises InsituError where there is none, and for that of another kernel.
    """
    release = os.uname().release
    own = (str(each) for name in (f"vmlinux-{release}", "vmlinux") for each in more_places(name))
    places = [path] if path else [*own, *(each.format(release) for each in _PLACES)]
    found = next((each for each in places if Path(each).exists()), None)
    if found is None:
        raise InsituError(
            "the kernel's debug information was not found",
            remedy="install the kernel's debug package, or name its vmlinux (events -x FILE, trace --debuginfo DIR)",
        )
    try:
        build_id, notes = Elf(found).build_id, _NOTES.read_bytes()
    except OSError as error:
        raise InsituError(f"cannot open {error.filename or found}: {error.strerror}") from None
    if not build_id or bytes.fromhex(build_id) not in notes:
        raise InsituError(f"{found} is not of the running kernel {release} (build id)")
    return found


def slide(vmlinux: Elf) -> int:
    """How far above its addresses in the file the running kernel is. Raises InsituError where it does not say."""
    there, here = find_symbol(vmlinux, FIRST), symbol_address(FIRST)
    if there is None:
        raise InsituError(f"{vmlinux.path} has no symbols", remedy="a vmlinux that is not stripped has them")
    if not here:
        raise InsituError("/proc/kallsyms shows no addresses to this user", remedy=remedy())
    return here - there[0]
