"""Interning: ids of stacks (nodes of one growing call tree), of frames, and of anything with a 64-bit key."""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct
from insitu.symbols.frame import Frame

__all__ = ["FrameTable", "GrowingIndex", "StackTree"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]

_MOST_RECENT = 1 << 16


class GrowingIndex:
    """Numbers u64 keys from 0 in the order of their first appearance."""

    def __init__(self) -> None:
        self._keys: U64 = np.zeros(0, np.uint64)
        self._ids: I64 = np.zeros(0, np.int64)
        self._recent: dict[int, int] = {}  # those that came one by one, and are not in the arrays yet

    def __len__(self) -> int:
        return len(self._keys) + len(self._recent)

    def one(self, key: int) -> int:
        """The id of one key; it is new if it was the length before."""
        known = self._recent.get(key)
        if known is not None:
            return known
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        if at < len(self._keys) and int(self._keys[at]) == key:
            return int(self._ids[at])
        number = len(self)
        self._recent[key] = number
        if len(self._recent) > _MOST_RECENT:
            self._settle()
        return number

    def _settle(self) -> None:
        keys = np.fromiter(self._recent.keys(), np.uint64, len(self._recent))
        ids = np.fromiter(self._recent.values(), np.int64, len(self._recent))
        order = np.argsort(keys)
        at = np.searchsorted(self._keys, keys[order])
        self._keys = np.insert(self._keys, at, keys[order])
        self._ids = np.insert(self._ids, at, ids[order])
        self._recent = {}

    def number(self, keys: U64) -> tuple[I64, I64]:
        """The id of each key, and for each new id, ascending, a row of ``keys`` that has it."""
        if self._recent:
            self._settle()
        found, inverse = distinct(keys)
        at = np.searchsorted(self._keys, found)
        known = np.zeros(len(found), np.bool_)
        inside = at < len(self._keys)
        known[inside] = self._keys[at[inside]] == found[inside]
        ids = np.empty(len(found), np.int64)
        ids[known] = self._ids[at[known]]
        new = np.flatnonzero(~known)
        if not len(new):
            return ids[inverse], new
        ids[new] = len(self._keys) + np.arange(len(new))
        rows = np.empty(len(found), np.int64)
        rows[inverse[::-1]] = np.arange(len(keys) - 1, -1, -1)
        self._keys = np.insert(self._keys, at[new], found[new])
        self._ids = np.insert(self._ids, at[new], ids[new])
        return ids[inverse], rows[new]


class FrameTable:
    """Frames by id."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self._index: dict[Frame, int] = {}

    def number(self, frames: Iterable[Frame]) -> list[int]:
        """The id of each frame."""
        index, known = self._index, self.frames
        ids = []
        for frame in frames:
            at = index.get(frame)
            if at is None:
                at = index[frame] = len(known)
                known.append(frame)
            ids.append(at)
        return ids


class StackTree:
    """A growing call tree: ``parent`` and ``frame`` of each node. Node 0 is the root; parents come first."""

    def __init__(self) -> None:
        self._parents: list[I32] = [np.zeros(1, np.int32)]
        self._frames: list[I32] = [np.full(1, -1, np.int32)]
        self._depths: list[I32] = [np.zeros(1, np.int32)]
        self._recent: list[tuple[int, int, int]] = []  # parent, frame and depth of nodes that came one by one
        self._index = GrowingIndex()
        self._index.number(np.full(1, 2**64 - 1, np.uint64))  # the root: nodes are numbered from 1 on

    def __len__(self) -> int:
        return len(self._index)

    def add(self, offset: I64, frame: I32, outer: I32 | None = None) -> I32:
        """The node of each of n stacks: stack i is ``frame[offset[i]:offset[i + 1]]``, innermost frame first.

        With ``outer`` these frames are on top of the stacks of these nodes.
        """
        self._settle()
        depth = np.diff(offset)
        ends = offset[1:]
        at = np.zeros(len(depth), np.int32) if outer is None else outer.copy()
        base = self.depth[at]
        live = np.flatnonzero(depth > 0)
        level = 0
        while len(live):
            own = frame[ends[live] - 1 - level]
            key = at[live].astype(np.uint64) << np.uint64(32) | own.astype(np.uint64)
            ids, rows = self._index.number(key)
            if len(rows):
                self._parents.append(at[live[rows]])
                self._frames.append(own[rows].astype(np.int32))
                self._depths.append(base[live[rows]] + np.int32(level + 1))
            at[live] = ids
            level += 1
            live = live[depth[live] > level]
        return at

    def one(self, frames: Sequence[int]) -> int:
        """The node of one stack, its frames innermost first."""
        at = 0
        for depth, frame in enumerate(reversed(frames), 1):
            count = len(self._index)
            node = self._index.one(at << 32 | frame)
            if node == count:
                self._recent.append((at, frame, depth))
            at = node
        return at

    def _settle(self) -> None:
        """Put the nodes that came one by one into the arrays, before others follow or all are asked for."""
        if self._recent:
            new = np.array(self._recent, np.int32)
            for parts, values in zip((self._parents, self._frames, self._depths), new.T, strict=True):
                parts.append(values.copy())
            self._recent = []

    def join(self, outer: I32, inner: I32) -> I32:
        """The nodes of combined stacks: frames of ``inner[i]`` on top of those of ``outer[i]``."""
        parent, frame, depth = self.parent, self.frame, self.depth
        at = outer.copy()
        chains: list[tuple[I64, I32]] = []
        live = np.flatnonzero(inner > 0)
        current = inner[live]
        while len(live):
            chains.append((live, frame[current]))
            current = parent[current]
            more = np.flatnonzero(current > 0)
            live, current = live[more], current[more]
        base = depth[outer]
        for level, (rows, own) in enumerate(reversed(chains)):
            key = at[rows].astype(np.uint64) << np.uint64(32) | own.astype(np.uint64)
            ids, new = self._index.number(key)
            if len(new):
                self._parents.append(at[rows[new]])
                self._frames.append(own[new].astype(np.int32))
                lengths = depth[inner[rows[new]]] - (len(chains) - 1 - level)
                self._depths.append((base[rows[new]] + lengths).astype(np.int32))
            at[rows] = ids
        return at

    @property
    def parent(self) -> I32:
        """The parent of each node."""
        self._settle()
        return _joined(self._parents)

    @property
    def frame(self) -> I32:
        """The frame of each node, -1 for the root."""
        self._settle()
        return _joined(self._frames)

    @property
    def depth(self) -> I32:
        """The number of frames of each node's stack."""
        self._settle()
        return _joined(self._depths)


def _joined(parts: list[I32]) -> I32:
    if len(parts) > 1:
        parts[:] = [np.concatenate(parts)]
    return parts[0]
