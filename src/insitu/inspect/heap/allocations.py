"""Where and when the blocks of a heap were allocated, for those whose allocation was traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.leaks import Leaks
from insitu.symbols.frame import Frame

__all__ = ["U64", "Allocations", "StackGroup", "Traced", "by_stack", "joined", "untraced"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]


class Traced(NamedTuple):
    """Blocks that were allocated while the process was traced, and not freed: columns of equal length.

    ``age_ns`` when the process was copied; ``stack`` indexes ``stacks``, innermost frame first; 0 is the empty one.
    """

    address: U64
    asked_bytes: I64
    age_ns: I64
    stack: I32
    stacks: Sequence[tuple[Frame, ...]]


class Allocations(NamedTuple):
    """For each block of a heap how long it was when it was asked for and how old it is, -1: not traced."""

    asked_bytes: I64
    age_ns: I64
    stack: I32
    stacks: Sequence[tuple[Frame, ...]]


class StackGroup(NamedTuple):
    """Blocks of one class that one stack has allocated. ``bytes`` are those that may be used."""

    kind: int
    bytes: int
    blocks: int
    oldest_ns: int
    newest_ns: int
    stack: tuple[Frame, ...]


def untraced(count: int) -> Allocations:
    """So many blocks of which nothing is known."""
    unknown = np.full(count, -1, np.int64)
    return Allocations(unknown, unknown.copy(), np.zeros(count, np.int32), [()])


def joined(found: Leaks, traced: Traced) -> Allocations:
    """What is known of each block. What was traced and is no block of the copy, or a shorter one, is left out."""
    addresses, sizes = found.heap.addresses, found.heap.sizes
    count = len(addresses)
    asked, age, stack, _ = untraced(count)
    if count and len(traced.address):
        at = np.minimum(np.searchsorted(addresses, traced.address), count - 1)
        fits = (addresses[at] == traced.address) & (traced.asked_bytes <= sizes[at].astype(np.int64))
        fits &= traced.age_ns >= 0  # else it was allocated after the copy, where another block had been
        at = at[fits]
        asked[at], age[at], stack[at] = traced.asked_bytes[fits], traced.age_ns[fits], traced.stack[fits]
    return Allocations(asked, age, stack, traced.stacks)


def by_stack(found: Leaks, allocations: Allocations, kinds: Sequence[int]) -> list[StackGroup]:
    """The blocks of some classes whose allocation was traced, by stack: each class with the most bytes first."""
    kind = found.verdicts.kind
    blocks = np.flatnonzero(np.isin(kind, list(kinds)) & (allocations.age_ns >= 0))
    keys = np.stack([kind[blocks].astype(np.int64), allocations.stack[blocks].astype(np.int64)], 1)
    unique, inverse = np.unique(keys, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    groups = []
    for row, (of, stack) in enumerate(unique.tolist()):
        mine = blocks[inverse == row]
        ages = allocations.age_ns[mine]
        total = int(found.heap.sizes[mine].sum())
        groups.append(StackGroup(of, total, len(mine), int(ages.max()), int(ages.min()), allocations.stacks[stack]))
    return sorted(groups, key=lambda group: (group.kind, -group.bytes))
