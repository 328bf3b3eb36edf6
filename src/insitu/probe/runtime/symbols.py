"""Names for addresses while a script runs: kernel symbols, functions of processes, stacks, users, processes' maps."""

from __future__ import annotations

import struct
from bisect import bisect_right
from functools import cache, cached_property
from typing import TYPE_CHECKING

from insitu.kernel.bpf_map import Map
from insitu.probe.types import Stack

if TYPE_CHECKING:
    from insitu.symbols.jit_map import JitMap
    from insitu.symbols.module_symbols import ModuleSymbols
    from insitu.symbols.process_map import Mappings

__all__ = ["Symbols", "kernel_symbol_address"]


@cache
def _kallsyms() -> tuple[list[int], list[str]]:
    """Addresses, ascending, and names of the kernel's functions; empty when the kernel hides them."""
    try:
        with open("/proc/kallsyms") as file:  # noqa: PTH123
            lines = file.read().splitlines()
    except OSError:
        return [], []
    entries = [
        (int(line[:16], 16), line.split("\t")[0].split(" ", 2)[2]) for line in lines if line[17:18] in "tTwWDdbBrRAa"
    ]
    # Of several names for one address, the first in the list counts, as with bpftrace.
    first: dict[int, str] = {}
    for address, name in entries:
        first.setdefault(address, name)
    entries = sorted(first.items())
    return [address for address, _ in entries], [name for _, name in entries]


def kernel_symbol_address(name: str) -> int | None:
    """The address of a kernel symbol, or None."""
    addresses, names = _kallsyms()
    return addresses[names.index(name)] if name in names else None


class Symbols:
    """Looks up and remembers. ``stack_maps`` are the maps that hold stacks, by our name for them."""

    def __init__(self, stack_maps: dict[str, Map], *, demangles: bool = True) -> None:
        self._stack_maps = stack_maps
        self._demangles = demangles
        self._modules: dict[str, ModuleSymbols | None] = {}
        self._jit_maps: dict[int, JitMap | None] = {}

    @cached_property
    def mappings(self) -> Mappings:
        """What lies where in processes. Most scripts never ask."""
        from insitu.symbols.process_map import Mappings

        return Mappings(self._open)

    def kernel(self, address: int) -> tuple[str, int] | None:
        """Symbol and offset of a kernel address."""
        addresses, names = _kallsyms()
        index = bisect_right(addresses, address) - 1
        return (names[index], address - addresses[index]) if index >= 0 and address >> 63 else None

    def user(self, address: int, pid: int) -> tuple[str, int, str] | None:
        """Symbol, offset in it and file of an address in a process."""
        area = self.mappings.find(pid, address)
        if area is None:
            return None
        module = self._open(pid, area.path)
        if module is None:
            return self._jit(address, pid)
        found = module.function(address - area.start + area.offset)
        return (found[0], found[1], area.path) if found else None

    def _open(self, pid: int, path: str) -> ModuleSymbols | None:
        """The symbols of a file that a process has mapped: opened at once, it may be gone when the process is."""
        if path not in self._modules:
            from insitu.symbols.address_space import Module
            from insitu.symbols.module_symbols import open_symbols

            self._modules[path] = open_symbols(Module(path, pid=pid), demangles=self._demangles)
        return self._modules[path]

    def _jit(self, address: int, pid: int) -> tuple[str, int, str] | None:
        """A function that a run-time compiler made, by the map that it writes for perf."""
        if pid not in self._jit_maps:
            from insitu.symbols.jit_map import read_jit_map

            self._jit_maps[pid] = read_jit_map(pid)
        known = self._jit_maps[pid]
        if known is None:
            return None
        import numpy as np

        (name,) = known.find(np.array([address], np.uint64))
        return (name, 0, "[jit]") if name is not None else None

    def user_text(self, address: int, pid: int) -> str:
        """The function's name alone, or the address."""
        found = self.user(address, pid)
        return found[0] if found else f"{address:#x}"

    def stack(self, number: int, pid: int, kind: Stack, indent: int) -> str:
        """A stack's frames, each on a line of its own, as the stack's mode wants them."""
        stacks = self._stack_maps.get(f"{'ustack' if kind.user else 'kstack'}{kind.limit}")
        content = stacks.lookup(struct.pack("<I", number)) if stacks is not None and number >= 0 else None
        lines = []
        for (address,) in struct.iter_unpack("<Q", content or b""):
            if not address:
                break
            lines.append(" " * (0 if kind.mode == "perf" else indent) + self._frame(address, pid, kind) + "\n")
        return "\n" + "".join(lines)

    def _frame(self, address: int, pid: int, kind: Stack) -> str:
        if kind.mode == "raw":
            return f"{address:x}"
        if kind.user:
            found = self.user(address, pid)
            text = f"{found[0]}+{found[1]}" if found else f"{address:#x}"
            module = f" ({found[2] if found else '[unknown]'})"
        else:
            known = self.kernel(address)
            text = f"{known[0]}+{known[1]}" if known else f"{address:#x}"
            module = ""
        return f"\t{address:x} {text}{module}" if kind.mode == "perf" else text
