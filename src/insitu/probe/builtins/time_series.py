"""tseries(): a value for each interval of time, the latest ones, each CPU its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.builtins.registry import aggregation
from insitu.probe.codegen.arithmetic import divide
from insitu.probe.codegen.emitter import Patch
from insitu.probe.codegen.helpers import Helper
from insitu.probe.output.time_series import WORDS
from insitu.probe.types import Integer, TimeSeries, Type

if TYPE_CHECKING:
    from insitu.probe.codegen.lowering import Lowering
    from insitu.probe.passes.check import Checker

__all__ = ["add_to_series"]

_AGGREGATES = ("avg", "max", "min", "sum")
_MAX_INTERVALS = 1000  # a per-CPU value has at most 32 KiB (include/linux/percpu.h: PCPU_MIN_UNIT_SIZE)


def _check_series(checker: Checker, call: ast.Call) -> Type:
    found = checker.scalar(checker.argument(call, 0), "tseries()")
    interval = checker.literal(call.arguments[1], "the interval of tseries()")
    if interval < 1:
        raise checker.error("the interval of tseries() is at least 1 nanosecond", call.arguments[1])
    count = checker.literal(call.arguments[2], "the number of intervals of tseries()")
    if not 1 <= count <= _MAX_INTERVALS:
        raise checker.error(f"tseries() keeps 1 to {_MAX_INTERVALS} intervals", call.arguments[2])
    aggregate = checker.text(call.arguments[3], "the aggregation of tseries()") if len(call.arguments) > 3 else ""
    if aggregate and aggregate not in _AGGREGATES:
        raise checker.error(f"tseries() aggregates by {', '.join(_AGGREGATES)}, not {aggregate!r}", call.arguments[3])
    return TimeSeries(interval, count, aggregate, not isinstance(found, Integer) or found.signed)


aggregation("tseries", (3, 4), _check_series)


def add_to_series(low: Lowering, cells: str, kind: TimeSeries, value: str) -> None:
    """Put a value into the cells of the interval that is now; what an older interval left there is dropped."""
    emit = low.emit
    now = emit.op("add", emit.call(Helper.KTIME_GET_BOOT_NS), emit.patched(Patch.CLOCK_OFFSET_NS))
    number = divide(low, "/", now, str(kind.interval), signed=False)
    slot = emit.op("urem", number, str(kind.count))
    # In a form whose bounds the verifier sees: it does not follow LLVM's reasoning, and LLVM must not undo it.
    slot = emit.hidden(slot)
    slot = emit.hidden(emit.select(emit.value(f"icmp ult i64 {slot}, {kind.count}"), slot, "0"))
    place = emit.offset(cells, emit.op("mul", slot, str(8 * WORDS)))
    held, extra = emit.offset(place, 8), emit.offset(place, 16)
    begun, going, end = emit.label(), emit.label(), emit.label()
    emit.branch_if(emit.value(f"icmp eq i64 {emit.load(place)}, {number}"), going, begun)
    emit.block(begun)
    emit.store(number, place)
    emit.store(value, held)
    emit.store("1" if kind.aggregate else now, extra)
    emit.branch(end)
    emit.block(going)
    if kind.aggregate in ("avg", "sum"):
        emit.store(emit.op("add", emit.load(held), value), held)
        emit.store(emit.op("add", emit.load(extra), "1"), extra)
    elif kind.aggregate:
        order = ("s" if kind.signed else "u") + ("lt" if kind.aggregate == "min" else "gt")
        better = emit.value(f"icmp {order} i64 {value}, {emit.load(held)}")
        emit.store(emit.select(better, value, emit.load(held)), held)
    else:
        emit.store(value, held)
        emit.store(now, extra)
    emit.block(end)
