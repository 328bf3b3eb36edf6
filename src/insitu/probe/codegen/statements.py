"""Lowers statements: assignments, branches, loops."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen import lowering, maps
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.types import Aggregation, is_scalar

__all__: list[str] = []


def _expression(low: Lowering, node: ast.ExpressionStatement) -> None:
    with low.temporaries():
        expression = node.expression
        assert expression.type is not None
        if is_scalar(expression.type) or isinstance(expression, ast.Call | ast.BlockExpression | ast.Ternary):
            low.value(expression)
        else:
            low.local(expression)


def _assign(low: Lowering, node: ast.Assign) -> None:
    with low.temporaries():
        if isinstance(node.target, ast.MapAccess):
            _assign_map(low, node, node.target)
        elif isinstance(node.target, ast.Variable):
            value = node.value
            if node.operator:
                value = _compound(node)
            _assign_variable(low, node.target, value)


def _compound(node: ast.Assign) -> ast.Expression:
    value = ast.Binary(node.span, node.operator, node.target, node.value)
    value.type = node.target.type
    return value


def _assign_map(low: Lowering, node: ast.Assign, target: ast.MapAccess) -> None:
    if isinstance(target.type, Aggregation):
        from insitu.probe.builtins.aggregations import update

        assert isinstance(node.value, ast.Call)
        update(low, target, node.value, target.type)
        return
    value = _compound(node) if node.operator else node.value
    maps.assign(low, target, lambda pointer: low.store(value, pointer, target.type))


def _assign_variable(low: Lowering, target: ast.Variable, value: ast.Expression) -> None:
    pointer, held = low.variable(target)
    if is_scalar(held):
        low.emit.store(low.value(value), pointer)
    else:
        low.store(value, pointer, held)


def _let(low: Lowering, node: ast.Let) -> None:
    if node.value is not None:
        with low.temporaries():
            _assign_variable(low, node.variable, node.value)
    elif node.variable.name in low.variable_types:
        low.clear(node.variable)


def _block(low: Lowering, node: ast.Block) -> None:
    for statement in node.statements:
        low.statement(statement)


def _if(low: Lowering, node: ast.If) -> None:
    emit = low.emit
    yes, no, end = emit.label(), emit.label(), emit.label()
    with low.temporaries():
        truth = low.truth(node.condition)
    emit.branch_if(truth, yes, no if node.otherwise else end)
    emit.block(yes)
    low.statement(node.then)
    emit.branch(end)
    if node.otherwise is not None:
        emit.block(no)
        low.statement(node.otherwise)
    emit.block(end)


def _while(low: Lowering, node: ast.While) -> None:
    emit = low.emit
    head, body, end = emit.label(), emit.label(), emit.label()
    emit.block(head)
    with low.temporaries():
        truth = low.truth(node.condition)
    emit.branch_if(truth, body, end)
    emit.block(body)
    low.loops.append((head, end))
    low.statement(node.body)
    low.loops.pop()
    emit.branch(head)
    emit.block(end)


def _unroll(low: Lowering, node: ast.Unroll) -> None:
    emit = low.emit
    end = emit.label()
    for _ in range(low.constant(node.count)):
        following = emit.label()
        low.loops.append((following, end))
        low.statement(node.body)
        low.loops.pop()
        emit.block(following)
    emit.block(end)


def _for(low: Lowering, node: ast.For) -> None:
    if isinstance(node.iterable, ast.Range):
        _for_range(low, node, node.iterable)
    else:
        from insitu.probe.codegen.loops import for_map

        for_map(low, node, node.iterable)


def _for_range(low: Lowering, node: ast.For, iterable: ast.Range) -> None:
    """The loop's own counter is apart from the script's variable, which the body may change."""
    emit = low.emit
    head, body, following, end = (emit.label() for _ in range(4))
    counter = low.permanent(8)
    emit.store(low.value(iterable.start), counter)
    last = low.value(iterable.end)
    emit.block(head)
    current = emit.load(counter)
    emit.branch_if(emit.value(f"icmp slt i64 {current}, {last}"), body, end)
    emit.block(body)
    emit.store(current, low.variable(node.variable)[0])
    low.loops.append((following, end))
    low.statement(node.body)
    low.loops.pop()
    emit.block(following)
    emit.store(emit.op("add", emit.load(counter), "1"), counter)
    emit.branch(head)
    emit.block(end)


def _jump(low: Lowering, node: ast.Jump) -> None:
    if node.keyword == "return":
        if low.in_callback:
            raise low.error("return inside a loop over a map is not supported yet", node)
        low.emit.ret(low.value(node.value) if node.value is not None else "0")
        return
    following, end = low.loops[-1]
    if not following:  # the loop's body is a function of its own
        low.emit.ret("0" if node.keyword == "continue" else "1")
        return
    low.emit.branch(following if node.keyword == "continue" else end)


lowering.STATEMENTS.update(
    {
        ast.ExpressionStatement: _expression,
        ast.Assign: _assign,
        ast.Let: _let,
        ast.Block: _block,
        ast.If: _if,
        ast.While: _while,
        ast.Unroll: _unroll,
        ast.For: _for,
        ast.Jump: _jump,
    }
)
