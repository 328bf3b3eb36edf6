"""One step of many stacks at once: every lane moves from its frame to its caller's by the row that applies there."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.cfi import AT_OFFSET, IN_REGISTER, IS_OFFSET, VALUE_EXPRESSION, Row
from insitu.symbols.dwarf_expression import evaluate, parse
from insitu.symbols.unwind_lookup import RowLookup
from insitu.symbols.unwind_rows import END, FRAME_POINTER, SAME, Columns, RowTable
from insitu.symbols.user_stacks import UserStacks

__all__ = ["Lanes"]

# A frame pointer is believed if it lies at most this far above the stack pointer (as libunwind does).
_MAX_GUESSED_FRAME_BYTES: Final = np.uint64(0x4000)
_ONE, _WORD = np.uint64(1), np.uint64(8)
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

    def steps(self, lookup: RowLookup, tags: U64, max_depth: int) -> list[tuple[I64, U64]] | None:
        """Lanes and program counters (0: ended) of each pass; None if a row needs a register that is not tracked.

        ``tags`` are what ``lookup`` knows the samples' epochs by.
        """
        steps = [(self.lane, self.pc)]
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
            steps.append((self.lane, shown))
        return steps

    def _compress(self) -> I64 | None:
        """Let go of lanes that have ended, when they are enough to be worth it; the indices of those kept."""
        live = self.pc != 0
        count = int(np.count_nonzero(live))
        if count and count * 8 >= len(live) * 7:
            return None
        kept = np.flatnonzero(live)
        self.lane, self.pc, self.back = self.lane[kept], self.pc[kept], self.back[kept]
        self.bottom, self.origin, self.limit = self.bottom[kept], self.origin[kept], self.limit[kept]
        self.registers = self.registers.take(kept, axis=1)
        return kept

    def _read(self, addresses: U64, lanes: I64 | None = None) -> tuple[U64, Bools]:
        """The words at addresses of the lanes' stacks, and where they lie within the copy."""
        bottom, limit, origin = self.bottom, self.limit, self.origin
        if lanes is not None:
            bottom, limit, origin = bottom[lanes], limit[lanes], origin[lanes]
        distance = addresses - bottom
        good = distance < limit
        return self.words.read(distance * good + origin), good

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

    def _special_steps(self, rows: I64, lanes: I64) -> list[tuple[I64, _Step]]:
        """Callers of the lanes whose rows are no mere offsets: a group of lanes for each row."""
        steps = []
        for number in np.unique(rows[lanes]).tolist():
            group = lanes[rows[lanes] == number]
            if number == FRAME_POINTER:
                steps.append((group, self._frame_pointer_step(group)))
            else:
                steps.append((group, self._rule_step(self.table.rows[number], group)))
        return steps

    def _frame_pointer_step(self, lanes: I64) -> _Step:
        registers = self.registers[:, lanes]
        pointer = registers[self.fp_slot].copy()
        good = pointer - registers[self.sp_slot] <= _MAX_GUESSED_FRAME_BYTES
        outer, readable = self._read(pointer, lanes)
        pc, returns = self._read(pointer + _WORD, lanes)
        registers[self.fp_slot] = outer
        registers[self.sp_slot] = pointer + 2 * _WORD
        return _Step(pointer + 2 * _WORD, pc, good & readable & returns, registers)

    def _rule_step(self, row: Row, lanes: I64) -> _Step:
        tracked = self.tracked
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
