"""Tuples whose address is taken: ``&$t`` leads to a copy in C's layout (Lowering.unpack() reads one)."""

from __future__ import annotations

from insitu.probe.codegen.lowering import Lowering, Remote
from insitu.probe.types import Space, Tuple, is_scalar, memory_size

__all__ = ["pack"]


def pack(low: Lowering, held: Tuple, stored: str, destination: str) -> None:
    """Write the tuple whose stored form is at one pointer to another, each element where C would have it."""
    emit = low.emit
    for index, kind in enumerate(held.elements):
        source = emit.offset(stored, held.offset(index))
        target = emit.offset(destination, held.memory_offset(index))
        if isinstance(kind, Tuple):
            pack(low, kind, source, target)
        elif is_scalar(kind):
            emit.store(emit.load(source), target, memory_size(kind))
        else:
            low.read(target, memory_size(kind), Remote(emit.address(source), Space.KERNEL))
