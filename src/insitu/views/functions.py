"""What each function costs: by itself, and with everything it calls, recursion counted once.

A function is a name in a module; call trees also keep kinds and inlined copies apart, these tables do not. The pages
add up by the same rule (web/src/functions.ts).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.symbols.frame import WAKER
from insitu.views.call_tree import CallTree, levels

__all__ = ["Function", "FunctionCosts", "Spans", "function_costs", "outermost", "spans"]

I64 = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Function(NamedTuple):
    """A name and the path of the file that has it ("" if unknown)."""

    name: str
    module: str = ""


@dataclass(frozen=True)
class Spans:
    """Where the nodes of a tree lie in depth-first order: node i and all below it are ``[start[i], end[i])``."""

    start: I64
    end: I64


@dataclass(frozen=True)
class FunctionCosts:
    """Weights by function. ``of_node[i]`` is the function of the tree's node i, -1 for the root.

    ``own[f]`` sums the samples whose leaf is function f; ``total[f]`` those that have f anywhere on their stack. The
    stack of a waker, which is drawn above a wait, costs nothing: the wait is the leaf.
    """

    functions: list[Function]
    kinds: list[str]
    own: I64
    total: I64
    of_node: I64


def function_costs(tree: CallTree) -> FunctionCosts:
    """Sum a call tree by function."""
    index: dict[Function, int] = {}
    kinds: list[str] = []
    of_name = np.empty(len(tree.names), np.int64)
    for at, name in enumerate(tree.names):
        function = Function(name.function, name.module)
        if function not in index:
            index[function] = len(index)
            kinds.append(name.kind)
        of_name[at] = index[function]
        if kinds[of_name[at]] == WAKER:
            kinds[of_name[at]] = name.kind
    of_node = of_name[tree.name]
    of_node[0] = -1
    count = len(index)
    is_waker = np.array([name.kind == WAKER for name in tree.names], np.bool_)[tree.name]
    called = of_node >= 0
    own = np.bincount(of_node[called], weights=tree.self_weights()[called], minlength=count)
    once = outermost(of_node, spans(tree)) & ~is_waker
    once[0] = False
    total = np.bincount(of_node[once], weights=tree.total[once], minlength=count)
    return FunctionCosts(list(index), kinds, own.astype(np.int64), total.astype(np.int64), of_node)


def spans(tree: CallTree) -> Spans:
    """Depth-first positions of a tree's nodes, found one level of the tree at a time."""
    by_depth = levels(tree.parent)
    parent = tree.parent
    size = np.ones(len(parent), np.int64)
    for nodes in reversed(by_depth[1:]):
        np.add.at(size, parent[nodes], size[nodes])
    start = np.zeros(len(parent), np.int64)
    for nodes in by_depth[1:]:
        siblings = nodes[np.argsort(parent[nodes], kind="stable")]
        above, sizes = parent[siblings], size[siblings]
        before = np.cumsum(sizes) - sizes
        first = np.searchsorted(above, above, side="left")
        start[siblings] = start[above] + 1 + before - before[first]
    return Spans(start, start + size)


def outermost(key: I64, spans: Spans) -> Mask:
    """The nodes above which no node has the same key: summing their totals counts every sample once per key."""
    order = np.lexsort((spans.start, key))
    keys, start, end = key[order], spans.start[order], spans.end[order]
    if not len(keys):
        return np.zeros(0, np.bool_)
    fresh = np.concatenate(([True], keys[1:] != keys[:-1]))
    # Spans nest or are disjoint. Lifting each key's spans above the last key's makes one running maximum of ends
    # serve all keys: a node lies below one of its key exactly if an earlier span of the key reaches beyond its start.
    lift = (np.cumsum(fresh) - 1) * (int(end.max()) + 1)
    reach = np.maximum.accumulate(end + lift)
    nested = np.zeros(len(keys), np.bool_)
    nested[1:] = ~fresh[1:] & (reach[:-1] > start[1:] + lift[1:])
    result = np.empty(len(keys), np.bool_)
    result[order] = ~nested
    return result
