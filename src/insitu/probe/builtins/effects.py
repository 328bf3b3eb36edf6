"""What changes the system or the script's own probes: signal, signal_thread, override, unwatch."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.records import send_values
from insitu.probe.types import VOID, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]


def _check_scalar(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), f"{call.name}()")
    return VOID


def _check_signal(checker: Checker, call: ast.Call) -> Type:
    if isinstance(call.arguments[0], ast.StringLiteral):
        written = checker.text(call.arguments[0], "the signal").upper()
        name = written if written.startswith("SIG") else f"SIG{written}"
        member = signal.Signals.__members__.get(name)
        if member is None:
            hint = nearest(name, signal.Signals.__members__)
            raise checker.error(f"unknown signal {written!r}{hint}", call.arguments[0])
        call.arguments[0] = ast.Integer(call.arguments[0].span, int(member))
    return _check_scalar(checker, call)


def _signal(low: Lowering, call: ast.Call) -> str:
    helper = Helper.SEND_SIGNAL if call.name == "signal" else Helper.SEND_SIGNAL_THREAD
    low.checked(helper, low.emit.call(helper, f"i64 {low.value(operand(call))}"))
    return "0"


def _override(low: Lowering, call: ast.Call) -> str:
    low.emit.call(Helper.OVERRIDE_RETURN, f"ptr {low.context}", f"i64 {low.value(operand(call))}")
    return "0"


def _unwatch(low: Lowering, call: ast.Call) -> str:
    send_values(low, "unwatch", "", [low.value(operand(call))])
    return "0"


BUILTINS: tuple[Builtin, ...] = (
    *function("signal signal_thread", (1, 1), _check_signal, value=_signal, statement=True, unsafe=True),
    *function("override", (1, 1), _check_scalar, value=_override, statement=True, unsafe=True),
    *function("unwatch", (1, 1), _check_scalar, value=_unwatch, statement=True),
)
