"""What changes the system or the script's own probes: signal, signal_thread, override, write_user, unwatch."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from insitu.errors import nearest
from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand
from insitu.probe.builtins.search import bytes_of
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.records import send_values
from insitu.probe.types import INT64, VOID, Array, Integer, Pointer, Record, String, Type, Unknown

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_MAX_WRITTEN = 1024


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


def _check_write(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "write_user()")
    source = checker.known(checker.argument(call, 1))
    if not isinstance(source, Pointer | String | Array | Record | Unknown):
        remedy = "use & of a variable" if isinstance(source, Integer) else ""
        message = f"write_user() copies from a string, an array, a struct or a pointer, not {source}"
        raise checker.error(message, call.arguments[1], remedy=remedy)
    count = checker.literal(call.arguments[2], "the number of bytes of write_user()")
    if not 0 < count <= _MAX_WRITTEN:
        raise checker.error(f"write_user() writes 1 to {_MAX_WRITTEN} bytes", call.arguments[2])
    return INT64


def _write(low: Lowering, call: ast.Call) -> str:
    count = low.constant(operand(call, 2))
    with low.temporaries():
        address = low.value(operand(call))
        source = bytes_of(low, operand(call, 1), count)
        return low.emit.call(Helper.PROBE_WRITE_USER, f"i64 {address}", f"ptr {source}", f"i64 {count}")


def _unwatch(low: Lowering, call: ast.Call) -> str:
    send_values(low, "unwatch", "", [low.value(operand(call))])
    return "0"


BUILTINS: tuple[Builtin, ...] = (
    *function("signal signal_thread", (1, 1), _check_signal, value=_signal, statement=True, unsafe=True),
    *function("override", (1, 1), _check_scalar, value=_override, statement=True, unsafe=True),
    *function("write_user", (3, 3), _check_write, value=_write, unsafe=True),
    *function("unwatch", (1, 1), _check_scalar, value=_unwatch, statement=True),
)
