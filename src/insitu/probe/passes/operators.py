"""Types of operators and casts, and arithmetic on constants."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.types import (
    INT64,
    UINT64,
    UNKNOWN,
    VOID,
    Array,
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
    promoted,
)

if TYPE_CHECKING:
    from insitu.probe.passes.check import Checker

__all__ = ["binary", "cast", "fold", "number", "type_of", "unary"]

_MASK = 2**64 - 1
_NUMBER = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]{1,16}|\d{1,20})")


def number(text: str) -> int | None:
    """The number that a positional parameter spells, or None; "" is 0, as a missing parameter is."""
    if not text:
        return 0
    return int(text, 0 if "x" in text.lower() else 10) if _NUMBER.fullmatch(text) else None


def fold(operator: str, left: int, right: int) -> int | None:
    """Arithmetic on constants, in 64 bits; None where it is not defined."""
    if operator in ("/", "%") and right == 0:
        return None
    if operator in ("<<", ">>") and not 0 <= right < 64:
        return None
    results = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1),
        "%": lambda: left - abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1) * right,
        "<<": lambda: left << right,
        ">>": lambda: left >> right,
        "&": lambda: left & right,
        "|": lambda: left | right,
        "^": lambda: left ^ right,
    }
    if operator not in results:
        return None
    value = results[operator]() & _MASK
    return value - 2**64 if value >= 2**63 else value


def unary(checker: Checker, node: ast.Unary) -> Type:
    """``- ! ~ *``."""
    if node.operator == "!":
        checker.condition(node.operand)
        return INT64
    found = checker.known(node.operand)
    if isinstance(found, Unknown):
        return UNKNOWN
    if node.operator == "*":
        if isinstance(found, Pointer):
            target = checker.structures.target(found)
            if target == VOID:
                raise checker.error("void * points to nothing of known type", node, remedy="cast it first")
            return target
        if isinstance(found, Integer):
            return UINT64
        raise checker.error(f"* needs a pointer, not {found}", node.operand)
    if node.operator == "&":
        raise checker.error("& (address of) is not supported yet", node)
    if not isinstance(found, Integer | Pointer):
        raise checker.error(f"{node.operator} needs a number, not {found}", node.operand)
    signed = node.operator == "-" or (isinstance(found, Integer) and found.signed)
    return Integer(8, signed)


def binary(checker: Checker, node: ast.Binary) -> Type:
    """All operators of two operands."""
    operator = node.operator
    if operator in ("&&", "||"):
        checker.condition(node.left)
        checker.condition(node.right)
        return INT64
    left, right = checker.known(node.left), checker.known(node.right)
    if isinstance(left, Unknown) or isinstance(right, Unknown):
        return INT64 if operator in ("==", "!=", "<", ">", "<=", ">=") else UNKNOWN
    if operator in ("==", "!=") and isinstance(left, String) and isinstance(right, String):
        return INT64
    if operator in ("==", "!=") and isinstance(left, Tuple) and left == right:
        raise checker.error("tuples cannot be compared yet", node)
    for side, found in ((node.left, left), (node.right, right)):
        if not is_scalar(found):
            other = right if side is node.left else left
            raise checker.error(f"{operator} cannot be applied to {found} and {other}", side)
        if isinstance(found, NamedNumber) and operator not in ("==", "!="):
            raise checker.error(f"{operator} cannot be applied to {found}", side)
    if operator in ("==", "!=", "<", ">", "<=", ">="):
        return INT64
    if operator in ("+", "-"):
        if isinstance(left, Pointer) and isinstance(right, Integer):
            return left
        if isinstance(right, Pointer) and isinstance(left, Integer) and operator == "+":
            return right
        if isinstance(left, Pointer) and isinstance(right, Pointer):
            return INT64
    if operator in ("<<", ">>"):
        return Integer(8, not isinstance(left, Pointer) and isinstance(left, Integer) and left.signed)
    return promoted(left, right)


def cast(checker: Checker, node: ast.Cast) -> Type:
    """``(type)value``. A pointer keeps its operand's address space."""
    found = checker.known(node.operand)
    space = found.space if isinstance(found, Pointer) else default_space(checker)
    target = checker.structures.resolve(node.target, space)
    if isinstance(found, Unknown):
        return target if is_scalar(target) else UNKNOWN
    if isinstance(target, Integer | Pointer):
        if isinstance(found, Array | String | Record) and isinstance(target, Pointer):
            return target
        if isinstance(found, Array) and found.size in (1, 2, 4, 8):
            return target
        if not is_scalar(found):
            raise checker.error(f"{found} cannot be cast to {target}", node)
        return target
    if isinstance(target, Record) and is_scalar(found):
        # bpftrace lets (struct x)pointer stand for *(struct x *)pointer.
        return Pointer(target, space)
    if str(target) == str(found):
        return target
    raise checker.error(f"{found} cannot be cast to {target}", node)


def default_space(checker: Checker) -> Space:
    """Where addresses lead that carry no type: the memory that the probe interrupts."""
    return {"uprobe": Space.USER, "uretprobe": Space.USER, "usdt": Space.USER}.get(
        checker.clause.points[0].kind, Space.KERNEL if checker.clause.kind.context == "pt_regs" else Space.ANY
    )


def type_of(checker: Checker, node: ast.TypeOf) -> Type:
    """sizeof and offsetof; the answer is computed here."""
    if isinstance(node.subject, ast.TypeName):
        found = checker.structures.resolve(node.subject, Space.ANY)
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
