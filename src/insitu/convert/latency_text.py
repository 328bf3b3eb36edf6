"""The text that ftrace's latency tracers leave in ``trace``, and the stack tracer in ``stack_trace``.

Documentation/trace/ftrace.rst, osnoise-tracer.rst, timerlat-tracer.rst and hwlat_detector.rst of the kernel.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Measured", "Section", "StackFrame", "measured", "section", "stack_frames", "stacks"]

_MOST_LINES: Final = 1 << 17
_MOST_FRAMES: Final = 256
_MOST_STACKS: Final = 16


class Section(NamedTuple):
    """The longest section that a tracer such as irqsoff or wakeup has found.

    ``started`` and ``ended`` are functions, empty for wakeups. Each of ``stacks`` is innermost first. ``lines`` are
    the tracer's own, without those of stacks.
    """

    latency_ns: int
    cpu: int
    task: str
    started: str
    ended: str
    stacks: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


class Measured(NamedTuple):
    """One measurement: of osnoise a period, of timerlat an expiry of its timer, of hwlat a window with a gap.

    ``context``: "irq", "thread" or "user-ret" (the return to a thread of user space, Linux 6.5) of timerlat, "inner"
    or "outer" of hwlat. What a tracer does not say is None.
    """

    ts_ns: int
    cpu: int
    context: str
    latency_ns: int
    runtime_ns: int | None = None
    noise_ns: int | None = None
    hardware: int | None = None
    nmi: int | None = None
    irq: int | None = None
    softirq: int | None = None
    thread: int | None = None


class StackFrame(NamedTuple):
    """A frame of the deepest kernel stack: bytes of stack up to it, and its own."""

    depth_bytes: int
    size_bytes: int
    location: str


_HEAD: Final = re.compile(r"# latency: (\d+) us, #\d+/\d+, CPU#(\d+)")
_TASK: Final = re.compile(r"#\s+\| task: (.*)")
_AT: Final = re.compile(r"#\s+=> (started|ended) at:\s*(\S+)")
_STACK_LINE: Final = re.compile(r"\s*=> (\S.*)")


def section(text: str) -> Section | None:
    """The section in a tracer's text; None where it has found none."""
    latency_ns, cpu, task = 0, -1, ""
    at = {"started": "", "ended": ""}
    lines = []
    for line in text.splitlines()[:_MOST_LINES]:
        if line.startswith("#"):
            if found := _HEAD.match(line):
                latency_ns, cpu = 1000 * int(found[1]), int(found[2])
            elif found := _TASK.match(line):
                task = found[1].strip()
            elif found := _AT.match(line):
                at[found[1]] = found[2]
            continue
        if line.strip() and not _STACK_LINE.match(line):
            lines.append(line)
    if not lines:
        return None
    return Section(latency_ns, cpu, task, at["started"], at["ended"], tuple(stacks(text)), tuple(lines))


def stacks(text: str) -> list[tuple[str, ...]]:
    """The kernel stacks in a tracer's text, each innermost first; the last ones, where there are many."""
    found: list[list[str]] = []
    for line in text.splitlines()[:_MOST_LINES]:
        if line.rstrip().endswith("<stack trace>"):
            found = [*found[1 - _MOST_STACKS :], []]
        elif found and (frame := _STACK_LINE.match(line)):
            name = frame[1].strip()
            if name != "0" and len(found[-1]) < _MOST_FRAMES:  # what has not been filled
                found[-1].append(name)
    return [tuple(stack) for stack in found]


_ROW: Final = re.compile(r"\s*.*-\d+\s+\[(\d{1,6})\]\s+\S+\s+(\d{1,12})\.(\d{6}): (.*)")
_OSNOISE: Final = re.compile(r"(\d+)\s+(\d+)\s+[\d.]+\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s*")
_TIMERLAT: Final = re.compile(r"#\d+\s+context\s+(irq|thread|user-ret)\s+timer_latency\s+(\d+) ns\s*")
_HWLAT: Final = re.compile(r"#\d+\s+inner/outer\(us\):\s*(\d+)/(\d+)\s.*")


def measured(text: str) -> Iterator[Measured]:
    """The measurements in the text of osnoise, timerlat or hwlat. Lines of other kinds are skipped."""
    for line in text.splitlines()[:_MOST_LINES]:
        row = _ROW.fullmatch(line)
        if row is None:
            continue
        cpu, ts_ns, rest = int(row[1]), int(row[2]) * 10**9 + int(row[3]) * 1000, row[4]
        if found := _TIMERLAT.fullmatch(rest):
            yield Measured(ts_ns, cpu, found[1], int(found[2]))
        elif found := _OSNOISE.fullmatch(rest):
            runtime, noise, most, *counts = (int(each) for each in found.groups())
            yield Measured(ts_ns, cpu, "", 1000 * most, 1000 * runtime, 1000 * noise, *counts)
        elif found := _HWLAT.fullmatch(rest):
            yield Measured(ts_ns, cpu, "inner", 1000 * int(found[1]))
            yield Measured(ts_ns, cpu, "outer", 1000 * int(found[2]))


_FRAME: Final = re.compile(r"\s*\d+\)\s+(\d+)\s+(\d+)\s+(\S.*)")


def stack_frames(text: str) -> list[StackFrame]:
    """The frames in ``stack_trace``, innermost first."""
    found = (_FRAME.fullmatch(line.rstrip()) for line in text.splitlines()[:_MOST_FRAMES])
    return [StackFrame(int(match[1]), int(match[2]), match[3]) for match in found if match]
