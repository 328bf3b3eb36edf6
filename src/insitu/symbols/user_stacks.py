"""User registers and stack copies of samples, and reading words of the copies without moving them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.registers import Machine

__all__ = ["StackWords", "UserStacks"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


@dataclass(frozen=True)
class UserStacks:
    """n samples' user registers and stack copies, as PERF_SAMPLE_REGS_USER and PERF_SAMPLE_STACK_USER give them."""

    registers: U64
    """(n, R), in the order of the bits that are set in ``mask``."""
    mask: int
    """perf_event_attr.sample_regs_user."""
    stack: NDArray[np.uint8]
    """One buffer that holds all copies; it is not copied, and may be a mapped file."""
    stack_start: I64
    """(n,) offset of each sample's copy in ``stack``; the copy begins at the sample's stack pointer."""
    stack_size: I64
    """(n,) valid bytes of each copy (dyn_size)."""
    epoch: NDArray[np.int32]
    """(n,) epoch of the sample's address space, -1 if unknown."""
    abi: U64 | None = None
    """(n,) PERF_SAMPLE_REGS_ABI_32 (1) or _64 (2); None if all have the machine's own width."""

    def take(self, rows: I64) -> "UserStacks":
        """The samples ``rows``, in that order; the copies stay where they are."""
        return UserStacks(
            self.registers[rows],
            self.mask,
            self.stack,
            self.stack_start[rows],
            self.stack_size[rows],
            self.epoch[rows],
            None if self.abi is None else self.abi[rows],
        )

    def register(self, machine: Machine, number: int, low: int, high: int) -> U64:
        """A register of samples [low, high), by its DWARF number; zeros if it was not recorded."""
        bit = machine.dwarf_of_perf.index(number) if number in machine.dwarf_of_perf else 64
        column = (self.mask & (1 << bit) - 1).bit_count()
        if not self.mask >> bit & 1 or column >= self.registers.shape[1]:
            return np.zeros(high - low, np.uint64)
        return np.ascontiguousarray(self.registers[low:high, column], np.uint64)

    @cached_property
    def words(self) -> "StackWords":
        """The copies, as words."""
        return StackWords(self.stack)


class StackWords:
    """The stack copies of all samples, read as words from wherever they lie."""

    def __init__(self, stack: NDArray[np.uint8]) -> None:
        """``stack`` is contiguous."""
        if len(stack) < 16:  # too few to be sure of an aligned word
            stack = np.concatenate([stack, np.zeros(16, np.uint8)])
        self._bytes = stack
        misaligned = -int(stack.__array_interface__["data"][0]) % 8
        self._skip = np.uint64(misaligned)
        usable = (len(stack) - misaligned) & ~7
        self._words = stack[misaligned : misaligned + usable].view("<u8")

    def origin(self, start: I64) -> U64:
        """Where copies that begin at ``start`` of the buffer do so counted in bytes from its first aligned word."""
        return start.view(np.uint64) - self._skip

    def read(self, positions: U64) -> U64:
        """The words at ``positions`` (as `origin` counts them); any word where that is beyond the buffer."""
        # Compared with fancy indexing, clipping saves take() a pass that checks the bounds.
        words = self._words.take((positions >> np.uint64(3)).view(np.int64), mode="clip")
        odd = (positions & np.uint64(7)) != 0
        if odd.any():
            first = np.minimum((positions[odd] + self._skip).view(np.int64), len(self._bytes) - 8)
            words[odd] = self._bytes[first[:, None] + np.arange(8)].view("<u8")[:, 0]
        return words
