"""Unwinds many samples' stack copies at once by call frame information: each pass is one step of every stack.

The frames are those of perf script, whose unwinder is libunwind (tools/perf/util/unwind-libunwind-local.c).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.address_space import AddressSpaces, Module
from insitu.symbols.elf import Elf
from insitu.symbols.registers import X86_64, Machine
from insitu.symbols.unwind_lookup import RowLookup
from insitu.symbols.unwind_rows import END, FRAME_POINTER, RowTable
from insitu.symbols.unwind_step import Lanes
from insitu.symbols.user_stacks import UserStacks

__all__ = ["Unwinder", "UserStacks", "unwind"]

# Enough samples for a numpy call to cost little per sample, few enough for their arrays to stay in the cache.
_BLOCK: Final = 1 << 14
_FIRST_BLOCK: Final = 1 << 8

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


def unwind(
    stacks: UserStacks,
    spaces: AddressSpaces,
    open_module: Callable[[Module], Elf | None],
    *,
    max_depth: int = 127,
    machine: Machine = X86_64,
    frame_pointers: bool = False,
) -> tuple[I64, U64]:
    """The user frames of each sample: n + 1 offsets into an array of instruction pointers, leaf first.

    The leaf is where the sample was taken; every other entry is a return address, so that **one less** is an
    address within the calling instruction: what symbols must be looked up by, and what perf script prints.
    To hold for it too, the entry of a function that a signal interrupted is one more than its address.

    A stack ends where the return address is undefined or 0, where it or the CFA lies outside the copy, where
    the address is in no file with call frame information, and after ``max_depth`` frames. Within a
    file that has such information, a function without it is stepped over by the frame pointer. With
    ``frame_pointers`` so is code without any file, as JIT compilers make it; perf ends such stacks. A sample
    whose copy is empty has no frames. ``open_module`` gives None (or raises OSError or InsituError) for
    files that cannot be had. Corrupt input ends stacks early and raises nothing.
    """
    unwinder = Unwinder(spaces, open_module, machine=machine, frame_pointers=frame_pointers)
    return unwinder.unwind(stacks, max_depth=max_depth)


class Unwinder:
    """Unwinds samples of one recording in any number of parts; what is learnt of its files is kept for the next."""

    def __init__(
        self,
        spaces: AddressSpaces,
        open_module: Callable[[Module], Elf | None],
        *,
        machine: Machine = X86_64,
        frame_pointers: bool = False,
    ) -> None:
        """See `unwind` for what the arguments mean."""
        self._table = RowTable(machine)
        self._lookup = RowLookup(self._table, spaces, open_module, FRAME_POINTER if frame_pointers else END)

    def unwind(self, stacks: UserStacks, *, max_depth: int = 127) -> tuple[I64, U64]:
        """See `unwind`."""
        count = len(stacks.epoch)
        # The first few samples show which registers are needed; each one found later costs its block a new start.
        bounds = [0, *range(min(_FIRST_BLOCK, count), count, _BLOCK), count]
        blocks = [self._block(stacks, low, high, max_depth) for low, high in pairwise(bounds) if low < high]
        offsets = np.zeros(count + 1, np.int64)
        if blocks:
            np.cumsum(np.concatenate([depths for depths, _ in blocks]), out=offsets[1:])
        return offsets, np.concatenate([np.zeros(0, np.uint64), *(frames for _, frames in blocks)])

    def _block(self, stacks: UserStacks, low: int, high: int, max_depth: int) -> tuple[I64, U64]:
        """Depths of the stacks of samples [low, high), and their frames."""
        tags = self._lookup.tags(stacks.epoch[low:high])
        steps = None
        while steps is None:
            steps = Lanes(stacks, self._table, low, high).steps(self._lookup, tags, max_depth)
        return _joined(steps, high - low)


def _joined(steps: list[tuple[I64, U64]], count: int) -> tuple[I64, U64]:
    """Lanes and their addresses (0: the stack has ended) of each pass, put together by sample."""
    depths = np.zeros(count, np.int64)
    live: list[tuple[I64, U64]] = []
    for depth, (lanes, addresses) in enumerate(steps):
        kept = np.flatnonzero(addresses)
        if len(kept) < len(lanes):
            lanes, addresses = lanes.take(kept), addresses.take(kept)
        depths[lanes] = depth + 1
        live.append((lanes, addresses))
    ends = np.cumsum(depths)
    starts = ends - depths
    frames = np.empty(int(ends[-1]), np.uint64)
    for depth, (lanes, addresses) in enumerate(live):
        frames[starts.take(lanes) + depth] = addresses
    return depths, frames
