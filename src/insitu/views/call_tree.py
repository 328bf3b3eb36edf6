"""Call trees: stacks merged by the names of their frames, with own and total weights.

There is one merge, ``merged``: siblings of one label become one node, level by level from the root. Trees of names,
trees turned to their leaves, trees with a level of threads above and the union of two trees are all made with it.

All addresses of a module that no symbol covers have one name, "[module]", in every view: an address each would crowd
out what has a name, and changes with every build. ``addresses`` keeps them apart.
"""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.distinct import distinct
from insitu.session.weighted_stacks import Value, WeightedStacks
from insitu.symbols.frame import ROOT, WAKER, Frame, lasting_label, module_label

__all__ = [
    "CallTree",
    "Name",
    "NamedStacks",
    "below_wakers",
    "call_tree",
    "levels",
    "merged",
    "named_stacks",
    "united",
]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


class Name(NamedTuple):
    """What a node of a call tree is: frames that differ only in file and line are one name."""

    function: str
    module: str = ""
    kind: str = ROOT
    inlined: bool = False
    symbolized: bool = True


_ROOT: Final = Name("all")


@dataclass(frozen=True)
class CallTree:
    """A weighted call tree; node 0 is the root and every node comes after its parent.

    ``parent[i]`` (parent[0] is 0), ``name[i]`` (index into ``names``), ``own[i]`` (weight of rows whose leaf
    is node i) and ``total[i]`` (own weight of i and all below it) are of equal length. ``unit`` is what the
    weights count: "samples", "ns", "bytes" or an event's name.
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
        return _depths(self.parent)

    def self_weights(self) -> I64:
        """Own weights by node as views show them: those of a waker's stack are of the wait that it ended."""
        is_waker = np.array([name.kind == WAKER for name in self.names], np.bool_)[self.name]
        if not is_waker.any():
            return self.own
        leaf = below_wakers(self.parent, is_waker)
        return np.bincount(leaf, weights=self.own, minlength=len(self)).astype(np.int64)


@dataclass(frozen=True)
class NamedStacks:
    """Stacks merged by name: a tree whose node 0 is the root, every node after its parent.

    ``parent`` and ``name`` (an index into ``names``) are per node. ``node[s]`` is the node of stack s; -1 where no
    row needs it. ``files`` has a source file for each name, "" where unknown.
    """

    parent: I32
    name: I32
    node: I32
    names: list[Name]
    files: list[str] = field(default_factory=list)


def named_stacks(stacks: WeightedStacks, *, addresses: bool = False) -> NamedStacks:
    """The tree of names of the stacks that rows have, and their callers."""
    used = np.zeros(len(stacks.parent), np.bool_)
    used[0] = True
    used[stacks.stack] = True
    for level in reversed(levels(stacks.parent)[1:]):
        used[stacks.parent[level[used[level]]]] = True
    names, files, label = _labels(stacks, used, addresses)
    parent, name, node = merged(stacks.parent, label, len(names), used)
    return NamedStacks(parent, name, node, names, files)


def call_tree(
    stacks: WeightedStacks,
    *,
    value: Value | None = None,
    reverse: bool = False,
    by_thread: bool = False,
    by_comm: bool = False,
    addresses: bool = False,
) -> CallTree:
    """The call tree of all rows, with what ``value`` says added up (by default what suits the rows).

    ``reverse`` roots it in the leaves (who called this?; of waits, in the wait, without what ended it);
    ``by_thread`` and ``by_comm`` put a level of threads ("comm/tid") or commands below the root; ``addresses`` keeps
    those without a symbol apart.
    """
    value = value or stacks.preferred
    named = named_stacks(stacks, addresses=addresses)
    weight = stacks.values(value)
    node = named.node[stacks.stack]
    parent, name, names = named.parent, named.name, list(named.names)
    if reverse:
        is_waker = np.array([each.kind == WAKER for each in names], np.bool_)[name]
        parent, name, node = _turned(parent, name, below_wakers(parent, is_waker)[node])
    if by_thread or by_comm:
        labels = [f"{t.name}/{t.tid}" if by_thread else t.name for t in stacks.threads]
        index: dict[str, int] = {}
        path = np.array([index.setdefault(label, len(index)) for label in labels], np.int64)
        parent, name, node = _below_paths(parent, name, node, path[stacks.thread], len(names))
        names += [Name(label) for label in index]
    # bincount sums in double precision: exact up to 2**53, that is 104 days of nanoseconds.
    own = np.bincount(node, weights=weight, minlength=len(parent)).astype(np.int64)
    return CallTree(parent, name, own, _totals(parent, own), names, stacks.unit_of(value))


def united(before: CallTree, after: CallTree) -> tuple[CallTree, CallTree]:
    """Both trees over one tree that has every path of either: equal parents and names, each with its own weights.

    Names are equal as in a diff of functions: the files of their modules may lie in other directories, and where one
    side knows no modules, these do not count. A name is given as ``after`` has it, where that has it, but waits
    without the address or number that only one run has.
    """
    modules = all(any(name.module for name in tree.names) for tree in (before, after))
    index: dict[Name, int] = {}
    names: dict[Name, Name] = {}
    of_tree = []
    for tree in (after, before):
        lasting = [name._replace(function=lasting_label(name.function)) for name in tree.names]
        keys = [name._replace(module=name.module.rpartition("/")[2] if modules else "") for name in lasting]
        of_tree.append(np.array([index.setdefault(key, len(index)) for key in keys], np.int32))
        for key, name in zip(keys, lasting, strict=True):
            names.setdefault(key, name)
    of_names = of_tree[::-1]
    count = len(before)
    below = after.parent[1:].astype(np.int64)
    shifted = np.where(below > 0, below + count - 1, 0).astype(np.int32)
    parent = np.concatenate([before.parent, shifted])
    label = np.concatenate([of_names[0][before.name], of_names[1][after.name[1:]]])
    both, label, node = merged(parent, label, len(index))
    trees = []
    for tree, at in ((before, node[:count]), (after, np.concatenate([np.zeros(1, np.int32), node[count:]]))):
        own = np.zeros(len(both), np.int64)
        np.add.at(own, at, tree.own)
        trees.append(CallTree(both, label, own, _totals(both, own), list(names.values()), tree.unit))
    return trees[0], trees[1]


def merged(parent: I32, label: I32, labels: int, used: NDArray[np.bool_] | None = None) -> tuple[I32, I32, I32]:
    """Make siblings of one label one node: parents and labels of the new tree, and the new node of each old one.

    ``label[i]`` is in [0, labels). Nodes that are not ``used`` (a mask closed under parents) become -1.
    """
    node = np.full(len(parent), -1, np.int32)
    node[:1] = 0
    parents, names = [np.zeros(1, np.int32)], [label[:1].astype(np.int32)]
    count = 1
    for level in levels(parent)[1:]:
        here = level if used is None else level[used[level]]
        keys, row = distinct(node[parent[here]].astype(np.int64) * labels + label[here])
        node[here] = count + row
        parents.append((keys // labels).astype(np.int32))
        names.append((keys % labels).astype(np.int32))
        count += len(keys)
    return np.concatenate(parents), np.concatenate(names), node


def below_wakers(parent: I32, is_waker: NDArray[np.bool_]) -> I32:
    """Of each node of a waker's stack, the wait that it ended; of each other node, the node itself.

    What stands above a wait costs nothing: the wait is the leaf, in all sums and in trees turned to their leaves.
    """
    found = np.arange(len(parent), dtype=np.int32)
    if is_waker.any():
        for nodes in levels(parent)[1:]:
            of_waker = nodes[is_waker[nodes]]
            found[of_waker] = found[parent[of_waker]]
    return found


def levels(parent: I32) -> list[I64]:
    """The nodes of each depth of a tree, the root's first."""
    depth = _depths(parent)
    order = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[order], np.arange(int(depth.max(initial=0)) + 2))
    return [order[low:high] for low, high in pairwise(bounds)]


def _depths(parent: I32) -> I32:
    """Number of steps from each node to the root, by pointer jumping: log2(depth) passes."""
    depth = np.ones(len(parent), np.int32)
    depth[:1] = 0
    jump = parent.copy()
    while jump.any():
        depth += depth[jump]
        jump = jump[jump]
    return depth


def _totals(parent: I32, own: I64) -> I64:
    """Own weights with those of all nodes below."""
    total = own.copy()
    for nodes in reversed(levels(parent)[1:]):
        np.add.at(total, parent[nodes], total[nodes])
    return total


def _labels(stacks: WeightedStacks, used: NDArray[np.bool_], addresses: bool) -> tuple[list[Name], list[str], I32]:
    """The names that used stacks have, the root's first, a file for each, and for each stack its name's index."""
    index: dict[Name, int] = {_ROOT: 0}
    files = [""]
    of_frame = np.zeros(len(stacks.frames) + 1, np.int32)
    wanted, _ = distinct(stacks.frame[used])
    for at in wanted[wanted >= 0].tolist():
        frame = stacks.frames[at]
        name = _name(frame, addresses)
        number = index.setdefault(name, len(index))
        if number == len(files):
            files.append(frame.file)
        elif not files[number]:
            files[number] = frame.file
        of_frame[at] = number
    return list(index), files, of_frame[stacks.frame]


def _name(frame: Frame, addresses: bool) -> Name:
    function = frame.function if frame.symbolized or addresses else module_label(frame.module)
    return Name(function, frame.module, frame.kind, frame.inlined, frame.symbolized)


def _turned(parent: I32, name: I32, node: I32) -> tuple[I32, I32, I32]:
    """The tree of the stacks that end in ``node``, from their leaves, and where each row's chain ends in it."""
    ends, inverse = distinct(node)
    at = np.zeros(len(ends), np.int64)
    current = ends.astype(np.int64)
    parents, names = [np.zeros(1, np.int32)], [np.zeros(1, np.int32)]
    most = int(name.max(initial=0)) + 1
    count = 1
    live = np.flatnonzero(current)
    while len(live):
        keys, new = distinct(at[live] * most + name[current[live]])
        parents.append((keys // most).astype(np.int32))
        names.append((keys % most).astype(np.int32))
        at[live] = count + new
        count += len(keys)
        current[live] = parent[current[live]]
        live = live[current[live] > 0]
    return np.concatenate(parents), np.concatenate(names), at[inverse].astype(np.int32)


def _below_paths(parent: I32, name: I32, node: I32, path: I64, first: int) -> tuple[I32, I32, I32]:
    """A tree for each path below one root: every (path, node) that a row has, and its callers.

    Path p gets the name ``first + p``. Returned are parents, names, and the new node of each row.
    """
    nodes = len(parent)
    depth = _depths(parent)
    keys, inverse = distinct(path * nodes + node)
    by_level: list[I64] = []
    below = np.zeros(0, np.int64)
    for level in range(int(depth[keys % nodes].max(initial=0)), -1, -1):
        mine = keys[depth[keys % nodes] == level]
        here = np.unique(np.concatenate([mine, below]))
        by_level.append(here)
        below = here - here % nodes + parent[here % nodes]
    parents, names, numbered = [np.zeros(1, np.int32)], [np.zeros(1, np.int32)], []
    count = 1
    above: tuple[I64, int] | None = None
    for here in reversed(by_level):
        if above is None:
            parents.append(np.zeros(len(here), np.int32))
            names.append((here // nodes + first).astype(np.int32))
        else:
            caller = here - here % nodes + parent[here % nodes]
            parents.append((above[1] + np.searchsorted(above[0], caller)).astype(np.int32))
            names.append(name[here % nodes].astype(np.int32))
        numbered.append((here, count))
        above = (here, count)
        count += len(here)
    new = np.zeros(len(keys), np.int64)
    level_of = depth[keys % nodes]
    for level, (here, start) in enumerate(numbered):
        mine = level_of == level
        new[mine] = start + np.searchsorted(here, keys[mine])
    return np.concatenate(parents), np.concatenate(names), new[inverse].astype(np.int32)
