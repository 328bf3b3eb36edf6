"""Lowers if/else, ``?:`` and blocks, with and without values."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.codegen.arithmetic import step
from insitu.probe.codegen.lowering import Lowered, Lowering, Store, Value
from insitu.probe.passes.check.folding import is_comptime
from insitu.probe.types import VOID, is_scalar

__all__ = ["STATEMENTS", "STORES", "VALUES"]


def _choose(
    low: Lowering,
    condition: ast.Expression,
    true: Callable[[], str],
    false: Callable[[], str],
    *,
    truth: str = "",
) -> str:
    """Lower both branches of a condition (its i1 is ``truth``, if there already): the i64 that either results in."""
    if is_comptime(condition):  # the other branch has no types
        return true() if low.known_value(condition) else false()
    emit = low.emit
    yes, no, end = emit.label(), emit.label(), emit.label()
    if not truth:
        with low.temporaries():
            truth = low.truth(condition)
    emit.branch_if(truth, yes, no)
    incoming: list[tuple[str, str]] = []
    for label, branch in ((yes, true), (no, false)):
        emit.block(label)
        value = branch()
        if not emit.terminated:  # by exit() or the like
            incoming.append((value, emit.block_name))
            emit.branch(end)
    emit.block(end)
    return emit.phi("i64", *incoming) if incoming and incoming[0][0] != _NOTHING else _NOTHING


# What is lowered for its effects results in this.
_NOTHING = ""


def _if(low: Lowering, node: ast.If) -> None:
    def otherwise() -> str:
        if node.otherwise is not None:
            low.statement(node.otherwise)
        return _NOTHING

    def then() -> str:
        low.statement(node.then)
        return _NOTHING

    _choose(low, node.condition, then, otherwise)


def _expression(low: Lowering, node: ast.ExpressionStatement) -> None:
    with low.temporaries():
        _effect(low, node.expression)


def _effect(low: Lowering, node: ast.Expression) -> str:
    """Evaluate an expression for what it does."""
    assert node.type is not None
    if isinstance(node, ast.Step):
        step(low, node, used=False)
    elif isinstance(node, ast.Ternary):
        true = node.true or node.condition
        _choose(low, node.condition, lambda: _effect(low, true), lambda: _effect(low, node.false))
    elif isinstance(node, ast.BlockExpression):
        low.statements(node.statements)
        if node.value is not None and not low.emit.terminated:
            _effect(low, node.value)
    elif isinstance(node, ast.MapAccess) and not node.key and isinstance(node.type, Aggregation):
        pass  # it has parts on each CPU, which have no address to read
    elif is_scalar(node.type) or isinstance(node, ast.Call | ast.FunctionCall):
        low.value(node)
    else:
        low.local(node)
    return _NOTHING


def _ternary(low: Lowering, node: ast.Ternary) -> str:
    if node.type == VOID:
        _effect(low, node)
        return "0"
    true, truth = node.true, ""
    if true is None:
        held = low.value(node.condition)
        truth = low.emit.truth(held)
    return _choose(
        low,
        node.condition,
        lambda: held if true is None else low.value(true),
        lambda: low.value(node.false),
        truth=truth,
    )


def _store_ternary(low: Lowering, node: ast.Ternary, pointer: str) -> None:
    true, truth = node.true, ""
    if true is None:
        low.store(node.condition, pointer, node.type)
        truth = low.emit.truth(low.emit.load(pointer, 1))

    def store(branch: ast.Expression | None) -> str:
        if branch is not None:
            low.store(branch, pointer, node.type)
        return _NOTHING

    _choose(low, node.condition, lambda: store(true), lambda: store(node.false), truth=truth)


# Blocks


def _block_value(low: Lowering, node: ast.BlockExpression) -> str:
    if node.type == VOID:
        _effect(low, node)
        return "0"
    low.statements_before_value(node.statements)
    assert node.value is not None
    return low.value(node.value)


def _block_store(low: Lowering, node: ast.BlockExpression, pointer: str) -> None:
    low.statements_before_value(node.statements)
    assert node.value is not None
    low.store(node.value, pointer, node.type)


VALUES: Mapping[type[ast.Expression], Value] = {
    ast.Ternary: _ternary,
    ast.BlockExpression: _block_value,
}
STORES: Mapping[type[ast.Expression], Store] = {
    ast.Ternary: _store_ternary,
    ast.BlockExpression: _block_store,
}
STATEMENTS: Mapping[type[ast.Statement], Lowered] = {
    ast.ExpressionStatement: _expression,
    ast.If: _if,
}
