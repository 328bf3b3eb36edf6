"""Addresses to functions: one symbolizer for recordings, which ask for arrays, and for scripts, which ask singly.

Both fronts share the files, JIT compilers' maps and kernel symbols that were read.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from insitu.errors import InsituError
from insitu.symbols import debuginfod
from insitu.symbols.frame import JIT, KERNEL, PYTHON, USER, Frame
from insitu.symbols.jit_map import JitMap, python_function, read_jit_map
from insitu.symbols.kallsyms import ALL, CODE, Kallsyms, read_kallsyms
from insitu.symbols.kallsyms import remedy as kallsyms_remedy
from insitu.symbols.module_files import Missing, ModuleFile, open_module
from insitu.symbols.module_names import VDSO, is_anonymous, is_of_one_process
from insitu.symbols.module_symbols import ModuleSymbols, unknown_frames
from insitu.symbols.read_budget import ReadBudget
from insitu.symbols.vdso import read_vdso

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from insitu.symbols.elf import Elf
    from insitu.symbols.process_map import Module

    U64 = NDArray[np.uint64]

__all__ = ["JIT_MODULE", "Symbolizer"]

JIT_MODULE = "[jit]"
"""The module of functions that a JIT compiler made; one for all processes, so that equal names add up."""


_MAX_NOTES: Final = 20
_SHOWN_FILES: Final = 4
_SHOWN_DIGITS: Final = 16  # of a build id


class Symbolizer:
    """Names the addresses of one recording or run. Files and maps are read on first use and kept.

    Addresses and offsets are looked up as they are given: those of return addresses must have been moved back
    into the call already.
    """

    def __init__(
        self,
        *,
        kallsyms: bytes | None = None,
        live: bool = True,
        inlines: bool = True,
        demangles: bool = True,
        symfs: Path | None = None,
    ) -> None:
        """``kallsyms`` is the text of the recorded kernel's /proc/kallsyms; without it that of this kernel is read.

        ``live`` False is for recordings made elsewhere: neither this machine's processes nor its kernel are asked,
        and its files only by path and build id. ``inlines`` False leaves inlined frames out, ``demangles`` False
        leaves names as the symbol tables have them. ``symfs`` is a directory with the files of the machine that the
        recording is of.
        """
        self._kallsyms_text = kallsyms
        self._live = live
        self._inlines = inlines
        self._demangles = demangles
        self._modules: dict[tuple[str, str, int, bool], ModuleSymbols | None] = {}
        self._by_file: dict[tuple[str, str], ModuleSymbols] = {}
        self._jit_maps: dict[int, JitMap | None] = {}
        self._kallsyms: dict[bytes, Kallsyms] = {}
        self._notes: list[str] = []
        self._missing: dict[Module, Missing] = {}
        self._symfs = symfs
        self._budget = ReadBudget()

    @property
    def notes(self) -> list[str]:
        """What could not be symbolized so far and why, with its remedy: lines to show to the user."""
        notes = [
            *self._notes,
            *_missing_notes(self._missing),
            *(note for symbols in self._by_file.values() for note in symbols.notes),
        ]
        if len(notes) > _MAX_NOTES:
            notes[_MAX_NOTES - 1 :] = [f"{len(notes) - _MAX_NOTES + 1} more files have no symbols or no lines"]
        return notes

    # For recordings: many at once

    def user(self, module: Module, file_offsets: U64, addresses: U64 | None = None) -> list[tuple[Frame, ...]]:
        """The frames at each offset of a mapped file, innermost first, at least one each; best on unique offsets.

        ``addresses`` are those at which the process had the offsets mapped: what JIT compilers' maps go by. In
        mappings that hold no file ("//anon", "[heap]") the offsets are taken as addresses without them.
        """
        where = file_offsets if addresses is None else addresses
        if is_anonymous(module.path):
            return self.anonymous(module.pid, where)
        symbols = self._symbols(module)
        if symbols is not None:
            return symbols.frames(file_offsets)
        unknown = unknown_frames(module.path, file_offsets)
        if addresses is None or not is_of_one_process(module.path):
            return unknown
        jitted = self.anonymous(module.pid, addresses)
        return [found if found[0].symbolized else bare for found, bare in zip(jitted, unknown, strict=True)]

    def anonymous(self, pid: int, addresses: U64) -> list[tuple[Frame, ...]]:
        """The frame at each address of memory that holds no file: what a JIT compiler's map says.

        Addresses that no map covers are shown in hexadecimal.
        """
        jit_map = self._jit_map(pid)
        if jit_map is None:
            return [(Frame(f"{address:#x}", kind=USER, symbolized=False),) for address in addresses.tolist()]
        found = jit_map.find(addresses)
        made = {name: (_jit_frame(name),) for name in set(found) if name is not None}
        return [
            made[name] if name is not None else (Frame(f"{address:#x}", kind=JIT, symbolized=False),)
            for name, address in zip(found, addresses.tolist(), strict=True)
        ]

    def kernel(self, addresses: U64) -> list[tuple[Frame, ...]]:
        """The frame at each address of the kernel; those without a symbol are shown in hexadecimal."""
        found = self._kernel_symbols().find(addresses)
        made = {entry: (Frame(*entry, kind=KERNEL),) for entry in set(found) if entry is not None}
        return [
            made[entry] if entry is not None else (Frame(f"{address:#x}", kind=KERNEL, symbolized=False),)
            for entry, address in zip(found, addresses.tolist(), strict=True)
        ]

    # For scripts that run: one at a time

    def function(self, module: Module, file_offset: int, address: int) -> tuple[str, int, str] | None:
        """Function, offset in it and module at an offset of a mapped file, which the process has at ``address``."""
        symbols = None if is_anonymous(module.path) else self._symbols(module)
        if symbols is not None:
            found = symbols.function(file_offset)
            return (*found, module.path) if found else None
        jit_map = self._jit_map(module.pid) if is_of_one_process(module.path) else None
        name = jit_map.function(address) if jit_map is not None else None
        return (name, 0, JIT_MODULE) if name is not None else None

    def source(self, module: Module, file_offset: int) -> tuple[Frame, ...]:
        """The frames at an offset of a mapped file that its DWARF has, innermost first; none without."""
        import numpy as np

        symbols = None if is_anonymous(module.path) else self._symbols(module)
        found = symbols.frames(np.array([file_offset], np.uint64))[0] if symbols is not None else ()
        return found if found and found[-1].file else ()

    def kernel_symbol(self, address: int) -> tuple[str, int] | None:
        """The symbol, of data too, at or before a kernel address, and the offset in it; None for others."""
        return self._kernel_symbols(ALL).symbol(address)

    def kernel_source(self, address: int) -> tuple[Frame, ...]:
        """As source(), of an address of the kernel itself, where its debug information is installed."""
        import numpy as np

        if self._kernel_file is None:
            return ()
        symbols, distance = self._kernel_file
        found = symbols.frames(symbols.elf.offsets_of(np.array([max(address - distance, 0)], np.uint64)))[0]
        return found if found[-1].file else ()

    @cached_property
    def _kernel_file(self) -> tuple[ModuleSymbols, int] | None:
        from insitu.symbols.elf import Elf
        from insitu.symbols.kernel_file import find_vmlinux, slide

        try:
            elf = Elf(path := find_vmlinux())
            distance = slide(elf)
        except (OSError, InsituError):
            return None
        file = ModuleFile(elf, Path("/"))
        return ModuleSymbols(file, path, inlines=self._inlines, demangles=self._demangles), distance

    # For both

    def python_trampolines(self, module: Module, addresses: U64) -> NDArray[np.bool_] | None:
        """Which addresses of memory that is not a file are in CPython's perf trampolines; None: none is."""
        jit_map = self._jit_map(module.pid) if is_of_one_process(module.path) else None
        return jit_map.are_python(addresses) if jit_map is not None else None

    def open_module(self, module: Module) -> Elf | None:
        """The file of a module, as an unwinder needs it, opened and kept; None if it cannot be had."""
        symbols = None if is_anonymous(module.path) else self._symbols(module)
        return symbols.elf if symbols is not None else None

    def _symbols(self, module: Module) -> ModuleSymbols | None:
        key = (module.path, module.build_id, module.pid, module.compat)
        if key not in self._modules:
            self._modules[key] = self._open(module)
        return self._modules[key]

    def _open(self, module: Module) -> ModuleSymbols | None:
        found: ModuleFile | Missing | None
        if module.path == VDSO:
            found = self._vdso(module)
        else:
            found = open_module(module, live=self._live, budget=self._budget, symfs=self._symfs)
        if isinstance(found, Missing) and module.path.startswith("/") and not is_of_one_process(module.path):
            self._missing[module] = found
        if not isinstance(found, ModuleFile):
            return None
        made = ModuleSymbols(found, module.path, inlines=self._inlines, demangles=self._demangles)
        # Processes share files: one with the same build id need not be read twice.
        return self._by_file.setdefault((module.path, found.elf.build_id or found.elf.identity), made)

    def _vdso(self, module: Module) -> ModuleFile | None:
        elf = read_vdso(compat=module.compat) if self._live else None
        if elf is None or (module.build_id and elf.build_id != module.build_id):
            return None
        return ModuleFile(elf, Path("/"))

    def _jit_map(self, pid: int) -> JitMap | None:
        if pid not in self._jit_maps:
            found = self._jit_maps[pid] = read_jit_map(pid) if self._live and pid > 0 else None
            if found is not None and not self._budget.take(found.size):
                found = self._jit_maps[pid] = None
                self._notes.append(f"perf-{pid}.map: not read: all maps and symbol tables are too large together")
            elif found is not None and found.is_cut:
                self._notes.append(f"perf-{pid}.map is too large: only its first {len(found)} functions are known")
        return self._jit_maps[pid]

    def _kernel_symbols(self, types: bytes = CODE) -> Kallsyms:
        if types not in self._kallsyms:
            self._kallsyms[types] = self._load_kallsyms(types)
        return self._kallsyms[types]

    def _load_kallsyms(self, types: bytes) -> Kallsyms:
        text = self._kallsyms_text
        if text is None and self._live:
            try:
                text = read_kallsyms()
            except OSError as error:
                self._notes.append(f"kernel functions have no names: /proc/kallsyms: {error.strerror}")
        kallsyms = Kallsyms(text or b"", types)
        if kallsyms.hidden:
            self._notes.append(
                "kernel functions have no names: /proc/kallsyms shows no addresses to this user "
                f"({kallsyms_remedy()})"
            )
        return kallsyms


def _missing_notes(missing: Mapping[Module, Missing]) -> list[str]:
    """Which files were not found, and which are others now, with their build ids; and what would help."""
    notes = []
    for what, are_others in (("not here", False), ("others now", True)):
        files = {
            module.path: f"{module.path} ({module.build_id[:_SHOWN_DIGITS] or 'no build id'}"
            + (f", here {found.here[:_SHOWN_DIGITS]})" if are_others else ")")
            for module, found in missing.items()
            if bool(found.here) == are_others
        }
        if files:
            more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
            count = "1 file is" if len(files) == 1 else f"{len(files)} files are"
            listed = ", ".join([*files.values()][:_SHOWN_FILES])
            notes.append(f"no symbols: {count} {what}: {listed}{more} (--symfs DIR, or {debuginfod.advice()})")
    return notes


def _jit_frame(name: str) -> Frame:
    python = python_function(name)
    return Frame(name, JIT_MODULE, python[1], kind=PYTHON) if python else Frame(name, JIT_MODULE, kind=JIT)
