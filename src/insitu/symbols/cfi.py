"""Runs call frame programs (DWARF 5, 6.4; LSB's and GNU's additions): a program becomes the rows of its function."""

from typing import Final, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, pointer, sleb128, uleb128

__all__ = [
    "AT_OFFSET",
    "EXPRESSION",
    "IN_REGISTER",
    "IS_OFFSET",
    "UNDEFINED",
    "VALUE_EXPRESSION",
    "Cie",
    "Programs",
    "Row",
]

# How the caller's value of a register is found. A register without a rule has kept its value.
UNDEFINED: Final = 0
AT_OFFSET: Final = 1  # in memory at CFA + operand
IS_OFFSET: Final = 2  # is CFA + operand
IN_REGISTER: Final = 3  # in register number operand
EXPRESSION: Final = 4  # in memory at the address that the expression gives
VALUE_EXPRESSION: Final = 5  # is what the expression gives

_MAX_EXPRESSION_BYTES: Final = 1 << 10

Rule = tuple[int, int | bytes]  # one of these and its operand
Cfa = tuple[int, int] | bytes


class Row(NamedTuple):
    """How to step from a function to its caller, valid for a range of its addresses.

    ``cfa`` is (register, offset), or an expression's bytes. ``rules`` are (register, kind, operand), by register.
    ``signal`` marks a signal trampoline, whose caller was interrupted and did not call.
    """

    cfa: tuple[int, int] | bytes
    rules: tuple[tuple[int, int, int | bytes], ...]
    return_register: int
    signal: bool = False


class Cie(NamedTuple):
    """A common information entry: what the FDEs that name it share."""

    code_align: int
    data_align: int
    return_register: int
    pointer_encoding: int
    augmented: bool  # FDEs carry augmentation data, with its length before it
    signal: bool
    program: bytes
    word_bytes: int = 8  # of an address


_State = tuple[Cfa, dict[int, Rule]]


class Programs:
    """Runs the programs of one CIE's functions.

    What the rules are at one moment is a *state*. States are numbered, and which one an instruction leads to is
    remembered: functions begin and end alike, so that few instructions need more than that look-up.
    """

    def __init__(self, cie: Cie, columns: int) -> None:
        """Rules of registers from ``columns`` on are dropped. Raises CorruptDwarfError if the CIE's program is."""
        self.cie = cie
        self._columns = columns
        self._states: list[_State] = []
        self._numbers: dict[tuple[Cfa, tuple[tuple[int, Rule], ...]], int] = {}
        self._next: dict[tuple[int, int, int], int] = {}
        self._initial: dict[int, Rule] = {}
        nothing = self._number((-1, 0), {})
        _, states = self._run(cie.program, 0, 0, nothing)
        self._begin = states[-1]
        self._initial = self._states[self._begin][1]
        self._next.clear()  # what restored registers before there was anything to restore

    def __len__(self) -> int:
        """How many states there are."""
        return len(self._states)

    def run(self, program: bytes, address: int, start: int) -> tuple[list[int], list[int]]:
        """First addresses, rising, and the states that hold from there on, of the function at ``start``.

        ``program`` is its FDE's, the first byte at virtual address ``address``. Raises CorruptDwarfError.
        """
        return self._run(program, address, start, self._begin)

    def row(self, state: int) -> Row:
        """What a state says about stepping to the caller."""
        cfa, rules = self._states[state]
        ordered = tuple([(register, *rule) for register, rule in sorted(rules.items())])
        return Row(cfa, ordered, self.cie.return_register, self.cie.signal)

    def _number(self, cfa: Cfa, rules: dict[int, Rule]) -> int:
        number = self._numbers.setdefault((cfa, tuple(sorted(rules.items()))), len(self._states))
        if number == len(self._states):
            self._states.append((cfa, rules))
        return number

    def _run(self, program: bytes, address: int, start: int, state: int) -> tuple[list[int], list[int]]:
        starts: list[int] = []
        states: list[int] = []
        remembered: list[int] = []
        location, at, size = start, 0, len(program)
        code_align, following = self.cie.code_align, self._next
        while at < size:
            opcode = program[at]
            at += 1
            primary = opcode & 0xC0
            if primary == 0x40:  # DW_CFA_advance_loc
                advance = (opcode & 0x3F) * code_align
            elif primary or opcode in (0x0D, 0x0E):
                # DW_CFA_offset, DW_CFA_restore (without an operand), DW_CFA_def_cfa_register and _offset
                operand = 0
                if primary != 0xC0:
                    if at < size and program[at] < 0x80:
                        operand = program[at]
                        at += 1
                    else:
                        operand, at = uleb128(program, at)
                step = (state, opcode, operand)
                after = following.get(step)
                if after is None:
                    after = following[step] = self._frequent(*step)
                state = after
                continue
            elif opcode in _ADVANCE_SIZES:
                delta, at = fixed(program, at, _ADVANCE_SIZES[opcode])
                advance = delta * code_align
            elif opcode == 0x0A:  # DW_CFA_remember_state
                remembered.append(state)
                continue
            elif opcode == 0x0B:  # DW_CFA_restore_state
                if not remembered:
                    raise CorruptDwarfError("no remembered state")
                state = remembered.pop()
                continue
            elif opcode == 0x01:  # DW_CFA_set_loc
                target, at = pointer(program, at, self.cie.pointer_encoding, address, word_bytes=self.cie.word_bytes)
                advance = target - location
            else:
                state, at = self._rare(state, opcode, program, at)
                continue
            if advance < 0:
                raise CorruptDwarfError("call frame program goes back")
            if advance:
                starts.append(location)
                states.append(state)
                location += advance
        starts.append(location)
        states.append(state)
        return starts, states

    def _frequent(self, state: int, opcode: int, operand: int) -> int:
        """The state after an instruction that `_run` remembers."""
        cfa, rules = self._states[state]
        if opcode == 0x0D:  # DW_CFA_def_cfa_register
            return self._number((operand, 0 if isinstance(cfa, bytes) else cfa[1]), rules)
        if opcode == 0x0E:  # DW_CFA_def_cfa_offset
            return self._number((_register(cfa), operand), rules)
        if opcode & 0xC0 == 0xC0:  # DW_CFA_restore
            return self._ruled(state, opcode & 0x3F, self._initial.get(opcode & 0x3F))
        return self._ruled(state, opcode & 0x3F, (AT_OFFSET, operand * self.cie.data_align))  # DW_CFA_offset

    def _ruled(self, state: int, register: int, rule: Rule | None) -> int:
        """The state that differs in the rule of one register."""
        cfa, rules = self._states[state]
        if register >= self._columns or rules.get(register) == rule:
            return state
        changed = {number: kept for number, kept in rules.items() if number != register}
        if rule is not None:
            changed[register] = rule
        return self._number(cfa, changed)

    def _rare(self, state: int, opcode: int, program: bytes, at: int) -> tuple[int, int]:
        """The state after any other instruction and the offset after its operands."""
        cfa, rules = self._states[state]
        if opcode in (0x00, 0x2D):  # DW_CFA_nop, DW_CFA_AARCH64_negate_ra_state (signatures are always stripped)
            return state, at
        if opcode == 0x0F:  # DW_CFA_def_cfa_expression
            block, at = _block(program, at)
            return self._number(block, rules), at
        if opcode == 0x13:  # DW_CFA_def_cfa_offset_sf
            value, at = sleb128(program, at)
            return self._number((_register(cfa), value * self.cie.data_align), rules), at
        # All others begin with a ULEB128 operand, mostly a register.
        register, at = uleb128(program, at)
        if opcode == 0x2E:  # DW_CFA_GNU_args_size
            return state, at
        if opcode == 0x0C:  # DW_CFA_def_cfa
            value, at = uleb128(program, at)
            return self._number((register, value), rules), at
        if opcode == 0x12:  # DW_CFA_def_cfa_sf
            value, at = sleb128(program, at)
            return self._number((register, value * self.cie.data_align), rules), at
        rule: Rule | None
        if opcode == 0x06:  # DW_CFA_restore_extended
            rule = self._initial.get(register)
        elif opcode == 0x07:  # DW_CFA_undefined
            rule = (UNDEFINED, 0)
        elif opcode == 0x08:  # DW_CFA_same_value
            rule = None
        elif opcode in (0x10, 0x16):  # DW_CFA_expression, DW_CFA_val_expression
            block, at = _block(program, at)
            rule = (EXPRESSION if opcode == 0x10 else VALUE_EXPRESSION, block)
        elif opcode in _OPERAND_RULES:
            kind, signed, factor = _OPERAND_RULES[opcode]
            value, at = (sleb128 if signed else uleb128)(program, at)
            rule = (kind, value * factor * (self.cie.data_align if kind != IN_REGISTER else 1))
        else:
            raise CorruptDwarfError(f"call frame instruction {opcode:#x}")
        return self._ruled(state, register, rule), at


# DW_CFA_advance_loc1, 2 and 4: bytes of the operand.
_ADVANCE_SIZES: Final = {0x02: 1, 0x03: 2, 0x04: 4}

# Instructions whose operands are a register and a number: kind of rule, whether the number is signed, its sign.
_OPERAND_RULES: Final = {
    0x05: (AT_OFFSET, False, 1),  # DW_CFA_offset_extended
    0x09: (IN_REGISTER, False, 1),  # DW_CFA_register
    0x11: (AT_OFFSET, True, 1),  # DW_CFA_offset_extended_sf
    0x14: (IS_OFFSET, False, 1),  # DW_CFA_val_offset
    0x15: (IS_OFFSET, True, 1),  # DW_CFA_val_offset_sf
    0x2F: (AT_OFFSET, False, -1),  # DW_CFA_GNU_negative_offset_extended
}


def _register(cfa: Cfa) -> int:
    if isinstance(cfa, bytes):
        raise CorruptDwarfError("CFA offset changed where the CFA is an expression")
    return cfa[0]


def _block(program: bytes, at: int) -> tuple[bytes, int]:
    size, at = uleb128(program, at)
    if at + size > len(program) or size > _MAX_EXPRESSION_BYTES:
        raise CorruptDwarfError("expression beyond the end, or too long")
    return program[at : at + size], at + size
