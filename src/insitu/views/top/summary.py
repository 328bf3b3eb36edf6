"""The lines above the table: what the CPUs did, run queue, memory, pressure and disks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from insitu.record.top.tick import CpuUse, Tick
from insitu.views import quantity
from insitu.views.table import Line
from insitu.views.top.columns import heat_style, percent, short

__all__ = ["clock", "summary"]

_BARS: Final = "▁▂▃▄▅▆▇█"
_LABEL: Final = 10  # columns of the label in front of a line
_MOST_CPU_LINES: Final = 4
_QUIET: Final = "bright_black"
_FIGURES: Final = 49  # columns of a CPU's figures


def clock(time_ns: int) -> str:
    """The local time of a tick."""
    return time.strftime("%H:%M:%S", time.localtime(time_ns / 1e9))


def summary(ticks: Sequence[Tick], width: int | None, *, cpu_lines: int = _MOST_CPU_LINES) -> Iterator[Line]:
    """Yields the lines for the last of ``ticks``, the others being those before it.

    ``width`` in columns; None: plain text, without strips. ``cpu_lines``: with more CPUs each is one cell of a strip.
    """
    tick = ticks[-1]
    cpus = tick.machine.cpus
    if width is None:
        for number, use in cpus.items():
            yield _label(f"CPU {number}") + _figures(use) + _degrees(tick, number)
    elif len(cpus) <= cpu_lines:
        for number, use in cpus.items():
            degrees = _degrees(tick, number)
            room = width - _LABEL - _FIGURES - sum(len(text) for text, _ in degrees)
            yield _label(f"CPU {number}") + _strip(ticks, number, max(8, room)) + _figures(use) + degrees
    else:
        yield from _all_cpus({cpu: use.busy for cpu, use in cpus.items()}, width)
        yield from _temperatures(tick.machine.temperatures, width)
    yield from _machine(tick, width)


def _label(text: str) -> Line:
    return [(text.ljust(_LABEL), _QUIET)]


def _figures(use: CpuUse) -> Line:
    rest = f" user {percent(use.user):>5} sys {percent(use.system):>5} io {percent(use.io_wait):>4}"
    return [(f"{percent(use.busy):>6} %", heat_style(use.busy)), (f"{rest} st {percent(use.steal):>4}", "")]


def _strip(ticks: Sequence[Tick], cpu: int, width: int) -> Line:
    """What a CPU did in the last ticks, one column each, the latest at the right."""
    cells: Line = []
    for tick in ticks[-width:]:
        use = tick.machine.cpus.get(cpu)
        busy = use.busy if use is not None else 0.0
        cells.append(_cell(busy))
    return [(" " * (width - len(cells)), ""), *cells]


def _all_cpus(shares: Mapping[int, float], width: int) -> Iterator[Line]:
    """Each CPU is one cell; a line begins with the number of its first, and ends with their mean."""
    for label, part in _cut("CPU", shares, width):
        mean = sum(part) / len(part)
        yield [*_label(label), *map(_cell, part), (f" {percent(mean):>5} %", heat_style(mean))]


def _temperatures(degrees: Mapping[int, float], width: int) -> Iterator[Line]:
    """Each CPU that has a sensor is one cell; a line ends with the hottest."""
    for label, part in _cut("°C", degrees, width):
        hottest = max(part)
        cells = [_cell(_heat(each)) for each in part]
        yield [*_label(label), *cells, (f" {hottest:>4.0f} °C", heat_style(_heat(hottest)))]


def _cut(label: str, values: Mapping[int, float], width: int) -> Iterator[tuple[str, list[float]]]:
    """The values of as many CPUs as a line has room for, and its label."""
    known = sorted(values.items())
    room = max(16, (width - _LABEL - 9) // 16 * 16)
    for first in range(0, len(known), room):
        part = known[first : first + room]
        yield f"{label} {part[0][0]}-{part[-1][0]}", [value for _, value in part]


def _cell(share: float) -> tuple[str, str]:
    return _BARS[max(0, min(7, int(share * 8)))], heat_style(share)


def _heat(degrees: float) -> float:
    """How hot that is for a CPU: 0 at 40 degrees, 1 at 100."""
    return max(0.0, min(1.0, (degrees - 40) / 60))


def _degrees(tick: Tick, cpu: int) -> Line:
    """A CPU's temperature, where any CPU has a sensor."""
    known = tick.machine.temperatures
    if not known:
        return []
    return [(f"{known[cpu]:>5.0f} °C", heat_style(_heat(known[cpu])))] if cpu in known else [("no sensor", _QUIET)]


def _machine(tick: Tick, width: int | None) -> Iterator[Line]:
    machine = tick.machine
    run_queue: Line = [
        (f"{machine.running} runnable", "bold"),
        (f"{machine.blocked} blocked", ""),
        (f"load {machine.load:.2f}", ""),
        (f"switches {short(machine.switches)}/s", ""),
    ]
    if tick.calls is not None:
        run_queue.append((f"calls {short(tick.calls)}/s", ""))
    if machine.temperature is None:
        run_queue.append(("no temperature sensor", _QUIET))
    elif not machine.temperatures:
        run_queue.append((f"hottest sensor {machine.temperature:.0f} °C", ""))
    yield _fitted("run queue", run_queue, width)
    used = machine.memory_bytes - machine.available_bytes
    share = used / machine.memory_bytes if machine.memory_bytes else 0.0
    memory: Line = [
        (
            f"{100 * share:.0f} % of {short(machine.memory_bytes, 1024)}",
            heat_style(share) if share >= 0.6 else "bold",
        ),
        (f"page cache {short(machine.cache_bytes, 1024)}", ""),
        (f"dirty {short(machine.dirty_bytes, 1024)}", ""),
        (f"faults {short(machine.faults)}/s", ""),
        (f"major {short(machine.major_faults)}/s", ""),
    ]
    if machine.swap_used_bytes:
        memory.insert(1, (f"swap {short(machine.swap_used_bytes, 1024)}", ""))
    yield _fitted("memory", memory, width)
    pressure: Line = [
        (f"{name} {percent(share)} %", heat_style(share) if share >= 0.05 else "")
        for name, share in machine.pressure.items()
    ]
    yield _fitted("pressure", pressure or [("not measured by this kernel", _QUIET)], width)
    yield _fitted("disk", _disk(tick), width)


def _fitted(label: str, parts: Line, width: int | None) -> Line:
    """A line of parts; of those that do not fit none is cut, the last are left out."""
    line, room = _label(label), (width or 10**6) - _LABEL
    for at, (text, style) in enumerate(parts):
        text = f"   {text}" if at else text
        room -= len(text)
        if room < 0:
            break
        line.append((text, style))
    return line


def _disk(tick: Tick) -> Line:
    disks = tick.machine.disks
    cells: Line = [
        (f"read {short(disks.read_bytes, 1024)}/s ({short(disks.reads)} IO/s)", ""),
        (f"write {short(disks.write_bytes, 1024)}/s ({short(disks.writes)} IO/s)", ""),
    ]
    if tick.block is not None and tick.block.requests:
        p50, p99 = (quantity.duration(ns) for ns in (tick.block.p50_ns, tick.block.p99_ns))
        cells.append((f"latency p50 {p50} p99 {p99}", ""))
    elif disks.mean_ns is not None:
        cells.append((f"latency {quantity.duration(disks.mean_ns)}", ""))
    return cells
