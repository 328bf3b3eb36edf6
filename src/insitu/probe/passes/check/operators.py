"""Types of operators, casts, sizeof and offsetof."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec.structs import replace

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.layout import MOST_COMPARED_STRUCT_BYTES
from insitu.probe.output.number_names import KINDS, numbers_by_name
from insitu.probe.passes.check.checker import Checker
from insitu.probe.passes.check.members import is_args, is_bit_field
from insitu.probe.passes.check.unify import unify
from insitu.probe.types import (
    BOOL,
    INT64,
    UINT64,
    UNKNOWN,
    VOID,
    Array,
    Buffer,
    Inet,
    Integer,
    NamedNumber,
    Pointer,
    Record,
    Space,
    String,
    Tuple,
    Type,
    Unknown,
    is_scalar,
    is_signed,
    promoted,
)

__all__ = ["EXPRESSIONS"]

_COMPARISONS = ("==", "!=", "<", ">", "<=", ">=")


def _unary(checker: Checker, node: ast.Unary) -> Type:
    """``- ! ~ * &``."""
    if node.operator == "!":
        checker.condition(node.operand)
        return BOOL
    if node.operator == "&":
        return _address(checker, node)
    found = checker.known(node.operand)
    if isinstance(found, Unknown):
        return UNKNOWN
    if node.operator == "comptime":
        if checker.strict and checker.known_value(node.operand) is None:
            raise checker.error("comptime needs what is known at compile time", node.operand)
        return found
    if node.operator == "*":
        if isinstance(found, Pointer):
            target = checker.structures.target(found)
            if target == VOID:
                raise checker.error("cannot dereference void *", node, remedy="cast it first")
            return target
        if isinstance(found, Integer):
            return UINT64
        if isinstance(found, Array):
            return found.element
        raise checker.error(f"* needs a pointer, not {found}", node.operand)
    if not isinstance(found, Integer | Pointer):
        raise checker.error(f"{node.operator} needs a number, not {found}", node.operand)
    return Integer(8, node.operator == "-" or is_signed(found))


def _address(checker: Checker, node: ast.Unary) -> Type:
    """``&$variable``, ``&pointer->member``, ``&array[i]``, ``&*pointer``; ``&@map`` is of the kernel's object."""
    place = node.operand
    if isinstance(place, ast.MapAccess) and place.key is None:
        place.type = checker.whole_map(place)
        record = checker.structures.lookup("bpf_map", "struct", Space.KERNEL)
        return Pointer(record or VOID, Space.KERNEL)
    found = checker.known(place)
    space = _space_of(checker, place)
    if space is None:
        raise checker.error("& needs an operand in memory: a $variable, a @map, a member or an element", node)
    if isinstance(place, ast.Member) and is_bit_field(checker, place):
        raise checker.error("a bit field has no address", node)
    return Pointer(found, space)


def _space_of(checker: Checker, node: ast.Expression) -> Space | None:
    """Whose memory an expression's value is in; None when it has no address."""
    if isinstance(node, ast.Variable):
        return Space.KERNEL
    if isinstance(node, ast.Unary) and node.operator == "*":
        return node.operand.type.space if isinstance(node.operand.type, Pointer) else Space.ANY
    if isinstance(node, ast.Index | ast.Member):
        if isinstance(node.object.type, Pointer):
            return node.object.type.space
        if isinstance(node, ast.Member) and is_args(node.object):
            # In the probe's context; what fits in a register may never have been in memory.
            return Space.KERNEL if isinstance(node.type, Array | String | Record) else None
        return _space_of(checker, node.object)
    return None


def _binary(checker: Checker, node: ast.Binary) -> Type:
    """All operators of two operands."""
    operator = node.operator
    if operator in ("&&", "||"):
        checker.condition(node.left)
        checker.condition(node.right)
        return BOOL
    left, right = checker.known(node.left), checker.known(node.right)
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return BOOL if operator in _COMPARISONS else UNKNOWN
    if operator in ("==", "!=") and _is_named(checker, node, left, right):
        return BOOL
    if operator in ("==", "!="):
        left, right = _both_as_text(checker, node, left, right)
    if operator in ("==", "!=") and _comparable(left, right):
        if _holds_record(left) and left.size > MOST_COMPARED_STRUCT_BYTES:
            what = f"{operator} compares structs of at most {MOST_COMPARED_STRUCT_BYTES} bytes, not of {left.size}"
            raise checker.error(what, node, remedy="compare members")
        return BOOL
    for side, found in ((node.left, left), (node.right, right)):
        if not is_scalar(found):
            other = right if side is node.left else left
            raise checker.error(f"{operator} cannot be applied to {found} and {other}", side)
        if isinstance(found, NamedNumber) and operator not in ("==", "!="):
            raise checker.error(f"{operator} cannot be applied to {found}", side)
    if operator in _COMPARISONS:
        return BOOL
    if operator in ("+", "-"):
        if isinstance(left, Pointer) and isinstance(right, Integer):
            return left
        if isinstance(right, Pointer) and isinstance(left, Integer) and operator == "+":
            return right
        if isinstance(left, Pointer) and isinstance(right, Pointer):
            if operator == "+":
                raise checker.error("two addresses cannot be added", node)
            return INT64
    if operator in ("<<", ">>"):
        return Integer(8, is_signed(left))
    return promoted(left, right)


def _both_as_text(checker: Checker, node: ast.Binary, left: Type, right: Type) -> tuple[Type, Type]:
    """The types of two operands of ==, once those that may be text have become it for another text."""
    if left == right or not any(isinstance(each, String | NamedNumber) for each in (left, right)):
        return left, right
    if isinstance(left, Integer | Pointer) and not isinstance(node.left, ast.Positional):
        return left, right
    if isinstance(right, Integer | Pointer) and not isinstance(node.right, ast.Positional):
        return left, right
    node.left, node.right = checker.as_text(node.left), checker.as_text(node.right)
    found = node.left.type or left, node.right.type or right
    if found[0] != found[1] and any(isinstance(each, NamedNumber) for each in found):
        raise checker.error(f"{node.operator} cannot compare {left} with {right}", node)
    return found


def _is_named(checker: Checker, node: ast.Binary, left: Type, right: Type) -> bool:
    """``strerror(n) == "text"`` compares the number with the one of that name, which takes the literal's place."""
    for kind, literal in ((left, node.right), (right, node.left)):
        if isinstance(kind, NamedNumber) and kind.kind in KINDS and isinstance(literal, ast.StringLiteral):
            known = numbers_by_name(kind.kind)
            text = literal.value.decode("utf-8", "replace")
            if text not in known:
                raise checker.error(f"no {kind} has the name {text!r}{nearest(text, known)}", literal)
            number = ast.Integer(literal.span, known[text])
            checker.infer(number)
            node.left, node.right = (node.left, number) if literal is node.right else (number, node.right)
            return True
    return False


def _comparable(left: Type, right: Type) -> bool:
    """Whether == compares the contents of two values."""
    if isinstance(left, Record) and left == right:
        return bool(left.fields())
    if isinstance(left, Array) and isinstance(right, Array):
        return left.count == right.count > 0 and isinstance(left.element, Integer) and left.element == right.element
    if isinstance(left, Tuple) and isinstance(right, Tuple) and len(left.elements) == len(right.elements):
        pairs = [(each, right.elements[at]) for each, at in zip(left.elements, right.order_of(left), strict=True)]
        return all((is_scalar(a) and is_scalar(b) and unify(a, b)) or _comparable(a, b) for a, b in pairs)
    return any(isinstance(left, kind) and isinstance(right, kind) for kind in (String, Buffer, Inet))


def _holds_record(kind: Type) -> bool:
    return isinstance(kind, Record) or (isinstance(kind, Tuple) and any(map(_holds_record, kind.elements)))


def _cast(checker: Checker, node: ast.Cast) -> Type:
    """``(type)value``. A pointer keeps its operand's address space."""
    found = checker.known(node.operand)
    space = found.space if isinstance(found, Pointer) else _default_space(checker)
    target = checker.written(node.target, space)
    if isinstance(target, Unknown):
        return UNKNOWN
    if isinstance(found, Unknown):
        return target if is_scalar(target) else UNKNOWN
    if isinstance(target, Integer) and target.enum == "bool" and isinstance(found, String):
        return target
    if isinstance(target, Array) and isinstance(target.element, Integer) and isinstance(found, String):
        return _bytes_of_string(checker, node, target, found)
    if isinstance(target, Array) and isinstance(target.element, Integer) and isinstance(found, Integer | Pointer):
        return _bytes_of_integer(checker, node, target, found)
    if isinstance(target, Integer | Pointer):
        if isinstance(found, Array | String | Record) and isinstance(target, Pointer):
            return target
        if isinstance(found, Array) and found.size in (1, 2, 4, 8):
            return target
        if not is_scalar(found):
            raise checker.error(f"{found} cannot be cast to {target}", node)
        return target
    if isinstance(target, Record) and not target.tag:
        raise checker.error(f"{found} cannot be cast to {target}: there is no floating point in BPF", node)
    if isinstance(target, Record) and is_scalar(found):
        # In bpftrace, (struct x)pointer means *(struct x *)pointer.
        return Pointer(target, space)
    if isinstance(target, String) and isinstance(found, String) and node.target.name == "string":
        return String(max(target.capacity, found.capacity))
    if str(target) == str(found):
        return target
    raise checker.error(f"{found} cannot be cast to {target}", node)


def _bytes_of_integer(checker: Checker, node: ast.Cast, target: Array, found: Integer | Pointer) -> Type:
    """``(uint8[8])number``; without a length, as many elements as the number has room for."""
    target = replace(target, count=target.count or max(1, found.size // target.element.size))
    if not 0 < target.size <= INT64.size:
        raise checker.error(f"{found} cannot be cast to {target}: a number has at most 8 bytes", node)
    return target


def _bytes_of_string(checker: Checker, node: ast.Cast, target: Array, found: String) -> Type:
    """``(int8[])text``: all bytes of the text's memory, its zero included, or with a length the first of them."""
    target = replace(target, count=target.count or found.capacity // target.element.size)
    if not 0 < target.size <= found.capacity:
        raise checker.error(f"{found} cannot be cast to {target}: it has {found.capacity} bytes", node)
    return target


def _default_space(checker: Checker) -> Space:
    """Where addresses lead that carry no type: the memory that the probe interrupts."""
    if checker.clause.points[0].in_binary:
        return Space.USER
    return Space.KERNEL if checker.clause.kind.context == "pt_regs" else Space.ANY


def _type_of(checker: Checker, node: ast.TypeOf) -> Type:
    """sizeof and offsetof."""
    if isinstance(node.subject, ast.TypeName):
        found = checker.written(node.subject)
    else:
        found = checker.known(node.subject)
    for name in node.path:
        if not isinstance(found, Record):
            raise checker.error(f"offsetof needs a struct, not {found}", node)
        member = checker.structures.field(found, name)
        if member is None:
            raise checker.error(f"{found} has no field {name!r}", node)
        found = member.type
    return UINT64


EXPRESSIONS: Mapping[type[ast.Expression], Callable[[Checker, Any], Type]] = {
    ast.Unary: _unary,
    ast.Binary: _binary,
    ast.Cast: _cast,
    ast.TypeOf: _type_of,
}
