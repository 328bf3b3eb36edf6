"""Unwinds many samples' stack copies at once by call frame information: each pass is one step of every stack.

The frames are those of perf script, whose unwinder is libunwind (tools/perf/util/unwind-libunwind-local.c).
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.address_space import AddressSpaces, Module
from insitu.symbols.cfi import AT_OFFSET, IN_REGISTER, IS_OFFSET, VALUE_EXPRESSION, Row
from insitu.symbols.dwarf_expression import evaluate, parse
from insitu.symbols.elf import Elf
from insitu.symbols.registers import X86_64, Machine
from insitu.symbols.unwind_lookup import RowLookup
from insitu.symbols.unwind_rows import END, FRAME_POINTER, SAME, Columns, RowTable

__all__ = ["UserStacks", "unwind"]

# Enough samples for a numpy call to cost little per sample, few enough for their arrays to stay in the cache.
_BLOCK: Final = 1 << 14
_FIRST_BLOCK: Final = 1 << 8
# A frame pointer is believed if it lies at most this far above the stack pointer (as libunwind does).
_MAX_GUESSED_FRAME_BYTES: Final = np.uint64(0x4000)
_ONE, _WORD = np.uint64(1), np.uint64(8)
_MASK: Final = (1 << 64) - 1

Bools = NDArray[np.bool_]
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
    table = RowTable(machine)
    lookup = RowLookup(table, spaces, open_module, FRAME_POINTER if frame_pointers else END)
    unwinder = _Unwinder(stacks, machine, table, lookup, max_depth)
    count = len(stacks.epoch)
    # The first few samples show which registers are needed; each one found later costs its block a new start.
    bounds = [0, *range(min(_FIRST_BLOCK, count), count, _BLOCK), count]
    blocks = [unwinder.block(low, high) for low, high in pairwise(bounds) if low < high]
    offsets = np.zeros(count + 1, np.int64)
    if blocks:
        np.cumsum(np.concatenate([depths for depths, _ in blocks]), out=offsets[1:])
    return offsets, np.concatenate([np.zeros(0, np.uint64), *(frames for _, frames in blocks)])


class _Unwinder:
    """What all blocks of samples share: rows that were found, registers that are tracked, the copies as words."""

    def __init__(
        self, stacks: UserStacks, machine: Machine, table: RowTable, lookup: RowLookup, max_depth: int
    ) -> None:
        self.machine = machine
        self.table = table
        self.lookup = lookup
        self.max_depth = max_depth
        self.tracked: tuple[int, ...] = ()
        self.copies = _Copies(stacks)
        self._stacks = stacks
        bits = [bit for bit in range(64) if stacks.mask >> bit & 1]
        known = [machine.dwarf_of_perf[bit] if bit < len(machine.dwarf_of_perf) else -1 for bit in bits]
        self._column = {register: column for column, register in enumerate(known) if register >= 0}

    def register(self, number: int, low: int, high: int) -> U64:
        """A register of the samples, by its DWARF number; zeros if it was not recorded."""
        column = self._column.get(number)
        if column is None or column >= self._stacks.registers.shape[1]:
            return np.zeros(high - low, np.uint64)
        return np.ascontiguousarray(self._stacks.registers[low:high, column], np.uint64)

    def block(self, low: int, high: int) -> tuple[I64, U64]:
        """Depths of the stacks of samples [low, high), and their frames."""
        tags = self.lookup.tags(self._stacks.epoch[low:high])
        while True:
            self.tracked = tuple(sorted(self.table.needed))
            steps = _Lanes(self, low, high, tags).steps()
            if steps is not None:
                return _joined(steps, high - low)


def _joined(steps: list[tuple[I64, U64]], count: int) -> tuple[I64, U64]:
    """Lanes and their addresses (0: the stack has ended) of each pass, put together by sample."""
    depths = np.zeros(count, np.int64)
    for depth, (lanes, addresses) in enumerate(steps):
        depths[lanes[addresses != 0]] = depth + 1
    ends = np.cumsum(depths)
    starts = ends - depths
    frames = np.empty(int(ends[-1]), np.uint64)
    for depth, (lanes, addresses) in enumerate(steps):
        live = addresses != 0
        frames[starts[lanes[live]] + depth] = addresses[live]
    return depths, frames


class _Copies:
    """The stack copies of all samples, read as words from wherever they lie."""

    def __init__(self, stacks: UserStacks) -> None:
        self._bytes = stacks.stack
        misaligned = -int(stacks.stack.__array_interface__["data"][0]) % 8
        self._skip = np.uint64(misaligned)
        usable = max(len(stacks.stack) - misaligned, 0) & ~7
        self._words = stacks.stack[misaligned : misaligned + usable].view("<u8")
        if not len(self._words):
            self._words = np.zeros(1, np.uint64)

    def origin(self, start: I64) -> U64:
        """Where copies that begin at ``start`` of the buffer do so counted in bytes from its first aligned word."""
        return start.view(np.uint64) - self._skip

    def read(self, positions: U64) -> U64:
        """The words at ``positions`` (as `origin` counts them), which are all within the buffer."""
        # Compared with fancy indexing, clipping saves take() a pass that checks the bounds.
        words = self._words.take((positions >> np.uint64(3)).view(np.int64), mode="clip")
        odd = (positions & np.uint64(7)) != 0
        if odd.any():
            first = (positions[odd] + self._skip).view(np.int64)
            words[odd] = self._bytes[first[:, None] + np.arange(8)].view("<u8")[:, 0]
        return words


class _Lanes:
    """The stacks of one block that have not ended: one lane each in arrays that shrink as stacks end."""

    def __init__(self, unwinder: _Unwinder, low: int, high: int, tags: U64) -> None:
        self.unwinder = unwinder
        self.machine = unwinder.machine
        stacks = unwinder._stacks
        size = len(stacks.stack)
        start = np.clip(stacks.stack_start[low:high].astype(np.int64), 0, size)
        valid = np.clip(stacks.stack_size[low:high].astype(np.int64), 0, size - start)
        self.lane = np.arange(high - low)
        self.tags = tags
        self.pc = unwinder.register(self.machine.pc, low, high) * (valid > 0)
        self.registers = np.stack([unwinder.register(number, low, high) for number in unwinder.tracked])
        self.sp_slot = unwinder.tracked.index(self.machine.sp)
        self.fp_slot = unwinder.tracked.index(self.machine.fp)
        self.bottom = self.registers[self.sp_slot].copy()
        self.origin = unwinder.copies.origin(start)
        # perf does not read the last word of a copy (access_mem of unwind-libunwind-local.c), so neither do we.
        self.limit = np.maximum(valid - 8, 0).view(np.uint64)
        # 1 where pc is a return address: the row that applies is that of the call before it.
        self.back = np.zeros(high - low, np.uint64)

    def steps(self) -> list[tuple[I64, U64]] | None:
        """Lanes and program counters of each pass; None if a row needs a register that is not tracked."""
        table = self.unwinder.table
        steps = [(self.lane, self.pc)]
        while len(steps) < self.unwinder.max_depth and len(self.lane):
            rows = self.unwinder.lookup.rows(self.pc - self.back, self.tags)
            if len(table.needed) > len(self.unwinder.tracked):
                return None
            columns = table.columns(self.unwinder.tracked)
            self._step(rows, columns)
            if table.has_signal:
                self.back = (~columns.signal.take(rows)).astype(np.uint64)
            else:
                self.back = np.ones(len(rows), np.uint64)
            self._compress()
            steps.append((self.lane, self.pc + (self.back ^ _ONE) * (self.pc != 0) if table.has_signal else self.pc))
        return steps

    def _compress(self) -> None:
        """Let go of lanes that have ended, when they are enough to be worth it."""
        live = self.pc != 0
        count = int(np.count_nonzero(live))
        if count == 0 or count * 8 < len(live) * 7:
            kept = np.flatnonzero(live)
            self.lane, self.tags, self.pc = self.lane[kept], self.tags[kept], self.pc[kept]
            self.back, self.bottom = self.back[kept], self.bottom[kept]
            self.origin, self.limit = self.origin[kept], self.limit[kept]
            self.registers = self.registers.take(kept, axis=1)

    def _read(self, addresses: U64, lanes: I64 | None = None) -> tuple[U64, Bools]:
        """The words at addresses of the lanes' stacks, and where they lie within the copy."""
        bottom, limit, origin = self.bottom, self.limit, self.origin
        if lanes is not None:
            bottom, limit, origin = bottom[lanes], limit[lanes], origin[lanes]
        distance = addresses - bottom
        good = distance < limit
        return self.unwinder.copies.read(distance * good + origin), good

    def _step(self, rows: I64, columns: Columns) -> None:
        """Move every lane to its caller; pc becomes 0 where there is none."""
        special = columns.special.take(rows)
        apart = np.flatnonzero(special) if special.any() else None
        replaced = [] if apart is None else self._special_steps(rows, apart)
        count = len(rows)
        cfa = self.registers.reshape(-1).take(columns.slot.take(rows) * count + np.arange(count))
        cfa += columns.cfa.take(rows)
        pc, good = self._read(cfa + columns.ra.take(rows))
        good &= rows != END
        for slot, offsets in enumerate(columns.saved):
            if slot != self.sp_slot:
                offset = offsets.take(rows)
                saved = np.flatnonzero(offset != SAME)
                value, readable = self._read(cfa[saved] + offset[saved], saved)
                self.registers[slot, saved] = value * readable
        for lanes, step in replaced:
            cfa[lanes], pc[lanes], good[lanes] = step.cfa, step.pc, step.good
        # A step that changes nothing would be taken for ever.
        good &= (pc != self.pc) | (cfa != self.registers[self.sp_slot])
        self.registers[self.sp_slot] = cfa
        for lanes, step in replaced:
            self.registers[:, lanes] = step.registers
        self.pc = pc * good & np.uint64(self.machine.address_mask)

    def _special_steps(self, rows: I64, lanes: I64) -> list[tuple[I64, "_Step"]]:
        """Callers of the lanes whose rows are no mere offsets: a group of lanes for each row."""
        steps = []
        for number in np.unique(rows[lanes]).tolist():
            group = lanes[rows[lanes] == number]
            if number == FRAME_POINTER:
                steps.append((group, self._frame_pointer_step(group)))
            else:
                steps.append((group, self._rule_step(self.unwinder.table.rows[number], group)))
        return steps

    def _frame_pointer_step(self, lanes: I64) -> "_Step":
        registers = self.registers[:, lanes]
        pointer = registers[self.fp_slot].copy()
        good = pointer - registers[self.sp_slot] <= _MAX_GUESSED_FRAME_BYTES
        outer, readable = self._read(pointer, lanes)
        pc, returns = self._read(pointer + _WORD, lanes)
        registers[self.fp_slot] = outer
        registers[self.sp_slot] = pointer + 2 * _WORD
        return _Step(pointer + 2 * _WORD, pc, good & readable & returns, registers)

    def _rule_step(self, row: Row, lanes: I64) -> "_Step":
        tracked = self.unwinder.tracked
        before = self.registers[:, lanes]

        def register(number: int, some: I64) -> U64:
            if number == self.machine.pc:
                return self.pc[lanes[some]]
            values: U64 = before[tracked.index(number), some]
            return values

        def memory(addresses: U64, some: I64) -> tuple[U64, Bools]:
            return self._read(addresses, lanes[some])

        everyone = np.arange(len(lanes))

        def recovered(kind: int, operand: int | bytes) -> tuple[U64, Bools]:
            """The caller's value of a register by its rule, and where it could be had."""
            if isinstance(operand, bytes):
                expression = parse(operand)
                if expression is None:
                    return np.zeros_like(cfa), np.zeros(len(lanes), np.bool_)
                value, known = evaluate(expression, cfa, register, memory)
                if kind == VALUE_EXPRESSION:
                    return value, known
                word, readable = memory(value, everyone)
                return word, known & readable
            if kind == AT_OFFSET:
                return memory(cfa + np.uint64(operand & _MASK), everyone)
            if kind == IN_REGISTER:
                return register(operand, everyone), np.ones(len(lanes), np.bool_)
            known = np.full(len(lanes), kind == IS_OFFSET)
            return cfa + np.uint64(operand & _MASK), known

        good = np.ones(len(lanes), np.bool_)
        if isinstance(row.cfa, bytes):
            expression = parse(row.cfa)
            assert expression is not None  # such rows are interned as END
            cfa, good = evaluate(expression, np.zeros(len(lanes), np.uint64), register, memory)
        else:
            cfa = register(row.cfa[0], everyone) + np.uint64(row.cfa[1] & _MASK)
        after = before.copy()
        after[self.sp_slot] = cfa
        pc = None
        for number, kind, operand in row.rules:
            if number in tracked or number == row.return_register:
                value, known = recovered(kind, operand)
                if number in tracked:
                    after[tracked.index(number)] = value * known
                if number == row.return_register:
                    pc, good = value, good & known
        if pc is None:
            pc = register(row.return_register, everyone)
        return _Step(cfa, pc, good, after)


class _Step(NamedTuple):
    """The callers of some lanes: CFA, return address, where they are known, and the tracked registers."""

    cfa: U64
    pc: U64
    good: Bools
    registers: U64
