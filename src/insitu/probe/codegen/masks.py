"""Choices without branches: every branch of a loop is a path of its own to the kernel's verifier.

A mask is an i64 with all its bits set, or none.
"""

from __future__ import annotations

from insitu.probe.codegen.emitter import Function

__all__ = ["blend", "inside", "inverted", "least", "negative", "not_zero"]


def negative(emit: Function, value: str) -> str:
    """The mask of whether a signed number is below zero."""
    return emit.op("ashr", emit.hidden(value), "63")


def not_zero(emit: Function, value: str) -> str:
    """The mask of whether a number is not zero: it or its negation has the sign bit."""
    return negative(emit, emit.op("or", value, emit.op("sub", "0", value)))


def inside(emit: Function, value: str, first: int, last: int) -> str:
    """The mask of whether a number, which is small, lies in a range, its end included."""
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
