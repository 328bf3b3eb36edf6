"""Leaks of a process that was never prepared for it: copy it, walk its heap, follow all pointers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from insitu.inspect.heap.blocks import Heap, read_heap
from insitu.inspect.heap.glibc_version import UNKNOWN, glibc_version, refuse_unknown
from insitu.inspect.heap.memory import joined
from insitu.inspect.heap.pointers import HEURISTICS, Pointers, Tables, pointers
from insitu.inspect.heap.pointers import usual as _usual
from insitu.inspect.heap.reachability import CLASSES, Graph, Verdicts, classify, graph
from insitu.inspect.heap.roots import Roots, roots
from insitu.inspect.heap.snapshot import Snapshot, take

__all__ = ["Leaks", "Total", "examine", "leaks"]


class Total(NamedTuple):
    """The blocks of one class. Bytes are those that may be used (malloc_usable_size)."""

    kind: str
    bytes: int
    blocks: int


class Leaks(NamedTuple):
    """The heap of a process, and what of it is lost."""

    snapshot: Snapshot
    heap: Heap
    roots: Roots
    edges: Graph
    from_roots: Pointers
    verdicts: Verdicts
    tables: Tables

    @property
    def totals(self) -> list[Total]:
        """The sum of each class, in the order of CLASSES."""
        kind, sizes = self.verdicts.kind, self.heap.sizes
        return [
            Total(name, int(sizes[kind == number].sum()), int((kind == number).sum()))
            for number, name in enumerate(CLASSES)
        ]


def leaks(pid: int, *, heuristics: Sequence[str] = HEURISTICS, most_bytes: int = 0) -> Leaks:
    """The leaks of a process, which is stopped while its memory is copied.

    ``heuristics`` are which pointers to the inside of blocks count as those to the beginning. ``most_bytes`` of
    memory are copied at most, 0: half of what is available. Raises InsituError.
    """
    return examine(take(pid, most_bytes), heuristics)


def examine(snapshot: Snapshot, heuristics: Sequence[str] = HEURISTICS) -> Leaks:
    """The leaks in a copy of a process. Raises InsituError if its heap is not glibc's, or of another version."""
    version = glibc_version(snapshot.pid if snapshot.live else 0, snapshot.areas)
    refuse_unknown(version)
    heap = read_heap(snapshot)
    if version is None and heap.arenas:
        snapshot = snapshot._replace(notes=[*snapshot.notes, UNKNOWN])
    around = roots(snapshot, heap)
    tables = Tables(snapshot.memory, snapshot.areas)
    if not len(heap.addresses):
        nothing = Pointers(np.zeros(0, np.uint64), np.zeros(0, np.int32), np.zeros(0, np.bool_))
        edges = graph(heap, nothing)
        return Leaks(snapshot, heap, around, edges, nothing, classify(edges, nothing), tables)
    inside = pointers(snapshot.memory, heap, tables, heap.ranges, heuristics)
    edges = graph(heap, inside)
    ranges = joined([(root.start, root.end) for root in around.ranges])
    outside = [pointers(snapshot.memory, heap, tables, ranges, heuristics)]
    values = [value for _, _, value in around.registers] + list(around.own)
    outside.append(_of_values(snapshot, heap, tables, values, heuristics))
    from_roots = Pointers(*(np.concatenate(column) for column in zip(*outside, strict=True)))
    return Leaks(snapshot, heap, around, edges, from_roots, classify(edges, from_roots), tables)


def _of_values(
    snapshot: Snapshot, heap: Heap, tables: Tables, values: Sequence[int], heuristics: Sequence[str]
) -> Pointers:
    """Which values, that are in no memory (where: 0), point to blocks."""
    words = np.array(values, np.uint64)
    target = np.searchsorted(heap.addresses, words, side="right") - 1
    offset = words - heap.addresses[target]
    inside = (target >= 0) & (offset < heap.sizes[target])
    target, offset = target[inside], offset[inside]
    sure = (offset == 0) | _usual(snapshot.memory, heap, tables, target, offset, heuristics)
    return Pointers(np.zeros(len(target), np.uint64), target.astype(np.int32), sure)
