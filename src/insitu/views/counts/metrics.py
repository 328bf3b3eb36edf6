"""What a count means: instructions per cycle, miss rates, CPUs used, events a second, top-down shares."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from insitu.record.event_names import NamedEvent

__all__ = ["Key", "Metric", "key_of", "metric_of"]


class Metric(NamedTuple):
    """A figure derived from counts, in perf's words: 0.58 "CPUs utilized"."""

    value: float
    unit: str


Key = tuple[str, str]
"""An event without its modifiers, and what they restrict it to."""

# Event -> the event that it is a share of, the factor (100: per cent) and the unit.
_RATIOS: Final = {
    "instructions": ("cycles", 1, "insn per cycle"),
    "branch-misses": ("branches", 100, "% of all branches"),
    "cache-misses": ("cache-references", 100, "% of all cache refs"),
    "stalled-cycles-frontend": ("cycles", 100, "% frontend cycles idle"),
    "stalled-cycles-backend": ("cycles", 100, "% backend cycles idle"),
    "L1-dcache-load-misses": ("L1-dcache-loads", 100, "% of all L1-dcache accesses"),
    "L1-icache-load-misses": ("L1-icache-loads", 100, "% of all L1-icache accesses"),
    "LLC-load-misses": ("LLC-loads", 100, "% of all LL-cache accesses"),
    "dTLB-load-misses": ("dTLB-loads", 100, "% of all dTLB cache accesses"),
    "iTLB-load-misses": ("iTLB-loads", 100, "% of all iTLB cache accesses"),
    "branch-load-misses": ("branch-loads", 100, "% of all branches"),
}
# Top-down analysis, level 1: shares of the slots in which the pipeline could have issued something.
_TOP_DOWN: Final = {
    "topdown-retiring": "% retiring",
    "topdown-bad-spec": "% bad speculation",
    "topdown-fe-bound": "% frontend bound",
    "topdown-be-bound": "% backend bound",
}
_CLOCKS: Final = ("task-clock", "cpu-clock")
_PREFIXES: Final = ((1e9, "G/sec"), (1e6, "M/sec"), (1e3, "K/sec"), (0.0, "/sec"))


def key_of(event: NamedEvent) -> Key:
    """By what other events' metrics find it: cycles:u is for instructions:u."""
    name = event.base
    if name.startswith(("cpu/", "cpu_core/")) and name.count("/") == 2:
        name = name.split("/")[1]
    return name, "".join(sorted(set(event.modifiers) & set("ukhGH")))


def metric_of(event: NamedEvent, value: float, values: Mapping[Key, float], elapsed_s: float) -> Metric | None:
    """The metric of an event's count among the others of the same place.

    ``values`` holds all these counts. None where the metric's other event was not counted, or is 0. Events a
    second are per second of CPU time, where that was counted, else of elapsed time.
    """
    name, side = key_of(event)
    if event.is_clock:
        return Metric(value / (elapsed_s * 1e9), "CPUs utilized") if elapsed_s else None
    clocks = [found for each in _CLOCKS for at in (side, "") if (found := values.get((each, at))) is not None]
    clock_ns = clocks[0] if clocks else 0.0
    if name == "cycles":
        return Metric(value / clock_ns, "GHz") if clock_ns else None
    other, factor, unit = _RATIOS.get(name, ("", 0, ""))
    if whole := values.get((other, side)):
        return Metric(factor * value / whole, unit)
    if name in _TOP_DOWN:
        parts = [values.get((each, side)) for each in _TOP_DOWN]
        slots = sum(part for part in parts if part is not None)
        return Metric(100 * value / slots, _TOP_DOWN[name]) if slots and None not in parts else None
    if event.unit or event.cpus is not None or name == "slots":
        return None
    seconds = clock_ns / 1e9 if clocks else elapsed_s
    if not seconds:
        return None
    rate = value / seconds
    prefix, unit = next((each for each in _PREFIXES if rate >= each[0]), _PREFIXES[-1])
    return Metric(rate / (prefix or 1), unit if clocks else f"{unit} elapsed")
