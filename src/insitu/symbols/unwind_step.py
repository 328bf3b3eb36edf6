"""One step of many stacks at once: every lane moves from its frame to its caller's by the row that applies there."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.cfi import AT_OFFSET, IN_REGISTER, IS_OFFSET, VALUE_EXPRESSION, Row
from insitu.symbols.dwarf_expression import evaluate, parse
from insitu.symbols.unwind_lookup import RowLookup
from insitu.symbols.unwind_rows import END, FRAME_POINTER, SAME, Columns, RowTable
from insitu.symbols.user_stacks import UserStacks

__all__ = ["BROKEN", "Lanes"]

BROKEN: Final = np.uint64(0x7FFF_FFFF_FFFF_FFE0)
"""Instead of a frame's address: its caller could not be found. Not a canonical address."""

# A frame pointer is followed if it lies at most this far above the stack pointer (as libunwind does).
_MAX_GUESSED_FRAME_BYTES: Final = np.uint64(0x4000)
_ONE: Final = np.uint64(1)
_MASK: Final = (1 << 64) - 1

Bools = NDArray[np.bool_]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class _Step(NamedTuple):
    """The callers of some lanes: CFA, return address, where they are known, and the tracked registers."""

    cfa: U64
    pc: U64
    good: Bools
    registers: U64


class Lanes:
    """The stacks of one block of samples: one lane each in arrays that shrink as stacks end."""

    def __init__(self, stacks: UserStacks, table: RowTable, low: int, high: int) -> None:
        """The leaves of samples [low, high), with the registers that the rows of ``table`` are known to need."""
        self.table = table
        self.machine = table.machine
        narrow = self.machine.word_bytes < 8
        self.word_mask = np.uint64((1 << 8 * self.machine.word_bytes) - 1) if narrow else None
        self.tracked = tuple(sorted(table.needed))
        self.words = stacks.words
        size = len(stacks.stack)
        start = np.clip(stacks.stack_start[low:high].astype(np.int64), 0, size)
        valid = np.clip(stacks.stack_size[low:high].astype(np.int64), 0, size - start)
        self.lane = np.arange(high - low)
        # perf gives no frames to a sample whose copy is empty.
        self.pc = stacks.register(self.machine, self.machine.pc, low, high) * (valid > 0)
        self.registers = np.stack([stacks.register(self.machine, number, low, high) for number in self.tracked])
        self.sp_slot = self.tracked.index(self.machine.sp)
        self.fp_slot = self.tracked.index(self.machine.fp)
        self.bottom = self.registers[self.sp_slot].copy()
        self.origin = self.words.origin(start)
        # perf does not read the last word of a copy (access_mem of unwind-libunwind-local.c), so neither do we.
        self.limit = np.maximum(valid - 8, 0).view(np.uint64)
        # 1 where pc is a return address: the row that applies is that of the call before it.
        self.back = np.zeros(high - low, np.uint64)
        self.broken = np.zeros(high - low, np.bool_)
        """Where the last step found no caller although there must be one."""

    def steps(
        self, lookup: RowLookup, tags: U64, max_depth: int, pointers: list[U64] | None = None
    ) -> list[tuple[I64, U64]] | None:
        """Lanes and program counters (0: ended) of each pass; None if a row needs a register that is not tracked.

        A stack that ends without having come to its end has BROKEN as its last one.
        ``tags`` are what ``lookup`` knows the samples' epochs by. ``pointers`` takes the lanes' stack pointers.
        """
        steps = [(self.lane, self.pc)]
        if pointers is not None:
            pointers.append(self.registers[self.sp_slot].copy())
        while len(steps) < max_depth and len(self.lane):
            rows = lookup.rows(self.pc - self.back, tags)
            if len(self.table.needed) > len(self.tracked):
                return None
            columns = self.table.columns(self.tracked)
            self._step(rows, columns)
            if self.table.has_signal:
                self.back = (~columns.signal.take(rows)).astype(np.uint64)
            else:
                self.back = np.ones(len(rows), np.uint64)
            kept = self._compress()
            if kept is not None:
                tags = tags[kept]
            shown = self.pc + (self.back ^ _ONE) * (self.pc != 0) if self.table.has_signal else self.pc
            if self.broken.any():
                shown = np.where(self.broken, BROKEN, shown)
            steps.append((self.lane, shown))
            if pointers is not None:
                pointers.append(self.registers[self.sp_slot].copy())
        return steps

    def _compress(self) -> I64 | None:
        """Let go of lanes that have ended, when they are enough to be worth it; the indices of those kept."""
        live = (self.pc != 0) | self.broken
        count = int(np.count_nonzero(live))
        if count and count * 8 >= len(live) * 7:
            return None
        kept = np.flatnonzero(live)
        self.lane, self.pc, self.back = self.lane[kept], self.pc[kept], self.back[kept]
        self.bottom, self.origin, self.limit = self.bottom[kept], self.origin[kept], self.limit[kept]
        self.registers, self.broken = self.registers.take(kept, axis=1), self.broken[kept]
        return kept

    def read(self, addresses: U64, lanes: I64 | None = None) -> tuple[U64, Bools]:
        """The words at addresses of the lanes' stacks, and where they lie within the copy."""
        bottom, limit, origin = self.bottom, self.limit, self.origin
        if lanes is not None:
            bottom, limit, origin = bottom[lanes], limit[lanes], origin[lanes]
        distance = addresses - bottom
        good = distance < limit
        words = self.words.read(distance * good + origin)
        return (words & self.word_mask if self.word_mask is not None else words), good

    def _step(self, rows: I64, columns: Columns) -> None:
        """Move every lane to its caller; pc becomes 0 where there is none."""
        special = columns.special.take(rows)
        apart = np.flatnonzero(special) if special.any() else None
        replaced = [] if apart is None else self._special_steps(rows, apart)
        count = len(rows)
        cfa = self.registers.reshape(-1).take(columns.slot.take(rows) * count + np.arange(count))
        cfa += columns.cfa.take(rows)
        pc, good = self.read(cfa + columns.ra.take(rows))
        known = rows != END
        good &= known
        for slot, offsets in enumerate(columns.saved):
            if slot != self.sp_slot:
                offset = offsets.take(rows)
                saved = np.flatnonzero(offset != SAME)
                value, readable = self.read(cfa[saved] + offset[saved], saved)
                self.registers[slot, saved] = value * readable
        for lanes, step in replaced:
            cfa[lanes], pc[lanes], good[lanes] = step.cfa, step.pc, step.good
        # Code without call frame information whose frame pointer is 0 is where a program or thread began.
        known &= (rows != FRAME_POINTER) | (self.registers[self.fp_slot] != 0)
        self.broken = known & ~good & (self.pc != 0)
        # A step that changes nothing would repeat for ever.
        good &= (pc != self.pc) | (cfa != self.registers[self.sp_slot])
        self.registers[self.sp_slot] = cfa
        for lanes, step in replaced:
            self.registers[:, lanes] = step.registers
        self.pc = pc * good & np.uint64(self.machine.address_mask)

    def _special_steps(self, rows: I64, lanes: I64) -> list[tuple[I64, _Step]]:
        """Callers of the lanes whose rows are more than offsets: a group of lanes for each row."""
        steps = []
        for number in sorted(set(rows[lanes].tolist())):
            group = lanes[rows[lanes] == number]
            if number == FRAME_POINTER:
                steps.append((group, self._frame_pointer_step(group)))
            else:
                steps.append((group, self._rule_step(self.table.rows[number], group)))
        return steps

    def _frame_pointer_step(self, lanes: I64) -> _Step:
        word = np.uint64(self.machine.word_bytes)
        registers = self.registers[:, lanes]
        pointer = registers[self.fp_slot].copy()
        good = pointer - registers[self.sp_slot] <= _MAX_GUESSED_FRAME_BYTES
        outer, readable = self.read(pointer, lanes)
        pc, returns = self.read(pointer + word, lanes)
        registers[self.fp_slot] = outer
        registers[self.sp_slot] = pointer + 2 * word
        return _Step(pointer + 2 * word, pc, good & readable & returns, registers)

    def _rule_step(self, row: Row, lanes: I64) -> _Step:
        frames = _Frames(self, lanes)
        good = frames.locate(row.cfa)
        after = frames.registers.copy()
        after[self.sp_slot] = frames.cfa
        # Where no rule says otherwise the return address is still in its register (aarch64's link register).
        pc = None
        for number, kind, operand in row.rules:
            if number in self.tracked or number == row.return_register:
                value, known = frames.recovered(kind, operand)
                if number in self.tracked:
                    after[self.tracked.index(number)] = value * known
                if number == row.return_register:
                    pc, good = value, good & known
        if pc is None:
            pc = frames.register(row.return_register, frames.all)
        return _Step(frames.cfa, pc, good, after)


class _Frames:
    """The frames of some lanes, as the rules of one row see them. Indices are into those lanes."""

    def __init__(self, owner: Lanes, lanes: I64) -> None:
        self._owner = owner
        self._lanes = lanes
        self.registers = owner.registers[:, lanes]
        self.all = np.arange(len(lanes))
        self.cfa = np.zeros(len(lanes), np.uint64)

    def register(self, number: int, some: I64) -> U64:
        """A register, tracked or the program counter, of some of the frames."""
        if number == self._owner.machine.pc:
            return self._owner.pc[self._lanes[some]]
        values: U64 = self.registers[self._owner.tracked.index(number), some]
        return values

    def memory(self, addresses: U64, some: I64) -> tuple[U64, Bools]:
        """Words of the stacks of some of the frames, and where they could be read."""
        return self._owner.read(addresses, self._lanes[some])

    def locate(self, rule: tuple[int, int] | bytes) -> Bools:
        """Compute the CFA by its rule; where that was possible."""
        if isinstance(rule, bytes):
            self.cfa, good = self._evaluated(rule)
            return good
        self.cfa = self.register(rule[0], self.all) + np.uint64(rule[1] & _MASK)
        return np.ones(len(self.all), np.bool_)

    def recovered(self, kind: int, operand: int | bytes) -> tuple[U64, Bools]:
        """The callers' value of a register by its rule, and where it could be had."""
        if isinstance(operand, bytes):
            value, known = self._evaluated(operand)
            if kind == VALUE_EXPRESSION:
                return value, known
            word, readable = self.memory(value, self.all)
            return word, known & readable
        if kind == AT_OFFSET:
            return self.memory(self.cfa + np.uint64(operand & _MASK), self.all)
        if kind == IN_REGISTER:
            return self.register(operand, self.all), np.ones(len(self.all), np.bool_)
        return self.cfa + np.uint64(operand & _MASK), np.full(len(self.all), kind == IS_OFFSET)

    def _evaluated(self, block: bytes) -> tuple[U64, Bools]:
        expression = parse(block, self._owner.machine.word_bytes)
        if expression is None:
            return np.zeros_like(self.cfa), np.zeros(len(self.all), np.bool_)
        return evaluate(expression, self.cfa, self.register, self.memory)
