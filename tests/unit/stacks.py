"""Weighted stacks as tests write them."""

from collections.abc import Sequence

import numpy as np

from insitu.session.interning import FrameTable, StackTree
from insitu.session.weighted_stacks import ThreadLabel, WeightedStacks
from insitu.symbols.frame import Frame


def stacks_of(samples: list[tuple[list[str], int, int]], **known: object) -> WeightedStacks:
    """From (outermost-first functions, tid, weight) a row each, one nanosecond apart; thread N is named "tN"."""
    frames, tree = FrameTable(), StackTree()
    leaves = [tree.one(frames.number(Frame(name) for name in reversed(functions))) for functions, _, _ in samples]
    tids = sorted({tid for _, tid, _ in samples})
    n = len(samples)
    found = {
        "parent": tree.parent,
        "frame": tree.frame,
        "frames": frames.frames,
        "stack": np.array(leaves, np.int32),
        "thread": np.array([tids.index(tid) for _, tid, _ in samples], np.int32),
        "count": np.ones(n, np.int64),
        "weight": np.array([weight for _, _, weight in samples], np.int64),
        "threads": [ThreadLabel(tid, tid, tid, f"t{tid}") for tid in tids] or [ThreadLabel(0, 0, 0, "")],
        "event": "cpu-clock",
        "unit": "ns",
        "ts_ns": np.arange(n, dtype=np.int64),
        "last_ns": max(n - 1, 0),
        **known,
    }
    return WeightedStacks(**found)  # type: ignore[arg-type]


# Command, thread id, stack from the outermost frame on (a Frame, or a function's name), number of samples.
Row = tuple[str, int, Sequence[str | Frame], int]


def recorded(
    rows: Sequence[Row], *, weight: int | np.ndarray = 10_000_000, event: str = "cpu-clock", **known: object
) -> WeightedStacks:
    """Samples 1 ms apart, each of the same ``weight``, in the order of ``rows``; cpu-clock counts nanoseconds."""
    frames, tree = FrameTable(), StackTree()
    leaf, thread, labels = [], [], dict[tuple[str, int], int]()
    for comm, tid, stack, count in rows:
        chain = [Frame(word, "/usr/bin/prog") if isinstance(word, str) else word for word in stack]
        leaf += [tree.one(frames.number(reversed(chain)))] * count
        thread += [labels.setdefault((comm, tid), len(labels))] * count
    n = len(leaf)
    found = {
        "parent": tree.parent,
        "frame": tree.frame,
        "frames": frames.frames,
        "stack": np.array(leaf, np.int32),
        "thread": np.array(thread, np.int32),
        "count": np.ones(n, np.int64),
        "weight": np.broadcast_to(np.asarray(weight, np.int64), n).copy(),
        "threads": [ThreadLabel(tid, tid, tid, comm) for comm, tid in labels] or [ThreadLabel(0, 0, 0, "")],
        "event": event,
        "unit": "ns" if event == "cpu-clock" else event,
        "ts_ns": np.arange(n, dtype=np.int64) * 1_000_000,
        "last_ns": max(n - 1, 0) * 1_000_000,
        **known,
    }
    return WeightedStacks(**found)  # type: ignore[arg-type]
