"""Addresses to frames: the one door through which recordings are symbolized."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.address_space import Module
from insitu.symbols.elf import Elf
from insitu.symbols.frame import JIT, KERNEL, PYTHON, USER, Frame
from insitu.symbols.jit_map import JitMap, python_function, read_jit_map
from insitu.symbols.kallsyms import Kallsyms, read_kallsyms
from insitu.symbols.module_files import ModuleFile, is_anonymous, open_module
from insitu.symbols.module_symbols import ModuleSymbols, unknown_frames
from insitu.symbols.vdso import VDSO, read_vdso

__all__ = ["JIT_MODULE", "Symbolizer"]

JIT_MODULE = "[jit]"
"""The module of functions that a run-time compiler made; one for all processes, so that equal names add up."""

U64 = NDArray[np.uint64]


class Symbolizer:
    """Names the places of one recording. Files and maps are read when first asked for and kept.

    Addresses and offsets are looked up as they are given: those of return addresses must have been moved back
    into the call already.
    """

    def __init__(self, *, kallsyms: bytes | None = None, live: bool = True, inlines: bool = True) -> None:
        """``kallsyms`` is the text of the recorded kernel's /proc/kallsyms; without it that of this kernel is read.

        ``live`` False is for recordings made elsewhere: neither this machine's processes nor its kernel are asked,
        and its files only by path and build id. ``inlines`` False leaves inlined frames out.
        """
        self._kallsyms_text = kallsyms
        self._live = live
        self._inlines = inlines
        self._modules: dict[tuple[str, str, int], ModuleSymbols | None] = {}
        self._by_file: dict[tuple[str, str], ModuleSymbols] = {}
        self._jit_maps: dict[int, JitMap | None] = {}
        self._kallsyms: Kallsyms | None = None
        self.notes: list[str] = []
        """What could not be symbolized and why, each with its remedy: lines to show to the user."""

    def user(self, module: Module, file_offsets: U64) -> list[tuple[Frame, ...]]:
        """The frames at each offset of a mapped file, innermost first, at least one each; best on unique offsets.

        In mappings that hold no file ("//anon", "[heap]") the offsets are taken as addresses.
        """
        if is_anonymous(module.path):
            return self.anonymous(module.pid, file_offsets)
        symbols = self._symbols(module)
        return symbols.frames(file_offsets) if symbols is not None else unknown_frames(module.path, file_offsets)

    def anonymous(self, pid: int, addresses: U64) -> list[tuple[Frame, ...]]:
        """The frame at each address of memory that holds no file: what a run-time compiler's map says.

        Addresses that no map covers are shown in hexadecimal.
        """
        if pid not in self._jit_maps:
            self._jit_maps[pid] = read_jit_map(pid) if self._live and pid > 0 else None
        jit_map = self._jit_maps[pid]
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
        if self._kallsyms is None:
            self._kallsyms = self._load_kallsyms()
        found = self._kallsyms.find(addresses)
        made = {entry: (Frame(*entry, kind=KERNEL),) for entry in set(found) if entry is not None}
        return [
            made[entry] if entry is not None else (Frame(f"{address:#x}", kind=KERNEL, symbolized=False),)
            for entry, address in zip(found, addresses.tolist(), strict=True)
        ]

    def open_module(self, module: Module) -> Elf | None:
        """The file of a module, as an unwinder needs it; None if it cannot be had."""
        symbols = None if is_anonymous(module.path) else self._symbols(module)
        return symbols.elf if symbols is not None else None

    def _symbols(self, module: Module) -> ModuleSymbols | None:
        key = (module.path, module.build_id, module.pid)
        if key not in self._modules:
            self._modules[key] = self._open(module)
        return self._modules[key]

    def _open(self, module: Module) -> ModuleSymbols | None:
        file: ModuleFile | None
        if module.path == VDSO:
            file = self._vdso(module)
        else:
            file = open_module(module, live=self._live)
        if file is None:
            return None
        # Processes share files: one with the same build id need not be read twice.
        shared = (module.path, file.elf.build_id or str(file.path))
        return self._by_file.setdefault(shared, ModuleSymbols(file, module.path, inlines=self._inlines))

    def _vdso(self, module: Module) -> ModuleFile | None:
        elf = read_vdso() if self._live else None
        if elf is None or (module.build_id and elf.build_id != module.build_id):
            return None
        return ModuleFile(elf, Path(VDSO), Path("/"))

    def _load_kallsyms(self) -> Kallsyms:
        text = self._kallsyms_text
        if text is None and self._live:
            try:
                text = read_kallsyms()
            except OSError as error:
                self.notes.append(f"kernel functions have no names: /proc/kallsyms: {error.strerror}")
        kallsyms = Kallsyms(text or b"")
        if kallsyms.hidden:
            self.notes.append(
                "kernel functions have no names: /proc/kallsyms shows no addresses to this user "
                "(run as root, or: sysctl kernel.kptr_restrict=0 kernel.perf_event_paranoid=1)"
            )
        return kallsyms


def _jit_frame(name: str) -> Frame:
    python = python_function(name)
    return Frame(name, JIT_MODULE, python[1], kind=PYTHON) if python else Frame(name, JIT_MODULE, kind=JIT)
