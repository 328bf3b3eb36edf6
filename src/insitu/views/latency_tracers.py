"""What a latency tracer has found: the verdict first, then where, then its details."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from insitu.valid_text import json_document
from insitu.views.quantity import duration, percent
from insitu.views.table import Column, Table
from insitu.views.terminal import Block

if TYPE_CHECKING:
    from insitu.convert.latency_text import Measured, Section
    from insitu.record.ftrace.latency import Result

__all__ = ["latency_blocks", "latency_json"]

_WHAT: Final = {
    "irqsoff": "with interrupts disabled",
    "preemptoff": "with preemption disabled",
    "preemptirqsoff": "with interrupts or preemption disabled",
    "wakeup": "from the wakeup of the highest-priority task until it ran",
    "wakeup_rt": "from the wakeup of a real-time task until it ran",
    "wakeup_dl": "from the wakeup of a deadline task until it ran",
    "osnoise": "for which something else had the CPU",
    "timerlat": "from a timer's expiry until it was handled",
    "hwlat": "for which neither the kernel nor a program ran (firmware, hypervisor)",
}
_MOST_LINES: Final = 200


def latency_blocks(result: Result) -> Iterator[Block]:
    """The verdict, and what it rests on."""
    if result.tracer == "stack":
        yield from _stack(result)
    elif result.section is not None:
        yield from _section(result.tracer, result.section)
    elif result.measured:
        worst = max(result.measured, key=lambda each: each.latency_ns)
        context = f", {worst.context}" if worst.context else ""
        where = f"on CPU {worst.cpu}{context}"
        yield [(f"longest time {_WHAT[result.tracer]}: {duration(worst.latency_ns)} {where}", "bold")]
        if result.stopped:
            yield [("stopped: the threshold was exceeded", "")]
        yield [("", "")]
        yield _noise(result.measured) if result.tracer == "osnoise" else _spread(result.measured)
        if result.stack:
            yield from _frames("stack of the interrupt that was late", result.stack)
    else:
        yield [(f"no time {_WHAT[result.tracer]} above the threshold was found", "bold")]


def _section(tracer: str, found: Section) -> Iterator[Block]:
    yield [(f"longest time {_WHAT[tracer]}: {duration(found.latency_ns)} on CPU {found.cpu}", "bold")]
    yield [(f"task: {found.task}", "")]
    if found.started:
        yield [(f"from: {found.started}", "")]
        yield [(f"to:   {found.ended}", "")]
    titles = ("woken at", "switched to at") if tracer.startswith("wakeup") else ("stack at the end",)
    # Of sections, the last stack is that of their end.
    stacks = found.stacks[:2] if tracer.startswith("wakeup") else found.stacks[-1:]
    for title, stack in zip(titles, stacks, strict=False):
        yield from _frames(title, stack)
    yield [("", "")]
    yield [("# trace", "bold")]
    for line in found.lines[:_MOST_LINES]:
        yield [(line, "dim")]
    if len(found.lines) > _MOST_LINES:
        yield [(f"# {len(found.lines) - _MOST_LINES} more lines", "dim")]


def _frames(title: str, stack: Sequence[str]) -> Iterator[Block]:
    yield [("", "")]
    yield [(f"# {title}", "bold")]
    for frame in stack:
        yield [(f"  {frame}", "")]


def _spread(rows: Sequence[Measured]) -> Table:
    """Of each CPU and context: how many, and how they are spread."""
    columns = [Column("cpu"), Column("context", "left")]
    columns += [Column(name) for name in ("count", "least", "mean", "p99", "max")]
    cells = []
    for cpu, context in sorted({(row.cpu, row.context) for row in rows}):
        found = np.array([row.latency_ns for row in rows if (row.cpu, row.context) == (cpu, context)])
        values = (found.min(), found.mean(), np.percentile(found, 99, method="higher"), found.max())
        texts = [str(cpu), context, str(len(found)), *(duration(float(value)) for value in values)]
        cells.append([(text, "") for text in texts])
    return Table(columns, cells)


def _noise(rows: Sequence[Measured]) -> Table:
    """Of each CPU: noise, what is left of it, and how often what interfered."""
    names = ("cpu", "measured", "noise", "available%", "max single", "hw", "nmi", "irq", "softirq", "thread")
    cells = []
    for cpu in sorted({row.cpu for row in rows}):
        own = [row for row in rows if row.cpu == cpu]
        runtime, noise = (sum(getattr(row, name) or 0 for row in own) for name in ("runtime_ns", "noise_ns"))
        counts = [
            sum(getattr(row, name) or 0 for row in own) for name in ("hardware", "nmi", "irq", "softirq", "thread")
        ]
        most = max(row.latency_ns for row in own)
        texts = [
            str(cpu),
            duration(runtime),
            duration(noise),
            f"{percent(runtime - noise, runtime):.2f}",
            duration(most),
        ]
        cells.append([(text, "") for text in (*texts, *map(str, counts))])
    return Table([Column(name) for name in names], cells)


def _stack(result: Result) -> Iterator[Block]:
    if not result.frames:
        yield [("no kernel stack was seen", "bold")]
        return
    yield [(f"deepest kernel stack: {result.frames[0].depth_bytes} bytes", "bold")]
    yield [("", "")]
    columns = [Column("bytes"), Column("own"), Column("function", "left")]
    rows = [[(str(each.depth_bytes), ""), (str(each.size_bytes), ""), (each.location, "")] for each in result.frames]
    yield Table(columns, rows)


def latency_json(result: Result) -> str:
    """All of it as one JSON document."""
    return json_document(
        {
            "format": "insitu-latency-1",
            "tracer": result.tracer,
            "worst_ns": result.worst_ns,
            "stopped": result.stopped,
            "section": result.section and result.section._asdict(),
            "measured": [each._asdict() for each in result.measured],
            "interrupt_stack": list(result.stack),
            "stack": [each._asdict() for each in result.frames],
        }
    )
