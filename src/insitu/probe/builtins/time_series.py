"""tseries(): a value for each interval of time, the latest ones, each CPU its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.aggregations import TimeSeries
from insitu.probe.builtins.registry import Builtin, aggregation
from insitu.probe.types import Integer, Type

if TYPE_CHECKING:
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_AGGREGATES = ("avg", "max", "min", "sum")
_MAX_INTERVALS = 1000  # a per-CPU value has at most 32 KiB (include/linux/percpu.h: PCPU_MIN_UNIT_SIZE)


def _check_series(checker: Checker, call: ast.Call) -> Type:
    found = checker.scalar(checker.argument(call, 0), "tseries()")
    interval = checker.literal(call.arguments[1], "the interval of tseries()")
    if interval < 1:
        raise checker.error("the interval of tseries() must be at least 1 nanosecond", call.arguments[1])
    count = checker.literal(call.arguments[2], "the number of intervals of tseries()")
    if not 1 <= count <= _MAX_INTERVALS:
        raise checker.error(f"tseries() keeps 1 to {_MAX_INTERVALS} intervals", call.arguments[2])
    aggregate = checker.text(call.arguments[3], "the aggregation of tseries()") if len(call.arguments) > 3 else ""
    if aggregate and aggregate not in _AGGREGATES:
        raise checker.error(f"tseries() aggregates by {', '.join(_AGGREGATES)}, not {aggregate!r}", call.arguments[3])
    return TimeSeries(interval, count, aggregate, not isinstance(found, Integer) or found.signed)


BUILTINS: tuple[Builtin, ...] = (*aggregation("tseries", (3, 4), _check_series),)
