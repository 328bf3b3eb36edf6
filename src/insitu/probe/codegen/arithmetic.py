"""Lowers literals, operators, comparisons, conditions and casts. Every scalar is an i64, already extended."""

from __future__ import annotations

from collections.abc import Mapping

from insitu.probe import ast
from insitu.probe.codegen import maps
from insitu.probe.codegen.comparisons import equal_strings, equal_values
from insitu.probe.codegen.integers import divide, narrowed, scalar_layout, signed64
from insitu.probe.codegen.lowering import Lowering, Remote, Store, Value
from insitu.probe.codegen.memory import element_index
from insitu.probe.codegen.memory_access import UNROLLED_BYTES
from insitu.probe.codegen.tuples import pack
from insitu.probe.passes.check.folding import number
from insitu.probe.types import (
    Array,
    Integer,
    Pointer,
    Record,
    String,
    Tuple,
    Type,
    is_scalar,
    memory_size,
    promoted,
    stored_size,
)

__all__ = ["STORES", "VALUES", "address", "as_number", "step"]

_PLAIN = {"+": "add", "-": "sub", "*": "mul", "&": "and", "|": "or", "^": "xor"}
_COMPARISONS = {"==": ("eq", "eq"), "!=": ("ne", "ne"), "<": ("slt", "ult"), ">": ("sgt", "ugt")} | {
    "<=": ("sle", "ule"),
    ">=": ("sge", "uge"),
}
_BY_ZERO = 1  # what bpftrace has from 0.24 on


def _integer(low: Lowering, node: ast.Integer) -> str:
    return signed64(node.value)


def _positional(low: Lowering, node: ast.Positional) -> str:
    if node.index == 0:
        return str(len(low.parameters))
    given = low.parameters[node.index - 1] if node.index <= len(low.parameters) else ""
    return signed64(number(given) or 0)


def _store_positional(low: Lowering, node: ast.Positional, pointer: str) -> None:
    literal = ast.StringLiteral(node.span, low.text(node).encode("utf-8", "surrogateescape"))
    literal.type = node.type
    _store_literal(low, literal, pointer)


def _unary(low: Lowering, node: ast.Unary) -> str:
    emit = low.emit
    if node.operator == "!":
        truth = low.truth(node.operand)
        return emit.value(f"select i1 {truth}, i64 0, i64 1")
    if node.operator == "&":
        return address(low, node.operand)
    if node.operator == "*":
        size, signed = scalar_layout(node.type)
        return low.read_scalar(low.place(node), 0, size, signed)
    value = low.value(node.operand)
    if node.operator == "comptime":
        return value
    if node.operator == "-":
        return emit.op("sub", "0", value)
    return emit.op("xor", value, "-1")


def _binary(low: Lowering, node: ast.Binary) -> str:
    operator = node.operator
    if operator in ("&&", "||"):
        return _logical(low, node)
    assert node.left.type is not None and node.right.type is not None
    if isinstance(node.left.type, String):
        return equal_strings(low, node)
    if not is_scalar(node.left.type):
        return equal_values(low, node)
    left, right = low.value(node.left), low.value(node.right)
    emit = low.emit
    kind = promoted(node.left.type, node.right.type)
    if operator in _COMPARISONS:
        return emit.compare(_COMPARISONS[operator][0 if kind.signed else 1], left, right)
    if operator in ("+", "-"):
        left, right = _scaled(low, node, left, right)
    if operator == "-" and isinstance(node.left.type, Pointer) and isinstance(node.right.type, Pointer):
        size = memory_size(low.structures.target(node.left.type)) or 1
        return divide(low, "/", emit.op("sub", left, right), str(size), signed=True)
    if operator in _PLAIN:
        return emit.op(_PLAIN[operator], left, right)
    if operator in ("<<", ">>"):
        amount = emit.op("and", right, "63")
        return emit.op("shl" if operator == "<<" else "ashr" if _is_signed(node.left.type) else "lshr", left, amount)
    if not low.constant_or_none(node.right):
        is_zero = emit.value(f"icmp eq i64 {right}, 0")
        low.warn_if(is_zero, f"division by zero; the result is {_BY_ZERO}", always=True)
    return divide(low, operator, left, right, signed=kind.signed, by_zero=_BY_ZERO)


def _is_signed(kind: Type) -> bool:
    return isinstance(kind, Integer) and kind.signed


def _scaled(low: Lowering, node: ast.Binary, left: str, right: str) -> tuple[str, str]:
    """Pointer arithmetic counts in elements."""
    for pointer, integer in ((node.left.type, node.right.type), (node.right.type, node.left.type)):
        if isinstance(pointer, Pointer) and isinstance(integer, Integer):
            size = memory_size(low.structures.target(pointer)) or 1
            if size > 1:
                if pointer is node.left.type:
                    return left, low.emit.op("mul", right, str(size))
                return low.emit.op("mul", left, str(size)), right
    return left, right


def _logical(low: Lowering, node: ast.Binary) -> str:
    """&& and ||: the right side runs only where it decides."""
    emit = low.emit
    right, end = emit.label(), emit.label()
    first = low.truth(node.left)
    begun = emit.block_name
    if node.operator == "&&":
        emit.branch_if(first, right, end)
    else:
        emit.branch_if(first, end, right)
    emit.block(right)
    second = low.truth(node.right)
    second = emit.value(f"zext i1 {second} to i64")
    came_from = emit.block_name
    emit.block(end)
    return emit.phi("i64", ("0" if node.operator == "&&" else "1", begun), (second, came_from))


def _cast(low: Lowering, node: ast.Cast) -> str:
    held = node.operand.type
    assert node.type is not None
    if isinstance(node.type, Integer) and isinstance(held, String):
        return low.emit.value(f"zext i1 {low.truth(node.operand)} to i64")
    if isinstance(node.type, Integer) and isinstance(held, Array):
        whole = low.read_scalar(low.place(node.operand), 0, held.size, False)
        return narrowed(low, whole, node.type)
    if isinstance(held, Array | String | Record):
        return address(low, node.operand)
    return narrowed(low, low.value(node.operand), node.type)


def _store_cast(low: Lowering, node: ast.Cast, pointer: str) -> None:
    held = node.operand.type
    assert node.type is not None and held is not None
    if is_scalar(held) and isinstance(node.type, Array):
        value = low.value(node.operand)
        if node.type.size < 8:
            value = low.emit.op("and", value, str((1 << 8 * node.type.size) - 1))
        low.emit.store(value, pointer)
    elif isinstance(held, String) and isinstance(node.type, Array):
        with low.temporaries():
            low.copy(pointer, low.local(node.operand), stored_size(node.type))
        for at in range(node.type.size, stored_size(node.type)):
            low.emit.store("0", low.emit.offset(pointer, at), 1)
    else:
        low.store(node.operand, pointer, node.type)


def address(low: Lowering, node: ast.Expression) -> str:
    """The address of an expression's value, or of the kernel's object of a map, as an i64."""
    emit = low.emit
    if isinstance(node, ast.Member | ast.Index) and isinstance(held := node.object.type, Tuple):
        offset = held.memory_offset(element_index(low, node, held))
        return emit.op("add", address(low, node.object), str(offset))
    if isinstance(node.type, Tuple):
        return _tuple_address(low, node, node.type)
    if isinstance(node, ast.MapAccess):
        known = emit.map(low.layout.number(node.name)).removeprefix("i64 ")
    else:
        place = low.place(node)
        if isinstance(place, Remote):
            return place.address
        known = emit.address(place.pointer)
    return as_number(low, known)


def as_number(low: Lowering, known: str) -> str:
    """An address of our own memory, or the context's, as an i64 for arithmetic.

    It goes through the scratch map: what is loaded from there is a number to the verifier, which allows hardly any
    arithmetic on addresses that it knows.
    """
    slot = low.scratch(8)
    low.emit.store(known, slot)
    return low.emit.load(slot, volatile=True)


def _tuple_address(low: Lowering, node: ast.Expression, held: Tuple) -> str:
    """The address of a tuple, or of a copy in C's layout of one that is ours: the same for each variable."""
    place = low.place(node)
    if isinstance(place, Remote):
        return place.address
    name = node.name if isinstance(node, ast.Variable) else ""
    copy = low.tuple_copies.get(name) or low.scratch(-(-memory_size(held) // 8) * 8)
    if name:
        low.tuple_copies[name] = copy
    pack(low, held, place.pointer, copy)
    return as_number(low, low.emit.address(copy))


def _type_of(low: Lowering, node: ast.TypeOf) -> str:
    found = node.subject.type
    assert found is not None
    return str(low.structures.size_or_offset(found, node.path))


def step(low: Lowering, node: ast.Step, *, used: bool = True) -> str:
    """``$x++`` and its like; its value is right only when it is said to be ``used``."""
    delta = node.delta
    if isinstance(node.type, Pointer):
        delta *= memory_size(low.structures.target(node.type)) or 1
    if isinstance(node.target, ast.MapAccess):
        return maps.step(low, node.target, delta, postfix=node.postfix, used=used)
    assert isinstance(node.target, ast.Variable)
    pointer, held = low.variable(node.target)
    before = low.emit.load(pointer)
    after = narrowed(low, low.emit.op("add", before, str(delta)), held)
    low.emit.store(after, pointer)
    return before if node.postfix else after


def _store_tuple(low: Lowering, node: ast.TupleLiteral, pointer: str) -> None:
    low.store(node, pointer, node.type)


def _store_literal(low: Lowering, node: ast.StringLiteral, pointer: str) -> None:
    assert node.type is not None
    padded = node.value.split(b"\0")[0].ljust(stored_size(node.type), b"\0")
    for at in range(0, stored_size(node.type), 8):
        word = str(int.from_bytes(padded[at : at + 8], "little", signed=True))
        # Of more equal bytes LLVM makes a call of memset(), which BPF has not.
        hidden = at and at % UNROLLED_BYTES == 0
        low.emit.store(low.emit.hidden(word) if hidden else word, low.emit.offset(pointer, at))


VALUES: Mapping[type[ast.Expression], Value] = {
    ast.Integer: _integer,
    ast.Positional: _positional,
    ast.Unary: _unary,
    ast.Binary: _binary,
    ast.Cast: _cast,
    ast.TypeOf: _type_of,
    ast.Step: step,
}
STORES: Mapping[type[ast.Expression], Store] = {
    ast.Cast: _store_cast,
    ast.TupleLiteral: _store_tuple,
    ast.StringLiteral: _store_literal,
    ast.Positional: _store_positional,
}
