"""Types of literals, names, maps, calls, tuples and choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.builtins.constants import CONSTANTS
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.dialect import holds_element, named_constant, readable
from insitu.probe.passes.check.folding import number
from insitu.probe.passes.check.unify import unify
from insitu.probe.passes.library import NAMES
from insitu.probe.passes.scopes import plain_name
from insitu.probe.types import (
    INT64,
    UINT64,
    UNKNOWN,
    VOID,
    Integer,
    Pointer,
    Space,
    String,
    Type,
    Unknown,
    is_bool,
)

__all__ = ["EXPRESSIONS", "check_uncalled"]

_ANY_NUMBER = 99  # of arguments


def _integer(checker: Checker, node: ast.Integer) -> Type:
    return UINT64 if node.unsigned else INT64


def _string(checker: Checker, node: ast.StringLiteral) -> Type:
    most = max(checker.options.max_literal, checker.options.max_strlen)
    if len(node.value) + 1 > most:
        raise checker.error(f"string literals hold at most {most - 1} bytes", node, remedy="raise max_strlen")
    return String(len(node.value) + 1)


def _positional(checker: Checker, node: ast.Positional) -> Type:
    text = checker.positional_text(node)
    value = number(text) if isinstance(text, str) else text
    if value is None:
        return _string(checker, checker.parameter_literal(node))
    return UINT64 if value >= 2**63 else INT64


def _identifier(checker: Checker, node: ast.Identifier) -> Type:
    variables, functions = checker.rules.variables, checker.rules.functions
    if node.name in variables:
        return variables[node.name].check(checker, node)
    if node.name in functions and functions[node.name].minimum == 0:
        raise checker.error(f"{node.name} is a function: write {node.name}()", node)
    found = named_constant(checker.structures, node.name)
    if found is None:
        known = [*variables, *CONSTANTS, *NAMES]
        raise checker.error(f"unknown name {node.name!r}{nearest(node.name, known)}", node)
    return found[1]


def _variable(checker: Checker, node: ast.Variable) -> Type:
    return checker.variables.get(node.name, UNKNOWN)


def _map(checker: Checker, node: ast.MapAccess) -> Type:
    return readable(checker.assigned(node, checker.map_entry(node).value))


def _call(checker: Checker, node: ast.Call) -> Type:
    functions = checker.rules.functions
    builtin = functions.get(node.name)
    if builtin is None:
        hint = nearest(node.name, [*functions, *NAMES])
        raise checker.error(f"unknown function {node.name}(){hint}", node)
    given = len(node.arguments)
    if not builtin.minimum <= given <= builtin.maximum:
        wanted = str(builtin.minimum)
        if given < builtin.minimum and builtin.maximum >= _ANY_NUMBER:
            wanted = f"at least {wanted}"
        elif given > builtin.maximum >= _ANY_NUMBER:
            wanted = f"at most {builtin.maximum}"
        elif builtin.maximum != builtin.minimum:
            wanted = f"{wanted} to {builtin.maximum}"
        raise checker.error(f"{node.name}() takes {wanted} argument{'s' * (wanted != '1')}, not {given}", node)
    if builtin.unsafe and not checker.options.unsafe:
        raise checker.error(f"{node.name}() may change the system", node, remedy="allow it with --unsafe")
    return builtin.check(checker, node)


def _step(checker: Checker, node: ast.Step) -> Type:
    target = node.target
    if isinstance(target, ast.MapAccess):
        entry = checker.map_entry(target)
        if isinstance(entry.value, Unknown) or is_bool(entry.value):
            checker.set_value(entry, INT64)
        target.type = found = entry.value
    else:
        found = checker.infer(target)
        if (isinstance(found, Unknown) or is_bool(found)) and isinstance(target, ast.Variable):
            checker.bind(target, INT64, target)  # let $x; $x++
            found = INT64
    if not isinstance(found, Integer | Pointer | Unknown):
        raise checker.error(f"{'++' if node.delta > 0 else '--'} needs a number, not {found}", target)
    return found


def _ternary(checker: Checker, node: ast.Ternary) -> Type:
    checker.condition(node.condition)
    found: list[Type] = []
    for way in checker.ways(node.condition):
        branch = (node.true or node.condition) if way else node.false
        found.append(checker.infer(branch))
    if VOID in found:
        return VOID
    if len(found) == 2:
        return checker.unified(found[0], found[1], node.false, "the other branch")
    return found[0] if found else UNKNOWN


def _tuple(checker: Checker, node: ast.TupleLiteral) -> Type:
    elements = []
    for element in node.elements:
        found = checker.known(element)
        if found == VOID or isinstance(found, Aggregation) or holds_element(found):
            raise checker.error(f"a tuple cannot hold {'nothing' if found == VOID else found}", element)
        elements.append(found)
    return checker.tuple(elements, node.names, node)


def _block_expression(checker: Checker, node: ast.BlockExpression) -> Type:
    for statement in node.statements:
        checker.statement(statement)
    return checker.infer(node.value) if node.value is not None else VOID


def _function_call(checker: Checker, node: ast.FunctionCall) -> Type:
    for index, argument in enumerate(node.arguments):
        parameter = node.parameters[index]
        declared = checker.structures.resolve(parameter.declared, Space.ANY)
        given = checker.known(argument)
        if isinstance(declared, Pointer) and isinstance(given, Pointer):
            declared = Pointer(declared.target, given.space)
        if unify(declared, given) is None:
            name = plain_name(parameter.variable.name)
            raise checker.error(f"{node.name}() takes {declared} for {name}, not {given}", argument)
        if isinstance(declared, Integer) and not isinstance(argument, ast.Cast):
            node.arguments[index] = ast.Cast(argument.span, parameter.declared, argument)
            checker.infer(node.arguments[index])
        checker.declare(parameter.variable, declared, argument)
        if isinstance(declared, String):
            checker.bind(parameter.variable, given, argument)
    return _function_body(checker, node)


def check_uncalled(checker: Checker, node: ast.FunctionCall) -> None:
    """Type the body of a function that nothing calls."""
    for parameter in node.parameters:
        declared = checker.structures.resolve(parameter.declared, Space.ANY)
        checker.declare(parameter.variable, declared, parameter.variable)
    _function_body(checker, node)


def _function_body(checker: Checker, node: ast.FunctionCall) -> Type:
    declared = checker.structures.resolve(node.declared, Space.ANY)
    if declared != VOID:
        checker.declare(node.result, declared, node)
    outer_depth, checker.loop_depth = checker.loop_depth, 0
    checker.statement(node.body)
    checker.loop_depth = outer_depth
    return checker.variables[node.result.name] if declared != VOID else VOID


def _range(checker: Checker, node: ast.Range) -> Type:
    raise checker.error("a range is only allowed in a for loop", node)


EXPRESSIONS: Mapping[type[ast.Expression], Callable[[Checker, Any], Type]] = {
    ast.Integer: _integer,
    ast.StringLiteral: _string,
    ast.Positional: _positional,
    ast.Identifier: _identifier,
    ast.Variable: _variable,
    ast.MapAccess: _map,
    ast.Call: _call,
    ast.Step: _step,
    ast.Ternary: _ternary,
    ast.TupleLiteral: _tuple,
    ast.BlockExpression: _block_expression,
    ast.FunctionCall: _function_call,
    ast.Range: _range,
}
