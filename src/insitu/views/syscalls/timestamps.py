"""Times in front of lines: -t, -tt, -ttt, -r and their long forms, as strace(1) shows them."""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["PRECISIONS", "TimeOptions", "Timestamps", "seconds_text"]

PRECISIONS = {"s": 0, "ms": 3, "us": 6, "ns": 9}


class TimeOptions(NamedTuple):
    """Which times are shown, with how many digits of a second (-1: not shown)."""

    absolute: str = ""
    """"time": hours, minutes and seconds; "unix": seconds since 1970."""
    absolute_digits: int = 0
    relative_digits: int = -1
    duration_digits: int = -1
    """-T"""
    realtime_offset_ns: int = 0
    """CLOCK_REALTIME - CLOCK_MONOTONIC."""


class Timestamps:
    """The times that begin a line. ``-r`` counts from the line before."""

    def __init__(self, options: TimeOptions) -> None:
        self._options = options
        self._before_ns: int | None = None
        self._clock = (-1, "")

    def text(self, ts_ns: int) -> str:
        """Returns them, with a space after each; "" without such options."""
        options = self._options
        text = ""
        if options.absolute:
            seconds, rest = divmod(ts_ns + options.realtime_offset_ns, 1_000_000_000)
            whole = str(seconds) if options.absolute == "unix" else self._clock_time(seconds)
            text = whole + _fraction(rest, options.absolute_digits) + " "
        if options.relative_digits >= 0:
            since = 0 if self._before_ns is None else max(ts_ns - self._before_ns, 0)
            self._before_ns = ts_ns
            seconds, rest = divmod(since, 1_000_000_000)
            passed = f"{seconds:6d}{_fraction(rest, options.relative_digits)}"
            text += f"(+{passed}) " if text else f"{passed} "
        return text

    def _clock_time(self, seconds: int) -> str:
        if self._clock[0] != seconds:
            self._clock = (seconds, time.strftime("%H:%M:%S", time.localtime(seconds)))
        return self._clock[1]


def seconds_text(ns: int, digits: int) -> str:
    """Returns a duration in seconds, as -T shows it."""
    seconds, rest = divmod(max(ns, 0), 1_000_000_000)
    return f"{seconds}{_fraction(rest, digits)}"


def _fraction(ns: int, digits: int) -> str:
    return f".{ns:09d}"[: digits + 1] if digits else ""
