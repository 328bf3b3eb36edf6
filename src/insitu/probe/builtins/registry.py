"""What a builtin is: how it is typed, and how it becomes instructions; and the tables of all builtins."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.types import Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check import Checker

__all__ = [
    "FUNCTIONS",
    "VARIABLES",
    "BuiltinFunction",
    "BuiltinVariable",
    "Mention",
    "aggregation",
    "function",
    "load_builtins",
    "operand",
    "variable",
]

# A builtin variable as written: its name, or a call without arguments.
Mention = ast.Identifier | ast.Call
# Answers the i64 register of a scalar, "0" when there is no value.
Value = Callable[["Lowering", ast.Call], str]
# Writes the stored form of the node's type to a pointer.
Store = Callable[["Lowering", ast.Call, str], None]


class BuiltinFunction(Struct, frozen=True):
    """``value`` for functions that answer a scalar or nothing, ``store`` for those that answer something larger."""

    name: str
    minimum: int
    maximum: int
    check: Callable[[Checker, ast.Call], Type]
    value: Value | None = None
    store: Store | None = None
    statement: bool = False  # has no value, stands alone
    unsafe: bool = False
    # What the compiler knows of the answer, once the call is typed; None when it depends on the run.
    constant: Callable[[Checker, ast.Call], int | None] | None = None


class BuiltinVariable(Struct, frozen=True):
    """As BuiltinFunction, without arguments."""

    name: str
    check: Callable[[Checker, Mention], Type]
    value: Callable[[Lowering, Mention], str] | None = None
    store: Callable[[Lowering, Mention, str], None] | None = None


FUNCTIONS: dict[str, BuiltinFunction] = {}
VARIABLES: dict[str, BuiltinVariable] = {}


def function(
    names: str,
    arguments: tuple[int, int],
    check: Callable[[Checker, ast.Call], Type],
    *,
    value: Value | None = None,
    store: Store | None = None,
    statement: bool = False,
    unsafe: bool = False,
    constant: Callable[[Checker, ast.Call], int | None] | None = None,
) -> None:
    """Add a function under all the names in ``names``, with its least and greatest number of arguments."""
    for name in names.split():
        FUNCTIONS[name] = BuiltinFunction(name, *arguments, check, value, store, statement, unsafe, constant)


def aggregation(name: str, arguments: tuple[int, int], check: Callable[[Checker, ast.Call], Type]) -> None:
    """Add a function whose calls can only be assigned to maps, which is lowered there."""

    def value(low: Lowering, call: ast.Call) -> str:
        raise low.error(f"{call.name}() has to be assigned to a map", call)

    function(name, arguments, check, value=value)


def variable(
    names: str,
    check: Callable[[Checker, Mention], Type],
    *,
    value: Callable[[Lowering, Mention], str] | None = None,
    store: Callable[[Lowering, Mention, str], None] | None = None,
) -> None:
    """Add a variable under all the names in ``names``; it may be written as a call without arguments, too."""
    for name in names.split():
        VARIABLES[name] = BuiltinVariable(name, check, value, store)
        if name not in FUNCTIONS:
            function(name, (0, 0), check, value=value, store=store)


def operand(call: ast.Call, index: int = 0) -> ast.Expression:
    """An argument that the checker found to be an expression."""
    found = call.arguments[index]
    assert isinstance(found, ast.Expression)
    return found


_FAMILIES = (
    "addresses",
    "aggregations",
    "arguments",
    "cgroups",
    "clocks",
    "conditions",
    "effects",
    "maps",
    "network",
    "output",
    "packets",
    "paths",
    "process",
    "search",
    "stacks",
    "strings",
    "time_series",
)


def load_builtins() -> None:
    """Import every family once, so that both tables are full."""
    if not FUNCTIONS:
        for family in _FAMILIES:
            importlib.import_module(f"insitu.probe.builtins.{family}")
