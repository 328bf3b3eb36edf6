"""What a count means: instructions per cycle, miss rates, CPUs used, events a second, top-down shares."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from insitu.errors import InsituError, nearest
from insitu.record.event_names import NamedEvent

__all__ = ["METRICS", "Key", "Metric", "key_of", "metric_events", "metric_of"]


class Metric(NamedTuple):
    """A figure derived from counts, in perf's words: 0.58 "CPUs utilized"."""

    value: float
    unit: str

    @property
    def plain(self) -> "Metric":
        """Without a prefix such as K, for columns of one unit."""
        prefix = next((each for each in _PREFIXES if self.unit.startswith(each[1])), None)
        return Metric(self.value * (prefix[0] or 1), self.unit.lstrip("GMK")) if prefix else self


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
METRICS: Final = {
    "cpus": ("task-clock", "CPUs used"),
    "frequency": ("task-clock,cycles", "cycles by CPU time, in GHz"),
    "ipc": ("{instructions,cycles}", "instructions per cycle"),
    "switches": ("task-clock,context-switches", "context switches per second of CPU time"),
    "migrations": ("task-clock,cpu-migrations", "moves to another CPU per second of CPU time"),
    "faults": ("task-clock,page-faults", "page faults per second of CPU time"),
    "major-faults": ("task-clock,major-faults", "page faults that read from storage per second of CPU time"),
    "branch-misses": ("{branches,branch-misses}", "mispredicted branches, in per cent of all"),
    "cache-misses": ("{cache-references,cache-misses}", "last-level cache misses, in per cent of its accesses"),
    "l1d-misses": ("{L1-dcache-loads,L1-dcache-load-misses}", "level 1 data cache, in per cent of loads"),
    "llc-misses": ("{LLC-loads,LLC-load-misses}", "last-level cache, in per cent of its loads"),
    "dtlb-misses": ("{dTLB-loads,dTLB-load-misses}", "data TLB, in per cent of loads"),
    "itlb-misses": ("{iTLB-loads,iTLB-load-misses}", "instruction TLB, in per cent of its loads"),
    "frontend-stalls": ("{cycles,stalled-cycles-frontend}", "cycles without instructions to issue, in per cent"),
    "backend-stalls": ("{cycles,stalled-cycles-backend}", "cycles waiting for data or units, in per cent"),
    "topdown": (
        "{slots," + ",".join(f"topdown-{each}" for each in ("retiring", "bad-spec", "fe-bound", "be-bound")) + "}",
        "top-down level 1: retiring, bad speculation, frontend and backend bound, in per cent of slots",
    ),
}
"""Name of a metric, as -M takes it -> the events that it is made of, and what it says."""
_PERF_NAMES: Final = {"topdownl1": "topdown", "cpu_utilization": "cpus", "average_frequency": "frequency"}
_CLOCKS: Final = ("task-clock", "cpu-clock")
_PREFIXES: Final = ((1e9, "G/sec"), (1e6, "M/sec"), (1e3, "K/sec"), (0.0, "/sec"))


def metric_events(names: str) -> str:
    """The events that a list of metrics needs, as -e takes them. Raises InsituError for an unknown name."""
    found = []
    for name in filter(None, (each.strip() for each in names.split(","))):
        known = _PERF_NAMES.get(name.lower(), name.lower())
        if known not in METRICS:
            raise InsituError(
                f"-M {name}: no such metric{nearest(known, METRICS)}", remedy="-M list lists them", status=2
            )
        found.append(METRICS[known][0])
    if not found:
        raise InsituError("-M names no metric", remedy="-M list lists them", status=2)
    return ",".join(found)


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
