"""A range of time as users write it: seconds since the first sample."""

import re
from typing import Final

from insitu.errors import InsituError
from insitu.session.weighted_stacks import WeightedStacks

__all__ = ["check_range", "range_ns", "time_range"]

_RANGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)-(\d{1,9}(?:\.\d{1,9})?)")


def time_range(text: str) -> tuple[float, float]:
    """Start (included) and end (excluded) in seconds of "FROM-TO", for a Selection. Raises InsituError (status 2)."""
    match = _RANGE.fullmatch(text)
    if not match or float(match[1]) >= float(match[2]):
        raise InsituError(
            f"{text!r} is not a range", remedy="--range wants FROM-TO in seconds, such as 2.5-4", status=2
        )
    return float(match[1]), float(match[2])


def range_ns(stacks: WeightedStacks, text: str) -> int:
    """How much of the recording's time lies in the range ``text``, in nanoseconds."""
    start, end = time_range(text)
    return max(min(round(end * 1e9), stacks.duration_ns) - round(start * 1e9), 0)


def check_range(stacks: WeightedStacks, text: str) -> None:
    """Raises InsituError, with the range that holds all, where nothing was recorded in the range ``text``."""
    if not len(stacks):
        end_ms = (stacks.last_ns - stacks.first_ns) // 1_000_000 + 1
        raise InsituError(f"no {stacks.counted} in seconds {text}", remedy=f"all are in 0-{end_ms / 1e3:.3f}")
