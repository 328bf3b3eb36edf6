"""Time: nsecs, elapsed, strftime, jiffies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import Builtin, function, operand, variable
from insitu.probe.codegen.helpers import Helper
from insitu.probe.codegen.markers import Patch
from insitu.probe.types import UINT64, Timestamp, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_CLOCKS = {
    "monotonic": Helper.KTIME_GET_NS,
    "boot": Helper.KTIME_GET_BOOT_NS,
    "tai": Helper.KTIME_GET_TAI_NS,
}


def _uint64(checker: Checker, node: ast.Expression) -> Type:
    return UINT64


def _check_nsecs(checker: Checker, call: ast.Call) -> Type:
    if call.arguments:
        clock = call.arguments[0]
        if not isinstance(clock, ast.Identifier) or clock.name not in (*_CLOCKS, "sw_tai"):
            raise checker.error("nsecs() takes monotonic, boot, tai or sw_tai", clock)
        clock.type = UINT64
    return UINT64


def _nsecs(low: Lowering, call: ast.Call) -> str:
    clock = call.arguments[0].name if call.arguments and isinstance(call.arguments[0], ast.Identifier) else "boot"
    if clock == "sw_tai":
        return low.emit.op("add", low.emit.call(Helper.KTIME_GET_BOOT_NS), low.emit.patched(Patch.TAI_OFFSET_NS))
    return low.emit.call(_CLOCKS[clock])


def _check_strftime(checker: Checker, call: ast.Call) -> Type:
    checker.text(call.arguments[0], "the format of strftime()")
    checker.scalar(checker.argument(call, 1), "strftime()")
    return Timestamp()


def _strftime(low: Lowering, call: ast.Call, pointer: str) -> None:
    subject = operand(call, 1)
    value = low.value(subject)
    low.emit.store(str(low.layout.text(low.text(call.arguments[0]))), pointer)
    low.emit.store(value, low.emit.offset(pointer, 8))


BUILTINS: tuple[Builtin, ...] = (
    *variable("nsecs", _uint64, value=lambda low, node: low.emit.call(Helper.KTIME_GET_BOOT_NS)),
    *variable(
        "elapsed",
        _uint64,
        value=lambda low, node: low.emit.op(
            "sub", low.emit.call(Helper.KTIME_GET_BOOT_NS), low.emit.patched(Patch.START_NS)
        ),
    ),
    *variable("jiffies", _uint64, value=lambda low, node: low.emit.call(Helper.JIFFIES64)),
    # What stamps of a session's tables are in: CLOCK_MONOTONIC.
    *variable("__monotonic_ns", _uint64, value=lambda low, node: low.emit.call(Helper.KTIME_GET_NS)),
    *function("nsecs", (0, 1), _check_nsecs, value=_nsecs),
    *function("strftime", (2, 2), _check_strftime, store=_strftime),
)
