"""Addresses of variables and functions of a file by name, and variables by address."""

import re
from typing import Final

import numpy as np

from insitu.symbols.debug_files import embedded_symbols, find_debug_file
from insitu.symbols.elf import Elf

__all__ = ["find_symbol", "variable_at"]

_STT_OBJECT: Final = 1


def find_symbol(elf: Elf, name: str) -> tuple[int, int] | None:
    """Virtual address and size in bytes of the symbol ``name``, also from the debug file of ``elf``."""
    wanted = name.encode("utf-8", "surrogateescape")
    if not wanted:
        return None
    found = _in_tables(elf, wanted)
    if found is None:
        debug = find_debug_file(elf, elf.path, elf.root)
        found = _in_tables(debug, wanted) if debug else None
    if found is None:
        inside = embedded_symbols(elf)
        found = _in_tables(inside, wanted) if inside else None
    return found


def _in_tables(elf: Elf, name: bytes) -> tuple[int, int] | None:
    for section in (".symtab", ".dynsym"):
        table = elf.symbols(section)
        if table is None:
            continue
        # Names share their ends: any occurrence of the name before a zero may be one.
        places = [match.start() for match in re.finditer(re.escape(name) + b"\0", table.strings)]
        rows = np.flatnonzero(np.isin(table.entries["name"], places) & (table.entries["shndx"] != 0))
        if len(rows):
            row = table.entries[int(rows[0])]
            return int(row["value"]), int(row["size"])
    return None


def variable_at(elf: Elf, address: int) -> tuple[str, int] | None:
    """The variable that holds a virtual address of ``elf``, and how far into it; None if no symbol covers it."""
    for source in (elf, find_debug_file(elf, elf.path, elf.root)):
        for section in (".symtab", ".dynsym"):
            table = source.symbols(section) if source is not None else None
            if table is None:
                continue
            entries = table.entries
            covers = (entries["value"] <= address) & (address - entries["value"] < entries["size"])
            rows = np.flatnonzero(covers & (entries["info"] & 0xF == _STT_OBJECT) & (entries["shndx"] != 0))
            if len(rows):
                row = entries[int(rows[0])]
                return table.name(int(row["name"])).decode(errors="replace"), address - int(row["value"])
    return None
