"""Lowers the keys of maps.

The kernel hashes and compares a key whole: one of 1024 bytes takes ten times as long as one of 64. So a map that
has strings of unknown length in its keys has a second map behind it, for the keys in which all of them are short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from insitu.probe import ast
from insitu.probe.codegen.lowering import Lowering
from insitu.probe.layout import SHORT_STRING_BYTES, MapLayout, is_long_string
from insitu.probe.passes.check.dialect import is_key_of_parts
from insitu.probe.types import String, Tuple, is_scalar, stored_size

__all__ = ["at_key", "key_pointer", "names_of_whole_maps"]

# Done with the number of a map and a pointer to a key: the value that it results in, or nothing.
_Operation = Callable[[int, str], str]


def names_of_whole_maps(nodes: Iterable[ast.Node]) -> frozenset[str]:
    """The maps that a program needs as one: it walks them, counts their elements, or takes their address."""
    found = set()
    for node in nodes:
        if isinstance(node, ast.For):
            whole: object = node.iterable
        elif isinstance(node, ast.Unary) and node.operator == "&":
            whole = node.operand
        elif isinstance(node, ast.Call) and node.name == "len":
            whole = node.arguments[0]
        else:
            continue
        if isinstance(whole, ast.MapAccess):
            found.add(whole.name)
    return frozenset(found)


def key_pointer(low: Lowering, node: ast.MapAccess, layout: MapLayout) -> str:
    """The stored key of an access, in a temporary: a pointer."""
    assert layout.key is not None and node.key is not None
    kinds = layout.key.elements
    only = node.key[0] if len(node.key) == 1 else None
    if only is not None and (only.type == layout.key or (only.type == kinds[0] and not is_scalar(kinds[0]))):
        return low.local(only)
    pointer = low.temporary(layout.key.size)
    if only is not None and only.type is not None and is_key_of_parts(only.type):
        low.store(only, pointer, layout.key)
        return pointer
    offset = 0
    for part, kind in zip(node.key, kinds, strict=True):
        low.store(part, low.emit.offset(pointer, offset), kind)
        offset += stored_size(kind)
    return pointer


def at_key(low: Lowering, node: ast.MapAccess, operation: _Operation, *, answers: str = "i64") -> str:
    """Lower what is to be done at the key of an access: what ``operation`` results in.

    That is of LLVM's type ``answers``. It is lowered for each of the two maps where short keys have one of their own.
    """
    emit = low.emit
    number = low.layout.holder(node.name)
    layout = low.layout.maps[number]
    if layout.short_keys < 0:
        return operation(number, key_pointer(low, node, layout))
    short_key = low.temporary(_short_type(low, layout).size)
    fits, short, long, end = (emit.label() for _ in range(4))
    key = _short_key_first(low, node, layout, short_key, short) or key_pointer(low, node, layout)
    emit.branch_if(emit.truth(_has_long_string(low, layout, key)), long, fits)
    emit.block(fits)
    _shorten(low, layout, key, short_key)
    results = []
    for label, map_number, pointer in ((short, layout.short_keys, short_key), (long, number, key)):
        emit.block(label)
        found = operation(map_number, pointer)
        results.append((found, emit.block_name))
        emit.branch(end)
    emit.block(end)
    return emit.phi(answers, *results) if results[0][0] else ""


def _short_type(low: Lowering, layout: MapLayout) -> Tuple:
    kind = low.layout.maps[layout.short_keys].key
    assert kind is not None
    return kind


def _short_key_first(low: Lowering, node: ast.MapAccess, layout: MapLayout, short_key: str, short: str) -> str | None:
    """Of a key whose only long string is read from memory, try the short form, and if it fits, go to ``short``.

    Else the long key is made: a pointer. None for other keys; nothing is done then.
    """
    assert layout.key is not None and node.key is not None
    emit = low.emit
    kinds, short_type = layout.key.elements, _short_type(low, layout)
    longs = [index for index, kind in enumerate(kinds) if is_long_string(kind)]
    if len(longs) != 1 or len(node.key) != len(kinds):
        return None
    (at,) = longs
    find, held = low.rules.text_place(low, node.key[at]), node.key[at].type
    if find is None or not isinstance(held, String) or held.capacity <= SHORT_STRING_BYTES:
        return None
    place, length = None, ""
    for index, part in enumerate(node.key):
        pointer = emit.offset(short_key, short_type.offset(index))
        if index == at:
            place = find()
            emit.zero(pointer, SHORT_STRING_BYTES)
            length = low.read_text(pointer, SHORT_STRING_BYTES, place)
        else:
            low.store(part, pointer, kinds[index])
    assert place is not None
    cut = emit.label()
    emit.branch_if(emit.value(f"icmp slt i64 {length}, {SHORT_STRING_BYTES}"), short, cut)
    emit.block(cut)
    key = low.temporary(layout.key.size)
    for index, kind in enumerate(kinds):
        pointer = emit.offset(key, layout.key.offset(index))
        if index == at:
            low.read_string(pointer, stored_size(kind), place, held.capacity)
        else:
            low.copy(pointer, emit.offset(short_key, short_type.offset(index)), stored_size(kind))
    return key


def _has_long_string(low: Lowering, layout: MapLayout, key: str) -> str:
    """An i64 that is not 0 where a string does not fit into a short key: it is zero after its end."""
    assert layout.key is not None
    emit = low.emit
    found = "0"
    for index, kind in enumerate(layout.key.elements):
        if is_long_string(kind):
            last = emit.load(emit.offset(key, layout.key.offset(index) + SHORT_STRING_BYTES - 1), 1)
            found = last if found == "0" else emit.op("or", found, last)
    return found


def _shorten(low: Lowering, layout: MapLayout, key: str, short_key: str) -> None:
    """Write the short form of a key."""
    assert layout.key is not None
    emit = low.emit
    kind = _short_type(low, layout)
    for index, part in enumerate(kind.elements):
        source = emit.offset(key, layout.key.offset(index))
        low.copy(emit.offset(short_key, kind.offset(index)), source, stored_size(part))
