"""The distinct call frame rows of a recording, as arrays that one step of all samples is computed with."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.cfi import AT_OFFSET, EXPRESSION, IN_REGISTER, UNDEFINED, VALUE_EXPRESSION, Row
from insitu.symbols.dwarf_expression import parse
from insitu.symbols.registers import Machine

__all__ = ["END", "FRAME_POINTER", "SAME", "Columns", "RowTable"]

END: Final = 0
"""The row where a stack ends: the return address is undefined, or nothing is known about the address."""
FRAME_POINTER: Final = 1
"""The row of an address that no function with call frame information covers: follow the frame pointer."""
SAME: Final = np.uint64(1 << 63)
"""Instead of an offset: the register has kept its value."""

_MASK: Final = (1 << 64) - 1

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class Columns(NamedTuple):
    """Rows as arrays, for the registers that are tracked. All offsets are two's complement.

    ``slot`` is the index of the CFA's register among the tracked ones, ``cfa`` its offset, ``ra`` the offset from
    the CFA of the return address and ``saved[i]`` that of tracked register i (SAME: not saved). ``special`` rows
    cannot be said so; ``signal`` rows are of signal trampolines.
    """

    slot: I64
    cfa: U64
    ra: U64
    saved: list[U64]
    special: NDArray[np.bool_]
    signal: NDArray[np.bool_]


class RowTable:
    """The distinct rows that were met. Programs share most of them, so that some hundreds serve any recording."""

    def __init__(self, machine: Machine) -> None:
        """``needed`` are the registers (DWARF numbers) whose values some row asks for; it grows with the rows."""
        self.machine = machine
        nothing = Row((machine.sp, 0), (), machine.pc)
        self.rows: list[Row] = [nothing, nothing]
        self._index: dict[Row, int] = {}
        self.needed: set[int] = {machine.sp, machine.fp}
        self.has_signal = False
        self._tracked: tuple[int, ...] = ()
        self._encoded: list[tuple[int, int, int, bool, bool, list[int]]] = []
        self._columns: Columns | None = None

    def intern(self, row: Row) -> int:
        """The number of a row; END if its return address is undefined or it cannot be executed."""
        number = self._index.get(row)
        if number is None:
            needed = self._needs(row)
            if needed is None:
                number = END
            else:
                number = len(self.rows)
                self.rows.append(row)
                self.needed |= needed
                self.has_signal |= row.signal
            self._index[row] = number
        return number

    def _needs(self, row: Row) -> set[int] | None:
        """Registers whose values the row asks for; None if it ends the stack."""
        columns, pc = self.machine.columns, self.machine.pc
        needed: set[int] = set()
        if isinstance(row.cfa, bytes):
            expression = parse(row.cfa, self.machine.word_bytes)
            if expression is None:
                return None
            needed |= expression.registers
        else:
            needed.add(row.cfa[0])
        ruled = {register: (kind, operand) for register, kind, operand in row.rules}
        if row.return_register not in ruled:
            # Not saved: where it is a register of its own, as aarch64's link register, the address is still there.
            if row.return_register == pc:
                return None
            needed.add(row.return_register)
        elif ruled[row.return_register][0] == UNDEFINED:
            return None
        for kind, operand in ruled.values():
            if kind == IN_REGISTER and isinstance(operand, int):
                needed.add(operand)
            elif kind in (EXPRESSION, VALUE_EXPRESSION) and isinstance(operand, bytes):
                expression = parse(operand, self.machine.word_bytes)
                needed |= expression.registers if expression else set()
        if any(not 0 <= register < columns for register in needed):
            return None
        return needed - {pc}

    def columns(self, tracked: tuple[int, ...]) -> Columns:
        """All rows as arrays, when the registers ``tracked`` are (DWARF numbers; all of `needed` among them)."""
        if tracked != self._tracked:
            self._tracked, self._encoded, self._columns = tracked, [], None
        if self._columns is None or len(self._encoded) < len(self.rows):
            done = len(self._encoded)
            self._encoded += [self._encode(row, number + done) for number, row in enumerate(self.rows[done:])]
            slot, cfa, ra, special, signal, saved = zip(*self._encoded, strict=True)
            self._columns = Columns(
                np.array(slot, np.int64),
                np.array(cfa, np.uint64),
                np.array(ra, np.uint64),
                list(np.array(saved, np.uint64).T.copy()),
                np.array(special, np.bool_),
                np.array(signal, np.bool_),
            )
        return self._columns

    def _encode(self, row: Row, number: int) -> tuple[int, int, int, bool, bool, list[int]]:
        saved = [int(SAME)] * len(self._tracked)
        special = (0, 0, 0, True, row.signal, saved)
        if number == END:
            return (0, 0, 0, False, False, saved)
        if number == FRAME_POINTER or isinstance(row.cfa, bytes) or row.cfa[0] == self.machine.pc:
            return special
        ra = None
        for register, kind, operand in row.rules:
            if register != row.return_register and register not in self._tracked:
                continue
            if kind != AT_OFFSET or not isinstance(operand, int) or register == self.machine.sp:
                return special
            if register == row.return_register:
                ra = operand & _MASK
            if register in self._tracked:
                saved[self._tracked.index(register)] = operand & _MASK
        if ra is None:
            return special
        register, offset = row.cfa
        return (self._tracked.index(register), offset & _MASK, ra, False, row.signal, saved)
