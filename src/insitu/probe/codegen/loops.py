"""Lowers ``for ($kv : @map)``: the body becomes a function that the kernel calls for every element.

bpf_for_each_map_elem() (kernels from 5.13 on) hands the function a pointer of ours: a frame on the caller's stack,
with the probe's context and copies of the variables that the body uses, which are copied back behind the loop.
"""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen.emitter import Function
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.maps import aggregate_value
from insitu.probe.types import Aggregation, Tuple, stored_size

__all__ = ["count_elements", "for_map"]


def for_map(low: Lowering, node: ast.For, iterable: ast.MapAccess) -> None:
    """Lower the loop."""
    emit = low.emit
    number = low.layout.number(iterable.name)
    names = sorted(
        {n.name for n in ast.walk(node.body) if isinstance(n, ast.Variable) and n.name in low.variable_types}
        - {node.variable.name}
    )
    sizes = [_size(low, name, node) for name in names]
    frame = emit.allocate(8 + sum(sizes))
    emit.emit(f"store ptr {low.context}, ptr {frame}, align 8")
    offset = 8
    for name, size in zip(names, sizes, strict=True):
        pointer, _ = low.variable(ast.Variable(node.span, name))
        emit.copy(emit.offset(frame, offset), pointer, size)
        offset += size
    callback = _callback(low, node, number, dict(zip(names, sizes, strict=True)))
    emit.call(Helper.FOR_EACH_MAP_ELEM, emit.map(number), f"ptr @{callback}", f"ptr {frame}", "i64 0")
    offset = 8
    for name, size in zip(names, sizes, strict=True):
        pointer, _ = low.variable(ast.Variable(node.span, name))
        emit.copy(pointer, emit.offset(frame, offset), size)
        offset += size
    if any(isinstance(n, ast.Call) and n.name == "exit" for n in ast.walk(node.body)):
        _leave_if_asked(low)


def _leave_if_asked(low: Lowering) -> None:
    """End the program if its loop's body called exit(): that function could end the loop only."""
    emit = low.emit
    asked, end = emit.label(), emit.label()
    emit.branch_if(emit.truth(emit.load(emit.map_value(low.layout.exit_map()))), asked, end)
    emit.block(asked)
    low.leave()
    emit.block(end)


def count_elements(low: Lowering, number: int) -> str:
    """How many elements a map with keys has: one call of the kernel that counts its own calls of us."""
    outer = low.emit
    name = f"{outer.name}_count_{outer.label()}"
    emit = Function(
        outer.module, name, 1, outer.section, parameters="ptr %map, ptr %key, ptr %value, ptr %frame", callback=True
    )
    emit.store(emit.op("add", emit.load("%frame"), "1"), "%frame")
    emit.ret("0")
    with low.temporaries():
        total = low.temporary(8)
        outer.store("0", total)
        outer.call(Helper.FOR_EACH_MAP_ELEM, outer.map(number), f"ptr @{name}", f"ptr {total}", "i64 0")
        return outer.load(total)


def _size(low: Lowering, name: str, node: ast.For) -> int:
    held = low.variable_types[name]
    size = stored_size(held)
    if size > 64:
        raise low.error(f"{name} is too large to be used inside this loop", node)
    return size


def _callback(low: Lowering, node: ast.For, number: int, captured: dict[str, int]) -> str:
    """Make the function of the body: its name."""
    outer = low.emit
    name = f"{outer.name}_loop_{outer.label()}"
    line, _ = low.source.line_column(node.span.start)
    emit = Function(
        outer.module,
        name,
        line,
        outer.section,
        parameters="ptr %map, ptr %key, ptr %value, ptr %frame",
        callback=True,
    )
    emit.setup("  %raw_context = load ptr, ptr %frame, align 8\n")
    emit.setup("  %context = call ptr @llvm.preserve.static.offset(ptr %raw_context)\n")
    inner = low.for_callback(emit)
    offset = 8
    for variable, size in captured.items():
        inner.variables[variable] = emit.offset("%frame", offset)
        offset += size
    pointer, held = inner.variable(node.variable)
    assert isinstance(held, Tuple)
    layout = low.layout.maps[number]
    assert layout.key is not None and layout.value is not None
    emit.copy(pointer, "%key", layout.key.size)
    if isinstance(layout.value, Aggregation):
        emit.store(aggregate_value(inner, number, "%key", layout.value), emit.offset(pointer, layout.key.size))
    else:
        emit.copy(emit.offset(pointer, layout.key.size), "%value", stored_size(layout.value))
    inner.loops.append(("", ""))
    inner.statement(node.body)
    low.take_over(inner)
    return name
