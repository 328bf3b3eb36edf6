"""The value of a condition after ``#if``: C's constant expressions, in 64 bits (C17, 6.10.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from insitu.kernel.version import kernel_version
from insitu.probe import ast
from insitu.probe.bpftrace.expression_parser import ExpressionParser
from insitu.probe.bpftrace.token_stream import MAX_DEPTH
from insitu.probe.source import ScriptError, Source

__all__ = ["Macro", "holds"]

_MAX_TEXT = 1 << 16  # characters of a condition whose names are replaced
_MAX_REPLACED = 10_000
_MASK = 2**64 - 1
_NAME = re.compile(
    r"""'(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" | \b\d\w* | \bdefined\b\s*(?:\(\s*\w+\s*\)|\w+) | \b[A-Za-z_]\w*""",
    re.VERBOSE,
)
_DEFINED = re.compile(r"defined\b\s*\(?\s*(\w+)")

Number = tuple[int, bool]  # and whether it is unsigned


class Macro(NamedTuple):
    """A #define with parameters."""

    parameters: list[str]
    replacement: str


def holds(condition: str, known: Mapping[str, str | Macro]) -> bool:
    """Whether a condition is not 0; ``known`` are the names that are defined, with their replacements.

    :raises ValueError: saying what in it has no value.
    """
    text = _Expansion(known).of(condition)
    if not text.strip():
        raise ValueError("a condition is missing" if not condition.strip() else f"{condition.strip()} has no value")
    try:
        parser = ExpressionParser(Source(text), text, {}, [])
        tree = parser.expression()
    except ScriptError as error:
        raise ValueError(error.plain.replace("end of script", "end of line")) from None
    if parser.token.kind != "end":
        raise ValueError(f"unexpected {parser.token.text!r}")
    return bool(_value(tree)[0])


class _Expansion:
    """Replaces names by what they are defined as, again and again, and ``defined`` by 0 or 1."""

    def __init__(self, known: Mapping[str, str | Macro]) -> None:
        self._known = known
        self._open: list[str] = []  # names that are being replaced: inside, they stay as they are
        self._replaced = 0

    def of(self, text: str) -> str:
        parts, at = [], 0
        while match := _NAME.search(text, at):
            parts.append(text[at : match.start()])
            replacement, at = self._replacement(match)
            parts.append(replacement)
        result = "".join([*parts, text[at:]])
        if len(result) > _MAX_TEXT or self._replaced > _MAX_REPLACED or len(self._open) > MAX_DEPTH:
            raise ValueError("it is too long")
        return result

    def _replacement(self, match: re.Match[str]) -> tuple[str, int]:
        """What a word is replaced by, and where the text goes on."""
        word, end = match[0], match.end()
        if inner := _DEFINED.match(word):
            return f" {int(inner[1] in self._known)} ", end
        if word not in self._known or word in self._open:
            return word, end
        known = self._known[word]
        if isinstance(known, Macro):
            arguments, end = _arguments(match.string, end)
            if len(arguments) != len(known.parameters):
                raise ValueError(f"{word}() takes {len(known.parameters)} arguments, not {len(arguments)}")
            given = dict(zip(known.parameters, map(self.of, arguments), strict=True))
            known = _NAME.sub(lambda name: given.get(name[0], name[0]), known.replacement)
        self._replaced += 1
        self._open.append(word)
        result = self.of(known)
        self._open.pop()
        return f" {result} ", end


def _arguments(text: str, start: int) -> tuple[list[str], int]:
    """What is between the parentheses after a macro's name, and where the text goes on."""
    found, depth = [""], 0
    for at, character in enumerate(text[start:], start):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth == 1:
            found.append("")
        elif depth and not (character == "(" and depth == 1):
            found[-1] += character
        elif not depth and character == ")":
            return [each.strip() for each in found] if found != [""] else [], at + 1
        elif not depth and not character.isspace():
            break
    raise ValueError("a macro's arguments are missing")


def _value(node: ast.Expression) -> Number:
    """The value of a tree of numbers, names that are not defined (0) and operators."""
    if isinstance(node, ast.Integer):
        return node.value, node.unsigned
    if isinstance(node, ast.Identifier):
        return 0, False
    if isinstance(node, ast.Unary) and node.operator in ("-", "~", "!"):
        value, unsigned = _value(node.operand)
        if node.operator == "!":
            return int(not value), False
        return _wrapped(-value if node.operator == "-" else ~value, unsigned)
    if isinstance(node, ast.Ternary):
        condition = _value(node.condition)
        if not condition[0]:
            return _value(node.false)
        return condition if node.true is None else _value(node.true)
    if isinstance(node, ast.Binary):
        return _binary(node)
    if isinstance(node, ast.Call):
        return _call(node)
    raise ValueError("only numbers, names and operators can be evaluated")


def _call(node: ast.Call) -> Number:
    numbers = [_value(each)[0] for each in node.arguments if isinstance(each, ast.Expression)]
    if node.name == "KERNEL_VERSION" and len(numbers) == 3:
        return kernel_version(*numbers), False
    raise ValueError(f"{node.name}() cannot be evaluated")


def _wrapped(value: int, unsigned: bool) -> Number:
    value &= _MASK
    return (value if unsigned or value < 2**63 else value - 2**64), unsigned


_ARITHMETIC: dict[str, Callable[[int, int], int]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
    "^": lambda a, b: a ^ b,
    "/": lambda a, b: abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1),
    "%": lambda a, b: abs(a) % abs(b) * (1 if a >= 0 else -1),
}
_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}


def _binary(node: ast.Binary) -> Number:
    operator = node.operator
    left, unsigned = _value(node.left)
    if operator in ("&&", "||"):
        if bool(left) == (operator == "||"):
            return int(operator == "||"), False
        return int(bool(_value(node.right)[0])), False
    right, other = _value(node.right)
    if operator in ("<<", ">>"):
        if not 0 <= right < 64:
            raise ValueError(f"a number cannot be shifted by {right} bits")
        return _wrapped(left << right if operator == "<<" else left >> right, unsigned)
    unsigned = unsigned or other
    left, right = _wrapped(left, unsigned)[0], _wrapped(right, unsigned)[0]
    if operator in _COMPARISONS:
        return int(_COMPARISONS[operator](left, right)), False
    if operator in ("/", "%") and not right:
        raise ValueError("division by zero")
    return _wrapped(_ARITHMETIC[operator](left, right), unsigned)
