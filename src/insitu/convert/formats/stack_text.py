"""The text of many stacks at once, for exports."""

from collections.abc import Sequence
from itertools import pairwise
from typing import AnyStr, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["joined"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_STACKS_AT_ONCE: Final = 1 << 14  # bounds memory: a stack's frames are pointers to texts meanwhile


def joined(
    parent: I32, label: I32, texts: Sequence[AnyStr], stacks: I32, separator: AnyStr, *, leaf_first: bool = False
) -> list[AnyStr]:
    """For each of ``stacks`` the texts of its frames, joined from the outermost to the leaf, or ``leaf_first``.

    ``parent`` is a tree of stacks whose root is 0 (see WeightedStacks); ``texts[label[s]]`` stands for the leaf
    of stack s.
    """
    words = np.empty(len(texts), object)
    words[:] = texts
    result: list[AnyStr] = []
    for first in range(0, len(stacks), _STACKS_AT_ONCE):
        chain, bounds = _chains(parent, label, stacks[first : first + _STACKS_AT_ONCE], leaf_first)
        row = words[chain].tolist()
        result += [separator.join(row[low:high]) for low, high in pairwise(bounds)]
    return result


def _chains(parent: I32, label: I32, stacks: I32, leaf_first: bool) -> tuple[I32, list[int]]:
    """The labels of each stack's frames, one stack after the other, and the bounds between them."""
    lengths = np.zeros(len(stacks), np.int64)
    steps: list[tuple[I64, I32]] = []
    live = np.flatnonzero(stacks)
    current = stacks[live]
    while len(live):
        steps.append((live, label[current]))
        lengths[live] += 1
        current = parent[current]
        more = np.flatnonzero(current)
        live, current = live[more], current[more]
    ends: I64 = np.cumsum(lengths)
    at, step = (ends - lengths, 1) if leaf_first else (ends - 1, -1)
    chain = np.empty(int(ends[-1]), np.int32)
    for depth, (rows, labels) in enumerate(steps):
        chain[at[rows] + step * depth] = labels
    return chain, [0, *ends.tolist()]
