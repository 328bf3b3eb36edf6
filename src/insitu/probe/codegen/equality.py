"""Comparing what does not fit in a register: tuples, arrays, buffers and the like, by their stored forms."""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.codegen.strings import equal_memory
from insitu.probe.passes.unify import unify
from insitu.probe.types import stored_size

__all__ = ["equal_values"]


def equal_values(low: Lowering, node: ast.Binary) -> str:
    """i64 0 or 1: == or != of two values of types that have one in common."""
    assert node.left.type is not None and node.right.type is not None
    common = unify(node.left.type, node.right.type)
    assert common is not None
    size = stored_size(common)
    with low.temporaries():
        pointers = []
        for side in (node.left, node.right):
            pointers.append(low.temporary(size))
            low.store(side, pointers[-1], common)
        difference = equal_memory(low, pointers[0], size, pointers[1], size, None)
        return low.emit.compare("eq" if node.operator == "==" else "ne", difference, "0")
