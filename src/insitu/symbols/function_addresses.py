"""Where functions begin in a binary, by name: raw, or as C++ and Rust programmers write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.debug_files import embedded_symbols, find_debug_file
from insitu.symbols.demangle import demangle, demangle_with_parameters
from insitu.symbols.elf import Elf, SymbolTable

__all__ = ["FunctionAddresses"]

_STT_FUNC, _STT_GNU_IFUNC = 2, 10


class FunctionAddresses:
    """The functions that a binary defines, its separate debug file's included. Addresses are the binary's own."""

    def __init__(self, elf: Elf) -> None:
        self.elf = elf

    @cached_property
    def _tables(self) -> list[SymbolTable]:
        elves = [self.elf]
        if self.elf.section(".symtab") is None:
            debug_file = find_debug_file(self.elf, self.elf.path, self.elf.root)
            embedded = embedded_symbols(self.elf)
            elves += [debug_file] if debug_file else [embedded] if embedded else []
        found = []
        for elf in elves:
            for section in (".symtab", ".dynsym"):
                table = elf.symbols(section)
                if table is not None:
                    entries = table.entries
                    kind = entries["info"] & 0xF
                    defined = ((kind == _STT_FUNC) | (kind == _STT_GNU_IFUNC)) & (entries["shndx"] != 0)
                    found.append(SymbolTable(entries[defined], table.strings))
        return found

    def address(self, name: str) -> int | None:
        """The address of the function of exactly that raw name."""
        found = (table.entries["value"][rows] for table in self._tables if len(rows := _rows(table, name)))
        return next((int(values[0]) for values in found), None)

    def defined(self, name: str) -> int:
        """How many functions have exactly that raw name."""
        return max((len(_rows(table, name)) for table in self._tables), default=0)

    def around(self, address: int) -> tuple[str, int] | None:
        """Name and beginning of the function that an address is in; None for an address in no function."""
        for table in self._tables:
            start, size = table.entries["value"], np.maximum(table.entries["size"], np.uint64(1))
            hit = np.flatnonzero((start <= np.uint64(address)) & (np.uint64(address) - start < size))
            if len(hit):
                inner = hit[int(np.argmax(start[hit]))]
                (name,) = table.names([int(table.entries["name"][inner])])
                return name.decode(errors="replace").partition("@")[0], int(start[inner])
        return None

    @cached_property
    def by_name(self) -> dict[str, int]:
        """Every function's raw name and address; versions ("@@GLIBC_2.34") are left out."""
        return {name: address for name, (address, _) in self.sized.items()}

    @cached_property
    def sized(self) -> dict[str, tuple[int, int]]:
        """The same with the function's size in bytes, 0 where that is unknown."""
        found: dict[str, tuple[int, int]] = {}
        for name, address, size in self.all():
            found.setdefault(name, (address, size))
        return found

    def all(self) -> Iterator[tuple[str, int, int]]:
        """Raw name, address and size of every function: static ones of several files may share a name."""
        for table in self._tables:
            names, values, sizes = (table.entries[field].tolist() for field in ("name", "value", "size"))
            for raw, address, size in zip(table.names(names), values, sizes, strict=True):
                if raw:
                    yield raw.decode(errors="replace").partition("@")[0], address, size

    def readable(self, containing: str = "") -> Iterator[tuple[str, str, int]]:
        """Mangled functions: name without parameters, name with them, and address.

        ``containing`` is an identifier that the name must have; it saves demangling most of them.
        """
        part = f"{len(containing)}{containing}" if containing else ""
        for raw, address in self.by_name.items():
            if raw.startswith(("_Z", "_R")) and part in raw:
                mangled = raw.encode()
                yield demangle(mangled), demangle_with_parameters(mangled), address


def _rows(table: SymbolTable, name: str) -> NDArray[np.intp]:
    """The entries of that name."""
    # Names may share their tails, so a name is wherever its bytes are followed by a zero.
    places = [match.start() for match in re.finditer(re.escape(name.encode() + b"\0"), table.strings)]
    return np.flatnonzero(np.isin(table.entries["name"], places))
