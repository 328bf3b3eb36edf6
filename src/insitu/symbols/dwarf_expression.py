"""Evaluates DWARF expressions (DWARF 5, 2.5) as call frame rows use them, for many samples at once."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, sleb128, uleb128

__all__ = ["Expression", "evaluate", "parse"]

U64 = NDArray[np.uint64]
Lanes = NDArray[np.int64]
ReadRegister = Callable[[int, Lanes], U64]
ReadMemory = Callable[[U64, Lanes], tuple[U64, NDArray[np.bool_]]]

_MASK: Final = (1 << 64) - 1
_SIGN: Final = np.uint64(1 << 63)
# Longest expressions of compilers have some twenty operations; loops make them take more steps.
_MAX_OPERATIONS = 1 << 10
_MAX_STEPS = 1 << 11
_MAX_DEPTH = 64


class Operation(NamedTuple):
    """An opcode and its operand; a branch's operand is the index of the operation that it goes to."""

    opcode: int
    operand: int = 0
    offset: int = 0  # second operand of DW_OP_bregx


class Expression(NamedTuple):
    """A parsed expression and the registers (DWARF numbers) that it reads."""

    operations: tuple[Operation, ...]
    registers: frozenset[int]


_ADDR, _DEREF, _PICK, _PLUS_UCONST, _SKIP, _BRA = 0x03, 0x06, 0x15, 0x23, 0x2F, 0x28
_LIT0, _REG0, _BREG0, _REGX, _BREGX, _DEREF_SIZE, _NOP, _STACK_VALUE = 0x30, 0x50, 0x70, 0x90, 0x92, 0x94, 0x96, 0x9F
_DUP, _DROP, _OVER, _SWAP, _ROT, _ABS, _NEG, _NOT = 0x12, 0x13, 0x14, 0x16, 0x17, 0x19, 0x1F, 0x20
# DW_OP_const1u to DW_OP_const8s: bytes of the operand and whether it is signed.
_CONSTANTS: Final = {0x08 + 2 * i + s: (1 << i, bool(s)) for i in range(4) for s in range(2)}
_NEEDS: Final = {_DUP: 1, _DROP: 1, _OVER: 2, _SWAP: 2, _ROT: 3, _ABS: 1, _NEG: 1, _NOT: 1, _DEREF: 1, _DEREF_SIZE: 1}
_CONST: Final = -1  # any operation that pushes its operand


@lru_cache(maxsize=4096)
def parse(block: bytes, word_bytes: int = 8) -> Expression | None:
    """The expression in ``block``, whose addresses have ``word_bytes`` bytes.

    None if it is corrupt, or has operations that make no sense in call frames.
    """
    operations: list[Operation] = []
    offsets: dict[int, int] = {}
    registers: set[int] = set()
    at = 0
    try:
        while at < len(block):
            if len(operations) >= _MAX_OPERATIONS:
                return None
            offsets[at] = len(operations)
            operation, at = _parse_one(block, at, registers, word_bytes)
            operations.append(operation)
        offsets[at] = len(operations)
        for index, operation in enumerate(operations):
            if operation.opcode in (_SKIP, _BRA):
                operations[index] = Operation(operation.opcode, offsets[operation.operand])
    except (CorruptDwarfError, KeyError):
        return None
    return Expression(tuple(operations), frozenset(registers))


def _parse_one(block: bytes, at: int, registers: set[int], word_bytes: int) -> tuple[Operation, int]:
    opcode = block[at]
    at += 1
    if opcode in _CONSTANTS:
        value, at = fixed(block, at, *_CONSTANTS[opcode])
        return Operation(_CONST, value & _MASK), at
    if opcode in (0x10, 0x11):  # DW_OP_constu, DW_OP_consts
        value, at = (uleb128 if opcode == 0x10 else sleb128)(block, at)
        return Operation(_CONST, value & _MASK), at
    if opcode == _ADDR:
        value, at = fixed(block, at, word_bytes)
        return Operation(_CONST, value), at
    if _LIT0 <= opcode < _REG0:
        return Operation(_CONST, opcode - _LIT0), at
    if _REG0 <= opcode < _BREG0 or opcode == _REGX:
        register = opcode - _REG0
        if opcode == _REGX:
            register, at = uleb128(block, at)
        registers.add(register)
        return Operation(_BREGX, register), at
    if _BREG0 <= opcode < _REGX or opcode == _BREGX:
        register = opcode - _BREG0
        if opcode == _BREGX:
            register, at = uleb128(block, at)
        offset, at = sleb128(block, at)
        registers.add(register)
        return Operation(_BREGX, register, offset & _MASK), at
    if opcode in (_SKIP, _BRA):
        distance, at = fixed(block, at, 2, signed=True)
        return Operation(opcode, at + distance), at
    if opcode == _PLUS_UCONST:
        value, at = uleb128(block, at)
        return Operation(opcode, value & _MASK), at
    if opcode in (_PICK, _DEREF_SIZE):
        value, at = fixed(block, at, 1)
        if opcode == _DEREF_SIZE and value not in (1, 2, 4, 8):
            raise CorruptDwarfError("size of DW_OP_deref_size")
        return Operation(opcode, value), at
    if opcode in _NEEDS or opcode in _BINARY or opcode in (_NOP, _STACK_VALUE):
        return Operation(opcode), at
    raise CorruptDwarfError(f"expression operation {opcode:#x}")


def evaluate(
    expression: Expression, initial: U64, read_register: ReadRegister, read_memory: ReadMemory
) -> tuple[U64, NDArray[np.bool_]]:
    """The expression's value for each of n lanes, and where it could be had.

    The stack begins with ``initial``. ``read_register(number, lanes)`` gives a register's values in those lanes,
    ``read_memory(addresses, lanes)`` the words there and where they can be read.
    """
    return _Evaluation(expression.operations, read_register, read_memory).run(initial)


class _Evaluation:
    def __init__(self, operations: tuple[Operation, ...], register: ReadRegister, memory: ReadMemory) -> None:
        self.operations = operations
        self.register = register
        self.memory = memory
        self.steps = 0

    def run(self, initial: U64) -> tuple[U64, NDArray[np.bool_]]:
        values = np.zeros(len(initial), np.uint64)
        good = np.zeros(len(initial), np.bool_)
        # Where a branch divides the lanes, each part goes on by itself.
        work: list[tuple[int, list[U64], Lanes, NDArray[np.bool_]]] = [
            (0, [initial], np.arange(len(initial)), np.ones(len(initial), np.bool_))
        ]
        while work:
            at, stack, lanes, ok = work.pop()
            while at < len(self.operations):
                self.steps += 1
                if self.steps > _MAX_STEPS or len(stack) > _MAX_DEPTH:
                    return values, good
                operation = self.operations[at]
                at += 1
                if operation.opcode == _SKIP:
                    at = operation.operand
                elif operation.opcode == _BRA:
                    if not stack:
                        ok = np.zeros_like(ok)
                        break
                    jumps = stack.pop() != 0
                    if jumps.all():
                        at = operation.operand
                    elif jumps.any():
                        work.append((operation.operand, [x[jumps] for x in stack], lanes[jumps], ok[jumps]))
                        stays = ~jumps
                        stack, lanes, ok = [x[stays] for x in stack], lanes[stays], ok[stays]
                elif not self._step(operation, stack, lanes, ok):
                    ok = np.zeros_like(ok)
                    break
            if stack:
                values[lanes] = stack[-1]
                good[lanes] = ok
        return values, good

    def _step(self, operation: Operation, stack: list[U64], lanes: Lanes, ok: NDArray[np.bool_]) -> bool:
        """Execute one operation in place; False where the stack is too short for it."""
        opcode, operand, offset = operation
        if opcode == _CONST:
            stack.append(np.full(len(lanes), operand, np.uint64))
            return True
        if opcode == _BREGX:
            stack.append(self.register(operand, lanes) + np.uint64(offset))
            return True
        if opcode in (_NOP, _STACK_VALUE):
            return True
        if opcode == _PLUS_UCONST and stack:
            stack[-1] = stack[-1] + np.uint64(operand)
            return True
        if opcode == _PICK and operand < len(stack):
            stack.append(stack[-1 - operand])
            return True
        if opcode in _BINARY and len(stack) >= 2:
            second = stack.pop()
            stack[-1] = _BINARY[opcode](stack[-1], second)
            return True
        if len(stack) < _NEEDS.get(opcode, _MAX_DEPTH + 1):
            return False
        if opcode in (_DEREF, _DEREF_SIZE):
            stack[-1], readable = self.memory(stack[-1], lanes)
            ok &= readable
            if opcode == _DEREF_SIZE:
                stack[-1] = stack[-1] & np.uint64((1 << 8 * operand) - 1)
        elif opcode == _DUP:
            stack.append(stack[-1])
        elif opcode == _DROP:
            stack.pop()
        elif opcode == _OVER:
            stack.append(stack[-2])
        elif opcode == _SWAP:
            stack[-1], stack[-2] = stack[-2], stack[-1]
        elif opcode == _ROT:
            stack[-1], stack[-2], stack[-3] = stack[-2], stack[-3], stack[-1]
        elif opcode == _NOT:
            stack[-1] = ~stack[-1]
        elif opcode in (_NEG, _ABS):
            negated = np.uint64(0) - stack[-1]
            stack[-1] = negated if opcode == _NEG else np.where(stack[-1] & _SIGN, negated, stack[-1])
        return True


def _shift(left: U64, right: U64, kind: str) -> U64:
    """Shifts by 64 bits and more, which numpy leaves open, give 0 or the sign."""
    far = right >= 64
    count = np.where(far, np.uint64(63), right)
    if kind == "shra":
        return (left.view(np.int64) >> count.view(np.int64)).view(np.uint64)
    return np.where(far, np.uint64(0), left << count if kind == "shl" else left >> count)


def _divide(left: U64, right: U64) -> U64:
    """Signed division that truncates; by zero it gives zero."""
    a, b = left.view(np.int64), right.view(np.int64)
    magnitude = _absolute(a) // np.maximum(_absolute(b), np.uint64(1))
    quotient = np.where((a < 0) != (b < 0), np.uint64(0) - magnitude, magnitude)
    return np.where(b == 0, np.uint64(0), quotient)


def _absolute(values: NDArray[np.int64]) -> U64:
    raw = values.view(np.uint64)
    return np.where(values < 0, np.uint64(0) - raw, raw)


def _signed(
    compare: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
) -> Callable[[U64, U64], U64]:
    return lambda a, b: compare(a.view(np.int64), b.view(np.int64)).astype(np.uint64)


# The operand nearer to the top of the stack is the second one.
_BINARY: Final[dict[int, Callable[[U64, U64], U64]]] = {
    0x1A: lambda a, b: a & b,
    0x1B: _divide,
    0x1C: lambda a, b: a - b,
    0x1D: lambda a, b: np.where(b == 0, np.uint64(0), a % np.maximum(b, np.uint64(1))),
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: _shift(a, b, "shl"),
    0x25: lambda a, b: _shift(a, b, "shr"),
    0x26: lambda a, b: _shift(a, b, "shra"),
    0x27: lambda a, b: a ^ b,
    0x29: _signed(lambda a, b: a == b),
    0x2A: _signed(lambda a, b: a >= b),
    0x2B: _signed(lambda a, b: a > b),
    0x2C: _signed(lambda a, b: a <= b),
    0x2D: _signed(lambda a, b: a < b),
    0x2E: _signed(lambda a, b: a != b),
}
