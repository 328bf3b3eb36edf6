"""Expressions that are known at compile time, and arithmetic on them as the kernel's programs do it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol, TypeAlias

from insitu.probe import ast
from insitu.probe.bpftrace.literals import integer_value

__all__ = ["Constant", "Names", "constant", "fold", "is_comptime", "known_value", "number", "quotient"]

# A number, a text, or a tuple by its elements' names (else their positions).
Constant: TypeAlias = "int | bytes | dict[str, Constant]"

_MASK = 2**64 - 1
_NUMBER = re.compile(r"([+-]?)(\d\w*)", re.ASCII)


class Names(Protocol):
    """The values of the names in an expression (from the checker)."""

    def positional_text(self, node: ast.Positional) -> str | int:
        """The text of a positional parameter; for $#, their number."""

    def constant_name(self, name: str) -> Constant | None:
        """The value of an enumerator, another named constant, or a builtin variable that is constant."""

    def constant_call(self, call: ast.Call) -> Constant | None:
        """The value of a call that the compiler itself evaluates."""

    def constant_size(self, node: ast.TypeOf) -> int | None:
        """The value of sizeof() or offsetof()."""


_UNARY: dict[str, Callable[[int], int]] = {"-": lambda value: -value, "~": lambda value: ~value}


def constant(node: ast.Expression, names: Names) -> int | None:
    """The value of an expression that is one number at compile time, else None."""
    value = known_value(node, names)
    return value if isinstance(value, int) else None


def known_value(node: ast.Expression, names: Names) -> Constant | None:
    """The value of an expression that is known at compile time, else None."""
    if isinstance(node, ast.Integer | ast.StringLiteral):
        return node.value
    if isinstance(node, ast.Positional):
        text = names.positional_text(node)
        return number(text) if isinstance(text, str) else text
    if isinstance(node, ast.Identifier):
        return names.constant_name(node.name)
    if isinstance(node, ast.Binary):
        return _binary(node, names)
    if isinstance(node, ast.Unary):
        return _unary(node, names)
    if isinstance(node, ast.Ternary):
        condition = constant(node.condition, names)
        if condition is None:
            return None
        branch = (node.true or node.condition) if condition else node.false
        return known_value(branch, names)
    if isinstance(node, ast.BlockExpression):
        return known_value(node.value, names) if node.value is not None and not node.statements else None
    if isinstance(node, ast.Member):
        return _element(known_value(node.object, names), node.name)
    if isinstance(node, ast.TypeOf):
        return names.constant_size(node)
    return names.constant_call(node) if isinstance(node, ast.Call) else None


def is_comptime(node: ast.Expression) -> bool:
    """Whether a condition is marked as constant: the branch that is not taken need not even have types."""
    return isinstance(node, ast.Unary) and node.operator == "comptime"


def _binary(node: ast.Binary, names: Names) -> int | None:
    left, right = known_value(node.left, names), known_value(node.right, names)
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        return fold(node.operator, left, right)
    return int((left == right) == (node.operator == "==")) if node.operator in ("==", "!=") else None


def _unary(node: ast.Unary, names: Names) -> Constant | None:
    value = known_value(node.operand, names)
    if node.operator == "comptime" or value is None:
        return value
    if node.operator == "!":
        return int(not value)
    return _UNARY[node.operator](value) if node.operator in _UNARY and isinstance(value, int) else None


def _element(whole: Constant | None, name: str) -> Constant | None:
    """An element of a tuple, by its name or position."""
    if not isinstance(whole, dict):
        return None
    if name.isdigit():
        return list(whole.values())[int(name)] if int(name) < len(whole) else None
    return whole.get(name)


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
