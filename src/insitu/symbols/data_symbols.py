"""Addresses of variables and functions of a file by name, and variables by address."""

import re
from collections import Counter
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.debug_files import embedded_symbols, find_debug_file
from insitu.symbols.elf import Elf

__all__ = ["Variables", "find_symbol", "variable_at"]

_STT_OBJECT: Final = 1


class Variables:
    """The variables in a file's own symbol table."""

    def __init__(self, elf: Elf) -> None:
        self._table = elf.symbols(".symtab")

    @cached_property
    def _objects(self) -> NDArray[np.void]:
        if self._table is None:
            return np.zeros(0, [("name", "u4"), ("value", "u8"), ("size", "u8")])
        entries = self._table.entries
        found = entries[(entries["info"] & 0xF == _STT_OBJECT) & (entries["shndx"] != 0) & (entries["size"] > 0)]
        ordered: NDArray[np.void] = found[np.argsort(found["value"], kind="stable")]
        return ordered

    @cached_property
    def _names(self) -> Counter[bytes]:
        return (
            Counter(self._table.names(self._table.entries["name"].tolist())) if self._table is not None else Counter()
        )

    def around(self, address: int) -> tuple[str, int] | None:
        """Name and beginning of the variable that an address is in; None if it is in none, or another symbol has
        its name."""
        index = int(np.searchsorted(self._objects["value"], np.uint64(address), side="right")) - 1
        if index < 0 or self._table is None:
            return None
        start, size = (int(self._objects[index][field]) for field in ("value", "size"))
        name = self._table.name(int(self._objects[index]["name"]))
        if not start <= address < start + size or self._names[name] != 1:
            return None
        return name.decode(errors="replace"), start


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
            covers &= entries["value"] != 0  # sections that are not loaded, such as .gnu.warning
            rows = np.flatnonzero(covers & (entries["info"] & 0xF == _STT_OBJECT) & (entries["shndx"] != 0))
            if len(rows):
                row = entries[int(rows[0])]
                return table.name(int(row["name"])).decode(errors="replace"), address - int(row["value"])
    return None
