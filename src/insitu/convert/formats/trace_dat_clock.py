"""The clock of a guest that trace-cmd recorded together with its host: how to make the host's times of the guest's.

trace-cmd measures the difference when it begins and when it ends, for each CPU of the guest, and keeps it in the
guest's file (option TIME_SHIFT, trace-cmd.dat.v7(5)).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.trace_dat_sections import Cursor

__all__ = ["ClockSamples", "TimeShift", "read_time_shift"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_INTERPOLATE: Final = 1
_MOST_CPUS: Final = 1 << 16


class ClockSamples(NamedTuple):
    """What was measured on a CPU at n times of the guest's clock, ascending: the host's clock is
    (time * scaling >> fraction) + offset."""

    time: I64
    offset: I64
    scaling: I64
    fraction: I64


class TimeShift(NamedTuple):
    """``host`` is the identifier of the host's recording; ``cpus`` what was measured on each CPU of the guest."""

    host: int
    interpolate: bool
    cpus: list[ClockSamples]

    def host_times(self, ts_ns: I64, cpu: I32) -> I64:
        """The host's times of the guest's; those of CPUs that were not measured stay."""
        found = ts_ns.copy()
        for number in np.unique(cpu).tolist():
            if 0 <= number < len(self.cpus) and len(self.cpus[number].time):
                rows = np.flatnonzero(cpu == number)
                found[rows] = self._of_cpu(ts_ns[rows], self.cpus[number])
        return found

    def _of_cpu(self, ts_ns: I64, known: ClockSamples) -> I64:
        if len(known.time) == 1:
            return ts_ns + int(known.offset[0])
        first = np.clip(np.searchsorted(known.time, ts_ns, side="right") - 1, 0, len(known.time) - 2)
        offset = known.offset[first]
        if self.interpolate:
            span = np.maximum(known.time[first + 1] - known.time[first], 1)
            change = (ts_ns - known.time[first]) * (known.offset[first + 1] - offset) + span // 2
            offset = offset + np.sign(change) * (np.abs(change) // span)  # as C divides
        scaled = ts_ns.astype(np.uint64) * known.scaling[first].astype(np.uint64)
        shifted = scaled >> np.minimum(known.fraction[first].astype(np.uint64), np.uint64(63))
        host_ns: I64 = shifted.astype(np.int64) + offset
        return host_ns


def read_time_shift(at: Cursor) -> TimeShift:
    """The option TIME_SHIFT. Raises InsituError when it is damaged."""
    host, flags, count = at.u64(), at.u32(), at.u32()
    if count > _MOST_CPUS:
        raise at.damaged(f"clocks of {count} CPUs")
    measured = []
    for _ in range(count):
        samples = at.u32()
        measured.append((_numbers(at, samples), _numbers(at, samples), _numbers(at, samples)))
    # Before version 3.0 there were no fractions.
    fractions = [_numbers(at, len(each[0])) if at.left else np.zeros_like(each[0]) for each in measured]
    cpus = [ClockSamples(*each, fraction) for each, fraction in zip(measured, fractions, strict=True)]
    for each in cpus:
        if (np.diff(each.time) < 0).any():
            raise at.damaged("a clock that was measured in another order")
    return TimeShift(host, bool(flags & _INTERPOLATE), cpus)


def _numbers(at: Cursor, count: int) -> I64:
    return np.frombuffer(at.take(8 * count), "<i8").astype(np.int64)
