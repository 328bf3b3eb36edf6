"""Comparing what does not fit in a register, by its stored form, eight bytes at a time.

Strings are zero after their end, so equal strings are equal words.
"""

from __future__ import annotations

from insitu.probe import ast
from insitu.probe.codegen.integers import signed64
from insitu.probe.codegen.loops import counted
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.layout import MOST_COMPARED_STRUCT_BYTES
from insitu.probe.passes.check.unify import unify
from insitu.probe.types import Array, Record, String, Tuple, Type, stored_size

__all__ = ["GROUP", "equal_strings", "equal_values", "string_difference"]

_WORD = 8
_ALL_BITS = (1 << 8 * _WORD) - 1
# After so many bytes of a string, the result is hidden from LLVM: else it loads all words of a long string before it
# combines them, and has neither registers nor stack for them.
GROUP = 128
# Longer strings are compared in a loop, which the verifier walks.
_MOST_UNROLLED = MOST_COMPARED_STRUCT_BYTES


def equal_strings(low: Lowering, node: ast.Binary) -> str:
    """i64 0 or 1: == or != of two strings."""
    difference = string_difference(low, node.left, node.right, None)
    return low.emit.compare("eq" if node.operator == "==" else "ne", difference, "0")


def string_difference(low: Lowering, left: ast.Expression, right: ast.Expression, limit: int | None) -> str:
    """An i64 that is 0 when two strings are equal (with ``limit``, in their first bytes)."""
    if isinstance(left, ast.StringLiteral):
        left, right = right, left
    with low.temporaries():
        if isinstance(right, ast.StringLiteral):
            return _text_difference(low, left, right.value, limit)
        assert isinstance(left.type, String) and isinstance(right.type, String)
        return _memory_difference(
            low, low.local(left), left.type.capacity, low.local(right), right.type.capacity, limit
        )


def _text_difference(low: Lowering, node: ast.Expression, text: bytes, limit: int | None) -> str:
    """An i64 that is 0 when the string equals ``text``, or with ``limit``, agrees in that many bytes."""
    assert isinstance(node.type, String)
    emit = low.emit
    wanted = text.split(b"\0")[0] + b"\0"
    if limit is not None:
        wanted = wanted[:limit]
    room = -(-node.type.capacity // _WORD) * _WORD
    if len(wanted.rstrip(b"\0")) > room:
        return "1"  # longer than the string can be
    wanted = wanted[:room]  # a full array has no zero
    pointer = low.local(node)
    difference = "0"
    for at in range(0, len(wanted), _WORD):
        part = wanted[at : at + _WORD]
        word = emit.load(emit.offset(pointer, at))
        if len(part) < _WORD:
            word = emit.op("and", word, str((1 << 8 * len(part)) - 1))
        other = emit.op("xor", word, str(int.from_bytes(part, "little", signed=len(part) == _WORD)))
        difference = other if difference == "0" else emit.op("or", difference, other)
    return difference


def _memory_difference(
    low: Lowering,
    left: str,
    left_capacity: int,
    right: str,
    right_capacity: int,
    limit: int | None,
    ignored: int = 0,
) -> str:
    """An i64 that is 0 when two strings in memory are equal (with ``limit``, in their first bytes).

    ``ignored``: bits that may differ, those of the first byte lowest.
    """
    emit = low.emit
    smaller, larger = sorted((left_capacity, right_capacity))
    longer = left if left_capacity > right_capacity else right
    smaller = -(-smaller // _WORD) * _WORD
    larger = -(-larger // _WORD) * _WORD
    if limit is not None:
        larger = min(larger, -(-limit // _WORD) * _WORD)
        smaller = min(smaller, larger)
    difference, begin = "0", 0
    if smaller > _MOST_UNROLLED:
        begin = (smaller if limit is None else min(smaller, limit)) // GROUP * GROUP
        difference = _group_difference(low, left, right, begin // GROUP)
    for at in range(begin, larger, _WORD):
        if at < smaller:
            word = emit.op("xor", emit.load(emit.offset(left, at)), emit.load(emit.offset(right, at)))
        else:
            word = emit.load(emit.offset(longer, at))
        if limit is not None and limit - at < _WORD:
            word = emit.op("and", word, str((1 << 8 * (limit - at)) - 1))
        if padding := ignored >> 8 * at & _ALL_BITS:
            word = emit.op("and", word, signed64(_ALL_BITS & ~padding))
        difference = word if difference == "0" else emit.op("or", difference, word)
        if at % GROUP == 0:
            difference = emit.hidden(difference)
    return difference


def _group_difference(low: Lowering, left: str, right: str, groups: int) -> str:
    """An i64 that is 0 when so many groups of bytes are equal."""
    emit = low.emit
    total = low.permanent(8)
    emit.store("0", total)

    def compare(group: str) -> None:
        at = emit.op("mul", group, str(GROUP))
        ours, theirs = emit.offset(left, at), emit.offset(right, at)
        difference = emit.load(total)
        for word in range(0, GROUP, _WORD):
            other = emit.op("xor", emit.load(emit.offset(ours, word)), emit.load(emit.offset(theirs, word)))
            difference = emit.op("or", difference, other)
        emit.store(difference, total)

    counted(low, groups, compare)
    return emit.load(total)


def equal_values(low: Lowering, node: ast.Binary) -> str:
    """i64 0 or 1: == or != of two tuples, structs, arrays, buffers or addresses of types that have one in common."""
    assert node.left.type is not None and node.right.type is not None
    common = unify(node.left.type, node.right.type)
    assert common is not None
    size = stored_size(common)
    with low.temporaries():
        pointers = []
        for side in (node.left, node.right):
            pointers.append(low.temporary(size))
            low.store(side, pointers[-1], common)
        ignored = ~_used_bits(common) & (1 << 8 * size) - 1
        difference = _memory_difference(low, pointers[0], size, pointers[1], size, None, ignored)
        return low.emit.compare("eq" if node.operator == "==" else "ne", difference, "0")


def _used_bits(kind: Type) -> int:
    """Those bits of a value's stored form that are not padding of a struct; of the first byte lowest."""
    kind = kind.resolve()
    if isinstance(kind, Tuple):
        return sum(_used_bits(each) << 8 * kind.offset(index) for index, each in enumerate(kind.elements))
    return _member_bits(kind) if isinstance(kind, Record | Array) else (1 << 8 * stored_size(kind)) - 1


def _member_bits(kind: Type) -> int:
    """As _used_bits(), of a value in C's layout. All bits of a union are used."""
    kind = kind.resolve()
    if isinstance(kind, Array):
        element = _member_bits(kind.element)
        return sum(element << 8 * kind.element.size * index for index in range(kind.count))
    if not isinstance(kind, Record) or kind.tag != "struct":
        return (1 << 8 * kind.size) - 1
    fields = kind.fields().values()
    # What is in front of all members are the base classes of a C++ class.
    found = (1 << 8 * min((field.offset for field in fields), default=kind.size)) - 1
    for field in fields:
        bits = ((1 << field.bits) - 1) << field.shift if field.bits else _member_bits(field.type)
        found |= bits << 8 * field.offset
    return found
