"""Types of maps that aggregate: count(), sum(), hist() and so on, and the u64 cells in which each CPU adds up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from insitu.probe.base_type import Type

__all__ = [
    "Aggregation",
    "AnyAggregation",
    "Average",
    "Count",
    "CountAndTotal",
    "Element",
    "Histogram",
    "LinearHistogram",
    "Maximum",
    "Minimum",
    "OneNumber",
    "Ranges",
    "Statistics",
    "Sum",
    "TimeSeries",
]


class Aggregation(Type, frozen=True):
    """What a map assigned with count(), hist() and so on holds, one per CPU."""

    @property
    def cells(self) -> int:
        """Number of u64 cells of a value."""
        return 1

    @property
    def size(self) -> int:
        return 8 * self.cells


class Count(Aggregation, frozen=True):
    pass


class Sum(Aggregation, frozen=True):
    """Cells: total, whether there is one."""

    signed: bool = True

    @property
    def cells(self) -> int:
        return 2


class Minimum(Aggregation, frozen=True):
    """Cells: value, whether there is one."""

    signed: bool = True

    def __str__(self) -> str:
        return "min"

    @property
    def cells(self) -> int:
        return 2


class Maximum(Aggregation, frozen=True):
    """Cells: value, whether there is one."""

    signed: bool = True

    def __str__(self) -> str:
        return "max"

    @property
    def cells(self) -> int:
        return 2


class Average(Aggregation, frozen=True):
    """Cells: count, total."""

    signed: bool = True

    def __str__(self) -> str:
        return "avg"

    @property
    def cells(self) -> int:
        return 2


class Statistics(Aggregation, frozen=True):
    """Cells: count, total."""

    signed: bool = True

    def __str__(self) -> str:
        return "stats"

    @property
    def cells(self) -> int:
        return 2


class Histogram(Aggregation, frozen=True):
    """Powers of two, each cut into 2**``bits`` parts. Cell 0 counts negatives, cell 1 zeros."""

    bits: int = 0

    def __str__(self) -> str:
        return "hist"

    @property
    def cells(self) -> int:
        # bits 0: negative, 0, 1, then [2**k, 2**(k+1)) for k from 1 to 62.
        return (65 if self.bits == 0 else ((65 - self.bits) << self.bits) + 1) + 1


class LinearHistogram(Aggregation, frozen=True):
    """Cell 0 counts what is below ``minimum``, the last what is at or above ``maximum``."""

    minimum: int = 0
    maximum: int = 0
    step: int = 1

    def __str__(self) -> str:
        return "lhist"

    @property
    def cells(self) -> int:
        return (self.maximum - self.minimum + self.step - 1) // self.step + 2


class TimeSeries(Aggregation, frozen=True):
    """``count`` intervals of ``interval`` ns, three cells each; ``aggregate`` is avg, max, min, sum or empty."""

    interval: int = 1
    count: int = 1
    aggregate: str = ""
    signed: bool = True

    def __str__(self) -> str:
        return "tseries"

    @property
    def cells(self) -> int:
        return 3 * self.count


class Element(Aggregation, frozen=True):
    """In a loop over ``map``: what it holds for a key, where that is more than a number. User space shows it."""

    map: str
    kind: AnyAggregation

    def __str__(self) -> str:
        return str(self.kind)

    @property
    def cells(self) -> int:
        return 0


# What aggregations come to when all CPUs are put together: one number, a count and a total, a count for each range.
OneNumber = Count | Sum | Minimum | Maximum
CountAndTotal = Average | Statistics
Ranges = Histogram | LinearHistogram

# The cache's decoder finds out by this which class a value is of; to the type checker it is the base class.
if TYPE_CHECKING:
    AnyAggregation = Aggregation
else:
    AnyAggregation = (
        Count | Sum | Minimum | Maximum | Average | Statistics | Histogram | LinearHistogram | TimeSeries | Element
    )
