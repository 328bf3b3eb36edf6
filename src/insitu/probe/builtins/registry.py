"""What a builtin is: how the checker types it, and how code generation lowers it.

Each module of this package lists its own in ``BUILTINS``; tables.py has them all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.types import Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker
    from insitu.probe.passes.check.folding import Constant

__all__ = [
    "Builtin",
    "BuiltinFunction",
    "BuiltinVariable",
    "Mention",
    "aggregation",
    "function",
    "operand",
    "variable",
]

# A builtin variable as written: its name, or a call without arguments.
Mention = ast.Identifier | ast.Call
# Returns the i64 register of a scalar, "0" when there is no value.
Value = Callable[["Lowering", ast.Call], str]
# Writes the stored form of the node's type to a pointer.
Store = Callable[["Lowering", ast.Call, str], None]


class BuiltinFunction(Struct, frozen=True):
    """``value`` for functions that return a scalar or nothing, ``store`` for those that return something larger."""

    name: str
    minimum: int
    maximum: int
    check: Callable[[Checker, ast.Call], Type]
    value: Value | None = None
    store: Store | None = None
    statement: bool = False  # has no value, stands alone
    unsafe: bool = False
    # The value at compile time, once the call is typed; None when it depends on the run.
    constant: Callable[[Checker, ast.Call], Constant | None] | None = None


class BuiltinVariable(Struct, frozen=True):
    """As BuiltinFunction, without arguments."""

    name: str
    check: Callable[[Checker, Mention], Type]
    value: Callable[[Lowering, Mention], str] | None = None
    store: Callable[[Lowering, Mention, str], None] | None = None
    constant: Callable[[Checker], Constant | None] | None = None

    def as_function(self) -> BuiltinFunction:
        """The same, written as a call without arguments."""
        constant = self.constant
        known = None if constant is None else lambda checker, call: constant(checker)
        return BuiltinFunction(self.name, 0, 0, self.check, self.value, self.store, constant=known)


Builtin = BuiltinFunction | BuiltinVariable


def function(
    names: str,
    arguments: tuple[int, int],
    check: Callable[[Checker, ast.Call], Type],
    *,
    value: Value | None = None,
    store: Store | None = None,
    statement: bool = False,
    unsafe: bool = False,
    constant: Callable[[Checker, ast.Call], Constant | None] | None = None,
) -> tuple[BuiltinFunction, ...]:
    """A function under each of the names in ``names``, with its least and greatest number of arguments."""
    return tuple(
        BuiltinFunction(name, *arguments, check, value, store, statement, unsafe, constant) for name in names.split()
    )


def aggregation(
    name: str, arguments: tuple[int, int], check: Callable[[Checker, ast.Call], Type]
) -> tuple[BuiltinFunction, ...]:
    """A function whose calls can only be assigned to maps, and are lowered there."""

    def value(low: Lowering, call: ast.Call) -> str:
        raise low.error(f"{call.name}() has to be assigned to a map", call)

    return function(name, arguments, check, value=value)


def variable(
    names: str,
    check: Callable[[Checker, Mention], Type],
    *,
    value: Callable[[Lowering, Mention], str] | None = None,
    store: Callable[[Lowering, Mention, str], None] | None = None,
    constant: Callable[[Checker], Constant | None] | None = None,
) -> tuple[BuiltinVariable, ...]:
    """A variable under each of the names in ``names``."""
    return tuple(BuiltinVariable(name, check, value, store, constant) for name in names.split())


def operand(call: ast.Call, index: int = 0) -> ast.Expression:
    """An argument that the checker found to be an expression."""
    found = call.arguments[index]
    assert isinstance(found, ast.Expression)
    return found
