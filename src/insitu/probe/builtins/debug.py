"""debugf(): a line in the kernel's trace buffer (tracefs's trace_pipe), for debugging scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.formats import checked_format
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.helpers import Helper
from insitu.probe.output.printf_formats import parse_format
from insitu.probe.types import VOID, Integer, Pointer, String, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_MAX_VALUES = 3  # bpf-helpers(7): bpf_trace_printk
_LETTERS = ("d", "u", "x", "p", "s")


def _check(checker: Checker, call: ast.Call) -> Type:
    conversions = checked_format(checker, call)
    if len(conversions) > _MAX_VALUES:
        raise checker.error(f"debugf() prints at most {_MAX_VALUES} values", call)
    for index, conversion in enumerate(conversions, 1):
        if conversion.letter not in _LETTERS or conversion.python.lstrip("%") not in ("d", "x", "s"):
            remedy = "%d, %u, %x, %p and %s are possible, without width"
            raise checker.error("the kernel does not print this conversion", call.arguments[0], remedy=remedy)
        checker.known(checker.argument(call, index))
        wants_text = conversion.letter == "s"
        if wants_text:
            call.arguments[index] = checker.as_text(operand(call, index))
        found = operand(call, index).type
        if not isinstance(found, (String if wants_text else Integer | Pointer) | Unknown):
            wanted = "a string" if wants_text else "a number"
            raise checker.error(f"%{conversion.letter} wants {wanted}, not {found}", call.arguments[index])
    return VOID


def _debugf(low: Lowering, call: ast.Call) -> str:
    emit = low.emit
    parts, conversions = parse_format(low.text(call.arguments[0]))
    # Numbers have 64 bits here.
    kernels = [f"%{'ll' * (each.letter in 'dux')}{each.letter}" for each in conversions]
    escaped = [part.replace("%", "%%") for part in parts]
    text = escaped[0] + "".join(conversion + part for conversion, part in zip(kernels, escaped[1:], strict=True))
    literal = ast.StringLiteral(call.span, text.encode("utf-8", "surrogateescape"))
    literal.type = String(len(literal.value) + 1)
    with low.temporaries():
        values = []
        for node in call.arguments[1:]:
            assert isinstance(node, ast.Expression)
            is_text = isinstance(node.type, String)
            values.append(f"ptr {low.local(node)}" if is_text else f"i64 {low.value(node)}")
        emit.call(Helper.TRACE_PRINTK, f"ptr {low.local(literal)}", f"i64 {len(literal.value) + 1}", *values)
    return "0"


BUILTINS: tuple[Builtin, ...] = (*function("debugf", (1, 99), _check, value=_debugf, statement=True, unsafe=True),)
