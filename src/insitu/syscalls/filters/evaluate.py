"""Turns an expression into a function."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from fnmatch import translate
from typing import Any, Final

from insitu.syscalls.filters.fields import FIELDS, Value
from insitu.syscalls.filters.parser import Check, Every, Node, Not
from insitu.syscalls.filters.subject import Argument, Subject

__all__ = ["compiled"]

Predicate = Callable[[Subject], bool]

_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "contains": lambda value, wanted: wanted in value,
    "icontains": lambda value, wanted: wanted.lower() in value.lower(),
    "startswith": lambda value, wanted: value.startswith(wanted),
    "endswith": lambda value, wanted: value.endswith(wanted),
    "in": lambda value, wanted: value in wanted,
    "intersects": lambda value, wanted: value in wanted,
    "pmatch": lambda value, wanted: any(value == each or value.startswith(f"{each.rstrip('/')}/") for each in wanted),
    "glob": lambda value, wanted: wanted.match(value) is not None,
    "iglob": lambda value, wanted: wanted.match(value) is not None,
    "regex": lambda value, wanted: wanted.fullmatch(value) is not None,
}
_NEGATIVE: Final = "!="


def compiled(node: Node) -> Predicate:
    """Returns a function that says whether the expression holds."""
    if isinstance(node, Check):
        return _check(node)
    if isinstance(node, Not):
        inner = compiled(node.node)
        return lambda subject: not inner(subject)
    parts = [compiled(each) for each in node.nodes]
    if isinstance(node, Every):
        return lambda subject: all(part(subject) for part in parts)
    return lambda subject: any(part(subject) for part in parts)


def _check(check: Check) -> Predicate:
    get, which = FIELDS[check.field].value, check.which
    if check.operator == "exists":
        return lambda subject: get(subject, which) is not None
    compare, wanted = _COMPARISONS[check.operator], _wanted(check)
    numeric = check.operator[0] in "<>"

    def holds(subject: Subject) -> bool:
        value: Value = get(subject, which)
        if value is None:
            return False
        if isinstance(value, Argument):
            return _argument_holds(value, compare, wanted, numeric=numeric)
        if isinstance(value, tuple):
            # Of several (either address of a socket), != means none.
            of = all if check.operator == _NEGATIVE else any
            return of(compare(each, wanted) for each in value)
        return compare(value, wanted)

    return holds


def _argument_holds(value: Argument, compare: Callable[[Any, Any], bool], wanted: Any, *, numeric: bool) -> bool:
    if numeric:
        return compare(value.value, wanted)
    text = value.text
    if text[:1] == '"':  # a string or a path: what is between its quotation marks
        text = text.removesuffix("...")[1:-1]
    return compare(text, wanted)


def _wanted(check: Check) -> Any:
    first = check.values[0]
    match check.operator:
        case "in" | "intersects":
            return frozenset(check.values)
        case "pmatch":
            return check.values
        case "glob":
            return re.compile(translate(str(first)))
        case "iglob":
            return re.compile(translate(str(first)), re.IGNORECASE)
        case "regex":
            return re.compile(str(first))
    return first
