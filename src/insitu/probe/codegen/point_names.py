"""The names of attach points as text: those of a program's only point are constants, others are read from a map."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.types import NamedNumber, String, stored_size

__all__ = ["store_point_name", "write_point_name"]


def store_point_name(low: Lowering, node: ast.Expression, pointer: str, target: String) -> None:
    """Write the text that an expression of type ``probe`` or ``func`` is the number of, as a ``target``."""
    assert isinstance(node.type, NamedNumber)
    points = low.clause.points
    if isinstance(node, ast.Identifier | ast.Call) and node.name == node.type.kind and len(points) == 1:
        text = points[0].function if node.type.kind == "func" else points[0].name
        literal = ast.StringLiteral(node.span, text.encode("utf-8", "surrogateescape")[: target.capacity - 1])
        literal.type = target
        low.store(literal, pointer)
    else:
        write_point_name(low, node.type, low.value(node), pointer, target)


def write_point_name(low: Lowering, kind: NamedNumber, value: str, pointer: str, target: String) -> None:
    """The same of a number that is in the register ``value``."""
    emit = low.emit
    number = low.layout.point_names_map(kind.kind, kind.room)
    size, room = stored_size(target), min(stored_size(target), -(-kind.room // 8) * 8)
    with low.temporaries():
        key = low.temporary(8)
        emit.store(emit.op("and", value, str(0xFFFFFFFF)), key)
        name = emit.call(Helper.MAP_LOOKUP_ELEM, emit.map(number), f"ptr {key}", answers="ptr")
    low.zero(pointer, size)
    found, end = emit.label(), emit.label()
    emit.branch_if(emit.is_null(name), end, found)
    emit.block(found)
    low.copy(pointer, name, room)
    if target.capacity < kind.room:
        emit.store("0", emit.offset(pointer, target.capacity - 1), 1)
    emit.branch(end)
    emit.block(end)
