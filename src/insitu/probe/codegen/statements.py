"""Lowers statements: assignments, jumps, functions; branches are in branches.py, loops in loops.py."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.codegen import maps
from insitu.probe.codegen.aggregations import update, update_jointly
from insitu.probe.codegen.integers import narrowed
from insitu.probe.codegen.lowering import Local, Lowered, Lowering, Place, PlaceOf, Value
from insitu.probe.codegen.memory import tuple_element
from insitu.probe.passes.scopes import plain_name
from insitu.probe.types import VOID, String, is_scalar

__all__ = ["PLACES", "STATEMENTS", "VALUES"]


def _assign(low: Lowering, node: ast.Assign) -> None:
    with low.temporaries():
        if isinstance(node.target, ast.MapAccess):
            _assign_map(low, node, node.target)
        else:
            value = _compound(node) if node.operator else node.value
            if isinstance(node.target, ast.Variable):
                _assign_variable(low, node.target, value)
            else:
                assert isinstance(node.target, ast.Member) and node.target.type is not None
                low.store(value, tuple_element(low, node.target), node.target.type)


def _update_jointly(low: Lowering, node: ast.JointUpdate) -> None:
    with low.temporaries():
        update_jointly(low, node.updates)


def _compound(node: ast.Assign) -> ast.Expression:
    value = ast.Binary(node.span, node.operator, node.target, node.value)
    value.type = node.target.type
    return value


def _assign_map(low: Lowering, node: ast.Assign, target: ast.MapAccess) -> None:
    if isinstance(target.type, Aggregation):
        counted = node.value
        while isinstance(counted, ast.BlockExpression):
            low.statements_before_value(counted.statements)
            assert counted.value is not None
            counted = counted.value
        assert isinstance(counted, ast.Call)
        update(low, target, counted, target.type)
        return
    value = _compound(node) if node.operator else node.value
    at_once = isinstance(value, ast.Call) and isinstance(value.type, String) and not _reads(value, target.name)
    maps.assign(low, target, lambda pointer: low.store(value, pointer, target.type), at_once=at_once)


def _reads(node: ast.Expression, name: str) -> bool:
    return any(isinstance(each, ast.MapAccess) and each.name == name for each in ast.walk(node))


def _assign_variable(low: Lowering, target: ast.Variable, value: ast.Expression) -> None:
    pointer, held = low.variable(target)
    if is_scalar(held):
        low.emit.store(narrowed(low, low.value(value), held), pointer)
    else:
        low.store(value, pointer, held)


def _let(low: Lowering, node: ast.Let) -> None:
    if node.value is not None:
        with low.temporaries():
            _assign_variable(low, node.variable, node.value)
    elif node.variable.name in low.variable_types:
        low.clear(node.variable)


def _with(low: Lowering, node: ast.With) -> None:
    name = node.variable.name
    loops = (each for each in ast.walk(node.body) if isinstance(each, ast.For | ast.While | ast.Part))
    if any(name in loop.shared for loop in loops):
        raise low.error(f"{plain_name(name)} is an element of a map: loops inside of with cannot use it", node)

    def there(pointer: str) -> None:
        low.variables[name] = pointer
        low.statement(node.body)
        del low.variables[name]

    def missing() -> None:
        if node.otherwise is not None:
            low.statement(node.otherwise)

    maps.element(low, node.element, there, missing)


def _block(low: Lowering, node: ast.Block) -> None:
    low.statements(node.statements)


def _jump(low: Lowering, node: ast.Jump) -> None:
    if node.result is not None:
        if node.value is not None:
            with low.temporaries():
                _assign_variable(low, node.result, node.value)
        low.leave_function()
        return
    if node.keyword == "return":
        low.leave(low.value(node.value) if node.value is not None else "0")
        return
    if node.keyword == "continue":
        low.next_iteration()
    else:
        low.leave_loop()


# Functions of the script


def _run(low: Lowering, node: ast.FunctionCall) -> None:
    """The copy of a function's body, its parameters filled."""
    for parameter, argument in zip(node.parameters, node.arguments, strict=True):
        with low.temporaries():
            _assign_variable(low, parameter.variable, argument)
    if node.type != VOID:
        low.clear(node.result)
    loops, low.loops = low.loops, []
    end = low.emit.label()
    low.returns.append(end)
    low.statement(node.body)
    low.returns.pop()
    low.loops = loops
    low.emit.block(end)


def _function_value(low: Lowering, node: ast.FunctionCall) -> str:
    _run(low, node)
    if node.type is None or not is_scalar(node.type):
        return "0"
    return low.emit.load(low.variable(node.result)[0])


def _function_place(low: Lowering, node: ast.FunctionCall) -> Place:
    _run(low, node)
    return Local(low.variable(node.result)[0])


VALUES: Mapping[type[ast.Expression], Value] = {ast.FunctionCall: _function_value}
PLACES: Mapping[type[ast.Expression], PlaceOf] = {ast.FunctionCall: _function_place}
STATEMENTS: Mapping[type[ast.Statement], Lowered] = {
    ast.Assign: _assign,
    ast.JointUpdate: _update_jointly,
    ast.Let: _let,
    ast.With: _with,
    ast.Block: _block,
    ast.Jump: _jump,
}
