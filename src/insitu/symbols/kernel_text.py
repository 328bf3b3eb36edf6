"""The kernel's machine code, of the running kernel (/proc/kcore) or of a vmlinux: what a function calls directly."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.kernel.tracefs import Tracefs
from insitu.symbols.elf import NO_ADDRESS, Elf
from insitu.symbols.kallsyms import CODE, read_kallsyms

__all__ = ["DirectCalls", "KernelText"]

_KCORE: Final = "/proc/kcore"
_MACHINES: Final = {62: "x86_64", 183: "aarch64"}  # EM_X86_64, EM_AARCH64
_FUNCTION: Final = 2  # STT_FUNC
_UNTYPED: Final = 0  # STT_NOTYPE, as of some assembly
_MOST_BYTES: Final = 1 << 16  # of a function
_MOST_SITES: Final = 1 << 20
_ENTRY_BYTES: Final = 32  # of a function, in which its call of __fentry__ is
# What compilers add: calls through a register, checks, and calls whose target the kernel sets at run time.
_THUNK: Final = "__x86_indirect_"
_OF_COMPILERS: Final = ("__x86_", "__fentry__", "__stack_chk_fail", "__SCT__", "__sanitizer_", "__pi___x86_")


class DirectCalls(NamedTuple):
    """The functions that a function calls directly, and whether it also calls some through pointers."""

    traceable: list[str]
    untraceable: list[str]
    through_pointers: bool


class KernelText:
    """The code of a kernel, and its functions' names."""

    def __init__(self, elf: Elf, symbols: Iterable[tuple[int, str]], traceable: frozenset[str] | None) -> None:
        """``symbols`` are (address, name); ``traceable`` the functions that ftrace can trace, None: not known."""
        self._elf, self._traceable = elf, traceable
        self._names: dict[int, str] = {}
        self._addresses: dict[str, int] = {}
        for address, name in symbols:
            self._names.setdefault(address, name)
            self._addresses.setdefault(name, address)
        self._starts = np.array(sorted(self._names), np.uint64)

    @classmethod
    def of_running_kernel(cls) -> KernelText:
        """The running kernel's, with its modules. Raises InsituError, or OSError where it cannot be read."""
        tracefs = Tracefs.open()
        try:
            traceable = frozenset(name for name, _ in tracefs.functions())
        finally:
            tracefs.close()
        elf = Elf(os.open(_KCORE, os.O_RDONLY | os.O_CLOEXEC), _KCORE)
        return cls(elf, _of_kallsyms(read_kallsyms()), traceable or None)

    @classmethod
    def of_file(cls, path: str) -> KernelText:
        """A vmlinux with symbols. Raises InsituError, or OSError where it cannot be read."""
        elf = Elf(path)
        symbols = list(_of_table(elf))
        if not symbols:
            raise InsituError(
                f"{path} has no symbols", remedy="a vmlinux that is not stripped, such as of a debug package"
            )
        return cls(elf, symbols, _traceable(elf, symbols))

    def calls(self, function: str) -> DirectCalls | None:
        """What a function calls; None where its code cannot be read.

        Where it is not known what can be traced, all count as traceable.
        """
        own = [name for name in (function, f"{function}.cold") if name in self._addresses]
        code = {name: self._code(self._addresses[name]) for name in own}
        if not code.get(function):
            return None
        from insitu.symbols.instructions import call_targets

        machine = _MACHINES.get(self._elf.machine, "")
        found: dict[str, None] = {}
        through_pointers = False
        for name in own:
            targets, indirect = call_targets(code[name], self._addresses[name], machine)
            callees = [self._names.get(target, "") for target in targets]
            through_pointers |= indirect or any(callee.startswith(_THUNK) for callee in callees)
            found |= dict.fromkeys(callees)
        names = [name for name in found if name and name not in own and not name.startswith(_OF_COMPILERS)]
        can = [name for name in names if self._traceable is None or name in self._traceable]
        return DirectCalls(can, [name for name in names if name not in can], through_pointers)

    def _code(self, address: int) -> bytes:
        """The bytes from a function's address to the next symbol."""
        row = int(np.searchsorted(self._starts, np.uint64(address), side="right"))
        end = int(self._starts[row]) if row < len(self._starts) else address
        offset = int(self._elf.offsets_of(np.array([address], np.uint64))[0])
        return b"" if offset == NO_ADDRESS else self._elf.read(offset, min(end - address, _MOST_BYTES))


def _of_kallsyms(text: bytes) -> Iterator[tuple[int, str]]:
    for line in text.splitlines():
        words = line.split(maxsplit=3)
        if (
            len(words) > 2
            and words[1] in {CODE[at : at + 1] for at in range(len(CODE))}
            and (at := int(words[0], 16))
        ):
            yield at, words[2].decode(errors="replace")


def _of_table(elf: Elf) -> Iterator[tuple[int, str]]:
    table = elf.symbols(".symtab")
    if table is None:
        return
    entries = table.entries
    kinds = entries["info"] & 15
    rows = entries[((kinds == _FUNCTION) | (kinds == _UNTYPED)) & (entries["shndx"] != 0)]
    for address, name in zip(rows["value"].tolist(), table.names(rows["name"].tolist()), strict=False):
        if address and name and not name.startswith((b".L", b"$")):
            yield address, name.decode(errors="replace")


def _traceable(elf: Elf, symbols: list[tuple[int, str]]) -> frozenset[str] | None:
    """The functions whose call of __fentry__ the build has listed (__mcount_loc); None without the list."""
    addresses = {name: address for address, name in symbols}
    data = elf.section_bytes("__mcount_loc")
    first, last = addresses.get("__start_mcount_loc"), addresses.get("__stop_mcount_loc")
    if not data and first and last:
        offset = int(elf.offsets_of(np.array([first], np.uint64))[0])
        data = b"" if offset == NO_ADDRESS else elf.read(offset, min(last - first, 8 * _MOST_SITES))
    sites = np.sort(np.frombuffer(data, np.uint64, min(len(data) // 8, _MOST_SITES)))
    if not len(sites) or not sites[-1]:
        return None
    starts = np.array(sorted({address for address, _ in symbols}), np.uint64)
    sites = sites[sites >= starts[0]]
    around = starts[np.searchsorted(starts, sites, side="right") - 1]
    entered = set(around[sites - around < _ENTRY_BYTES].tolist())
    return frozenset(name for address, name in symbols if address in entered)
