"""Types of ``a.b``, ``a->b`` and ``a[i]``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from insitu.errors import InsituError, nearest
from insitu.probe import ast
from insitu.probe.passes.check.checker import Checker
from insitu.probe.providers.arguments import Argument, DataLocation, Primitive
from insitu.probe.types import (
    UINT64,
    UNKNOWN,
    VOID,
    Array,
    Field,
    Integer,
    Pointer,
    Space,
    String,
    Tuple,
    Type,
    Unknown,
    is_scalar,
)

__all__ = [
    "EXPRESSIONS",
    "argument_of",
    "argument_type",
    "is_args",
    "is_bit_field",
    "known_arguments",
    "member_field",
    "need_fields",
]


def is_args(node: ast.Expression) -> bool:
    """Whether a node is the builtin ``args``."""
    return isinstance(node, ast.Identifier | ast.Call) and node.name == "args"


def argument_of(checker: Checker, name: str) -> Argument | None:
    """The probe's argument of that name."""
    return next((a for a in checker.clause.arguments or () if a.name == name), None)


def argument_type(checker: Checker, argument: Argument) -> Type:
    """The type of a probe's argument. Pointers of system calls and of user-space probes lead to user memory."""
    point = checker.clause.points[0]
    user = point.in_binary or point.target == "syscalls"
    space = Space.USER if user else Space.KERNEL
    if isinstance(argument.type, Primitive):
        found = checker.structures.from_primitive(argument.type, space)
        if isinstance(argument.load, DataLocation) and isinstance(found, String | Array):
            return String(checker.options.max_strlen)
        return found
    return checker.structures.from_btf(argument.type, space)


def is_bit_field(checker: Checker, node: ast.Member) -> bool:
    """Whether a member access that is typed already means a bit field."""
    assert node.object.type is not None
    record = None if is_args(node.object) else checker.record_of(node.object.type)
    return record is not None and bool(record.fields()[node.name].bits)


def known_arguments(checker: Checker, node: ast.Node) -> list[Argument]:
    """The arguments of the current probe.

    :raises ScriptError: when it has none, or none whose types are known.
    """
    arguments = checker.clause.arguments
    if not arguments:
        why = "has no arguments" if arguments is not None else "has no arguments of known type"
        raise checker.error(f"{checker.clause.points[0].name} {why}", node)
    return arguments


def _member(checker: Checker, node: ast.Member) -> Type:
    """``object.name``: of args, a record, a pointer to one, or a tuple."""
    if is_args(node.object):
        node.object.type = VOID
        return _argument(checker, node)
    found = checker.known(node.object)
    if isinstance(found, Unknown):
        return UNKNOWN
    if isinstance(found, Tuple):
        return found.elements[tuple_index(checker, node, found)]
    return member_field(checker, node).type


def _argument(checker: Checker, node: ast.Member) -> Type:
    arguments = known_arguments(checker, node)
    point = checker.clause.points[0]
    argument = argument_of(checker, node.name)
    if argument is None:
        names = [a.name for a in arguments]
        hint = nearest(node.name, names) or f"; it has {', '.join(names[:12])}"
        raise checker.error(f"{point.name} has no argument {node.name!r}{hint}", node)
    return argument_type(checker, argument)


def tuple_index(checker: Checker, node: ast.Member, found: Tuple) -> int:
    """Which element ``.0`` or ``.name`` means."""
    if node.name.isdigit():
        position = int(node.name[:9])
        if position < len(found.elements):
            return position
        raise checker.error(f"index out of range: this tuple has {len(found.elements)} elements", node)
    if found.names and node.name in found.names:
        return found.names.index(node.name)
    hint = nearest(node.name, found.names or ())
    raise checker.error(f"this tuple has no element {node.name!r}{hint}", node)


def member_field(checker: Checker, node: ast.Member) -> Field:
    """The field that a member access of a record means.

    :raises ScriptError: when the object is not a record or has no such field, with the most similar name.
    """
    assert node.object.type is not None
    record = checker.record_of(node.object.type)
    if record is None:
        remedy = ""
        if isinstance(node.object.type, Integer | Pointer):
            remedy = f"cast it first: ((struct NAME *)...)->{node.name}"
        raise checker.error(f"{node.object.type} has no field {node.name!r}", node, remedy=remedy)
    found = checker.structures.field(record, node.name)
    if found is None:
        hint = nearest(node.name, record.fields())
        if not record.fields():
            hint = "; its definition is unknown"
        raise checker.error(f"{record} has no field {node.name!r}{hint}", node)
    return found


def _index(checker: Checker, node: ast.Index) -> Type:
    """``object[i]``: of an array, a pointer or a string."""
    found = checker.known(node.object)
    checker.scalar(node.index, "an index")
    if isinstance(found, Unknown):
        return UNKNOWN
    if isinstance(found, Tuple):
        position = checker.constant(node.index)
        if position is None or not 0 <= position < len(found.elements):
            raise checker.error(f"the index of a tuple must be a constant below {len(found.elements)}", node.index)
        return found.elements[position]
    if isinstance(found, Array):
        position = checker.constant(node.index)
        if position is not None and found.count and not 0 <= position < found.count:
            raise checker.error(f"index out of range: this array has {found.count} elements", node.index)
        return found.element
    if isinstance(found, String):
        return Integer(1, True)
    if isinstance(found, Pointer):
        target = checker.structures.target(found)
        if target == VOID:
            raise checker.error("cannot dereference void *", node, remedy="cast it first")
        return target
    if is_scalar(found):
        return UINT64
    raise checker.error(f"{found} cannot be indexed", node.object)


def need_fields(checker: Checker, node: ast.Node, paths: Iterable[str]) -> None:
    """Refuse what needs fields that this kernel does not have or describe. :raises ScriptError: at the node."""
    try:
        for path in paths:
            checker.structures.kernel_field(path)
    except InsituError as error:
        raise checker.error(str(error), node) from None


EXPRESSIONS: Mapping[type[ast.Expression], Callable[[Checker, Any], Type]] = {ast.Member: _member, ast.Index: _index}
