"""Parses filter expressions, and checks fields, operators and values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.syscalls.filters.fields import FIELDS

__all__ = ["OPERATORS", "Check", "Every", "FilterError", "Node", "Not", "Some", "checks", "parse", "unparse"]

_MOST_CHARACTERS: Final = 1 << 16
_MOST_DEPTH: Final = 100

_FIELD: Final = re.compile(r"([a-z][a-z0-9_]*\.[a-z0-9_]+)(?:\.([A-Za-z0-9_]+)|\[([^\]\s]*)\])?")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\[\]]*|\S")
_OPERATOR: Final = re.compile(r"==|!=|<=|>=|=|<|>|[a-z]+")
_BARE: Final = re.compile(r"""[^\s(),'"=<>!]+|[<>]""")
_NUMBER: Final = re.compile(r"(-?)(0x[0-9a-fA-F]{1,16}|\d{1,20}(?:\.\d{1,9})?)([A-Za-z]*)$")

_TEXT_OPERATORS: Final = [
    "=",
    "!=",
    "in",
    "contains",
    "icontains",
    "startswith",
    "endswith",
    "glob",
    "iglob",
    "regex",
    "pmatch",
    "intersects",
    "exists",
]
_NUMBER_OPERATORS: Final = ["=", "!=", "<", "<=", ">", ">=", "in", "intersects", "exists"]
OPERATORS: Final = {
    "text": _TEXT_OPERATORS,
    "number": _NUMBER_OPERATORS,
    "time": _NUMBER_OPERATORS,
    "size": _NUMBER_OPERATORS,
    "flag": ["=", "!=", "exists"],
    "argument": [*_TEXT_OPERATORS, "<", "<=", ">", ">="],
}
_LISTS: Final = ("in", "intersects", "pmatch")
_TIMES_NS: Final = {"": 1, "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_SIZES: Final = {
    unit: 1 << shift
    for shift, units in ((0, " B"), (10, "K KB KiB"), (20, "M MB MiB"), (30, "G GB GiB"))
    for unit in ([""] if shift == 0 else []) + units.split()
}


class FilterError(InsituError):
    """An invalid expression; shown with the expression, and a caret where it is wrong."""

    def __init__(self, message: str, text: str, column: int, width: int = 1) -> None:
        super().__init__(f"--filter: {message}", status=2)
        self.text = text
        self.column = column
        self.width = max(width, 1)

    @property
    def rendered(self) -> str:
        """The message, and an excerpt of the expression."""
        start = max(self.column - 60, 0)
        excerpt = " ".join(self.text[start : self.column + 40].splitlines())
        return f"{self.message}\n  {excerpt}\n  {' ' * (self.column - start)}{'^' * min(self.width, 40)}"


class Check(NamedTuple):
    """``FIELD OPERATOR VALUE``; an "in" has several values, an "exists" none."""

    field: str
    which: str
    """What stands in its brackets, or after evt.arg."""
    operator: str
    values: tuple[str | int | bool, ...]


class Not(NamedTuple):
    """not ..."""

    node: Node


class Every(NamedTuple):
    """... and ..."""

    nodes: tuple[Node, ...]


class Some(NamedTuple):
    """... or ..."""

    nodes: tuple[Node, ...]


Node = Check | Not | Every | Some


def parse(text: str) -> Node:
    """Returns the expression. Raises FilterError."""
    if len(text) > _MOST_CHARACTERS:
        raise FilterError(f"longer than {_MOST_CHARACTERS} characters", text[:100], 0)
    parser = _Parser(text)
    node = parser.either()
    parser.space()
    if parser.at < len(text):
        raise parser.error(f"unexpected {parser.word()!r}; 'and' or 'or' joins conditions")
    return node


def checks(node: Node) -> Iterator[Check]:
    """Yields the conditions of an expression."""
    if isinstance(node, Check):
        yield node
    elif isinstance(node, Not):
        yield from checks(node.node)
    else:
        for each in node.nodes:
            yield from checks(each)


class _Parser:
    """Reads the text from ``at`` on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self._depth = 0

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def word(self) -> str:
        """Returns the word that follows, for a message or a look ahead; "" at the end."""
        found = _WORD.match(self.text, self.at)
        return found[0] if found else ""

    def error(self, message: str, at: int | None = None, width: int | None = None) -> FilterError:
        where = self.at if at is None else at
        return FilterError(message, self.text, where, len(self.word()) if width is None else width)

    def either(self) -> Node:
        nodes = [self._both()]
        while self._keyword("or"):
            nodes.append(self._both())
        return nodes[0] if len(nodes) == 1 else Some(tuple(nodes))

    def _both(self) -> Node:
        nodes = [self._one()]
        while self._keyword("and"):
            nodes.append(self._one())
        return nodes[0] if len(nodes) == 1 else Every(tuple(nodes))

    def _one(self) -> Node:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise self.error(f"more than {_MOST_DEPTH} levels deep")
        try:
            if self._keyword("not"):
                return Not(self._one())
            if self._symbol("("):
                node = self.either()
                if not self._symbol(")"):
                    raise self.error("missing ')'" if self.at >= len(self.text) else f"unexpected {self.word()!r}")
                return node
            return self._check()
        finally:
            self._depth -= 1

    def _keyword(self, word: str) -> bool:
        self.space()
        if self.word() != word:
            return False
        self.at += len(word)
        return True

    def _symbol(self, symbol: str) -> bool:
        self.space()
        if not self.text.startswith(symbol, self.at):
            return False
        self.at += len(symbol)
        return True

    def _check(self) -> Check:
        self.space()
        start = self.at
        if start >= len(self.text):
            raise self.error("expected a field, such as evt.type", width=1)
        found = _FIELD.match(self.text, start)
        if found is None:
            word = self.word()
            raise self.error(f"expected a field, not {word!r}{nearest(word, FIELDS)}")
        name, which = found[1], found[2] or found[3] or ""
        field = FIELDS.get(name)
        if field is None:
            raise self.error(f"unknown field {name!r}{nearest(name, FIELDS)}", width=len(found[0]))
        if which and not field.takes:
            raise self.error(f"{name} takes no argument", width=len(found[0]))
        if field.takes == "name" and not which:
            raise self.error(f"{name} needs a name or an index: {name}.flags, {name}[0]", width=len(found[0]))
        if (field.takes == "index" and which and not which.isdecimal()) or len(which) > 64:
            raise self.error(f"{name}[N] needs a number", width=len(found[0]))
        if which.isdecimal() and int(which) > 1000:
            raise self.error(f"{name}[{which}]: the index is too large", width=len(found[0]))
        self.at = found.end()
        operator = self._operator(name, field.type)
        if operator == "exists":
            return Check(name, which, operator, ())
        if operator in _LISTS:
            return Check(name, which, operator, tuple(self._list(name, field.type)))
        return Check(name, which, operator, (self._value(name, field.type, operator),))

    def _operator(self, name: str, type_: str) -> str:
        self.space()
        found = _OPERATOR.match(self.text, self.at)
        if found is None:
            raise self.error(f"expected an operator after {name}: {' '.join(OPERATORS[type_])}", width=1)
        operator = "=" if found[0] == "==" else found[0]
        known = {each for operators in OPERATORS.values() for each in operators}
        if operator not in known:
            raise self.error(f"unknown operator {operator!r}{nearest(operator, known)}", width=len(found[0]))
        if operator not in OPERATORS[type_]:
            what = {"text": "text", "flag": "true or false"}.get(type_, "a number")
            raise self.error(
                f"{name} is {what}: it takes {' '.join(OPERATORS[type_])}, not {operator}", width=len(found[0])
            )
        self.at = found.end()
        return operator

    def _list(self, name: str, type_: str) -> Iterator[str | int | bool]:
        if not self._symbol("("):
            raise self.error("expected a list in parentheses", width=1)
        while True:
            yield self._value(name, type_, "in")
            if self._symbol(")"):
                return
            if not self._symbol(","):
                raise self.error("expected ',' or ')' in the list", width=1)

    def _value(self, name: str, type_: str, operator: str) -> str | int | bool:
        self.space()
        start = self.at
        text = self._quoted() if self.text[start : start + 1] in ("'", '"') else self._bare()
        width = self.at - start
        if type_ == "flag":
            if text.lower() not in ("true", "false"):
                raise self.error(f"{name} is true or false, not {text!r}", start, width)
            return text.lower() == "true"
        if type_ in ("number", "time", "size") or (type_ == "argument" and operator[0] in "<>"):
            return self._number(name, type_, text, start, width)
        if operator == "regex":
            try:
                re.compile(text)
            except re.error as error:
                raise self.error(f"invalid regular expression: {error}", start, width) from None
        return text

    def _number(self, name: str, type_: str, text: str, start: int, width: int) -> int:
        found = _NUMBER.match(text)
        units = {"time": _TIMES_NS, "size": _SIZES, "argument": _SIZES}.get(type_, {"": 1})
        if found is None or found[3] not in units:
            example = {"time": "a time such as 1ms", "size": "a size such as 4KB"}.get(type_, "a number")
            raise self.error(f"{name} is compared with {example}, not {text!r}", start, width)
        digits = found[2]
        number = int(digits, 16) if digits.startswith("0x") else 0
        if not digits.startswith("0x"):
            whole, _, fraction = digits.partition(".")
            number = int(whole) * units[found[3]]
            if fraction:
                number += int(fraction) * units[found[3]] // 10 ** len(fraction)
        return -number if found[1] else number

    def _quoted(self) -> str:
        quote, start = self.text[self.at], self.at
        self.at += 1
        value: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == quote:
                return "".join(value)
            if char == "\\" and self.at < len(self.text):
                char = self.text[self.at]
                self.at += 1
                if char not in "\\'\"":
                    value.append("\\")
            value.append(char)
        raise self.error(f"missing {quote}", start, 1)

    def _bare(self) -> str:
        found = _BARE.match(self.text, self.at)
        if found is None:
            raise self.error(
                "expected a value" if self.at >= len(self.text) else f"expected a value, not {self.word()!r}"
            )
        self.at = found.end()
        return found[0]


def unparse(node: Node) -> str:
    """Returns an expression that means the same."""
    if isinstance(node, Not):
        return f"not {_grouped(node.node)}"
    if isinstance(node, Every | Some):
        return (" and " if isinstance(node, Every) else " or ").join(_grouped(each) for each in node.nodes)
    field = node.field
    if node.which:
        field += f"[{node.which}]"
    values = ", ".join(_quoted(each) for each in node.values)
    if node.operator in _LISTS:
        values = f"({values})"
    return (
        f"{field} {node.operator} {values}".rstrip()
        if node.operator == "exists"
        else f"{field} {node.operator} {values}"
    )


def _grouped(node: Node) -> str:
    return f"({unparse(node)})" if isinstance(node, Every | Some) else unparse(node)


def _quoted(value: str | int | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
