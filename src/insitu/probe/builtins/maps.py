"""Functions on maps: clear, zero, delete, has_key, find, len."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.kernel.bpf_helpers import knows_helper
from insitu.probe import ast
from insitu.probe.aggregations import Aggregation
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.builtins.stacks import depth
from insitu.probe.codegen import maps
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.loops import count_elements
from insitu.probe.codegen.lowering import Local
from insitu.probe.codegen.records import send_values
from insitu.probe.passes.check.dialect import key_parts, readable
from insitu.probe.types import BOOL, INT64, VOID, Stack, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]


def _whole_map(checker: Checker, call: ast.Call) -> ast.MapAccess:
    """The argument, which names a map without a key."""
    subject = checker.argument(call, 0)
    if not isinstance(subject, ast.MapAccess) or subject.key is not None:
        raise checker.error(f"{call.name}() takes a map without a key", subject)
    entry = checker.maps.get(subject.name)
    if checker.strict and (entry is None or isinstance(entry.value, Unknown)):
        checker.infer(subject)
    subject.type = entry.value if entry else VOID
    return subject


def _check_whole(checker: Checker, call: ast.Call) -> Type:
    _whole_map(checker, call)
    return VOID


def _asynchronous(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0]
    assert isinstance(subject, ast.MapAccess)
    send_values(low, call.name, "", numbers=(low.layout.number(subject.name),))
    return "0"


def _with_key(checker: Checker, call: ast.Call) -> ast.MapAccess:
    """``f(@x[key])``, or with the key apart: ``f(@x, key)``, which is turned into the first form."""
    subject = checker.argument(call, 0)
    if not isinstance(subject, ast.MapAccess):
        raise checker.error(f"{call.name}() takes a map", subject)
    if len(call.arguments) == 2:
        key = checker.argument(call, 1)
        subject = ast.MapAccess(subject.span, subject.name, [key])
        call.arguments[:] = [subject]
    subject.type = checker.map_entry(subject).value
    if checker.strict and isinstance(subject.type, Unknown):
        checker.infer(subject)
    return subject


def _check_delete(checker: Checker, call: ast.Call) -> Type:
    _with_key(checker, call)
    return BOOL


def _delete(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0]
    assert isinstance(subject, ast.MapAccess)
    if (
        isinstance(subject.type, Aggregation)
        and subject.key is None
        and not knows_helper(Helper.MAP_LOOKUP_PERCPU_ELEM)
    ):
        send_values(low, "clear", "", numbers=(low.layout.number(subject.name),))  # other CPUs' cells, too
        return "1"
    return maps.delete(low, subject)


def _check_has_key(checker: Checker, call: ast.Call) -> Type:
    if _with_key(checker, call).key is None:
        raise checker.error("has_key() takes a map and a key", call)
    return BOOL


def _has_key(low: Lowering, call: ast.Call) -> str:
    subject = call.arguments[0]
    assert isinstance(subject, ast.MapAccess)
    return maps.contains(low, subject)


def _check_find(checker: Checker, call: ast.Call) -> Type:
    subject, target = checker.argument(call, 0), checker.argument(call, 2)
    if not isinstance(subject, ast.MapAccess):
        raise checker.error("find() takes a map", subject)
    if not isinstance(target, ast.Variable):
        raise checker.error("the third argument of find() must be a variable", target)
    access = ast.MapAccess(subject.span, subject.name, [checker.argument(call, 1)])
    entry = checker.map_entry(access)
    if checker.strict and isinstance(entry.value, Unknown):
        checker.infer(subject)
    value = readable(entry.value)
    if isinstance(value, Aggregation):
        raise checker.error(f"{subject.name} holds {value}: it cannot be copied", subject)
    subject.type = access.type = value
    if not isinstance(value, Unknown):
        checker.bind(target, value, target)
    return BOOL


def _find(low: Lowering, call: ast.Call) -> str:
    subject, target = operand(call), operand(call, 2)
    assert isinstance(subject, ast.MapAccess) and isinstance(target, ast.Variable) and subject.type is not None
    access = ast.MapAccess(subject.span, subject.name, [operand(call, 1)])
    key_parts(access)
    pointer, held = low.variable(target)
    kind = subject.type
    return maps.find(low, access, lambda found: low.convert(Local(found), kind, pointer, held))


def _check_len(checker: Checker, call: ast.Call) -> Type:
    subject = checker.argument(call, 0)
    if not isinstance(subject, ast.MapAccess):
        found = checker.known(subject)
        if not isinstance(found, Stack | Unknown):
            raise checker.error(f"len() takes a map or a stack, not {found}", subject)
        return INT64
    subject = _whole_map(checker, call)
    entry = checker.maps.get(subject.name)
    if checker.strict and entry is not None and not (entry.key and entry.key.elements):
        raise checker.error(f"{subject.name} has no keys to count", subject)
    return INT64


def _len(low: Lowering, call: ast.Call) -> str:
    subject = operand(call)
    if not isinstance(subject, ast.MapAccess):
        assert isinstance(subject.type, Stack)
        return depth(low, subject.type)
    return count_elements(low, subject)


BUILTINS: tuple[Builtin, ...] = (
    *function("clear", (1, 1), _check_whole, value=_asynchronous, statement=True),
    *function("zero", (1, 1), _check_whole, value=_asynchronous, statement=True),
    *function("delete", (1, 2), _check_delete, value=_delete),
    *function("has_key", (1, 2), _check_has_key, value=_has_key),
    *function("find", (3, 3), _check_find, value=_find),
    *function("len", (1, 1), _check_len, value=_len),
)
