"""A recording's samples as arrays, and the call trees made from them: what the views are functions of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct, groups, ranges
from insitu.symbols.frame import ROOT, Frame

__all__ = ["CallTree", "Lost", "Name", "Profile", "Thread", "Value", "is_clock", "stack_depths", "weight_unit"]

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
_CLOCKS: Final = {"cpu-clock", "task-clock"}


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
            frontier = order[ranges(low, high - low)]
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

    def commands(self, tid: I32, ts_ns: I64) -> tuple[list[str], I64]:
        """The name that each thread had at each time: the distinct names, and for each element which of them.

        A thread has several names in its life (a shell that becomes the program it runs); ``threads`` has a row for
        each, in order of time.
        """
        lives: dict[int, list[Thread]] = {}
        for thread in self.threads:
            lives.setdefault(thread.tid, []).append(thread)
        tids, of_sample = distinct(tid)
        index: dict[str, int] = {}
        last = [index.setdefault(comm, len(index)) for comm in self.comms(tids)]
        result = np.array(last or [0], np.int64)[of_sample]
        renamed = np.array([len(lives.get(int(t), ())) > 1 for t in tids] or [False])
        rows = np.flatnonzero(renamed[of_sample])
        for number, among in groups(of_sample[rows]):
            mine = rows[among]
            of_thread = lives[int(tids[number])]
            starts = np.array([life.start_ns for life in of_thread], np.int64)
            comms = np.array([index.setdefault(life.comm or f":{life.tid}", len(index)) for life in of_thread])
            result[mine] = comms[np.maximum(np.searchsorted(starts, ts_ns[mine], side="right") - 1, 0)]
        return list(index), result

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
        path = self._paths(tid, self.ts_ns if select is None else self.ts_ns[select], names, by_thread, by_comm)
        stacks = len(self.stack_parent)
        keys, sums = _grouped(path, stack, weight, stacks)
        parent, label = self.stack_parent, np.append(frame_name, np.int32(-1))[self.stack_frame]
        if reverse:
            parent, label, ends = _turned(parent, label, keys)
            keys = keys // stacks * len(parent) + ends
        return _grow(parent, label, keys, sums, names, "samples" if value == "samples" else weight_unit(self.events))

    def _names(self) -> tuple[list[Name], I32]:
        """Distinct names, the root's first, and the index of each frame's name."""
        index: dict[Name, int] = {_ROOT: 0}
        of_frame = [index.setdefault(Name(f.function, f.module, f.kind, f.inlined), len(index)) for f in self.frames]
        return list(index), np.array(of_frame or [0], np.int32)

    def _paths(self, tid: I32, ts_ns: I64, names: list[Name], by_thread: bool, by_comm: bool) -> I32 | None:
        """The name index of each sample's thread or command, None where neither is asked. Appends to ``names``."""
        if by_thread:
            tids, of_sample = distinct(tid)
            labels = [f"{comm}/{t}" for t, comm in zip(tids, self.comms(tids), strict=True)]
        elif by_comm:
            labels, of_sample = self.commands(tid, ts_ns)
        else:
            return None
        names += [Name(label) for label in labels]
        first = len(names) - len(labels)
        return (of_sample + first).astype(np.int32)


def is_clock(event: str) -> bool:
    """Whether the weights of an event's samples are nanoseconds of CPU time; ``event`` may have modifiers (":u")."""
    return event.partition(":")[0] in _CLOCKS


def weight_unit(events: Sequence[str]) -> str:
    """What the weights of samples of these events count: "ns", one event's name, or "events"."""
    bare = {event.partition(":")[0] for event in events}
    if bare <= _CLOCKS:
        return "ns"
    return next(iter(bare)) if len(bare) == 1 else "events"


def _grouped(path: I32 | None, stack: I32, weight: I64 | None, stacks: int) -> tuple[I64, I64]:
    """Sum the samples of equal (path, stack): the distinct keys, (path + 1) * stacks + stack, and their sums."""
    # bincount sums in double precision: exact up to 2**53, that is 104 days of nanoseconds.
    if path is None:
        keys = np.flatnonzero(np.bincount(stack))
        return keys, np.bincount(stack, weights=weight)[keys].astype(np.int64)
    keys, inverse = distinct((path.astype(np.int64) + 1) * stacks + stack)
    return keys, np.bincount(inverse, weights=weight, minlength=len(keys)).astype(np.int64)


def _grow(stack_parent: I32, label: I32, keys: I64, sums: I64, names: list[Name], unit: str) -> CallTree:
    """The tree of the labelled stacks in ``keys`` (see _grouped) and all their callers, below their paths if any.

    ``label[s]`` is the name of stack s's leaf. Bottom up the nodes of each depth are found, top down they are
    numbered, siblings of one name as one.
    """
    stacks = len(stack_parent)
    depth = stack_depths(stack_parent)[keys % stacks]
    order = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[order], np.arange(int(depth.max(initial=0)) + 2))
    levels: list[tuple[I64, I64, I64]] = []  # distinct keys, row of each leaf, row of each node of the level below
    below = np.zeros(0, np.int64)
    for level in range(len(bounds) - 2, -1, -1):
        leaves = keys[order[bounds[level] : bounds[level + 1]]]
        nodes, rows = distinct(np.concatenate([leaves, below]))
        levels.append((nodes, rows[: len(leaves)], rows[len(leaves) :]))
        below = nodes - nodes % stacks + stack_parent[nodes % stacks]
    parents, labels, owns = [np.zeros(1, np.int32)], [np.zeros(1, np.int32)], [np.zeros(1, np.int64)]
    count = 1
    above = np.zeros(0, np.int64)  # the new node of each key of the level above, for each key of this one
    for level, (nodes, leaf_rows, below_rows) in enumerate(reversed(levels)):
        weight = np.zeros(len(nodes), np.int64)
        np.add.at(weight, leaf_rows, sums[order[bounds[level] : bounds[level + 1]]])
        if level == 0:
            path = nodes // stacks - 1  # -1: no path, the root itself
            is_root = path < 0
            owns[0] += weight[is_root].sum()
            named, parent = path[~is_root], np.zeros(int((~is_root).sum()), np.int64)
            new = np.zeros(len(nodes), np.int64)
            new[~is_root] = count + np.arange(len(named))
            weight = weight[~is_root]
        else:
            numbered, new = distinct(above * len(names) + label[nodes % stacks])
            weight = np.bincount(new, weights=weight, minlength=len(numbered)).astype(np.int64)
            named, parent = numbered % len(names), numbered // len(names)
            new += count
        parents.append(parent.astype(np.int32))
        labels.append(named.astype(np.int32))
        owns.append(weight)
        count += len(named)
        above = new[below_rows]
    own = np.concatenate(owns)
    return CallTree(np.concatenate(parents), np.concatenate(labels), own, _totals(own, parents), names, unit)


def _totals(own: I64, parents: list[I32]) -> I64:
    """Own weights with those of all nodes below; ``parents`` come level by level, the root's first."""
    total = own.copy()
    end = len(total)
    for nodes in reversed(parents[1:]):
        np.add.at(total, nodes, total[end - len(nodes) : end])
        end -= len(nodes)
    return total


def _turned(stack_parent: I32, label: I32, keys: I64) -> tuple[I32, I32, I64]:
    """The stacks of ``keys`` from their leaves: a tree whose first level are leaves, and the keys in it.

    Returned are its parents, its labels (node 0 is the root), and for each key the node where its chain ends.
    """
    stacks = len(stack_parent)
    current = keys % stacks
    at = np.zeros(len(keys), np.int64)
    parents, labels = [np.zeros(1, np.int32)], [np.full(1, -1, np.int32)]
    most = int(label.max(initial=0)) + 1
    count = 1
    live = np.flatnonzero(current)
    while len(live):
        numbered, new = distinct(at[live] * most + label[current[live]])
        parents.append((numbered // most).astype(np.int32))
        labels.append((numbered % most).astype(np.int32))
        at[live] = count + new
        count += len(numbered)
        current[live] = stack_parent[current[live]]
        live = live[current[live] > 0]
    return np.concatenate(parents), np.concatenate(labels), at


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
