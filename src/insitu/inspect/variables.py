"""Which variable of a program or library an address of a process is in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.symbols.data_symbols import variable_at
from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module
from insitu.symbols.symbolizer import Symbolizer

__all__ = ["Variables"]


class Variables:
    """The variables of a process's files, by address."""

    def __init__(self, pid: int) -> None:
        """Raises OSError if there is no such process."""
        self._areas = list(procfs.areas(pid))
        self._pid = pid
        self._symbolizer = Symbolizer()

    def name(self, address: int) -> str:
        """The variable at an address, with how far into it; "" if there is none, as for a lock on the heap."""
        for module, bias in self._modules(address):
            elf = self._symbolizer.open_module(module)
            try:
                found = variable_at(elf, address - bias(elf)) if elf is not None else None
            except (OSError, InsituError):
                found = None
            if found is not None:
                return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]
        return ""

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
        return self.area.start - int(elf.vaddrs_of(np.array([self.area.offset], np.uint64))[0])
