"""What the compiler knows, as records: config (its settings) and typeinfo() (the type of an expression)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.builtins.registry import Builtin, Mention, function, variable
from insitu.probe.types import (
    BOOL,
    INT64,
    Array,
    Buffer,
    Integer,
    Pointer,
    Record,
    String,
    Tuple,
    Type,
    Unknown,
)

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker
    from insitu.probe.passes.check.folding import Constant

__all__ = ["BUILTINS"]


def _type_of(value: Constant) -> Type:
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, int):
        return INT64
    if isinstance(value, bytes):
        return String(len(value) + 1)
    return Tuple(tuple(map(_type_of, value.values())), tuple(value))


def _literal(value: Constant, node: ast.Node) -> ast.Expression:
    """A constant as a typed literal."""
    literal: ast.Expression
    if isinstance(value, int):
        literal = ast.Integer(node.span, int(value))
    elif isinstance(value, bytes):
        literal = ast.StringLiteral(node.span, value)
    else:
        elements = [_literal(each, node) for each in value.values()]
        literal = ast.TupleLiteral(node.span, elements, list(value))
    literal.type = _type_of(value)
    return literal


def _store_literal(low: Lowering, node: Mention, pointer: str) -> None:
    value = low.known_value(node)
    assert value is not None
    low.store(_literal(value, node), pointer)


# The settings


def _config(checker: Checker) -> Constant:
    return dict(checker.options.settings())


# Types, as bpftrace calls them


def _base(kind: Type) -> str:
    if isinstance(kind, Integer):
        return "bool" if kind.enum == "bool" else "int"
    if isinstance(kind, Tuple):
        return "record" if kind.names else "tuple"
    if isinstance(kind, Record):
        return "c_struct"
    if isinstance(kind, Pointer | String | Array | Buffer):
        return type(kind).__name__.lower()
    return f"{kind}_t" if isinstance(kind, Aggregation) else str(kind)


def _check_typeinfo(checker: Checker, call: ast.Call) -> Type:
    subject = call.arguments[0]
    if isinstance(subject, ast.TypeName):
        checker.written(subject)
    elif isinstance(subject, ast.MapAccess) and subject.key is None:
        subject.type = checker.whole_map(subject)
    else:
        checker.known(subject)
    return _type_of(_typeinfo(checker, call) or {"btf_id": 0, "base_ty": b"", "full_ty": b""})


def _typeinfo(checker: Checker, call: ast.Call) -> Constant | None:
    found = call.arguments[0].type
    if found is None or isinstance(found, Unknown):
        return None
    return {"btf_id": 0, "base_ty": _base(found).encode(), "full_ty": str(found).encode()}


BUILTINS: tuple[Builtin, ...] = (
    *variable("config", lambda checker, node: _type_of(_config(checker)), store=_store_literal, constant=_config),
    *function("typeinfo", (1, 1), _check_typeinfo, store=_store_literal, constant=_typeinfo),
)
