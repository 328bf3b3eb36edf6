"""Which call frame row applies at an address of a process: found for many samples at once, and remembered."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.symbols.eh_frame import CallFrames
from insitu.symbols.elf import NO_ADDRESS, Elf
from insitu.symbols.process_map import Module, ProcessMap
from insitu.symbols.python_trampoline import TRAMPOLINES
from insitu.symbols.unwind_rows import END, FRAME_POINTER, RowTable

__all__ = ["RowLookup", "Trampolines"]

# A key is an epoch's index above 48 bits of address: user space has no larger ones, only corrupt stacks do. Two
# addresses that no code has are set apart: the first stands for all that are too large, the second for a place
# of the hash table that is free.
_ADDRESS_BITS: Final = 48
_MAX_EPOCHS: Final = 1 << 16
_NOWHERE: Final = np.uint64((1 << _ADDRESS_BITS) - 1)
_FREE: Final = np.uint64((1 << _ADDRESS_BITS) - 2)
_FACTOR: Final = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2**64 divided by the golden ratio

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


Trampolines = Callable[[Module, U64], NDArray[np.bool_] | None]
"""Which addresses of a module that is not a file are in CPython's perf trampolines; None: none is."""


class RowLookup:
    """Finds the numbers of rows by epoch and address; each pair is looked for in the files only once."""

    def __init__(
        self,
        table: RowTable,
        spaces: ProcessMap,
        open_module: Callable[[Module], Elf | None],
        unknown: int = END,
        trampolines: Trampolines | None = None,
    ) -> None:
        """``unknown`` is the row of addresses that lie in no file with call frame information.

        ``trampolines`` says which of these addresses are in CPython's perf trampolines, whose row is known.
        """
        self._table = table
        self._spaces = spaces
        self._open = open_module
        self._unknown = unknown
        self._trampolines = trampolines
        row = TRAMPOLINES.get(table.machine.name)
        self._trampoline = unknown if row is None else table.intern(row)
        self._modules: dict[int, tuple[Elf, CallFrames] | None] = {}
        self._forget()

    def _forget(self) -> None:
        self._tags: dict[int, int] = {}
        self._known = _HashTable()
        self._known.put(np.array([_NOWHERE]), np.array([END]))
        # Rows of Mapping, with tags added to start and end: sorted, since tags grow from epoch to epoch.
        self._mappings = np.zeros((0, 4), np.uint64)

    def tags(self, epochs: NDArray[np.int32]) -> U64:
        """What `rows` knows the epochs by, at most 65536 different ones; earlier tags may be void."""
        distinct, inverse = np.unique(epochs, return_inverse=True)
        if len(self._tags) + len(distinct) > _MAX_EPOCHS:
            self._forget()
        tables = [self._mappings]
        for epoch in distinct.tolist():
            if epoch not in self._tags:
                tag = self._tags[epoch] = len(self._tags) << _ADDRESS_BITS
                if 0 <= epoch < self._spaces.epoch_count:
                    table = np.array(self._spaces.mappings(epoch), np.uint64).reshape(-1, 4)
                    table = table[table[:, 1] < _FREE]  # vsyscall lies beyond
                    table[:, :2] += np.uint64(tag)
                    tables.append(table)
        if len(tables) > 1:
            self._mappings = np.asfortranarray(np.concatenate(tables))
        return np.array([self._tags[epoch] for epoch in distinct.tolist()], np.uint64)[inverse]

    def rows(self, addresses: U64, tags: U64) -> I64:
        """The row at each address of the epoch of the tag at its side."""
        keys = addresses + tags
        beyond = addresses >= _FREE
        if beyond.any():
            keys[beyond] = _NOWHERE
        rows, missing = self._known.get(keys)
        if len(missing):
            distinct, inverse = np.unique(keys[missing], return_inverse=True)
            found = self._find(distinct)
            self._known.put(distinct, found)
            rows[missing] = found[inverse]
        return rows

    def _find(self, keys: U64) -> I64:
        """The rows of keys that are not known yet."""
        modules, offsets = np.full(len(keys), -1, np.int64), keys
        if len(self._mappings):
            start, end, offset, module = self._mappings.T
            mapping = np.searchsorted(start, keys, side="right") - 1
            inside = (mapping >= 0) & (keys < end[mapping])
            modules = np.where(inside, module[mapping].view(np.int64), -1)
            offsets = keys - start[mapping] + offset[mapping]
        rows = np.full(len(keys), self._unknown, np.int64)
        for module in sorted(set(modules[modules >= 0].tolist())):
            frames = self._frames(module)
            here = np.flatnonzero(modules == module)
            if frames is None:
                rows[self._in_trampolines(here, keys, self._spaces.modules[module])] = self._trampoline
            else:
                vaddrs = frames[0].vaddrs_of(offsets[here])
                found = frames[1].rows(vaddrs, self._table.intern)
                rows[here] = np.where((found < 0) | (vaddrs == NO_ADDRESS), FRAME_POINTER, found)
        return rows

    def _in_trampolines(self, some: I64, keys: U64, module: Module) -> I64:
        """Those of ``some`` keys of a module that is not a file which are in trampolines."""
        if self._trampolines is None:
            return some[:0]
        found = self._trampolines(module, keys[some] & np.uint64((1 << _ADDRESS_BITS) - 1))
        return some[:0] if found is None else some[found]

    def _frames(self, module: int) -> tuple[Elf, CallFrames] | None:
        """The module's file and its functions; None if it has none that can be read."""
        if module not in self._modules:
            self._modules[module] = None
            try:
                elf = self._open(self._spaces.modules[module])
            except (OSError, InsituError):
                elf = None
            if elf is not None and elf.machine == self._table.machine.e_machine:
                frames = CallFrames(elf, self._table.machine.columns)
                if len(frames):
                    self._modules[module] = elf, frames
        return self._modules[module]


class _HashTable:
    """Numbers by key, with linear probing; at most a quarter full, so that most keys are at their first place."""

    def __init__(self) -> None:
        self._bits = 12
        self._count = 0
        self._keys = np.full(1 << self._bits, _FREE)
        self._values = np.zeros(1 << self._bits, np.int64)

    def _places(self, keys: U64) -> I64:
        return (keys * _FACTOR >> np.uint64(64 - self._bits)).view(np.int64)

    def get(self, keys: U64) -> tuple[I64, I64]:
        """The value of each key, and the indices of those that are absent, whose values mean nothing."""
        place = self._places(keys)
        values = self._values.take(place)
        found = self._keys.take(place)
        pending = np.flatnonzero(found != keys)
        if not len(pending):
            return values, pending
        absent: list[I64] = []
        place, found = place[pending], found[pending]
        last = len(self._keys) - 1
        while len(pending):
            free = found == _FREE
            absent.append(pending[free])
            pending, place = pending[~free], (place[~free] + 1) & last
            found = self._keys.take(place)
            hit = found == keys[pending]
            values[pending[hit]] = self._values.take(place[hit])
            pending, place, found = pending[~hit], place[~hit], found[~hit]
        return values, np.concatenate(absent)

    def put(self, keys: U64, values: I64) -> None:
        """Add keys, which are distinct and absent."""
        self._count += len(keys)
        if self._count * 4 > len(self._keys):
            held = self._keys != _FREE
            keys = np.concatenate([self._keys[held], keys])
            values = np.concatenate([self._values[held], values])
            self._bits = max(int(self._count * 8).bit_length() - 1, self._bits + 1)
            self._keys = np.full(1 << self._bits, _FREE)
            self._values = np.zeros(1 << self._bits, np.int64)
        place = self._places(keys)
        last = len(self._keys) - 1
        while len(keys):
            free = self._keys[place] == _FREE
            # Of several keys for one place the last one gets it; the others see that and go on.
            self._keys[place[free]] = keys[free]
            placed = self._keys[place] == keys
            self._values[place[placed]] = values[placed]
            keys, values, place = keys[~placed], values[~placed], (place[~placed] + 1) & last
