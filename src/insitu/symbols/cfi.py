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
    "Row",
    "Rule",
    "run",
]

# How the caller's value of a register is found. A register without a rule has kept its value.
UNDEFINED: Final = 0
AT_OFFSET: Final = 1  # in memory at CFA + operand
IS_OFFSET: Final = 2  # is CFA + operand
IN_REGISTER: Final = 3  # in register number operand
EXPRESSION: Final = 4  # in memory at the address that the expression gives
VALUE_EXPRESSION: Final = 5  # is what the expression gives

Rule = tuple[int, int | bytes]
"""A kind, one of the constants above, and its operand."""

_MAX_REMEMBERED = 256
_MAX_ROWS = 1 << 18


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


class _State:
    """Registers of the machine that runs the programs: the CFA's rule and a rule for each register that has one."""

    def __init__(self) -> None:
        self.cfa: tuple[int, int] | bytes = (-1, 0)
        self.rules: dict[int, Rule] = {}
        self.initial: dict[int, Rule] = {}
        self.remembered: list[tuple[tuple[int, int] | bytes, dict[int, Rule]]] = []

    def restore(self, register: int) -> None:
        if register in self.initial:
            self.rules[register] = self.initial[register]
        else:
            self.rules.pop(register, None)


def run(cie: Cie, program: bytes, address: int, start: int, columns: int) -> tuple[list[int], list[Row]]:
    """The rows of one function: their first addresses, rising, and the rows themselves.

    ``program`` is the FDE's, its first byte at virtual address ``address``; ``start`` is the function's. Rules of
    registers from ``columns`` on are dropped. Raises CorruptDwarfError.
    """
    state = _State()
    _run(state, cie, cie.program, 0, 0, columns)
    state.initial = dict(state.rules)
    return _run(state, cie, program, address, start, columns)


def _run(
    state: _State, cie: Cie, program: bytes, address: int, start: int, columns: int
) -> tuple[list[int], list[Row]]:
    starts: list[int] = []
    rows: list[Row] = []
    location, at, size = start, 0, len(program)
    code_align, data_align = cie.code_align, cie.data_align
    rules = state.rules
    while at < size:
        opcode = program[at]
        at += 1
        primary, operand = opcode & 0xC0, opcode & 0x3F
        advance = 0
        if primary == 0x80:  # DW_CFA_offset
            value, at = uleb128(program, at)
            if operand < columns:
                rules[operand] = (AT_OFFSET, value * data_align)
            continue
        if primary == 0x40:  # DW_CFA_advance_loc
            advance = operand * code_align
        elif primary == 0xC0:  # DW_CFA_restore
            state.restore(operand)
            continue
        elif opcode in _ADVANCE_SIZES:
            delta, at = fixed(program, at, _ADVANCE_SIZES[opcode])
            advance = delta * code_align
        elif opcode == 0x0E:  # DW_CFA_def_cfa_offset
            value, at = uleb128(program, at)
            state.cfa = (_cfa_register(state), value)
            continue
        elif opcode == 0x01:  # DW_CFA_set_loc
            target, at = pointer(program, at, cie.pointer_encoding, address)
            advance = target - location
        else:
            at = _rare(state, cie, opcode, program, at, columns)
            rules = state.rules
            continue
        if advance < 0:
            raise CorruptDwarfError("call frame program goes back")
        if advance:
            starts.append(location)
            rows.append(_row(state, cie))
            location += advance
            if len(rows) > _MAX_ROWS:
                raise CorruptDwarfError("call frame program without an end")
    starts.append(location)
    rows.append(_row(state, cie))
    return starts, rows


# DW_CFA_advance_loc1, 2 and 4: bytes of the operand.
_ADVANCE_SIZES: Final = {0x02: 1, 0x03: 2, 0x04: 4}


def _row(state: _State, cie: Cie) -> Row:
    rules = tuple([(register, *rule) for register, rule in sorted(state.rules.items())])
    return Row(state.cfa, rules, cie.return_register, cie.signal)


def _cfa_register(state: _State) -> int:
    if isinstance(state.cfa, bytes):
        raise CorruptDwarfError("CFA offset changed where the CFA is an expression")
    return state.cfa[0]


def _rare(state: _State, cie: Cie, opcode: int, program: bytes, at: int, columns: int) -> int:
    """Execute an instruction that is not one of the most frequent ones; the offset after it."""
    if opcode == 0x00 or opcode == 0x2D:  # DW_CFA_nop, DW_CFA_AARCH64_negate_ra_state (addresses are always stripped)
        return at
    if opcode == 0x0A:  # DW_CFA_remember_state
        if len(state.remembered) >= _MAX_REMEMBERED:
            raise CorruptDwarfError("too many remembered states")
        state.remembered.append((state.cfa, dict(state.rules)))
        return at
    if opcode == 0x0B:  # DW_CFA_restore_state
        if not state.remembered:
            raise CorruptDwarfError("no remembered state")
        state.cfa, state.rules = state.remembered.pop()
        return at
    if opcode == 0x0F:  # DW_CFA_def_cfa_expression
        state.cfa, at = _block(program, at)
        return at
    if opcode == 0x13:  # DW_CFA_def_cfa_offset_sf
        value, at = sleb128(program, at)
        state.cfa = (_cfa_register(state), value * cie.data_align)
        return at
    # All others begin with a ULEB128 operand, mostly a register.
    first, at = uleb128(program, at)
    if opcode == 0x2E:  # DW_CFA_GNU_args_size
        return at
    if opcode == 0x0D:  # DW_CFA_def_cfa_register
        offset = state.cfa[1] if not isinstance(state.cfa, bytes) else 0
        state.cfa = (first, offset)
        return at
    if opcode == 0x0C:  # DW_CFA_def_cfa
        value, at = uleb128(program, at)
        state.cfa = (first, value)
        return at
    if opcode == 0x12:  # DW_CFA_def_cfa_sf
        value, at = sleb128(program, at)
        state.cfa = (first, value * cie.data_align)
        return at
    if opcode == 0x06:  # DW_CFA_restore_extended
        state.restore(first)
        return at
    rule: Rule | None
    if opcode == 0x07:  # DW_CFA_undefined
        rule = (UNDEFINED, 0)
    elif opcode == 0x08:  # DW_CFA_same_value
        rule = None
    elif opcode in _OPERAND_RULES:
        kind, signed, factor = _OPERAND_RULES[opcode]
        value, at = (sleb128 if signed else uleb128)(program, at)
        rule = (kind, value * factor * (cie.data_align if kind != IN_REGISTER else 1))
    elif opcode in (0x10, 0x16):  # DW_CFA_expression, DW_CFA_val_expression
        block, at = _block(program, at)
        rule = (EXPRESSION if opcode == 0x10 else VALUE_EXPRESSION, block)
    else:
        raise CorruptDwarfError(f"call frame instruction {opcode:#x}")
    if rule is None:
        state.rules.pop(first, None)
    elif first < columns:
        state.rules[first] = rule
    return at


# Instructions whose operands are a register and a number: kind of rule, whether the number is signed, its sign.
_OPERAND_RULES: Final = {
    0x05: (AT_OFFSET, False, 1),  # DW_CFA_offset_extended
    0x09: (IN_REGISTER, False, 1),  # DW_CFA_register
    0x11: (AT_OFFSET, True, 1),  # DW_CFA_offset_extended_sf
    0x14: (IS_OFFSET, False, 1),  # DW_CFA_val_offset
    0x15: (IS_OFFSET, True, 1),  # DW_CFA_val_offset_sf
    0x2F: (AT_OFFSET, False, -1),  # DW_CFA_GNU_negative_offset_extended
}


def _block(program: bytes, at: int) -> tuple[bytes, int]:
    size, at = uleb128(program, at)
    if at + size > len(program):
        raise CorruptDwarfError("expression beyond the end")
    return program[at : at + size], at + size
