"""Expressions that are one number at compile time, and arithmetic on them as the kernel's programs do it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

from insitu.probe import ast
from insitu.probe.bpftrace.literals import integer_value

__all__ = ["Names", "constant", "fold", "number", "quotient"]

_MASK = 2**64 - 1
_NUMBER = re.compile(r"([+-]?)(\d\w*)", re.ASCII)


class Names(Protocol):
    """The values of the names in an expression (from the checker)."""

    def positional_text(self, node: ast.Positional) -> str | int:
        """The text of a positional parameter; for $#, their number."""

    def constant_name(self, name: str) -> int | None:
        """The value of an enumerator or another named constant."""

    def constant_call(self, call: ast.Call) -> int | None:
        """The value of a call that the compiler itself evaluates."""

    def constant_size(self, node: ast.TypeOf) -> int | None:
        """The value of a sizeof() or offsetof()."""


_UNARY: dict[str, Callable[[int], int]] = {"!": lambda value: int(not value), "-": lambda v: -v, "~": lambda v: ~v}


def constant(node: ast.Expression, names: Names) -> int | None:
    """The value of an expression that is one number at compile time, else None."""
    if isinstance(node, ast.Integer):
        return node.value
    if isinstance(node, ast.Positional):
        text = names.positional_text(node)
        return number(text) if isinstance(text, str) else text
    if isinstance(node, ast.Identifier):
        return names.constant_name(node.name)
    if isinstance(node, ast.Binary):
        left, right = constant(node.left, names), constant(node.right, names)
        if left is not None and right is not None:
            return fold(node.operator, left, right)
    if isinstance(node, ast.Unary) and node.operator in _UNARY:
        value = constant(node.operand, names)
        return None if value is None else _UNARY[node.operator](value)
    if isinstance(node, ast.Ternary):
        condition = constant(node.condition, names)
        return None if condition is None else constant(node.true if condition else node.false, names)
    if isinstance(node, ast.TypeOf):
        return names.constant_size(node)
    return names.constant_call(node) if isinstance(node, ast.Call) else None


def number(text: str) -> int | None:
    """The number in a parameter's text, written as in a script; None for other text, 0 for a missing parameter's."""
    if not text:
        return 0
    match = _NUMBER.fullmatch(text)
    try:
        value = integer_value(match[2])[0] if match else None
    except ValueError:
        return None
    if match and match[1] == "-" and value is not None:
        return -value if value <= 2**63 else None
    return value


def fold(operator: str, left: int, right: int) -> int | None:
    """Arithmetic and comparisons of constants, in 64 bits; None where they are not defined."""
    if operator in ("/", "%") and right == 0:
        return None
    if operator in ("<<", ">>") and not 0 <= right < 64:
        return None
    results: dict[str, Callable[[], int]] = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: quotient(left, right),
        "%": lambda: left - quotient(left, right) * right,
        "<<": lambda: left << right,
        ">>": lambda: left >> right,
        "&": lambda: left & right,
        "|": lambda: left | right,
        "^": lambda: left ^ right,
        "==": lambda: left == right,
        "!=": lambda: left != right,
        "<": lambda: left < right,
        ">": lambda: left > right,
        "<=": lambda: left <= right,
        ">=": lambda: left >= right,
        "&&": lambda: bool(left and right),
        "||": lambda: bool(left or right),
    }
    if operator not in results:
        return None
    value = results[operator]() & _MASK
    return value - 2**64 if value >= 2**63 else value


def quotient(dividend: int, divisor: int) -> int:
    """Division towards zero, as in C; 0 when the divisor is 0, as in BPF."""
    if not divisor:
        return 0
    whole = abs(dividend) // abs(divisor)
    return whole if (dividend < 0) == (divisor < 0) else -whole
