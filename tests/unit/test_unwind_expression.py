"""DWARF expressions, against the arithmetic that the standard defines."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.symbols.dwarf_expression import evaluate, parse

WORDS = st.integers(0, 2**64 - 1)


def signed(value: int) -> int:
    return value - 2**64 if value >> 63 else value


def run(block: bytes, registers: dict[int, int] | None = None, initial: int = 0) -> int | None:
    """The value of an expression in one lane; memory holds at each address twice the address."""
    expression = parse(block)
    assert expression is not None
    value, good = evaluate(
        expression,
        np.array([initial], np.uint64),
        lambda number, lanes: np.full(len(lanes), (registers or {})[number], np.uint64),
        lambda addresses, lanes: (addresses * np.uint64(2), np.ones(len(lanes), np.bool_)),
    )
    return int(value[0]) if good[0] else None


def const(value: int) -> bytes:
    return b"\x0e" + struct.pack("<Q", value % 2**64)


# What the linker puts into the FDE of .plt: 8 more than rsp, and again 8 in the last 5 bytes of an entry.
PLT = bytes.fromhex("77088000 3f1a 3b2a 3324 22".replace(" ", ""))


@pytest.mark.parametrize("rip", range(0x1020, 0x1040))
def test_the_expression_of_the_procedure_linkage_table(rip: int) -> None:
    expression = parse(PLT)
    assert expression
    assert expression.registers == {7, 16}
    assert run(PLT, {7: 0x7000, 16: rip}) == 0x7008 + (8 if rip % 16 >= 11 else 0)


def truncated_quotient(a: int, b: int) -> int:
    quotient = abs(signed(a)) // abs(signed(b)) if b else 0
    return -quotient if (signed(a) < 0) != (signed(b) < 0) else quotient


BINARY: dict[int, Callable[[int, int], int]] = {
    0x1A: lambda a, b: a & b,
    0x1B: truncated_quotient,
    0x1C: lambda a, b: a - b,
    0x1D: lambda a, b: a % b if b else 0,
    0x1E: lambda a, b: a * b,
    0x21: lambda a, b: a | b,
    0x22: lambda a, b: a + b,
    0x24: lambda a, b: a << b if b < 64 else 0,
    0x25: lambda a, b: a >> b if b < 64 else 0,
    0x26: lambda a, b: signed(a) >> min(b, 63),
    0x27: lambda a, b: a ^ b,
    0x29: lambda a, b: a == b,
    0x2A: lambda a, b: signed(a) >= signed(b),
    0x2B: lambda a, b: signed(a) > signed(b),
    0x2C: lambda a, b: signed(a) <= signed(b),
    0x2D: lambda a, b: signed(a) < signed(b),
    0x2E: lambda a, b: a != b,
}


@pytest.mark.parametrize("opcode", BINARY)
@settings(max_examples=40, deadline=None)
@given(first=WORDS, second=WORDS | st.integers(0, 70))
def test_binary_operations(opcode: int, first: int, second: int) -> None:
    assert run(const(first) + const(second) + bytes([opcode])) == BINARY[opcode](first, second) % 2**64


@given(value=WORDS)
@settings(max_examples=30, deadline=None)
def test_unary_operations(value: int) -> None:
    assert run(const(value) + b"\x19") == abs(signed(value))
    assert run(const(value) + b"\x1f") == -value % 2**64
    assert run(const(value) + b"\x20") == ~value % 2**64
    assert run(const(value) + b"\x23\x81\x01") == (value + 129) % 2**64
    assert run(const(value) + b"\x06") == value * 2 % 2**64
    assert run(const(value) + b"\x94\x02") == value * 2 % 2**16


def test_the_order_of_the_stack() -> None:
    one_two_three = b"\x31\x32\x33"
    assert run(one_two_three + b"\x12\x1c") == 0  # dup, minus
    assert run(one_two_three + b"\x13") == 2  # drop
    assert run(one_two_three + b"\x14") == 2  # over
    assert run(one_two_three + b"\x15\x02") == 1  # pick
    assert run(one_two_three + b"\x16") == 2  # swap
    assert run(one_two_three + b"\x17") == 2  # rot: 3 1 2 from below
    assert run(one_two_three + b"\x17\x13") == 1
    assert run(b"\x38\x1c", initial=20) == 12  # the CFA lies on the stack at first


def test_branches_divide_the_lanes() -> None:
    # reg0 <= 5 ? 100 : 200
    block = b"\x70\x00" + b"\x35" + b"\x2c" + b"\x28\x05\x00" + b"\x08\xc8" + b"\x2f\x02\x00" + b"\x08\x64"
    expression = parse(block)
    assert expression
    values = np.arange(10, dtype=np.uint64)
    result, good = evaluate(
        expression,
        np.zeros(10, np.uint64),
        lambda _, lanes: values[lanes],
        lambda addresses, _: (addresses, np.ones(len(addresses), np.bool_)),
    )
    assert good.all()
    assert result.tolist() == [100] * 6 + [200] * 4


def test_a_loop_without_an_end_is_left() -> None:
    assert run(b"\x31\x2f\xfc\xff") is None
    assert run(b"\x96\x2f\xfc\xff") is None


def test_memory_that_cannot_be_read_makes_the_value_unknown() -> None:
    expression = parse(b"\x31\x06")
    assert expression
    _, good = evaluate(
        expression,
        np.zeros(2, np.uint64),
        lambda _, lanes: np.zeros(len(lanes), np.uint64),
        lambda addresses, lanes: (addresses, lanes == 1),
    )
    assert good.tolist() == [False, True]


@settings(max_examples=600, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_evaluated_or_refused(block: bytes) -> None:
    expression = parse(block)
    if expression is not None:
        evaluate(
            expression,
            np.arange(3, dtype=np.uint64),
            lambda number, lanes: np.full(len(lanes), number % 2**64, np.uint64),
            lambda addresses, _: (addresses, addresses % np.uint64(2) == 0),
        )
