"""Which function of an ELF file holds an address, by its symbol tables and its PLT.

The choice between symbols that share an address is that of perf, so that our names and `perf script`'s agree.
"""

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.elf import Elf, SymbolTable

__all__ = ["FunctionTable", "plt_stubs"]

_STT_NOTYPE, _STT_OBJECT, _STT_FUNC, _STT_GNU_IFUNC = 0, 1, 2, 10
_STB_GLOBAL, _STB_WEAK = 1, 2
_STV_INTERNAL, _STV_HIDDEN = 1, 2
_EM_386, _EM_X86_64, _EM_AARCH64 = 3, 62, 183

# Bytes of the .plt before its first entry, and of each entry, by e_machine.
_PLT: Final = {_EM_386: (16, 16), _EM_X86_64: (16, 16), _EM_AARCH64: (32, 16)}
_PLT_SEC_ENTRY_BYTES = 16

# A last symbol without a size reaches to the end of the next 4096 bytes, as in perf (symbols__fixup_end), which
# does not ask for the page size either.
_PAGE: Final = np.uint64(4096)

# Symbols nested in another one are few; only so many are looked at for one that encloses an address.
_MAX_NESTING = 32

# Of symbols at one address; some have a dozen aliases.
_MAX_ALIASES = 1 << 8
_MAX_PLT_STUBS = 1 << 17

U64 = NDArray[np.uint64]
I64 = NDArray[np.int64]


class FunctionTable:
    """Functions of one file, by virtual address.

    Made from the symbol tables of ``symbols`` (the file itself, or its separate debug file) and of ``more``, and the
    PLT of ``runtime`` (the file that is mapped). ``demangle`` makes a shown name from a raw one.
    """

    def __init__(
        self, symbols: Elf, runtime: Elf, demangle: Callable[[bytes], str], *, more: Sequence[Elf] = ()
    ) -> None:
        self._demangle = demangle
        self._tables: list[SymbolTable] = []
        parts = [
            self._columns(table, _wanted(elf, table))
            for elf in (symbols, *more)
            for name in (".symtab", ".dynsym")
            if (table := elf.symbols(name)) is not None
        ]
        start, end, rank, name_at, strings = _concatenated(parts)
        _extend_sizeless(start, end)
        rank += (end == start) * 8
        order = np.lexsort((rank, start))
        self._start, self._end, self._rank = start[order], end[order], rank[order]
        self._name_at, self._in = name_at[order], strings[order]
        self._append_plt_stubs(runtime)
        # Rows of equal start are a group, represented by its first row.
        self._groups = np.flatnonzero(np.diff(self._start, prepend=np.uint64(1) + self._start[:1]) != 0)
        self._group_start = self._start[self._groups]
        self._group_end = self._end[self._groups]
        self._reach = np.maximum.accumulate(self._group_end) if len(self._groups) else self._group_end
        self._names: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._groups)

    def find(self, vaddrs: U64) -> I64:
        """The function that holds each virtual address, as a number for `name`; -1 where there is none."""
        group = np.searchsorted(self._group_start, vaddrs, side="right") - 1
        if not len(self._groups):
            return group
        found = np.where((group >= 0) & (vaddrs < self._group_end[group]), group, -1)
        # An enclosing function may go on after a smaller symbol inside it has ended.
        for i in np.flatnonzero((found < 0) & (group >= 0) & (vaddrs < self._reach[group])):
            low = max(int(group[i]) - _MAX_NESTING, 0)
            around = np.flatnonzero(self._group_end[low : group[i]] > vaddrs[i])
            if len(around):
                found[i] = low + around[-1]
        return found

    def start(self, function: int) -> int:
        """The virtual address at which a function begins."""
        return int(self._group_start[function])

    def name(self, function: int) -> str:
        """The shown name of a function that `find` found."""
        name = self._names.get(function)
        if name is None:
            name = self._names[function] = self._best_name(function)
        return name

    def _best_name(self, function: int) -> str:
        """Of equally ranked symbols the one with the fewest leading underscores, then the longest, then the first."""
        row = int(self._groups[function])
        stop = int(self._groups[function + 1]) if function + 1 < len(self._groups) else len(self._start)
        best = ""
        for other in range(row, min(stop, row + _MAX_ALIASES)):
            if self._rank[other] != self._rank[row]:
                break
            name = self._demangle(self._raw_name(other))
            if other == row or _preference(name) > _preference(best):
                best = name
        return best

    def _raw_name(self, row: int) -> bytes:
        return self._tables[int(self._in[row])].name(int(self._name_at[row]))

    def _columns(self, table: SymbolTable, wanted: NDArray[np.bool_]) -> tuple[U64, U64, I64, I64, I64]:
        """Start, end, rank (less is better), offset of the name and index of its strings, of the wanted symbols."""
        entries = table.entries[wanted]
        start = entries["value"].astype(np.uint64)
        end = start + entries["size"]
        end = np.where(end < start, start, end)
        binding, kind = entries["info"] >> 4, entries["info"] & 15
        rank = (kind == _STT_NOTYPE) * 4 + (binding == _STB_WEAK) * 2 + (binding != _STB_GLOBAL) * 1
        self._tables.append(table)
        number = np.full(len(entries), len(self._tables) - 1, np.int64)
        return start, end, rank.astype(np.int64), entries["name"].astype(np.int64), number

    def _append_plt_stubs(self, runtime: Elf) -> None:
        starts, size, names = plt_stubs(runtime)
        # perf adds these last and unchecked: an address that already has a symbol keeps it.
        stubs = np.array(starts, np.uint64)
        left, right = (np.searchsorted(self._start, stubs, side) for side in ("left", "right"))
        fresh = np.flatnonzero(left == right).tolist()
        if not fresh:
            return
        self._tables.append(SymbolTable(np.zeros(0, np.void), b"\0".join(names[i] for i in fresh) + b"\0"))
        lengths = np.array([len(names[i]) + 1 for i in fresh], np.int64)
        start = np.array([starts[i] for i in fresh], np.uint64)
        order_of = np.concatenate([self._start, start])
        order = np.argsort(order_of, kind="stable")
        self._start = order_of[order]
        self._end = np.concatenate([self._end, start + np.uint64(size)])[order]
        self._rank = np.concatenate([self._rank, np.zeros(len(fresh), np.int64)])[order]
        self._name_at = np.concatenate([self._name_at, np.cumsum(lengths) - lengths])[order]
        number = np.full(len(fresh), len(self._tables) - 1, np.int64)
        self._in = np.concatenate([self._in, number])[order]


def _preference(name: str) -> tuple[int, int]:
    return len(name.lstrip("_")) - len(name), len(name)


def _wanted(elf: Elf, table: SymbolTable) -> NDArray[np.bool_]:
    """Which symbols perf takes: defined functions and objects, and labels in sections of text or data."""
    entries = table.entries
    kind, visibility, section = entries["info"] & 15, entries["other"] & 3, entries["shndx"]
    defined = (entries["name"] != 0) & (section != 0) & (section < len(elf.sections))
    typed = (kind == _STT_FUNC) | (kind == _STT_GNU_IFUNC) | (kind == _STT_OBJECT)
    labelled = np.array([("text" in s.name) or ("data" in s.name) for s in elf.sections], np.bool_)
    label = (kind == _STT_NOTYPE) & (visibility != _STV_HIDDEN) & (visibility != _STV_INTERNAL)
    if label.any():
        label &= defined
        label[label] = labelled[section[label]]
        if elf.machine == _EM_AARCH64:  # $x and $d mark code and data (ELF for the Arm 64-bit Architecture, 5.5)
            strings = np.frombuffer(table.strings, np.uint8)
            label[label] = strings[np.minimum(entries["name"][label], len(strings) - 1)] != ord("$")
    wanted: NDArray[np.bool_] = defined & (typed | label)
    return wanted


def _concatenated(parts: list[tuple[U64, U64, I64, I64, I64]]) -> tuple[U64, U64, I64, I64, I64]:
    empty = (np.zeros(0, np.uint64), np.zeros(0, np.uint64), *(np.zeros(0, np.int64) for _ in range(3)))
    columns = [np.concatenate(column) for column in zip(empty, *parts, strict=True)]
    start, end, rank, name_at, strings = columns
    order = _ascending(start)
    return start[order], end[order], rank[order], name_at[order], strings[order]


def _ascending(start: U64) -> I64:
    """np.argsort(start, kind="stable"), four times as fast where start and row fit into one word together."""
    rows = len(start)
    if not rows or (int(start.max()) - int(start.min()) + 1) * rows >= 1 << 64:
        return np.argsort(start, kind="stable")
    packed = np.sort((start - start.min()) * np.uint64(rows) + np.arange(rows, dtype=np.uint64))
    return (packed % np.uint64(rows)).view(np.int64)


def _extend_sizeless(start: U64, end: U64) -> None:
    """Let symbols without a size, in address order, reach to the next symbol. Changes ``end``."""
    if not len(start):
        return
    sizeless = start == end
    last = bool(sizeless[-1])
    end[:-1][sizeless[:-1]] = start[1:][sizeless[:-1]]
    if last:
        end[-1] = (start[-1] + _PAGE - np.uint64(1)) // _PAGE * _PAGE + _PAGE


def plt_stubs(elf: Elf) -> tuple[list[int], int, list[bytes]]:
    """Addresses, size in bytes and names ("memcpy@plt") of the stubs through which the file calls others."""
    relocations, dynamic, dtype = elf.section(".rela.plt"), elf.symbols(".dynsym"), elf.layout.rela
    if relocations is None:
        relocations, dtype = elf.section(".rel.plt"), elf.layout.rel
    stubs, (header, entry) = elf.section(".plt"), _PLT.get(elf.machine, (0, 0))
    if (separate := elf.section(".plt.sec")) is not None:
        stubs, header, entry = separate, 0, _PLT_SEC_ENTRY_BYTES
    if relocations is None or dynamic is None or stubs is None or not entry:
        return [], 0, []
    data = elf.section_bytes(relocations)
    info = np.frombuffer(data, dtype, len(data) // dtype.itemsize)["info"].astype(np.uint64)
    symbol = (info >> np.uint64(elf.layout.symbol_shift)).astype(np.int64)
    symbol = symbol[: min(max(stubs.size - header, 0) // entry, _MAX_PLT_STUBS)]
    starts, names = [], []
    named = np.flatnonzero((symbol > 0) & (symbol < len(dynamic.entries)))
    name_at = dynamic.entries["name"][symbol[named]]
    for i, name in zip(named.tolist(), dynamic.names(name_at.tolist()), strict=True):
        if name:
            starts.append((stubs.address + header + i * entry) % (1 << 64))
            names.append(name + b"@plt")
    return starts, entry, names
