"""Text of many stacks at once, as exports write them: each stack's frames joined in one go."""

from collections.abc import Sequence
from itertools import pairwise
from typing import AnyStr, Final

import numpy as np
from numpy.typing import NDArray

from insitu.session.profile import stack_depths

__all__ = ["joined"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]

_STACKS_AT_ONCE: Final = 1 << 14  # bounds memory: a stack's frames are pointers to texts meanwhile


def joined(
    parent: I32, label: I32, texts: Sequence[AnyStr], stacks: I32, separator: AnyStr, *, leaf_first: bool = False
) -> list[AnyStr]:
    """For each of ``stacks`` the texts of its frames, joined from the outermost to the leaf, or ``leaf_first``.

    ``parent`` is a tree of stacks whose root is 0 (see Profile); ``texts[label[s]]`` stands for the leaf of stack s.
    """
    words = np.empty(len(texts), object)
    words[:] = texts
    lengths = stack_depths(parent)[stacks].astype(np.int64)
    result: list[AnyStr] = []
    for first in range(0, len(stacks), _STACKS_AT_ONCE):
        part = slice(first, first + _STACKS_AT_ONCE)
        ends: I64 = np.cumsum(lengths[part])
        chain = np.empty(int(ends[-1]), np.int32)
        live = np.flatnonzero(lengths[part])
        current = stacks[part][live]
        at = ends[live] - lengths[part][live] if leaf_first else ends[live] - 1
        step = 1 if leaf_first else -1
        while len(live):
            chain[at] = label[current]
            current = parent[current]
            live = np.flatnonzero(current)
            current, at = current[live], at[live] + step
        row = words[chain].tolist()
        result += [separator.join(row[low:high]) for low, high in pairwise([0, *ends.tolist()])]
    return result
