"""How the parts of records are written that take the bytes they have (codegen/record_parts.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.stacks import append_stack
from insitu.probe.builtins.strings import append_buffer, append_text
from insitu.probe.codegen.lowering import Local, Remote
from insitu.probe.codegen.record_parts import bounded
from insitu.probe.types import Space, Stack, String, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering

__all__ = ["append_part"]


def append_part(low: Lowering, kind: Type, value: ast.Expression, pointer: str) -> str:
    """Write a part of variable size: how many bytes it has, negative when it could not be read."""
    if isinstance(kind, Stack):
        return append_stack(low, kind, pointer)
    length = None
    if isinstance(value, ast.Call):
        length = append_text(low, value, pointer) if isinstance(kind, String) else append_buffer(low, value, pointer)
    if length is not None:
        return length
    emit = low.emit
    with low.temporaries():
        if isinstance(kind, String):
            place = low.place(value)
            if isinstance(place, Local):
                place = Remote(emit.address(place.pointer), Space.KERNEL)
            if place.terminated:
                return emit.op("sub", low.read_text(pointer, kind.capacity, place), "1")
            return low.read_characters(pointer, place, kind.capacity)
        held = low.local(value)
        length = bounded(low, kind, emit.load(held))
        low.read(pointer, length, Remote(emit.address(emit.offset(held, 8)), Space.KERNEL))
        return length
