"""Unwinds many samples' stack copies at once by call frame information: each pass is one step of every stack.

The frames are those of perf script, whose unwinder is libunwind (tools/perf/util/unwind-libunwind-local.c).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.elf import Elf
from insitu.symbols.process_map import Module, ProcessMap
from insitu.symbols.registers import X86_64, Machine
from insitu.symbols.unwind_lookup import RowLookup, Trampolines
from insitu.symbols.unwind_rows import END, FRAME_POINTER, RowTable
from insitu.symbols.unwind_step import BROKEN, Lanes
from insitu.symbols.user_stacks import UserStacks

__all__ = ["CUT", "MAX_DEPTH", "Unwinder", "UserStacks", "unwind"]

CUT: Final = np.uint64(0x7FFF_FFFF_FFFF_FFF0)
"""Instead of a frame's address: the stack goes on, but was not unwound further. Not a canonical address."""
MAX_DEPTH: Final = 127
"""Frames of a stack that are unwound by default, as in perf (PERF_MAX_STACK_DEPTH)."""

_REGS_ABI_32: Final = 1  # enum perf_sample_regs_abi
_COMPAT_WORD_BYTES: Final = 4

# Enough samples for a numpy call to cost little per sample, few enough for their arrays to stay in the cache.
_BLOCK: Final = 1 << 14
_FIRST_BLOCK: Final = 1 << 8

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


def unwind(
    stacks: UserStacks,
    spaces: ProcessMap,
    open_module: Callable[[Module], Elf | None],
    *,
    max_depth: int = MAX_DEPTH,
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
    unwinder = Unwinder(spaces, open_module, machine=machine, frame_pointers=frame_pointers, max_depth=max_depth)
    return unwinder.unwind(stacks)


class Unwinder:
    """Unwinds samples of one recording in any number of parts; what is learnt of its files is kept for the next."""

    def __init__(
        self,
        spaces: ProcessMap,
        open_module: Callable[[Module], Elf | None],
        *,
        machine: Machine = X86_64,
        frame_pointers: bool = False,
        max_depth: int = MAX_DEPTH,
        mark_cut: bool = False,
        trampolines: Trampolines | None = None,
    ) -> None:
        """See `unwind` for what the arguments mean. With ``mark_cut`` CUT follows on ``max_depth`` frames.

        So it does where no caller is found although there must be one.
        ``trampolines`` says which addresses of memory that is not a file are in CPython's perf trampolines.
        """
        self._max_depth = max(max_depth, 1)
        self._mark_cut = mark_cut
        self.cut = 0
        """How many stacks were longer than ``max_depth``."""
        self.broken = 0
        """How many stacks ended elsewhere than where a program or thread begins."""
        self.unsupported = 0
        """How many samples with 32-bit registers have only their leaf, as this machine's are not supported."""
        self._machine = machine
        unknown = FRAME_POINTER if frame_pointers else END
        self._walks = [
            _Walk(each, RowLookup(table, spaces, open_module, unknown, trampolines), table)
            for each in (machine, machine.compat)
            if each is not None
            for table in (RowTable(each),)
        ]

    def unwind(self, stacks: UserStacks) -> tuple[I64, U64]:
        """See `unwind`."""
        compat = np.zeros(0, np.int64) if stacks.abi is None else np.flatnonzero(stacks.abi == _REGS_ABI_32)
        if not len(compat) or self._machine.word_bytes == _COMPAT_WORD_BYTES:
            return self._unwind(stacks, self._walks[0])
        native = np.flatnonzero(stacks.abi != _REGS_ABI_32)
        parts = [(native, *self._unwind(stacks.take(native), self._walks[0]))]
        narrow = stacks.take(compat)
        if len(self._walks) > 1:
            parts.append((compat, *self._unwind(narrow, self._walks[1])))
        else:
            self.unsupported += len(compat)
            leaf = narrow.register(self._machine, self._machine.pc, 0, len(compat))
            parts.append((compat, np.arange(len(compat) + 1), leaf))
        return _interleaved(parts, len(stacks.epoch))

    def stack_pointers(self, stacks: UserStacks) -> list[int]:
        """Of one stack: where each frame begins, innermost first; where the outermost one ends is the last."""
        is_compat = stacks.abi is not None and int(stacks.abi[0]) == _REGS_ABI_32
        if is_compat and len(self._walks) < 2:
            return []
        walk = self._walks[is_compat]
        tags = walk.lookup.tags(stacks.epoch)
        while True:
            found: list[U64] = []
            lanes = Lanes(stacks, walk.table, 0, 1)
            if lanes.steps(walk.lookup, tags, self._max_depth + 1, found) is not None:
                return [int(each[0]) for each in found if len(each)]

    def notes(self, remedy: str = "") -> list[str]:
        """What the stacks lack, each a line to show to the user. ``remedy`` is for those that are too long."""
        notes = []
        if self.cut:
            what = "1 stack was" if self.cut == 1 else f"{self.cut} stacks were"
            notes.append(f"{what} cut at {self._max_depth} frames (--max-stack raises the limit)")
        if self.broken and self._mark_cut:
            what = "1 stack is" if self.broken == 1 else f"{self.broken} stacks are"
            notes.append(
                f"{what} truncated: longer than the copied part, or through code without unwind information"
                + (f" ({remedy})" if remedy else "")
            )
        if self.unsupported:
            one = self.unsupported == 1
            what = (
                "1 sample of a 32-bit process has" if one else f"{self.unsupported} samples of 32-bit processes have"
            )
            notes.append(f"{what} no callers: not supported on {self._machine.name}")
        return notes

    def _unwind(self, stacks: UserStacks, walk: "_Walk") -> tuple[I64, U64]:
        count = len(stacks.epoch)
        # The first few samples show which registers are needed; each one found later costs its block a new start.
        bounds = [0, *range(min(_FIRST_BLOCK, count), count, _BLOCK), count]
        blocks = [self._block(stacks, walk, low, high) for low, high in pairwise(bounds) if low < high]
        offsets = np.zeros(count + 1, np.int64)
        if blocks:
            np.cumsum(np.concatenate([depths for depths, _ in blocks]), out=offsets[1:])
        return offsets, np.concatenate([np.zeros(0, np.uint64), *(frames for _, frames in blocks)])

    def _block(self, stacks: UserStacks, walk: "_Walk", low: int, high: int) -> tuple[I64, U64]:
        """Depths of the stacks of samples [low, high), and their frames."""
        tags = walk.lookup.tags(stacks.epoch[low:high])
        steps = None
        while steps is None:
            # One more step than is shown finds the stacks that go on.
            steps = Lanes(stacks, walk.table, low, high).steps(walk.lookup, tags, self._max_depth + 1)
        if len(steps) > self._max_depth:
            lanes, addresses = steps.pop()
            further = lanes[(addresses != 0) & (addresses != BROKEN)]
            self.cut += len(further)
            if self._mark_cut and len(further):
                steps.append((further, np.full(len(further), CUT)))
        return _joined([self._marked(*step) for step in steps], high - low)

    def _marked(self, lanes: I64, addresses: U64) -> tuple[I64, U64]:
        broken = addresses == BROKEN
        count = int(np.count_nonzero(broken))
        self.broken += count
        return (
            (lanes, np.where(broken, CUT if self._mark_cut else np.uint64(0), addresses))
            if count
            else (lanes, addresses)
        )


class _Walk(NamedTuple):
    """What is known of the files of one of the machine's two register widths."""

    machine: Machine
    lookup: RowLookup
    table: RowTable


def _interleaved(parts: list[tuple[I64, I64, U64]], count: int) -> tuple[I64, U64]:
    """Results for distinct rows of ``count`` samples (rows, offsets, frames), put together in the samples' order."""
    depths = np.zeros(count, np.int64)
    for rows, offsets, _ in parts:
        depths[rows] = np.diff(offsets)
    result = np.concatenate([np.zeros(1, np.int64), np.cumsum(depths)])
    frames = np.empty(int(result[-1]), np.uint64)
    for rows, offsets, addresses in parts:
        shift = np.repeat(result[:-1][rows] - offsets[:-1], np.diff(offsets))
        frames[np.arange(len(addresses)) + shift] = addresses
    return result, frames


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
