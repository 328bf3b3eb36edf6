"""count, sum, min, max, avg, stats, hist, lhist: only maps hold them, a copy per CPU so that adding is cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from insitu.probe import ast
from insitu.probe.aggregations import Average, Count, Histogram, LinearHistogram, Maximum, Minimum, Statistics, Sum
from insitu.probe.builtins.registry import Builtin, aggregation
from insitu.probe.types import Integer, Type

if TYPE_CHECKING:
    from insitu.probe.passes.check.checker import Checker

__all__ = ["BUILTINS"]

_MAX_LINEAR_CELLS = 1002


def _check_count(checker: Checker, call: ast.Call) -> Type:
    return Count()


def _check_signed(make: Callable[[bool], Type]) -> Callable[[Checker, ast.Call], Type]:
    def check(checker: Checker, call: ast.Call) -> Type:
        found = checker.scalar(checker.argument(call, 0), f"{call.name}()")
        return make(not isinstance(found, Integer) or found.signed)

    return check


def _check_histogram(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "hist()")
    bits = checker.literal(call.arguments[1], "the bits of hist()") if len(call.arguments) > 1 else 0
    if not 0 <= bits <= 5:
        raise checker.error("the bits of hist() must be 0 to 5", call.arguments[1])
    return Histogram(bits)


def _check_linear(checker: Checker, call: ast.Call) -> Type:
    checker.scalar(checker.argument(call, 0), "lhist()")
    low, high, step = (checker.literal(call.arguments[i], "a bound of lhist()") for i in (1, 2, 3))
    if step <= 0:
        raise checker.error("the step of lhist() must be at least 1", call.arguments[3])
    if low >= high:
        raise checker.error("the minimum of lhist() must be below the maximum", call.arguments[1])
    found = LinearHistogram(low, high, step)
    if found.cells > _MAX_LINEAR_CELLS:
        raise checker.error(f"lhist() has at most {_MAX_LINEAR_CELLS - 2} steps, not {found.cells - 2}", call)
    return found


BUILTINS: tuple[Builtin, ...] = (
    *aggregation("count", (0, 0), _check_count),
    *aggregation("sum", (1, 1), _check_signed(Sum)),
    *aggregation("min", (1, 1), _check_signed(Minimum)),
    *aggregation("max", (1, 1), _check_signed(Maximum)),
    *aggregation("avg", (1, 1), _check_signed(Average)),
    *aggregation("stats", (1, 1), _check_signed(Statistics)),
    *aggregation("hist", (1, 2), _check_histogram),
    *aggregation("lhist", (4, 4), _check_linear),
)
