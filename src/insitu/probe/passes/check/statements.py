"""Types of statements: what is assigned where, and what is allowed in loops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation, Element
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.dialect import MapType, holds_element, readable, widened
from insitu.probe.passes.check.unify import unify
from insitu.probe.passes.scopes import plain_name
from insitu.probe.types import (
    INT64,
    UNKNOWN,
    VOID,
    Integer,
    Space,
    String,
    Tuple,
    Type,
    Unknown,
    is_scalar,
    is_signed,
)

__all__ = ["STATEMENTS"]


def _expression_statement(checker: Checker, node: ast.ExpressionStatement) -> None:
    found = checker.infer(node.expression)
    if isinstance(found, Aggregation) and not isinstance(node.expression, ast.MapAccess):
        raise checker.error(f"{found}() has to be assigned to a map", node.expression)


def _assign(checker: Checker, node: ast.Assign) -> None:
    value = checker.infer(node.value)
    if value == VOID:
        raise checker.error("this has no value to assign", node.value)
    if isinstance(node.target, ast.MapAccess):
        entry = checker.map_entry(node.target)
        if node.operator and isinstance(entry.value, Unknown):
            checker.set_value(entry, INT64)
        if isinstance(value, Aggregation):
            _check_aggregation(checker, value, node.value)
        if holds_element(value):
            raise checker.error("a histogram or time series cannot be copied out of its map", node.value)
        checker.copied(value, node.value)
        value = widened(value)
        checker.set_value(entry, checker.unified(entry.value, value, node.value, node.target.name))
        node.target.type = entry.value
    elif isinstance(node.target, ast.Member):
        _assign_member(checker, node, node.target, value)
    elif isinstance(node.target, ast.Variable):
        if node.target.name in checker.elements:
            _check_element(checker, node.target, value, node.value)
        if isinstance(value, Aggregation):
            _refuse_copy(checker, value, node.value)
            raise checker.error(f"{value}() has to be assigned to a map", node.value)
        if node.operator and isinstance(value, Integer):
            value = replace(INT64, signed=is_signed(value))  # the type of arithmetic
        checker.bind(node.target, value, node.value)
    if node.operator and not is_scalar(value):
        raise checker.error(f"{node.operator}= needs a number, not {value}", node.value)


def _assign_member(checker: Checker, node: ast.Assign, target: ast.Member, value: Type) -> None:
    """``$x.0 = value``, of a tuple that is an element of a map."""
    assert isinstance(target.object, ast.Variable)
    if target.object.name not in checker.elements or not isinstance(checker.infer(target.object), Tuple | Unknown):
        message = "only members of tuples that are elements of maps can be assigned to"
        raise checker.error(message, target, remedy="with ($x : @map[key]) { $x.0 = value; }")
    checker.infer(target)
    _check_element(checker, target, value, node.value)


def _check_element(checker: Checker, target: ast.Variable | ast.Member, value: Type, node: ast.Expression) -> None:
    """What is assigned in place has to fit into what is there."""
    held = checker.infer(target)
    if not isinstance(held, Unknown) and unify(held, value) != held:
        raise checker.error(f"this element is {held}: {value} does not fit", node)


def _check_aggregation(checker: Checker, value: Aggregation, node: ast.Expression) -> None:
    """It is counted where it is assigned: only calls, perhaps at the end of a block, are."""
    node = _refuse_copy(checker, value, node)
    if not isinstance(node, ast.Call):
        raise checker.error(f"{value}() has to be assigned to a map directly", node)


def _refuse_copy(checker: Checker, value: Aggregation, node: ast.Expression) -> ast.Expression:
    """What results in an aggregation. :raises ScriptError: when it is a map that holds one."""
    while isinstance(node, ast.BlockExpression) and node.value is not None:
        node = node.value
    if isinstance(node, ast.MapAccess):
        raise checker.error(f"{node.name} holds {value}: it cannot be copied", node)
    return node


def _let(checker: Checker, node: ast.Let) -> None:
    declared: Type = UNKNOWN
    if node.declared is not None:
        declared = checker.written(node.declared)
    if isinstance(declared, Integer) and node.value is not None and not isinstance(node.value, ast.Cast):
        assert node.declared is not None
        node.value = ast.Cast(node.value.span, node.declared, node.value)
    value = checker.infer(node.value) if node.value is not None else declared
    if not isinstance(declared, Unknown):
        checker.declare(node.variable, declared, node.variable)
    if not isinstance(value, Unknown) or node.value is not None:
        checker.bind(node.variable, value, node.value or node.variable)


def _block(checker: Checker, node: ast.Block) -> None:
    for statement in node.statements:
        checker.statement(statement)


def _if(checker: Checker, node: ast.If) -> None:
    checker.condition(node.condition)
    for way in checker.ways(node.condition):
        branch = node.then if way else node.otherwise
        if branch is not None:
            checker.statement(branch)


def _while(checker: Checker, node: ast.While) -> None:
    checker.condition(node.condition)
    _loop(checker, node.body)


def _loop(checker: Checker, body: ast.Block) -> None:
    checker.loop_depth += 1
    checker.statement(body)
    checker.loop_depth -= 1


def _unroll(checker: Checker, node: ast.Unroll) -> None:
    count = checker.literal(node.count, "the count of unroll")
    if not 1 <= count <= checker.options.max_unroll:
        raise checker.error(f"unroll takes 1 to {checker.options.max_unroll} iterations", node.count)
    _loop(checker, node.body)


def _for(checker: Checker, node: ast.For) -> None:
    if isinstance(node.iterable, ast.Range):
        checker.scalar(node.iterable.start, "a range")
        checker.scalar(node.iterable.end, "a range")
        node.iterable.type = VOID
        checker.bind(node.variable, INT64, node.variable)
    else:
        entry = checker.maps.setdefault(node.iterable.name, MapType(first=node.iterable.span))
        node.iterable.type = entry.value
        if checker.strict and (isinstance(entry.value, Unknown) or not entry.key or not entry.key.elements):
            raise checker.error(f"{node.iterable.name} has no keys to iterate over", node.iterable)
        if entry.key is not None and not isinstance(entry.value, Unknown):
            key = entry.key.elements[0] if len(entry.key.elements) == 1 else entry.key
            value = readable(entry.value)
            if isinstance(value, Aggregation):
                value = Element(node.iterable.name, value)
            checker.bind(node.variable, checker.tuple((key, value), None, node.variable), node.variable)
    _loop(checker, node.body)


def _with(checker: Checker, node: ast.With) -> None:
    entry = checker.map_entry(node.element)
    value = checker.assigned(node.element, entry.value)
    if isinstance(value, Aggregation):
        raise checker.error(f"{node.element.name} holds {value}: it has no element to assign to", node.element)
    node.element.type = value
    if not isinstance(value, Unknown):
        checker.bind(node.variable, value, node.variable)
    checker.elements.append(node.variable.name)
    checker.statement(node.body)
    checker.elements.pop()
    if node.otherwise is not None:
        checker.statement(node.otherwise)


def _jump(checker: Checker, node: ast.Jump) -> None:
    if node.keyword != "return" and not checker.loop_depth:
        raise checker.error(f"{node.keyword} outside a loop", node)
    if node.result is not None:
        _return(checker, node, node.result)
    elif node.value is not None:
        checker.scalar(node.value, "return")


def _return(checker: Checker, node: ast.Jump, result: ast.Variable) -> None:
    """Out of a function."""
    assert node.declared is not None
    declared = checker.structures.resolve(node.declared, Space.ANY)
    name = plain_name(result.name)
    if declared == VOID:
        if node.value is not None:
            raise checker.error(f"{name} returns nothing (void)", node.value)
        return
    if node.value is None:
        raise checker.error(f"{name} returns {declared}: return needs a value", node)
    given = checker.known(node.value)
    if unify(declared, given) is None:
        raise checker.error(f"{name} returns {declared}, not {given}", node.value)
    if isinstance(declared, Integer) and not isinstance(node.value, ast.Cast):
        node.value = ast.Cast(node.value.span, node.declared, node.value)
        checker.infer(node.value)
    checker.bind(result, given if isinstance(declared, String) else declared, node.value)


STATEMENTS: Mapping[type[ast.Statement], Callable[[Checker, Any], None]] = {
    ast.ExpressionStatement: _expression_statement,
    ast.Assign: _assign,
    ast.Let: _let,
    ast.Block: _block,
    ast.If: _if,
    ast.While: _while,
    ast.Unroll: _unroll,
    ast.For: _for,
    ast.With: _with,
    ast.Jump: _jump,
}
