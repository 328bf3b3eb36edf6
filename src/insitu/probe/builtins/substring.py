"""Finding one string of unknown length in another: the algorithm of Knuth, Morris and Pratt, without a branch.

Each step either goes on by a byte or falls back in the pattern, so that twice as many steps as there are bytes always
suffice. The verifier walks them one by one, with nothing to follow but a straight line.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from insitu.probe import ast
from insitu.probe.codegen.integers import blend, inverted, negative, not_zero
from insitu.probe.codegen.loops import counted
from insitu.probe.types import String

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering

__all__ = ["first_match"]

# Smaller memory could be on the stack, which kernels before 5.12 read at constant places only.
_LEAST_BYTES = 128
_ENTRY_BYTES = 2  # of the table of where to fall back to


class _Text(Struct):
    """A string in memory that masked indexes cannot leave: ``bytes`` is a power of two, zeros follow the text."""

    pointer: str
    capacity: int
    bytes: int

    def byte(self, low: Lowering, index: str) -> str:
        """The i64 of the byte at an index."""
        return low.emit.load(low.emit.offset(self.pointer, _masked(low, index, self.bytes)), 1)

    def is_inside(self, low: Lowering, index: str) -> str:
        """The mask of whether an index is below the last."""
        return negative(low.emit, low.emit.op("sub", index, str(self.bytes - 1)))


def _masked(low: Lowering, index: str, size: int) -> str:
    return low.emit.op("and", index, str(size - 1))


def _text(low: Lowering, node: ast.Expression) -> _Text:
    assert isinstance(node.type, String)
    size = max(_LEAST_BYTES, 1 << node.type.capacity.bit_length())
    text = _Text(low.temporary(size), node.type.capacity, size)
    low.zero(text.pointer, size)
    low.store(node, text.pointer)
    return text


def first_match(low: Lowering, haystack: ast.Expression, needle: ast.Expression) -> str:
    """The i64 of where the second string begins in the first, -1 when it does not occur."""
    emit = low.emit
    with low.temporaries():
        text, pattern = _text(low, haystack), _text(low, needle)
        table = low.temporary(pattern.bytes * _ENTRY_BYTES)
        at, matched, length, found = (low.permanent(8) for _ in range(4))

        def step(among: _Text) -> None:
            """Compare a byte of ``among`` with the pattern's at ``matched``: then go on, or fall back."""
            here, before = emit.load(at), emit.load(matched)
            equal = inverted(emit, not_zero(emit, emit.op("xor", among.byte(low, here), pattern.byte(low, before))))
            some = not_zero(emit, before)
            entry = _masked(low, emit.op("sub", before, "1"), pattern.bytes)
            back = emit.load(emit.offset(table, emit.op("shl", entry, "1")), _ENTRY_BYTES)
            emit.store(blend(emit, equal, emit.op("add", before, "1"), emit.op("and", back, some)), matched)
            advances = emit.op("or", equal, inverted(emit, some))
            # A mask is -1.
            emit.store(emit.op("sub", here, emit.op("and", advances, among.is_inside(low, here))), at)

        def prepare(_: str) -> None:
            entry = emit.op("shl", _masked(low, emit.load(at), pattern.bytes), "1")
            step(pattern)
            emit.store(emit.load(matched), emit.offset(table, entry), _ENTRY_BYTES)

        def measure(index: str) -> None:
            some = not_zero(emit, emit.load(emit.offset(pattern.pointer, index), 1))
            emit.store(emit.op("sub", emit.load(length), some), length)

        def search(_: str) -> None:
            step(text)
            before = emit.load(found)
            whole = inverted(emit, not_zero(emit, emit.op("xor", emit.load(matched), emit.load(length))))
            match = emit.op("and", whole, negative(emit, before))
            emit.store(blend(emit, match, emit.op("sub", emit.load(at), emit.load(length)), before), found)

        emit.store("0", length)
        counted(low, pattern.capacity, measure)
        emit.store("0", table, _ENTRY_BYTES)
        emit.store("1", at)
        emit.store("0", matched)
        counted(low, 2 * pattern.capacity, prepare)
        emit.store("0", at)
        emit.store("0", matched)
        emit.store(not_zero(emit, emit.load(length)), found)  # an empty pattern is everywhere
        counted(low, 2 * text.capacity, search)
    return emit.load(found)
