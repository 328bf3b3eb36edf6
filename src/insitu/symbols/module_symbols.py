"""The frames at offsets of one mapped file: its functions, and lines and inlined functions where it has DWARF."""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.debug_files import embedded_symbols, find_debug_file
from insitu.symbols.demangle import demangle
from insitu.symbols.elf import NO_ADDRESS, Elf
from insitu.symbols.frame import Frame
from insitu.symbols.functions import FunctionTable
from insitu.symbols.line_table import LineTable
from insitu.symbols.module_files import ModuleFile
from insitu.symbols.module_names import DELETED
from insitu.symbols.symcache import Location

__all__ = ["ModuleSymbols", "unknown_frames"]

U64 = NDArray[np.uint64]


class ModuleSymbols:
    """Symbols of one file, called ``name`` in frames. Tables are read when first needed."""

    def __init__(self, file: ModuleFile, name: str, *, inlines: bool, demangles: bool = True) -> None:
        self._file = file
        self._demangle = demangle if demangles else _as_it_is
        self._name = name
        self._seen_as = Path(name.removesuffix(DELETED))
        self._inlines = inlines

    @property
    def notes(self) -> list[str]:
        """What the frames lack, each a line to show to the user."""
        path = self._seen_as
        elves = {id(elf): elf for elf in (self._file.elf, *self.__dict__.get("_debug", ())) if elf is not None}
        refused = {what: why for elf in elves.values() for what, why in elf.refused.items()}
        found = []
        if refused:
            parts = ", ".join(f"{what} ({why})" for what, why in refused.items())
            found.append(f"{path}: not read: {parts}")
        lines = self.__dict__.get("_lines")  # not read where nothing was looked up
        if lines is not None and lines.missing_units:
            found.append(
                f"{path}: no lines for {lines.missing_units} compilation units: no .dwo files and no {path.name}.dwp"
            )
        return found

    @property
    def elf(self) -> Elf:
        """The mapped file itself."""
        return self._file.elf

    @cached_property
    def _debug(self) -> tuple[Elf, Elf | None]:
        """The file with the fuller symbol table, and the one with DWARF."""
        file = self._file
        if file.elf.section(".symtab") is not None:
            if LineTable.present_in(file.elf):
                return file.elf, file.elf
            return file.elf, self._separate()
        found = self._separate()
        return (file.elf if found is None else found), found

    def _separate(self) -> Elf | None:
        return find_debug_file(self._file.elf, self._seen_as, self._file.root)

    @cached_property
    def _functions(self) -> FunctionTable:
        symbols = self._debug[0]
        # Embedded symbols leave out those that .dynsym has.
        embedded = embedded_symbols(symbols) if symbols.section(".symtab") is None else None
        more = () if embedded is None else (embedded,)
        return FunctionTable(symbols, self._file.elf, self._demangle, more=more)

    @cached_property
    def _lines(self) -> LineTable | None:
        debug = self._debug[1]
        if debug is None:
            return None
        file = self._file
        return LineTable.of(
            debug, beside=[(file.elf.path, file.elf.root), (self._seen_as, file.root)], root=file.root
        )

    def function(self, file_offset: int) -> tuple[str, int] | None:
        """The function at an offset of the mapped file, and how far into it that is; None where there is none."""
        vaddr = self._file.vaddrs_of(np.array([file_offset], np.uint64))
        found = int(self._functions.find(vaddr)[0])
        if found < 0 or vaddr[0] == np.uint64(NO_ADDRESS):
            return None
        return self._functions.name(found), int(vaddr[0]) - self._functions.start(found)

    def frames(self, file_offsets: U64) -> list[tuple[Frame, ...]]:
        """The frames at each offset of the mapped file, innermost first; at least one each."""
        vaddrs = self._file.vaddrs_of(file_offsets)
        functions = self._functions.find(vaddrs)
        functions[vaddrs == np.uint64(NO_ADDRESS)] = -1
        if self._lines is None:
            return self._without_lines(file_offsets, functions)
        return self._with_lines(file_offsets, self._lines.find(vaddrs), functions)

    def _without_lines(self, file_offsets: U64, functions: NDArray[np.int64]) -> list[tuple[Frame, ...]]:
        of = {i: (Frame(self._functions.name(i), self._name),) for i in set(functions.tolist()) if i >= 0}
        return [
            of[function] if function >= 0 else _unknown(self._name, offset)
            for offset, function in zip(file_offsets.tolist(), functions.tolist(), strict=True)
        ]

    def _with_lines(
        self, file_offsets: U64, chains: list[tuple[Location, ...]], functions: NDArray[np.int64]
    ) -> list[tuple[Frame, ...]]:
        made: dict[tuple[int, int], tuple[Frame, ...]] = {}  # by function and, as ``chains`` shares them, chain
        frames = []
        for offset, chain, function in zip(file_offsets.tolist(), chains, functions.tolist(), strict=True):
            # Without a file the source is a guess from the symbol before, which does not reach as far as here.
            if function < 0 and not (chain and chain[-1].file):
                frames.append(_unknown(self._name, offset))
                continue
            key = (function, id(chain))
            if key not in made:
                made[key] = self._frames(function, chain)
            frames.append(made[key])
        return frames

    def _frames(self, function: int, chain: tuple[Location, ...]) -> tuple[Frame, ...]:
        outer = chain[-1] if chain else Location(b"", "", 0)
        # The symbol table decides what a function with an address of its own is called, as in perf.
        shown = self._functions.name(function) if function >= 0 else demangle(outer.function)
        real = Frame(shown, self._name, outer.file, outer.line)
        if not self._inlines:
            return (real,)
        inner = [Frame(demangle(at.function), self._name, at.file, at.line, inlined=True) for at in chain[:-1]]
        return (*inner, real)


def _as_it_is(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def unknown_frames(name: str, file_offsets: U64) -> list[tuple[Frame, ...]]:
    """Frames for offsets of a file whose symbols cannot be had: "libfoo.so+0x1234" (the offset in the file)."""
    return [_unknown(name, offset) for offset in file_offsets.tolist()]


def _unknown(name: str, offset: int) -> tuple[Frame, ...]:
    base = name.removesuffix(DELETED).rpartition("/")[2] or name
    return (Frame(f"{base}+{offset:#x}", name, symbolized=False),)
