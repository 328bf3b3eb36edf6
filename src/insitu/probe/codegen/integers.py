"""Arithmetic on the i64 registers that hold scalars: division, widths, and choices without branches."""

from __future__ import annotations

from insitu.probe.codegen.emitter import Function
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.types import Integer, Type

__all__ = [
    "blend",
    "divide",
    "inside",
    "inverted",
    "least",
    "low_bytes",
    "narrowed",
    "negative",
    "not_zero",
    "scalar_layout",
    "signed64",
]


def scalar_layout(kind: Type | None) -> tuple[int, bool]:
    """Bytes and signedness of a scalar as C lays it out."""
    return (kind.bytes, kind.signed) if isinstance(kind, Integer) else (8, False)


def signed64(value: int) -> str:
    """A number of 64 bits as LLVM's i64 is written."""
    value &= 2**64 - 1
    return str(value - 2**64 if value >= 2**63 else value)


def divide(low: Lowering, operator: str, left: str, right: str, *, signed: bool, by_zero: int = 0) -> str:
    """C's division and remainder; ``by_zero`` results from a division by zero.

    BPF before version 4 has unsigned division only.
    """
    emit = low.emit
    is_zero = emit.value(f"icmp eq i64 {right}, 0")
    divisor = emit.select(is_zero, "1", right)
    name = "udiv" if operator == "/" else "urem"
    if not signed:
        return emit.select(is_zero, str(by_zero), emit.op(name, left, divisor))
    quotient = emit.op(name, _absolute(low, left), _absolute(low, divisor))
    flips = emit.op("xor", left, divisor) if operator == "/" else left
    negative = emit.value(f"icmp slt i64 {flips}, 0")
    result = emit.select(negative, emit.op("sub", "0", quotient), quotient)
    return emit.select(is_zero, str(by_zero), result)


def _absolute(low: Lowering, value: str) -> str:
    """The magnitude of a signed i64."""
    emit = low.emit
    negative = emit.value(f"icmp slt i64 {value}, 0")
    return emit.select(negative, emit.op("sub", "0", value), value)


def narrowed(low: Lowering, value: str, kind: Type) -> str:
    """An i64 cut to the width of ``kind`` and extended again."""
    if not isinstance(kind, Integer) or kind.bytes == 8:
        return value
    if kind.enum == "bool":
        return low.emit.compare("ne", value, "0")
    return low_bytes(low, value, kind)


def low_bytes(low: Lowering, value: str, kind: Type) -> str:
    """What a register holds of this type: its low bytes, extended; what is above them has no meaning."""
    if not isinstance(kind, Integer) or kind.bytes == 8:
        return value
    emit = low.emit
    cut = emit.value(f"trunc i64 {value} to i{8 * kind.bytes}")
    return emit.value(f"{'sext' if kind.signed else 'zext'} i{8 * kind.bytes} {cut} to i64")


# Choices without branches: the kernel's verifier follows every branch of a loop separately. A mask is an i64
# with all its bits set, or none.


def negative(emit: Function, value: str) -> str:
    """The mask of whether a signed number is below zero.

    Hidden on both sides: LLVM makes branches of what it knows to be all bits or none.
    """
    return emit.hidden(emit.op("ashr", emit.hidden(value), "63"))


def not_zero(emit: Function, value: str) -> str:
    """The mask of whether a number is not zero: it or its negation has the sign bit."""
    return negative(emit, emit.op("or", value, emit.op("sub", "0", value)))


def inside(emit: Function, value: str, first: int, last: int) -> str:
    """The mask of whether a small number is in a range, its end included."""
    above = emit.op("sub", value, str(first))
    below = emit.op("sub", str(last), value)
    return inverted(emit, negative(emit, emit.op("or", above, below)))


def inverted(emit: Function, mask: str) -> str:
    """The other mask."""
    return emit.op("xor", mask, "-1")


def blend(emit: Function, mask: str, yes: str, no: str) -> str:
    """``yes`` where the mask is set, else ``no``."""
    return emit.op("or", emit.op("and", yes, mask), emit.op("and", no, inverted(emit, mask)))


def least(emit: Function, left: str, right: str) -> str:
    """The smaller of two numbers without a sign."""
    return emit.select(emit.value(f"icmp ult i64 {left}, {right}"), left, right)
