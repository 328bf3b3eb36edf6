"""Amounts as people read them: durations, sizes and counts, chosen by their unit alone."""

from collections.abc import Callable
from typing import Final

from insitu.plurals import plural

__all__ = ["amount", "duration", "formatter", "percent", "rest", "size"]

_TIMES: Final = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "us"))
_ONE: Final = {"samples": "sample", "events": "event"}
_SIZES: Final = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def amount(value: int, unit: str) -> str:
    """A value with its unit, for a sentence: "1.500 s", "12.3 MiB", "1,234 samples"."""
    if unit == "ns":
        return duration(value)
    if unit == "bytes":
        return size(value)
    return f"{value:,} {_ONE.get(unit, unit) if value == 1 else unit}"


def duration(ns: float) -> str:
    """Nanoseconds in the unit that suits them: "1.500 s", "250 ns"."""
    return _suited(ns, _TIMES, "ns", 3)


def size(value: float) -> str:
    """Bytes in the unit that suits them, a power of 1024: "12.3 MiB"."""
    return _suited(value, _SIZES, "B", 1)


def percent(part: int, whole: int) -> float:
    """``part`` of ``whole`` in per cent; 0 if ``whole`` is 0."""
    return 100.0 * part / whole if whole else 0.0


def rest(count: int, noun: str, many: str = "") -> str:
    """The comment below a table that leaves rows out: "# 2 more functions; --limit 0 shows all"."""
    return f"# {count:,} more {plural(count, noun, many)}; --limit 0 shows all"


def _suited(value: float, units: tuple[tuple[int, str], ...], base: str, digits: int) -> str:
    for factor, name in units:
        if abs(value) >= factor:
            return f"{value / factor:.{digits}f} {name}"
    return f"{value:.0f} {base}"


def formatter(unit: str, largest: int) -> Callable[[int], str]:
    """What writes the values of one column, the same unit throughout and no blanks in it: "0.250s", "12.0MiB", "7".

    ``largest`` is the largest of them, which the unit is chosen by.
    """
    units, digits = {"ns": (_TIMES, 3), "bytes": (_SIZES, 1)}.get(unit, ((), 0))
    for factor, name in units:
        if largest >= factor:
            return lambda value: f"{value / factor:.{digits}f}{name}"
    base = {"ns": "ns", "bytes": "B"}.get(unit, "")
    return lambda value: f"{value}{base}"
