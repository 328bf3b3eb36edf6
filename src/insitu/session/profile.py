"""A recording's samples as arrays, and the call trees made from them: what the views are functions of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.frame import ROOT, Frame

__all__ = ["CallTree", "Lost", "Name", "Profile", "Thread", "Value"]

Value = Literal["samples", "weight"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class Thread(NamedTuple):
    """One thread that was seen; times are CLOCK_MONOTONIC nanoseconds, 0 where unknown."""

    tid: int
    pid: int
    ppid: int = 0
    comm: str = ""
    exe: str = ""
    start_ns: int = 0
    end_ns: int = 0


@dataclass(frozen=True)
class Lost:
    """``count`` records that ``source`` could not deliver on ``cpu`` (-1: not known) at ``ts_ns``."""

    ts_ns: int
    source: str
    cpu: int
    count: int


class Name(NamedTuple):
    """What a node of a call tree is: frames that differ only in file and line are one name."""

    function: str
    module: str = ""
    kind: str = ROOT
    inlined: bool = False


_ROOT: Final = Name("all")


@dataclass(frozen=True)
class CallTree:
    """A weighted call tree; node 0 is the root and every node comes after its parent.

    ``parent[i]`` (parent[0] is 0), ``name[i]`` (index into ``names``), ``own[i]`` (weight of samples whose leaf
    is node i) and ``total[i]`` (own weight of i and all below it) are of equal length. ``unit`` is what the
    weights count: "samples", "ns", "cycles" or another event's name.
    """

    parent: I32
    name: I32
    own: I64
    total: I64
    names: list[Name]
    unit: str = "samples"

    def __len__(self) -> int:
        return len(self.parent)

    def depths(self) -> I32:
        """Distance of each node from the root (0 for the root itself)."""
        depth = np.zeros(len(self.parent), np.int32)
        # Depth d is final once parents of depth d-1 are: at most as many passes as the tree is deep.
        frontier = np.flatnonzero(self.parent == 0)[1:] if len(depth) else np.zeros(0, np.int64)
        order = np.argsort(self.parent, kind="stable")
        ordered = self.parent[order]
        level = 1
        while len(frontier):
            depth[frontier] = level
            low = np.searchsorted(ordered, frontier, side="left")
            high = np.searchsorted(ordered, frontier, side="right")
            frontier = order[_ranges(low, high - low)]
            level += 1
        return depth


@dataclass
class Profile:
    """Samples with their stacks, symbolized.

    Stacks are a tree: ``stack_parent[i]`` (i32) is the stack of the caller, always smaller than i; stack 0 is the
    root, which has no frame; ``stack_frame[i]`` indexes ``frames``. A sample's stack is that of its leaf.
    Per sample: ``ts_ns`` (i64), ``cpu`` (i32, -1 unknown), ``tid`` (i32), ``stack`` (i32), ``event`` (index
    into ``events``) and ``weight`` (i64: nanoseconds for cpu-clock, else the event's count).
    """

    frames: list[Frame]
    stack_parent: I32
    stack_frame: I32
    ts_ns: I64
    cpu: I32
    tid: I32
    stack: I32
    event: I32
    weight: I64
    events: list[str] = field(default_factory=lambda: ["cpu-clock"])
    threads: list[Thread] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)
    info: dict[str, object] = field(default_factory=dict)
    """What session.json says: command, host, kernel, frequency and so on."""

    def __len__(self) -> int:
        return len(self.ts_ns)

    def comms(self, tids: Sequence[int] | I32) -> list[str]:
        """The name of each thread in ``tids``, its last one if it had several; ":TID" where unknown."""
        known = {thread.tid: thread.comm for thread in self.threads}
        return [known.get(int(tid)) or f":{int(tid)}" for tid in tids]

    def tree(
        self,
        *,
        value: Value = "samples",
        select: NDArray[np.bool_] | None = None,
        reverse: bool = False,
        by_thread: bool = False,
        by_comm: bool = False,
    ) -> CallTree:
        """The call tree of all samples, or of those where the mask ``select`` is set.

        ``reverse`` roots it in the leaves (who called this?); ``by_thread`` and ``by_comm`` put a level of
        threads ("comm/tid") or commands below the root. ``value`` "weight" sums weights, "samples" counts.
        """
        stack, tid = self.stack, self.tid
        weight = self.weight if value == "weight" else None
        if select is not None:
            stack, tid = stack[select], tid[select]
            weight = None if weight is None else weight[select]
        names, frame_name = self._names()
        path = self._thread_names(tid, names, by_comm) if by_thread or by_comm else None
        groups, stacks, sums = _grouped(path, stack, weight, len(self.stack_parent))
        unit = "samples" if value == "samples" else _unit(self.events)
        label = np.where(self.stack_frame >= 0, frame_name[self.stack_frame], -1).astype(np.int32)
        label[0] = -1
        return _grow(self.stack_parent, label, stacks, sums, groups, names, reverse, unit)

    def _names(self) -> tuple[list[Name], I32]:
        """Distinct names, the root's first, and the index of each frame's name."""
        index: dict[Name, int] = {_ROOT: 0}
        of_frame = [index.setdefault(Name(f.function, f.module, f.kind, f.inlined), len(index)) for f in self.frames]
        return list(index), np.array(of_frame or [0], np.int32)

    def _thread_names(self, tid: I32, names: list[Name], by_comm: bool) -> I32:
        """A name index for each sample: its thread, or with ``by_comm`` its command. Appends to ``names``."""
        tids, inverse = np.unique(tid, return_inverse=True)
        labels = [comm if by_comm else f"{comm}/{t}" for t, comm in zip(tids, self.comms(tids), strict=True)]
        index: dict[str, int] = {}
        for label in labels:
            if label not in index:
                index[label] = len(names)
                names.append(Name(label))
        return np.array([index[label] for label in labels] or [0], np.int32)[inverse]


def _unit(events: Sequence[str]) -> str:
    clocks = {"cpu-clock", "task-clock"}
    bare = {event.split(":")[0] for event in events}
    if bare <= clocks:
        return "ns"
    return next(iter(bare)) if len(bare) == 1 else "events"


def _grouped(path: I32 | None, stack: I32, weight: I64 | None, stacks: int) -> tuple[I32, I32, I64]:
    """Sum the samples of equal (path, stack): the distinct pairs and their sums."""
    if path is None:
        sums = np.bincount(stack, weights=weight, minlength=stacks)
        used = np.flatnonzero(np.bincount(stack, minlength=stacks))
        return np.full(len(used), -1, np.int32), used.astype(np.int32), sums[used].astype(np.int64)
    key = path.astype(np.int64) * stacks + stack
    distinct, inverse = np.unique(key, return_inverse=True)
    sums = np.bincount(inverse, weights=weight, minlength=len(distinct))
    return (
        (distinct // stacks).astype(np.int32),
        (distinct % stacks).astype(np.int32),
        sums.astype(np.int64),
    )


def _grow(
    stack_parent: I32,
    label: I32,
    stacks: I32,
    sums: I64,
    groups: I32,
    names: list[Name],
    reverse: bool,
    unit: str,
) -> CallTree:
    """Build the tree of labelled stacks, one level of all stacks at a time.

    ``label[s]`` is the name of stack s's leaf (-1 for the root). ``groups`` (or -1) is put below the root first.
    """
    chains, lengths = _chains(stack_parent, label, stacks)
    if not reverse:
        chains = _reversed_chains(chains, lengths)
    offsets = np.cumsum(lengths) - lengths
    parents: list[I32] = [np.zeros(1, np.int32)]
    nodes_name: list[I32] = [np.zeros(1, np.int32)]
    at = np.zeros(len(stacks), np.int32)  # the node that each chain has come to
    count = 1
    live = np.arange(len(stacks))
    grouped = bool(len(groups)) and bool((groups >= 0).any())
    level = -1 if grouped else 0
    while True:
        live = live[lengths[live] > level] if level >= 0 else live
        if not len(live):
            break
        here = groups[live] if level < 0 else chains[offsets[live] + level]
        key = at[live].astype(np.int64) * len(names) + here
        distinct, inverse = np.unique(key, return_inverse=True)
        parents.append((distinct // len(names)).astype(np.int32))
        nodes_name.append((distinct % len(names)).astype(np.int32))
        at[live] = count + inverse
        count += len(distinct)
        level += 1
    parent, name = np.concatenate(parents), np.concatenate(nodes_name)
    own = np.zeros(count, np.int64)
    np.add.at(own, at, sums)
    total = own.copy()
    # Levels were appended in order, so adding each level into the one above it, deepest first, is enough.
    end = count
    for nodes in reversed(parents[1:]):
        np.add.at(total, nodes, total[end - len(nodes) : end])
        end -= len(nodes)
    return CallTree(parent, name, own, total, names, unit)


def _chains(stack_parent: I32, label: I32, stacks: I32) -> tuple[I32, I64]:
    """The labels of each stack from its leaf to the root, concatenated, and each one's length."""
    depth = stack_depths(stack_parent)
    lengths = depth[stacks].astype(np.int64)
    offsets = np.cumsum(lengths) - lengths
    chains = np.empty(int(lengths.sum()), np.int32)
    live = np.flatnonzero(lengths)
    current = stacks[live]
    level = 0
    while len(live):
        chains[offsets[live] + level] = label[current]
        level += 1
        more = lengths[live] > level
        live, current = live[more], stack_parent[current[more]]
    return chains, lengths


def _reversed_chains(chains: I32, lengths: I64) -> I32:
    ends = np.cumsum(lengths)
    position = np.arange(len(chains)) - np.repeat(ends - lengths, lengths)
    turned: I32 = chains[np.repeat(ends, lengths) - 1 - position]
    return turned


def stack_depths(stack_parent: I32) -> I32:
    """Number of frames of each stack (0 for the root), by pointer jumping: log2(depth) passes."""
    depth = np.ones(len(stack_parent), np.int32)
    if len(depth):
        depth[0] = 0
    jump = stack_parent.copy()
    while jump.any():
        depth += depth[jump]
        jump = jump[jump]
    return depth


def _ranges(starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """All integers of the ranges [start, start+length), concatenated."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    flat: I64 = np.arange(total) + np.repeat(starts - (ends - lengths), lengths)
    return flat
