"""Which blocks a program can still reach, and in which classes the others are: memcheck's, by its rules.

* *still reachable*: by a chain of pointers to beginnings of blocks, from a root.
* *possibly lost*: by chains in which some pointer leads to the inside of a block.
* *definitely lost*: by none.
* *indirectly lost*: by a block that is definitely lost. Of blocks that point to each other in a circle, the one with
  the lowest address is definitely lost.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.blocks import Heap
from insitu.inspect.heap.pointers import Pointers

__all__ = ["CLASSES", "DEFINITE", "INDIRECT", "POSSIBLE", "REACHABLE", "Graph", "Verdicts", "classify", "graph"]

I8 = NDArray[np.int8]
I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

DEFINITE, INDIRECT, POSSIBLE, REACHABLE = range(4)
CLASSES: Final = ("definitely lost", "indirectly lost", "possibly lost", "still reachable")
_FEW: Final = 1024
"""So many pointers are followed one by one: lists have as many waves as elements."""
_NOBODY: Final = -1


class Graph(NamedTuple):
    """Which block points to which: the pointers of block ``i`` are ``target[first[i]:first[i + 1]]``."""

    first: I64
    target: I32
    sure: Flags


class Verdicts(NamedTuple):
    """For each block its class, and for lost ones the block that they are lost with (definite ones: themselves).

    ``parent`` is the block by which a block was first reached, -1 if from a root (or if it was not reached).
    """

    kind: I8
    leader: I32
    parent: I32


def graph(heap: Heap, found: Pointers) -> Graph:
    """The pointers that are in blocks, of all that are in the heap's memory, in ascending order."""
    count = len(heap.addresses)
    source = np.searchsorted(heap.addresses, found.where, side="right") - 1
    inside = (source >= 0) & (found.where - heap.addresses[source] < heap.sizes[source])
    source = source[inside]
    first = np.searchsorted(source, np.arange(count + 1)).astype(np.int64)
    return Graph(first, np.ascontiguousarray(found.target[inside]), np.ascontiguousarray(found.sure[inside]))


def classify(edges: Graph, from_roots: Pointers) -> Verdicts:
    """The class of each block."""
    count = len(edges.first) - 1
    seen = np.zeros(count, np.bool_)
    parent = np.full(count, _NOBODY, np.int32)
    reached = _reach(edges, _distinct(from_roots.target[from_roots.sure], count), seen, parent, sure_only=True)
    kind = np.full(count, POSSIBLE, np.int8)
    kind[reached] = REACHABLE
    maybe = _distinct(from_roots.target[~from_roots.sure], count)
    _reach(edges, maybe[~seen[maybe]], seen, parent, sure_only=False)
    _reach(edges, _unsure_targets(edges, kind, seen, parent), seen, parent, sure_only=False)
    lost = np.flatnonzero(~seen)
    leader = np.full(count, _NOBODY, np.int32)
    leader[lost] = _leaders(edges, lost, count)
    kind[lost] = np.where(leader[lost] == lost, DEFINITE, INDIRECT)
    return Verdicts(kind, leader, parent)


def _distinct(blocks: I32, count: int) -> I32:
    """Blocks, each once, ascending."""
    present = np.zeros(count, np.bool_)
    present[blocks] = True
    return np.flatnonzero(present).astype(np.int32)


def _unsure_targets(edges: Graph, kind: I8, seen: Flags, parent: I32) -> I32:
    """The blocks that reachable ones point into, and that were not seen."""
    at = np.flatnonzero(~edges.sure & ~seen[edges.target])
    source = np.searchsorted(edges.first, at, side="right") - 1
    mine = kind[source] == REACHABLE
    found, index = np.unique(edges.target[at[mine]], return_index=True)
    parent[found] = source[mine][index]
    return found


def _reach(edges: Graph, start: I32, seen: Flags, parent: I32, *, sure_only: bool) -> I64:
    """Mark all blocks that can be reached from some, wave by wave; returns these."""
    seen[start] = True
    waves = [start.astype(np.int64)]
    wave = waves[0]
    last = np.empty(len(seen), np.int32)
    one_by_one = _OneByOne(edges, seen, parent, sure_only=sure_only)
    while len(wave):
        counts = edges.first[wave + 1] - edges.first[wave]
        if counts.sum() <= _FEW:
            found, wave = one_by_one.follow(wave)
            waves.append(found)
            continue
        source = np.repeat(wave, counts)
        at = np.arange(len(source)) + np.repeat(edges.first[wave] - np.cumsum(counts) + counts, counts)
        new = ~seen[edges.target[at]]
        if sure_only:
            new &= edges.sure[at]
        targets = edges.target[at[new]]
        parent[targets] = source[new]
        seen[targets] = True
        # Each once: the last place of each in the wave.
        places = np.arange(len(targets), dtype=np.int32)
        last[targets] = places
        wave = targets[last[targets] == places].astype(np.int64)
        waves.append(wave)
    return np.concatenate(waves)


class _OneByOne:
    """Follows pointers where few blocks are in a wave."""

    def __init__(self, edges: Graph, seen: Flags, parent: I32, *, sure_only: bool) -> None:
        self._first = edges.first.data
        self._target = edges.target.data
        self._sure = edges.sure.view(np.uint8).data
        self._seen = seen.view(np.uint8).data
        self._parent = parent.data
        self._sure_only = sure_only

    def follow(self, wave: I64) -> tuple[I64, I64]:
        """All blocks that were reached, and the last wave of them, which is empty or has many pointers."""
        first, target, sure, seen, parent = self._first, self._target, self._sure, self._seen, self._parent
        every: list[int] = []
        now: list[int] = wave.tolist()
        pointers = 0
        while now and pointers <= _FEW:
            following = []
            for block in now:
                for at in range(first[block], first[block + 1]):
                    to = target[at]
                    if not seen[to] and (sure[at] or not self._sure_only):
                        seen[to] = 1
                        parent[to] = block
                        following.append(to)
            every += following
            now = following
            pointers = sum(first[block + 1] - first[block] for block in now)
        return np.array(every, np.int64), np.array(now, np.int64)


def _leaders(edges: Graph, lost: I64, count: int) -> I32:
    """For each lost block the one that it is lost with, by memcheck's rule.

    In the order of addresses, each block that is not lost with another takes all that can be reached from it, also
    blocks that have taken others before.
    """
    is_lost = np.zeros(count, np.bool_)
    is_lost[lost] = True
    source = np.repeat(np.arange(count, dtype=np.int64), np.diff(edges.first))
    within = np.flatnonzero(is_lost[source] & is_lost[edges.target] & (source != edges.target))
    leader = np.arange(count, dtype=np.int32)
    if len(within):
        first = np.searchsorted(source[within], np.arange(count + 1)).astype(np.int64)
        _take(first, np.ascontiguousarray(edges.target[within]), leader, lost)
        while not np.array_equal(leader, higher := leader[leader]):
            leader = higher
    mine: I32 = leader[lost]
    return mine


def _take(firsts: I64, targets: I32, leaders: I32, lost: I64) -> None:
    first, target, leader = firsts.data, targets.data, leaders.data
    for block in lost[firsts[lost + 1] > firsts[lost]].tolist():
        if leader[block] != block:
            continue
        stack = [block]
        while stack:
            at = stack.pop()
            for index in range(first[at], first[at + 1]):
                to = target[index]
                if leader[to] == to and to != block:
                    leader[to] = block
                    stack.append(to)
