"""An event's "print fmt", by which the kernel prints it: a printf format, and C expressions over the event's fields.

The text comes from a kernel or from a file that somebody sent. It is parsed to closures over the fields; nothing is
evaluated as a program. A value that only the kernel's sources explain (an unknown name) is shown as "?".
"""

from __future__ import annotations

import operator
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from insitu.convert.print_directives import Expression, Printer, UnknownError, Values, pieces
from insitu.convert.print_functions import FUNCTIONS

__all__ = ["Printer", "printer"]

_TOKEN: Final = re.compile(
    r'\s*(?:(0[xX][0-9a-fA-F]+|\d+)[uUlL]*|([A-Za-z_]\w*)|"((?:[^"\\]|\\.)*)"|\'(\\?.)\''
    r"|(->|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^~!<>?:()\[\]{},.]))"
)
_ESCAPES: Final = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "r": "\r", "0": "\0"}
_MOST_TOKENS: Final = 20_000
_MOST_DEPTH: Final = 60
_U64: Final = (1 << 64) - 1

_BINARY: Final[Sequence[Mapping[str, Callable[[Any, Any], Any]]]] = (
    {"||": lambda a, b: int(bool(a or b))},
    {"&&": lambda a, b: int(bool(a and b))},
    {"|": operator.or_},
    {"^": operator.xor},
    {"&": operator.and_},
    {"==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b)},
    {
        "<": lambda a, b: int(a < b),
        ">": lambda a, b: int(a > b),
        "<=": lambda a, b: int(a <= b),
        ">=": lambda a, b: int(a >= b),
    },
    {"<<": lambda a, b: (a << (b & 63)) & _U64, ">>": lambda a, b: a >> (b & 63)},
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": lambda a, b: int(a / b) if b else 0, "%": lambda a, b: a % b if b else 0},
)
_LEVELS: Final = {mark: level for level, actions in enumerate(_BINARY) for mark in actions}
# Types of casts -> bits and sign; others (pointers, enums, structs) leave the value as it is.
_CASTS: Final = {
    **dict.fromkeys(("u8", "__u8", "uint8_t", "unsigned char", "bool"), (8, False)),
    **dict.fromkeys(("s8", "__s8", "int8_t", "signed char", "char"), (8, True)),
    **dict.fromkeys(("u16", "__u16", "uint16_t", "unsigned short"), (16, False)),
    **dict.fromkeys(("s16", "__s16", "int16_t", "short"), (16, True)),
    **dict.fromkeys(("u32", "__u32", "uint32_t", "unsigned int", "unsigned", "gfp_t", "dev_t"), (32, False)),
    **dict.fromkeys(("s32", "__s32", "int32_t", "int", "pid_t"), (32, True)),
    **dict.fromkeys(
        ("u64", "__u64", "uint64_t", "unsigned long", "unsigned long long", "size_t", "sector_t"), (64, False)
    ),
    **dict.fromkeys(("s64", "__s64", "int64_t", "long", "long long", "ssize_t", "loff_t"), (64, True)),
}
_TYPE_WORDS: Final = {
    "unsigned",
    "signed",
    "int",
    "long",
    "short",
    "char",
    "void",
    "const",
    "struct",
    "enum",
    "__force",
}


# What an expression that makes no sense may end in.
_FAILURES: Final = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError, struct.error)
_NOTHING: Final[Mapping[str, Any]] = {}


def printer(
    text: str,
    symbol: Callable[[int], str] | None = None,
    constant: Callable[[str], int | None] = lambda name: None,
) -> Printer | None:
    """What prints an event by its "print fmt", or None where that cannot be understood.

    The closure takes the event's fields: integers, text, and bytes for other arrays. ``symbol`` names kernel
    addresses (``name+0x12``); ``constant`` gives the value of an enumerator of the kernel, or None.
    """
    try:
        parser = _Parser(text, constant)
        shape = parser.string()
        arguments = []
        while parser.take(","):
            arguments.append(parser.argument())
        parser.end()
        parts = pieces(shape, arguments, symbol or hex)
    except (UnknownError, *_FAILURES):
        return None

    def text_of(values: Values) -> str:
        try:
            return "".join(piece(values) for piece in parts)
        except _FAILURES:
            return " ".join(f"{name}={value}" for name, value in values.items())

    return text_of


class _Literal:
    """An expression that is the same for every event: operators on such are computed once, when they are parsed."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __call__(self, values: Values) -> Any:
        return self.value


class _Parser:
    def __init__(self, text: str, constant: Callable[[str], int | None]) -> None:
        self._constant = constant
        self._tokens: list[tuple[str, str]] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None or len(self._tokens) > _MOST_TOKENS:
                raise UnknownError
            kind = "nwscp"[(match.lastindex or 1) - 1]
            self._tokens.append((kind, match[match.lastindex or 1]))
            at = match.end()
        self._at = 0
        self._depth = 0

    @property
    def _next(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("", "")

    def take(self, mark: str) -> bool:
        """Skip an operator or a word if it comes next."""
        if self._next in (("p", mark), ("w", mark)):
            self._at += 1
            return True
        return False

    def need(self, mark: str) -> None:
        """Skip what has to come."""
        if not self.take(mark):
            raise UnknownError

    def end(self) -> None:
        """All has been read."""
        if self._at < len(self._tokens):
            raise UnknownError

    def string(self) -> str:
        """A string, or several in a row."""
        found = []
        while self._next[0] == "s":
            found.append(re.sub(r"\\(.)", lambda match: _ESCAPES.get(match[1], match[1]), self._next[1]))
            self._at += 1
        if not found:
            raise UnknownError
        return "".join(found)

    def word(self) -> str:
        """A name."""
        kind, text = self._next
        if kind != "w":
            raise UnknownError
        self._at += 1
        return text

    def argument(self) -> Expression | None:
        """An argument of the format; None for one with something that only the kernel's sources explain."""
        start = self._at
        try:
            return self.expression()
        except UnknownError:
            self._at, self._depth, open_ones = start, 0, 0
            while self._at < len(self._tokens) and (open_ones or self._next != ("p", ",")):
                open_ones += (self._next[1] in "([{") - (self._next[1] in ")]}") if self._next[0] == "p" else 0
                self._at += 1
            if open_ones:
                raise
            return None

    def expression(self) -> Expression:
        """An expression, which may be a conditional one."""
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise UnknownError
        condition = self._binary()
        if self.take("?"):
            yes = self.expression()
            self.need(":")
            no = self.expression()
            self._depth -= 1
            return lambda values: yes(values) if condition(values) else no(values)
        self._depth -= 1
        return condition

    def _binary(self, least: int = 0) -> Expression:
        """Operands joined by operators that bind at least so tightly (precedence climbing)."""
        left = self._unary()
        while self._next[0] == "p" and (level := _LEVELS.get(self._next[1], -1)) >= least:
            action = _BINARY[level][self._next[1]]
            self._at += 1
            left = _applied(action, left, self._binary(level + 1))
        return left

    def _unary(self) -> Expression:
        if self.take("-"):
            inner = self._unary()
            return _applied(operator.sub, _Literal(0), inner)
        if self.take("~"):
            inner = self._unary()
            return _applied(operator.xor, _Literal(-1), inner)
        if self.take("!"):
            inner = self._unary()
            return lambda values: int(not inner(values))
        if self.take("*") or self.take("&"):
            raise UnknownError
        if (cast := self._cast()) is not None:
            inner = self._unary()
            return _cast(cast, inner)
        return self._postfix(self._primary())

    def _cast(self) -> str | None:
        """The type of a cast, "" for one that leaves values as they are; None: there is none."""
        if self._next != ("p", "("):
            return None
        at, words = self._at + 1, []
        while at < len(self._tokens) and (self._tokens[at][0] == "w" or self._tokens[at] == ("p", "*")):
            words.append(self._tokens[at][1])
            at += 1
        if at >= len(self._tokens) or self._tokens[at] != ("p", ")") or not words or words[0] == "REC":
            return None
        name = " ".join(word for word in words if word not in ("const", "__force"))
        is_type = name in _CASTS or "*" in words or words[0] in _TYPE_WORDS or name.endswith("_t")
        after = self._tokens[at + 1] if at + 1 < len(self._tokens) else ("", "")
        if not is_type and (after[0] not in "nwsc" or not after[0]) and after != ("p", "("):
            return None
        self._at = at + 1
        return name if name in _CASTS else ""

    def _postfix(self, inner: Expression) -> Expression:
        while self.take("["):
            index = self.expression()
            self.need("]")
            inner = _indexed(inner, index)
        return inner

    def _primary(self) -> Expression:
        kind, text = self._next
        self._at += 1
        if kind == "n":
            number = int(text, 0) if not text.startswith("0") or text[1:2] in "xX" else int(text, 8)
            return _Literal(number)
        if kind == "s":
            self._at -= 1
            string = self.string()
            return _Literal(string)
        if kind == "c":
            code = ord(_ESCAPES.get(text[1:], text[-1]) if text.startswith("\\") else text)
            return _Literal(code)
        if (kind, text) == ("p", "("):
            found = self.expression()
            self.need(")")
            return found
        if kind != "w":
            raise UnknownError
        if text == "REC":
            self.need("->")
            name = self.word()
            return lambda values: values[name]
        return self._call(text)

    def _call(self, name: str) -> Expression:
        if not self.take("("):
            number = self._constant(name)
            if number is None:
                raise UnknownError
            return _Literal(number)
        make = FUNCTIONS.get(name)
        if make is None:
            raise UnknownError
        return make(self)

    def pairs(self) -> list[tuple[int, str]]:
        """The ``{ value, "name" }`` that follow up to the closing parenthesis."""
        found: list[tuple[int, str]] = []
        while self.take(","):
            self.need("{")
            value = self.expression()(_NOTHING)
            self.need(",")
            if self._next[0] == "s":
                found.append((int(value), self.string()))
            else:
                self.expression()  # the null that ends some lists
            self.need("}")
        self.need(")")
        return found


def _applied(action: Callable[[Any, Any], Any], left: Expression, right: Expression) -> Expression:
    def compute(values: Values) -> int:
        return _number(action(_number(left(values)), _number(right(values))))

    if isinstance(left, _Literal) and isinstance(right, _Literal):
        with suppress(*_FAILURES):  # nobody may want the result, as of a branch
            return _Literal(compute(_NOTHING))
    return compute


def _number(value: Any) -> int:
    """A value that C can compute with: text would be repeated, and a number grow. Raises TypeError."""
    if not isinstance(value, int):
        raise TypeError("not a number")
    return value if -(1 << 63) <= value <= _U64 else value & _U64


def _indexed(inner: Expression, index: Expression) -> Expression:
    return lambda values: inner(values)[index(values)]


def _cast(name: str, inner: Expression) -> Expression:
    if not name:
        return inner
    bits, signed = _CASTS[name]
    mask, top = (1 << bits) - 1, 1 << (bits - 1)

    def cut(values: Values) -> Any:
        value = inner(values)
        if not isinstance(value, int):
            return value
        value &= mask
        return value - (mask + 1) if signed and value & top else value

    return cut
