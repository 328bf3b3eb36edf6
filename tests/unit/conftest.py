"""Profiles made by hand, for tests of views and formats."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from insitu.session.profile import Profile, Thread
from insitu.symbols.frame import Frame

# Command, thread id, stack from the outermost frame on (a Frame, or a function's name), number of samples.
Row = tuple[str, int, Sequence[str | Frame], int]
ProfileOf = Callable[..., Profile]


def _profile_of(rows: Sequence[Row], *, weight: int = 10_000_000, event: str = "cpu-clock") -> Profile:
    """Samples 1 ms apart, each of the same ``weight``, in the order of ``rows``."""
    frames: list[Frame] = []
    parents, stack_frames = [0], [-1]
    nodes: dict[tuple[int, Frame], int] = {}
    tids: list[int] = []
    stacks: list[int] = []
    comms: dict[int, str] = {}
    for comm, tid, stack, count in rows:
        at = 0
        for word in stack:
            frame = Frame(word, "/usr/bin/prog") if isinstance(word, str) else word
            if frame not in frames:
                frames.append(frame)
            if (at, frame) not in nodes:
                nodes[at, frame] = len(parents)
                parents.append(at)
                stack_frames.append(frames.index(frame))
            at = nodes[at, frame]
        comms[tid] = comm
        tids += [tid] * count
        stacks += [at] * count
    total = len(stacks)
    return Profile(
        frames=frames,
        stack_parent=np.array(parents, np.int32),
        stack_frame=np.array(stack_frames, np.int32),
        ts_ns=np.arange(total, dtype=np.int64) * 1_000_000,
        cpu=np.zeros(total, np.int32),
        tid=np.array(tids, np.int32),
        stack=np.array(stacks, np.int32),
        event=np.zeros(total, np.int32),
        weight=np.full(total, weight, np.int64),
        events=[event],
        threads=[Thread(tid, tid, comm=comm) for tid, comm in comms.items()],
    )


@pytest.fixture(scope="session")
def profile_of() -> ProfileOf:
    """The function that makes a profile of rows (command, thread id, stack, samples)."""
    return _profile_of
