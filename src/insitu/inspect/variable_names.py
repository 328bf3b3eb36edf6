"""Names of a process's variables, by address."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.data_symbols import variable_at
from insitu.symbols.demangle import demangle
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer

__all__ = ["VariableNames"]


class VariableNames:
    """The variables of a process's files, by address."""

    def __init__(self, pid: int, areas: Sequence[procfs.Area], *, live: bool = True) -> None:
        """``areas`` are all of the process; ``live`` False: it is not running on this machine."""
        self._areas = areas
        self._pid = pid
        self._symbolizer = Symbolizer(live=live)

    def name(self, address: int) -> str:
        """The variable at an address, with how far into it; "" if there is none, as for a lock on the heap."""
        symbol, offset = self.place(address)
        name = demangle(symbol.encode())
        return f"{name}+{offset:#x}" if offset else name

    def place(self, address: int) -> tuple[str, int]:
        """The variable at an address, as its symbol names it, and how far into it; "" if there is none."""
        for module, bias in self._modules(address):
            elf = self._symbolizer.open_module(module)
            try:
                found = variable_at(elf, address - bias(elf)) if elf is not None else None
            except (OSError, InsituError):
                found = None
            if found is not None:
                return found
        return "", 0

    def file(self, address: int) -> str:
        """The name of the file whose data an address is in; "" if it is in none."""
        return next((module.path.rpartition("/")[2] for module, _ in self._modules(address)), "")

    def _modules(self, address: int) -> Iterator[tuple[Module, _Bias]]:
        """The file whose data an address is in, also where the memory that follows the file's pages has no name."""
        first: dict[bytes, procfs.Area] = {}
        last: procfs.Area | None = None
        for area in self._areas:
            if area.inode:
                begin = first.setdefault(area.path, area)
                last = area
                if area.start <= address < area.end:
                    yield self._module(begin), _Bias(begin)
                    return
            elif area.start <= address < area.end and last is not None and last.end == area.start:
                yield self._module(first[last.path]), _Bias(first[last.path])
                return

    def _module(self, area: procfs.Area) -> Module:
        path = area.path.decode("utf-8", "surrogateescape")
        return Module(path, pid=self._pid, inode=(area.major, area.minor, area.inode))


class _Bias(NamedTuple):
    """How far a file's addresses are moved in the process, from where its first page is mapped."""

    area: procfs.Area

    def __call__(self, elf: Elf) -> int:
        import numpy as np

        return self.area.start - int(elf.vaddrs_of(np.array([self.area.offset], np.uint64))[0])
