"""Why a block is alive: the chain of pointers from a root to it; and which blocks keep how much alive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.leaks import Leaks
from insitu.inspect.heap.memory import WORD
from insitu.inspect.heap.reachability import DEFINITE, INDIRECT, Graph
from insitu.inspect.variable_names import VariableNames

__all__ = ["Holder", "Step", "block_at", "dominators", "root_name", "why"]

I64 = NDArray[np.int64]

_MOST_STEPS: Final = 1 << 24
_TLS_BYTES: Final = 1 << 12  # below the thread pointer


class Step(NamedTuple):
    """One pointer of a chain: from ``where``, in words, to a place in the block at ``address``."""

    where: str
    address: int
    size: int
    offset: int


class Holder(NamedTuple):
    """A block that no other one keeps alive. ``bytes`` and ``blocks`` are what it keeps alive, itself included."""

    address: int
    size: int
    bytes: int
    blocks: int


def block_at(found: Leaks, address: int) -> int:
    """The index of the block that an address is in, -1 if it is in none."""
    heap = found.heap
    index = int(np.searchsorted(heap.addresses, np.uint64(address), side="right")) - 1
    return index if index >= 0 and address < int(heap.addresses[index] + heap.sizes[index]) else -1


def why(found: Leaks, block: int, names: VariableNames) -> list[Step]:
    """The chain of pointers from a root to a block, or, if it is lost with another one, from that one on."""
    chain = [block]
    parents = found.verdicts.parent
    if found.verdicts.kind[block] == INDIRECT:
        chain = _path(found.edges, int(found.verdicts.leader[block]), block)
    else:
        while parents[chain[-1]] >= 0 and len(chain) < _MOST_STEPS:
            chain.append(int(parents[chain[-1]]))
        chain.reverse()
    steps = []
    for index, each in enumerate(chain):
        address, size = int(found.heap.addresses[each]), int(found.heap.sizes[each])
        if index:
            where, offset = _between(found, chain[index - 1], each)
        else:
            where, offset = _from_root(found, each, names)
        steps.append(Step(where, address, size, offset))
    return steps


def _path(edges: Graph, start: int, end: int) -> list[int]:
    """The shortest chain of blocks from one to another."""
    parent = {start: start}
    wave = [start]
    while wave and end not in parent:
        following = []
        for block in wave:
            for to in edges.target[edges.first[block] : edges.first[block + 1]].tolist():
                if to not in parent:
                    parent[to] = block
                    following.append(to)
        wave = following
    chain = [end]
    while end in parent and chain[-1] != start:
        chain.append(parent[chain[-1]])
    return chain[::-1]


def _between(found: Leaks, source: int, target: int) -> tuple[str, int]:
    """Where in a block the pointer to another one is, and where in that one it leads."""
    heap = found.heap
    start, size = int(heap.addresses[source]), int(heap.sizes[source])
    words = found.snapshot.memory.filled(start, start + size // WORD * WORD)
    offsets = words - heap.addresses[target]
    at = np.flatnonzero(offsets < heap.sizes[target])
    if not len(at):
        return "", 0
    best = int(at[np.argmin(offsets[at])])
    return f"{start:#x}+{WORD * best:#x}", int(offsets[best])


def _from_root(found: Leaks, block: int, names: VariableNames) -> tuple[str, int]:
    kind = found.verdicts.kind[block]
    if kind == DEFINITE:
        return "", 0
    roots = np.flatnonzero(found.from_roots.target == block)
    if not len(roots):
        return "", 0
    best = int(roots[np.argmax(found.from_roots.sure[roots])])
    where = int(found.from_roots.where[best])
    start = int(found.heap.addresses[block])
    value = found.snapshot.memory.word(where) if where else start
    return root_name(found, where, block, names), value - start


def root_name(found: Leaks, where: int, block: int, names: VariableNames) -> str:
    """What a root at an address is, in words; 0: a register that points to a block, or the C library's own."""
    if not where:
        start, size = int(found.heap.addresses[block]), int(found.heap.sizes[block])
        for thread, register, value in found.roots.registers:
            if start <= value < start + size:
                return f"register {register} of {thread.name}/{thread.tid}"
        return "a thread's table of thread-local variables"
    for root in found.roots.ranges:
        if root.start <= where < root.end:
            break
    else:
        return f"{where:#x}"
    if root.kind == "stack":
        return f"stack of {root.name}, {where:#x}"
    variable = names.name(where)
    for thread in found.snapshot.threads:
        if 0 <= thread.thread_pointer - where < _TLS_BYTES and not variable:
            return f"thread-local variables of {thread.name}/{thread.tid}, {where:#x}"
    file = names.file(where)
    if variable or file:
        return f"{variable or f'data {where:#x}'} in {file}"
    return f"memory {where:#x}{f' of {root.name}' if root.name else ''}"


def dominators(found: Leaks) -> list[Holder]:
    """The blocks that no other block keeps alive, what they keep alive with them, the most bytes first.

    A block keeps another one alive if all chains from roots to that one lead through it.
    """
    count = len(found.heap.addresses)
    order, parent, before = _depth_first(found.edges, np.unique(found.from_roots.target), count)
    above = _immediate(order, parent, before, count)
    sizes = found.heap.sizes.tolist()
    held, blocks = [0] * (count + 1), [0] * (count + 1)
    for block in reversed(order[1:]):
        held[block] += sizes[block]
        blocks[block] += 1
        held[above[block]] += held[block]
        blocks[above[block]] += blocks[block]
    tops = [block for block in order[1:] if above[block] == count]
    addresses = found.heap.addresses
    result = [Holder(int(addresses[block]), sizes[block], held[block], blocks[block]) for block in tops]
    return sorted(result, key=lambda holder: (-holder.bytes, holder.address))


def _depth_first(
    edges: Graph, roots: I64 | NDArray[np.int32], count: int
) -> tuple[list[int], list[int], list[list[int]]]:
    """Blocks in depth-first order from ``count``, which stands for all roots; their parents, and their sources."""
    first, target = edges.first.data, edges.target.data
    parent = [-1] * (count + 1)
    before: list[list[int]] = [[] for _ in range(count + 1)]
    parent[count] = count
    order = [count]
    starts = roots.tolist()
    stack: list[list[int]] = [[count, 0, len(starts)]]
    while stack:
        top = stack[-1]
        block, at, end = top
        if at == end:
            stack.pop()
            continue
        top[1] += 1
        to = starts[at] if block == count else target[at]
        before[to].append(block)
        if parent[to] < 0:
            parent[to] = block
            order.append(to)
            stack.append([to, first[to], first[to + 1]])
    return order, parent, before


def _immediate(order: Sequence[int], parent: Sequence[int], before: Sequence[Sequence[int]], count: int) -> list[int]:
    """The immediate dominator of each block, by Lengauer and Tarjan's algorithm (simple linking)."""
    number = [-1] * (count + 1)
    for index, block in enumerate(order):
        number[block] = index
    semi = list(number)
    ancestor = [-1] * (count + 1)
    label = list(range(count + 1))
    above = [count] * (count + 1)
    buckets: dict[int, list[int]] = {}

    def evaluated(block: int) -> int:
        if ancestor[block] < 0:
            return block
        path = []
        at = block
        while ancestor[ancestor[at]] >= 0:
            path.append(at)
            at = ancestor[at]
        for each in reversed(path):
            up = ancestor[each]
            if semi[label[up]] < semi[label[each]]:
                label[each] = label[up]
            ancestor[each] = ancestor[up]
        return label[block]

    for block in reversed(order[1:]):
        for source in before[block]:
            semi[block] = min(semi[block], semi[evaluated(source)])
        buckets.setdefault(order[semi[block]], []).append(block)
        up = parent[block]
        ancestor[block] = up
        for each in buckets.pop(up, ()):
            best = evaluated(each)
            above[each] = best if semi[best] < semi[each] else up
    for block in order[1:]:
        if above[block] != order[semi[block]]:
            above[block] = above[above[block]]
    return above
