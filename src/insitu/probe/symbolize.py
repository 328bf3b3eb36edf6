"""Names for addresses while a script runs: kernel symbols, functions of processes, stacks, users, processes' maps."""

from __future__ import annotations

import contextlib
import re
import struct
from bisect import bisect_right
from functools import cache

from insitu.errors import InsituError
from insitu.kernel.bpf_map import Map
from insitu.probe.types import Stack

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

    def __init__(self, stack_maps: dict[str, Map]) -> None:
        self._stack_maps = stack_maps
        self._mappings: dict[int, list[tuple[int, int, int, str]]] = {}
        self._tables: dict[str, _ElfFunctions | None] = {}

    def kernel(self, address: int) -> tuple[str, int] | None:
        """Symbol and offset of a kernel address."""
        addresses, names = _kallsyms()
        index = bisect_right(addresses, address) - 1
        return (names[index], address - addresses[index]) if index >= 0 and address >> 63 else None

    def user(self, address: int, pid: int) -> tuple[str, int, str] | None:
        """Symbol, offset in it and file of an address in a process."""
        for start, end, offset, path in self._maps(pid):
            if start <= address < end:
                table = self._table(path, pid)
                found = table.find(address - start + offset) if table else None
                return (found[0], found[1], path) if found else None
        return None

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
            module = found[2] if found else "[unknown]"
        else:
            known = self.kernel(address)
            text = f"{known[0]}+{known[1]}" if known else f"{address:#x}"
            module = "[kernel.kallsyms]"
        return f"\t{address:x} {text} ({module})" if kind.mode == "perf" else text

    def remember(self, pid: int) -> None:
        """Read a process's mappings now, before it is gone; what is known stays when it is gone already."""
        found = []
        with contextlib.suppress(OSError):
            with open(f"/proc/{pid}/maps") as file:  # noqa: PTH123
                lines = file.read().splitlines()
            for line in lines:
                match = re.match(r"(\w+)-(\w+) ..x. (\w+) \S+ \d+ +(/.*)", line)
                if match:
                    start, end, offset = (int(text, 16) for text in match.groups()[:3])
                    found.append((start, end, offset, match.group(4)))
        if found:
            self._mappings[pid] = found

    def _maps(self, pid: int) -> list[tuple[int, int, int, str]]:
        if pid not in self._mappings:
            self.remember(pid)
        return self._mappings.get(pid, [])

    def _table(self, path: str, pid: int) -> _ElfFunctions | None:
        if path not in self._tables:
            self._tables[path] = None
            for candidate in (f"/proc/{pid}/root{path}", path):
                with contextlib.suppress(OSError, InsituError):
                    self._tables[path] = _ElfFunctions(candidate)
                    break
        return self._tables[path]


class _ElfFunctions:
    """Functions of an ELF file by file offset."""

    def __init__(self, path: str) -> None:
        from insitu.symbols.demangle import demangle
        from insitu.symbols.elf import Elf
        from insitu.symbols.functions import FunctionTable

        self._elf = Elf(path)
        self._functions = FunctionTable(self._elf, self._elf, demangle)

    def find(self, offset: int) -> tuple[str, int] | None:
        """Name and offset within it."""
        import numpy as np

        vaddr = self._elf.vaddrs_of(np.array([offset], np.uint64))
        index = int(self._functions.find(vaddr)[0])
        if index < 0:
            return None
        return self._functions.name(index), int(vaddr[0]) - self._functions.start(index)
