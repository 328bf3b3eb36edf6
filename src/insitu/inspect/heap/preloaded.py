"""The blocks that a command's preloaded library has recorded: where and when each that is in use was allocated.

The library (debug/allocator/blocks.c) writes them into a memory file of this program's, of which pages that are
never written take no memory. It is the traced program's to write: all that is read from it is bounded.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from collections.abc import Iterable
from itertools import dropwhile
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.allocations import U64, Traced
from insitu.inspect.heap.snapshot import PRELOADED_TABLE, Snapshot
from insitu.kernel import procfs, ptrace
from insitu.symbols.copied_stacks import frames_at
from insitu.symbols.frame import Frame
from insitu.symbols.preloaded import SAVED_AT, library, preloading
from insitu.symbols.process_map import ProcessMap
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import Unwinder
from insitu.symbols.user_stacks import UserStacks

__all__ = ["LIBRARY", "WHAT", "BlockTable", "RecordedBlocks"]

LIBRARY: Final = library("blocks")
WHAT: Final = "library that records allocations"

# debug/allocator/blocks.h
_STRIPES: Final = 64
_MAGIC: Final = 0x31736B636F6C42
_STRIPE: Final = np.dtype([("lock", "V40"), ("used", "<u4"), ("free", "<u4"), ("full", "<u8")])
_TABLE: Final = np.dtype(
    [("magic", "<u8"), ("blocks", "<u8"), ("stack_bytes", "<u8"), ("frozen", "<u8"), ("stripes", _STRIPE, _STRIPES)]
)
_BLOCK: Final = np.dtype(
    [
        *(("address", "<u8"), ("size", "<u8"), ("registers", "<u8", 8), ("ns", "<u8"), ("tid", "<u4")),
        *(("stack_bytes", "<u4"), ("next", "<u4"), ("unused", "<u4")),
    ]
)
_HEADER_BYTES: Final = 3 * 4096
_LIST_BYTES: Final = 2 * 4  # for each block
_MOST_BLOCKS: Final = 1 << 18
_MOST_STACK_BYTES: Final = 1 << 16
_MOST_BYTES: Final = np.uint64((1 << 63) - 1)
_MOST_DEPTH: Final = 127  # as PERF_MAX_STACK_DEPTH


class BlockTable:
    """The memory file, for one command."""

    def __init__(self, stack_bytes: int, most_bytes: int = 0) -> None:
        """With so many bytes of stack for each block (in steps of 8, at most 64 KiB).

        ``most_bytes``: of the file, 0: half of the memory that is available. Raises OSError.
        """
        self._stack_bytes = min(max(stack_bytes // 8 * 8, 8), _MOST_STACK_BYTES)
        most = most_bytes or procfs.available_memory() // 2
        each = _BLOCK.itemsize + _LIST_BYTES + self._stack_bytes
        self.blocks = min(_MOST_BLOCKS, max(most // each // _STRIPES, 1) * _STRIPES)
        """So many at a time are recorded."""
        self._stacks_at = _HEADER_BYTES + self.blocks * (_LIST_BYTES + _BLOCK.itemsize)
        size = self._stacks_at + self.blocks * self._stack_bytes
        self._file = os.memfd_create(PRELOADED_TABLE, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.truncate(self._file, size)
            # The program may write to it: it must not be able to cut it while we read.
            fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            self._mapped = mmap.mmap(self._file, size)
        except BaseException:
            os.close(self._file)
            raise

    def variables(self) -> dict[str, str]:
        """What to add to the environment of a command that this process starts. Raises InsituError."""
        own = os.getpid()
        where = f"{self.blocks}:{self._stack_bytes}:{own}:/proc/{own}/fd/{self._file}"
        return {**preloading(LIBRARY), "INSITU_LEAKS_TRACK": where}

    def close(self) -> None:
        """Close the file, which is gone when the command has ended, too."""
        os.close(self._file)

    def read(self, snapshot: Snapshot, copied_ns: int) -> RecordedBlocks | None:
        """What was in use when the process was copied (CLOCK_MONOTONIC); None if it has not loaded the library.

        Nothing is recorded any more.
        """
        header = np.frombuffer(self._mapped, _TABLE, 1)
        header["frozen"][0] = 1
        is_mapped = any(area.path.startswith(f"/memfd:{PRELOADED_TABLE}".encode()) for area in snapshot.areas)
        if not is_mapped or int(header["magic"][0]) != _MAGIC:
            return None
        stripes = header["stripes"][0]
        per_stripe = self.blocks // _STRIPES
        whole = np.frombuffer(self._mapped, _BLOCK, self.blocks, _HEADER_BYTES + self.blocks * _LIST_BYTES)
        used = np.minimum(stripes["used"], per_stripe).tolist()
        rows = np.concatenate([np.arange(each) + at * per_stripe for at, each in enumerate(used)]).astype(np.int64)
        blocks = whole[rows]
        inside = (blocks["address"] != 0) & (blocks["ns"] <= copied_ns)
        full = int(stripes["full"].astype(object).sum())
        stacks = np.frombuffer(self._mapped, np.uint8, self.blocks * self._stack_bytes, self._stacks_at)
        copies = _Copies(stacks, self._stack_bytes, rows[inside])
        return RecordedBlocks(snapshot, copied_ns, blocks[inside], copies, full)


class _Copies(NamedTuple):
    """Copies of stacks: those of so many bytes that lie one after another at ``rows``."""

    stacks: NDArray[np.uint8]
    each: int
    rows: NDArray[np.int64]


class RecordedBlocks:
    """Blocks that were in use when the process was copied. ``full``: allocations for which there was no room."""

    def __init__(
        self, snapshot: Snapshot, copied_ns: int, blocks: NDArray[np.void], copies: _Copies, full: int
    ) -> None:
        self._snapshot = snapshot
        self._copied_ns = copied_ns
        self._blocks = blocks
        self._copies = copies
        self.full = full

    def traced(self, wanted: U64) -> Traced:
        """Those of certain addresses, with their stacks, as far as these were copied."""
        chosen = np.isin(self._blocks["address"], wanted)
        blocks = self._blocks[chosen]
        pid = self._snapshot.pid
        spaces, symbolizer = ProcessMap(), Symbolizer()
        epoch = spaces.execed_with(pid, 0, [area for area in self._snapshot.areas if "x" in area.permissions])
        unwinder = Unwinder(
            spaces,
            symbolizer.open_module,
            frame_pointers=True,
            max_depth=_MOST_DEPTH,
            trampolines=symbolizer.python_trampolines,
        )
        bounds, addresses = unwinder.unwind(self._samples(blocks, self._copies.rows[chosen], epoch))
        index, distinct = _distinct(bounds, addresses)
        ends = np.cumsum([0, *map(len, distinct)])
        named = frames_at(spaces, symbolizer, pid, epoch, ends, np.concatenate([np.zeros(0, np.uint64), *distinct]))
        stacks: list[tuple[Frame, ...]] = [()]
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            stacks.append(_without_library(frame for each in named[start:end] for frame in each))
        return Traced(
            blocks["address"].astype(np.uint64),
            np.minimum(blocks["size"], _MOST_BYTES).astype(np.int64),
            self._copied_ns - blocks["ns"].astype(np.int64),
            index,
            stacks,
        )

    def _samples(self, blocks: NDArray[np.void], rows: NDArray[np.int64], epoch: int) -> UserStacks:
        stacks, each, _ = self._copies
        registers = np.zeros((len(blocks), ptrace.SAMPLED_MASK.bit_count()), np.uint64)
        registers[:, SAVED_AT] = blocks["registers"]
        sizes = np.minimum(blocks["stack_bytes"], each).astype(np.int64)
        epochs = np.full(len(blocks), epoch, np.int32)
        return UserStacks(registers, ptrace.SAMPLED_MASK, stacks, rows * each, sizes, epochs)


def _distinct(bounds: NDArray[np.int64], addresses: U64) -> tuple[NDArray[np.int32], list[U64]]:
    """The different ones of some stacks, and for each which of them it is, counted from 1 on."""
    known: dict[bytes, int] = {}
    distinct: list[U64] = []
    index = np.zeros(len(bounds) - 1, np.int32)
    for at, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        stack = addresses[start:end]
        index[at] = known.setdefault(stack.tobytes(), len(known) + 1)
        if index[at] > len(distinct):
            distinct.append(stack)
    return index, distinct


def _without_library(frames: Iterable[Frame]) -> tuple[Frame, ...]:
    return tuple(dropwhile(lambda frame: frame.module.endswith(f"/{LIBRARY.name}"), frames))
