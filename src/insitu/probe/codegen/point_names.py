"""The names of attach points as text: those of a program's only point are constants, others are read from a map."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.maps import lookup, when_found
from insitu.probe.types import NamedNumber, String, stored_size

__all__ = ["store_point_name"]


def store_point_name(low: Lowering, node: ast.Expression, pointer: str, target: String) -> None:
    """Write the text that an expression of type ``probe`` or ``func`` is the number of, as a ``target``."""
    assert isinstance(node.type, NamedNumber)
    points = low.clause.points
    if isinstance(node, ast.Identifier | ast.Call) and node.name == node.type.kind and len(points) == 1:
        text = points[0].function if node.type.kind == "func" else points[0].name
        literal = ast.StringLiteral(node.span, text.encode("utf-8", "surrogateescape")[: target.capacity - 1])
        literal.type = target
        low.store(literal, pointer)
        return
    emit = low.emit
    number = low.layout.point_names_map(node.type.kind, target.capacity)
    size = stored_size(target)
    with low.temporaries():
        key = low.temporary(8)
        emit.store(emit.op("and", low.value(node), str(0xFFFFFFFF)), key)
        name = lookup(low, number, key)
    when_found(low, name, lambda: low.copy(pointer, name, size), lambda: low.zero(pointer, size))
