"""Weighted stacks as tests write them."""

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
