"""Weighted stacks: what flame graphs, call graphs, reports, diffs and exports of stacks are functions of.

Every table with a stack column is weighted stacks: samples with their weights, waits with their durations,
allocations with their sizes. Rows of one stack and thread are added up as they are read, so that a view's memory
depends on how many different stacks there are and not on the recording's length.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError, damaged_recording
from insitu.session.manifest import Manifest
from insitu.symbols.frame import Frame

__all__ = [
    "MOST_DURATION_NS",
    "MOST_WEIGHT",
    "Selection",
    "ThreadLabel",
    "TimedRows",
    "Value",
    "WeightedStacks",
    "check_durations",
    "check_rows",
    "check_tree",
    "check_weights",
    "chosen",
    "event_chosen",
    "names_between",
    "preferred_of",
    "together",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_MODIFIERS = frozenset("ukhpPHGSDIWeb")

Value = Literal["count", "weight"]

MOST_WEIGHT: Final = 1 << 60
"""Of all rows of a table together; 36 years in nanoseconds, and 64 bits have room for those of several tables."""

MOST_DURATION_NS: Final = 1 << 56
"""Of one row; two years, and no recording lasts as long."""


class ThreadLabel(NamedTuple):
    """A thread under one of its names."""

    utid: int
    tid: int
    pid: int
    name: str


class TimedRows(NamedTuple):
    """Rows of WeightedStacks with their times: columns of equal length, ``value`` being what is added up."""

    ts_ns: I64
    stack: I32
    thread: I32
    value: I64

    def only(self, mask: NDArray[np.bool_]) -> TimedRows:
        """The rows of a mask."""
        return TimedRows(self.ts_ns[mask], self.stack[mask], self.thread[mask], self.value[mask])


class Selection(NamedTuple):
    """The part of a recording that is asked for. Empty: all of it, of the first event that has samples."""

    table: str = ""
    """Which table with stacks: by default the recorder's choice, else ``sample`` if it has rows, else the first that
    has. Several of the same unit, joined by "+", are shown together."""
    event: str = ""
    """Which event of ``sample``; modifiers (":u") may be left out."""
    weight: str = ""
    """Which column is the weight, where the table has several."""
    tid: int | None = None
    comm: str | None = None
    start_s: float | None = None
    """Seconds since the first row, inclusive."""
    end_s: float | None = None
    """Seconds since the first row, exclusive."""


@dataclass(frozen=True)
class WeightedStacks:
    """n rows of stacks with what they weigh; equal (stack, thread) are one row, unless ``ts_ns`` is there.

    Stacks are a tree: ``parent[i]`` (i32) is the caller's stack, always smaller than i; stack 0 is the root, without
    a frame; ``frame[i]`` indexes ``frames``. Per row: ``stack`` (i32), ``thread`` (i32, index into ``threads``),
    ``count`` (i64: samples, spans, events) and ``weight`` (i64, in ``unit``).
    """

    parent: I32
    frame: I32
    frames: list[Frame]
    stack: I32
    thread: I32
    count: I64
    weight: I64
    threads: list[ThreadLabel]
    table: str = "sample"
    event: str = ""
    """The event that was sampled, or what the rows are ("offcpu")."""
    unit: str = "samples"
    """What weights count: "ns", "bytes", or an event's name."""
    counted: str = "samples"
    """What ``count`` counts: "samples" or "events"."""
    period: int = 0
    """How many of the event a sample stands for; 0 where samples were taken by time, or that is not known."""
    ts_ns: I64 | None = None
    """Per row the time (i64, CLOCK_MONOTONIC), where it was asked for: then a row is one sample or event."""
    first_ns: int = 0
    last_ns: int = 0
    manifest: Manifest = field(default_factory=Manifest)
    losses: dict[str, int] = field(default_factory=dict)
    """Lost records by source."""
    notes: tuple[str, ...] = ()
    squares: NDArray[np.float64] | None = None
    """Per row the sum of squared weights, where events have weights of their own (durations, sizes)."""
    preferred: Value = "count"
    """What views add up by default: durations or sizes where rows have them, else the number of samples."""

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def frequency_hz(self) -> int:
        """Samples a second, as asked for; 0 where they were not taken by time."""
        return self.manifest.frequency_hz if self.table == "sample" and not self.period else 0

    @property
    def total_count(self) -> int:
        """The number of samples or events."""
        return int(self.values(self.counting).sum())

    @property
    def counting(self) -> Value:
        """Which of ``values`` is the number of samples or events: weights, where imported rows are sums of them."""
        return "weight" if self.preferred == "weight" and self.unit == self.counted else "count"

    def values(self, value: Value) -> I64:
        """What to add up: ``count`` or ``weight`` of each row."""
        return self.count if value == "count" else self.weight

    def in_time(self, value: Value) -> Iterator[TimedRows]:
        """The rows with their times, where they were asked for, as one batch."""
        if self.ts_ns is not None:
            yield TimedRows(self.ts_ns, self.stack, self.thread, self.values(value))

    def unit_of(self, value: Value) -> str:
        """What the sums of ``values`` count."""
        return self.counted if value == "count" else self.unit

    @property
    def is_cpu_time(self) -> bool:
        """Whether weights are nanoseconds of CPU time: then their share of the duration means a share of a CPU."""
        return self.table == "sample" and self.unit == "ns"

    @property
    def duration_ns(self) -> int:
        """Nanoseconds as the recorder says, else from the first row to the last; 0 if neither is known."""
        return self.manifest.duration_ns or self.last_ns - self.first_ns

    def only(self, mask: NDArray[np.bool_]) -> WeightedStacks:
        """The rows of a mask."""
        return replace(
            self,
            stack=self.stack[mask],
            thread=self.thread[mask],
            count=self.count[mask],
            weight=self.weight[mask],
            squares=None if self.squares is None else self.squares[mask],
            ts_ns=None if self.ts_ns is None else self.ts_ns[mask],
        )


def together(parts: Sequence[WeightedStacks]) -> WeightedStacks:
    """Rows of several tables of one session as one. Raises InsituError where they count different things."""
    first = parts[0]
    units = {part.unit for part in parts}
    if len(units) > 1:
        raise InsituError(f"--table: different units ({', '.join(sorted(units))})", remedy="choose one table")
    base = np.cumsum([0, *(len(part.threads) for part in parts)])
    thread = np.concatenate([part.thread + at for part, at in zip(parts, base[:-1].tolist(), strict=True)])
    threads: dict[ThreadLabel, int] = {}
    index = [threads.setdefault(label, len(threads)) for part in parts for label in part.threads]
    ts_ns = None
    if first.ts_ns is not None:
        ts_ns = np.concatenate([part.ts_ns for part in parts if part.ts_ns is not None])
    whole = replace(
        first,
        stack=np.concatenate([part.stack for part in parts]),
        thread=np.array(index, np.int32)[thread],
        count=np.concatenate([part.count for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        threads=list(threads),
        squares=None if ts_ns is not None else np.concatenate([_squares(part) for part in parts]),
        table="+".join(part.table for part in parts),
        event=" + ".join(part.event for part in parts),
        counted="events",
        ts_ns=ts_ns,
        first_ns=min((part.first_ns for part in parts if part.first_ns), default=0),
        last_ns=max(part.last_ns for part in parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        preferred="weight",
    )
    if ts_ns is None:
        return whole
    order = np.argsort(ts_ns, kind="stable")
    taken = {name: getattr(whole, name)[order] for name in ("stack", "thread", "count", "weight")}
    return replace(whole, ts_ns=ts_ns[order], **taken)


def _squares(stacks: WeightedStacks) -> NDArray[np.float64]:
    """Per row the sum of squared weights; those of samples are all the same."""
    if stacks.squares is not None:
        return stacks.squares
    return stacks.weight.astype(np.float64) ** 2 / np.maximum(stacks.count, 1)


def preferred_of(manifest: Manifest) -> Value:
    """Imports whose lines are sums have samples that are none: see convert/formats/folded.py."""
    return "weight" if any(source.get("value") == "weight" for source in manifest.sources) else "count"


def event_chosen(
    types: Sequence[tuple[Any, ...]], with_rows: Callable[[], Container[int]], asked: str
) -> tuple[tuple[Any, ...] | None, list[str]]:
    """The event type (id, name, unit, period) asked for, else the first that has rows; and a note on the others.

    ``with_rows`` returns the ids that have rows. Raises InsituError, naming what there is, for an unknown event.
    """
    if len(types) > 1:
        present = with_rows()
        types = [row for row in types if row[0] in present] or types[:1]
    if not types:
        return None, []
    found = types[:1]
    if asked:
        found = [row for row in types if row[1] == asked] or [
            row for row in types if _without_modifiers(row[1]) == asked
        ]
    if not found:
        names = ", ".join(str(row[1]) for row in types)
        raise InsituError(f"no samples of event {asked!r}", remedy=f"events: {names}")
    others = [str(row[1]) for row in types if row[1] != found[0][1]]
    return found[0], [f"also recorded: {', '.join(others)}; --event selects"] if others else []


def _without_modifiers(event: str) -> str:
    """An event's name without ":u" or the like; a tracepoint has a colon of its own."""
    name, colon, modifiers = str(event).rpartition(":")
    return name if colon and set(modifiers) <= _MODIFIERS else str(event)


def names_between(names: Sequence[tuple[int, str]], low: int, high: int) -> list[tuple[int, str]]:
    """Those of a thread's names (from when, name; ascending) that it had at some time in [low, high]."""
    kept: list[tuple[int, str]] = []
    for at, (start, name) in enumerate(names):
        end = names[at + 1][0] if at + 1 < len(names) else high + 1
        if (end > low or at + 1 == len(names)) and (start <= high or not kept):
            kept.append((start, name))
    return kept


def check_tree(parent: I32, frame: I32, frames: Sequence[Frame], name: str) -> None:
    """Callers and frames that point outside their tables (a damaged or forged session) must not reach the views."""
    nodes = len(parent)
    inside = (
        (parent[1:] < np.arange(1, nodes)).all()
        and (parent >= 0).all()
        and (frame < len(frames)).all()
        and (frame[1:] >= 0).all()
        and (parent[0] == 0)
    )
    if not inside:
        raise damaged_recording(name, "stacks refer to missing frames or stacks")


def check_rows(stacks: WeightedStacks, name: str) -> None:
    """The same for the stacks and threads of rows; and see ``check_weights``."""
    if not len(stacks):
        return
    rows = ((stacks.stack, len(stacks.parent)), (stacks.thread, len(stacks.threads)))
    if any(ids.min() < 0 or ids.max() >= count for ids, count in rows):
        raise damaged_recording(name, "rows refer to missing stacks or threads")
    check_weights(stacks.weight, f"{name}: {stacks.table}", stacks.unit)


def check_weights(weights: NDArray[Any], where: str, unit: str) -> None:
    """Raise InsituError for what rows cannot weigh: one less than nothing, or all more than sums have room for."""
    if len(weights) and (weights.min() < 0 or weights.sum(dtype=np.float64) > MOST_WEIGHT):
        raise InsituError(
            f"{where}: its {unit} are negative, or too many to be added up", remedy="insitu sql shows the rows"
        )


def check_durations(durations: I64, where: str) -> None:
    """The same for durations of rows in nanoseconds, of which none is longer than MOST_DURATION_NS."""
    is_long = len(durations) > 0 and durations.max() > MOST_DURATION_NS
    check_weights(np.full(1, -1) if is_long else durations, where, "ns")


def chosen(stacks: WeightedStacks, want: Selection) -> WeightedStacks:
    """The rows of one thread or command."""
    if want.tid is None and want.comm is None:
        return stacks
    labels = np.ones(len(stacks.threads), np.bool_)
    if want.tid is not None:
        labels &= np.array([label.tid == want.tid for label in stacks.threads], np.bool_)
    if want.comm is not None:
        names = list(dict.fromkeys(label.name for label in stacks.threads))
        if want.comm not in names:
            raise InsituError(f"no samples of command {want.comm!r}", remedy=f"commands: {', '.join(names[:8])}")
        labels &= np.array([label.name == want.comm for label in stacks.threads], np.bool_)
    mask = labels[stacks.thread]
    if not mask.any():
        asked = [f"thread {want.tid}"] * (want.tid is not None) + [f"command {want.comm!r}"] * (want.comm is not None)
        raise InsituError(f"no samples of {' and '.join(asked)}", remedy="insitu report lists threads")
    return stacks.only(mask)
