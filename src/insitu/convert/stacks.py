"""Callchains of millions of samples reduced to the distinct ones, and those to a tree of frames.

A distinct stack is an address-space epoch and a callchain; it is told apart by a 64-bit hash of both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.perf_records import CONTEXT_MAX, SampleBatch
from insitu.session.distinct import distinct, ranges

__all__ = ["KERNEL_HALF", "Chains", "StackTable", "chains_of", "stack_tree"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

KERNEL_HALF = np.uint64(0xFFF0 << 48)
"""Kernel addresses lie above this, user addresses below (x86-64; aarch64 with up to 52-bit addresses)."""

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
_BASE = 0xD1342543DE82EF95  # odd, with no pattern (a multiplier of Steele and Vigna, 2021)


@dataclass(frozen=True)
class Chains:
    """Callchains, leaf first and without markers: chain i is ``address[offset[i]:offset[i + 1]]``.

    ``called`` is set where the address is a return address, so that the call lies before it.
    """

    offset: I64
    address: U64
    called: Bools

    def __len__(self) -> int:
        return len(self.offset) - 1

    @property
    def lengths(self) -> I64:
        return np.diff(self.offset)

    def take(self, rows: I64) -> "Chains":
        """The chains of ``rows``, in that order."""
        lengths = self.lengths[rows]
        at = ranges(self.offset[:-1][rows], lengths)
        return Chains(_offsets(lengths), self.address[at], self.called[at])


def _offsets(lengths: I64) -> I64:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])


def chains_of(batch: SampleBatch, unwound: tuple[I64, U64] | None = None, *, move_back: bool = True) -> Chains:
    """The callchain of each sample of a batch; ``unwound`` (offsets, addresses) is put behind the recorded part.

    A sample without a callchain has its instruction pointer as its only frame. Without ``move_back`` no address of
    the recorded part counts as a return address (see build).
    """
    lengths = batch.chain_len
    raw = batch.words[ranges(batch.chain_at, lengths)]
    chain = _without_markers(raw, _offsets(lengths))
    if not move_back:
        chain = Chains(chain.offset, chain.address, np.zeros_like(chain.called))
    if unwound is not None:
        chain = _joined(chain, unwound)
    bare = np.flatnonzero(chain.lengths == 0)
    if len(bare):
        only = _without_markers(batch.ip[bare], np.arange(len(bare) + 1))
        chain = _merged(chain, bare, only)
    return chain


def _without_markers(raw: U64, offset: I64) -> Chains:
    real = raw < CONTEXT_MAX
    called = np.ones(len(raw), np.bool_)
    called[offset[:-1][offset[:-1] < len(raw)]] = False
    called[1:] &= real[:-1]  # the address after a marker is where that context was interrupted
    kept = np.concatenate([np.zeros(1, np.int64), np.cumsum(real)])
    return Chains(kept[offset], raw[real], called[real])


def _joined(first: Chains, unwound: tuple[I64, U64]) -> Chains:
    """Each chain of ``first`` followed by the user frames that were unwound from its sample."""
    offset, address = unwound
    called = np.ones(len(address), np.bool_)
    called[offset[:-1][np.diff(offset) > 0]] = False
    tail = Chains(offset, address, called)
    lengths = first.lengths + tail.lengths
    result = _offsets(lengths)
    addresses = np.empty(int(result[-1]), np.uint64)
    calls = np.empty(int(result[-1]), np.bool_)
    for part, start in ((first, result[:-1]), (tail, result[:-1] + first.lengths)):
        to = ranges(start, part.lengths)
        addresses[to], calls[to] = part.address, part.called
    return Chains(result, addresses, calls)


def _merged(chain: Chains, rows: I64, others: Chains) -> Chains:
    """``chain`` with its empty rows ``rows`` replaced by ``others``."""
    lengths = chain.lengths.copy()
    lengths[rows] = others.lengths
    result = _offsets(lengths)
    addresses = np.empty(int(result[-1]), np.uint64)
    calls = np.empty(int(result[-1]), np.bool_)
    filled = np.ones(len(chain), np.bool_)
    filled[rows] = False
    to = ranges(result[:-1][filled], lengths[filled])
    addresses[to], calls[to] = chain.address, chain.called
    to = ranges(result[:-1][rows], others.lengths)
    addresses[to], calls[to] = others.address, others.called
    return Chains(result, addresses, calls)


class StackTable:
    """Distinct (epoch, callchain) pairs of batches of samples."""

    def __init__(self) -> None:
        self._hashes: list[U64] = []
        self._distinct: list[U64] = []
        self._chains: list[Chains] = []
        self._epochs: list[I32] = []

    def add(self, chains: Chains, epoch: I32) -> None:
        """Take in the stacks of a batch of samples."""
        hashes = _hash(chains, epoch)
        found, first = np.unique(hashes, return_index=True)
        self._hashes.append(hashes)
        self._distinct.append(found)
        self._chains.append(chains.take(first))
        self._epochs.append(epoch[first])

    def finish(self) -> tuple[I64, I32, Chains]:
        """Row of each sample (in the order they were added), and of each row its epoch and callchain."""
        if not self._hashes:
            nothing = np.zeros(0, np.int64)
            return nothing, np.zeros(0, np.int32), Chains(np.zeros(1, np.int64), np.zeros(0, np.uint64), nothing > 0)
        found, first = np.unique(np.concatenate(self._distinct), return_index=True)
        chains = _concatenated(self._chains).take(first)
        rows = np.concatenate([np.searchsorted(found, hashes) for hashes in self._hashes])
        return rows, np.concatenate(self._epochs)[first], chains


def _concatenated(parts: Sequence[Chains]) -> Chains:
    if len(parts) == 1:
        return parts[0]
    return Chains(
        _offsets(np.concatenate([part.lengths for part in parts])),
        np.concatenate([part.address for part in parts]),
        np.concatenate([part.called for part in parts]),
    )


def _hash(chains: Chains, epoch: I32) -> U64:
    """A 64-bit hash of each epoch and chain: a polynomial, modulo 2**64, of the mixed addresses."""
    lengths = chains.lengths
    mixed = chains.address + chains.called
    mixed *= _MIX
    mixed ^= mixed >> np.uint64(29)
    # All chains are weighted by one run of powers of an odd base; its inverse's powers bring each back to its start.
    mixed *= _powers(_BASE, len(mixed))
    # A running sum makes sums over ranges, empty ones included, of two look-ups; wrap-around is meant.
    running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed, dtype=np.uint64)])
    back = _powers(pow(_BASE, -1, 1 << 64), len(mixed) + 1)
    sums = (running[chains.offset[1:]] - running[chains.offset[:-1]]) * back[chains.offset[:-1]]
    # The epoch tells user addresses apart; a stack that stays in the kernel means the same everywhere.
    ends = np.maximum(chains.offset[1:] - 1, 0)
    last = chains.address[ends] if len(chains.address) else np.zeros(len(chains), np.uint64)
    user = np.where(last < KERNEL_HALF, epoch + 2, 1).astype(np.uint64)
    salted: U64 = (sums + lengths.astype(np.uint64)) * _MIX + user * np.uint64(_BASE)
    return salted


def _powers(base: int, count: int) -> U64:
    """base**0, base**1 and so on, modulo 2**64."""
    factors = np.full(count, base, np.uint64)
    factors[:1] = 1
    powers: U64 = np.cumprod(factors, dtype=np.uint64)
    return powers


def stack_tree(
    chains: Chains, epoch: I32, resolve: Callable[[I32, U64, Bools], tuple[I64, I32]]
) -> tuple[I32, I32, I32]:
    """The tree of frames of distinct stacks: parent and frame of each node, and the leaf node of each stack.

    ``resolve(epoch, address, called)`` gives for distinct addresses (all three of one length) offsets (n + 1) and
    frame indices, innermost first. Node 0 is the root, whose frame is -1; parents come before children.
    """
    lengths = chains.lengths
    where = np.where(chains.address < KERNEL_HALF, np.repeat(epoch, lengths), np.int32(-1))
    first, inverse = _distinct_rows(where, chains.address, chains.called)
    offset, frames = resolve(where[first], chains.address[first], chains.called[first])
    per_address = np.diff(offset)[inverse]
    flat = frames[ranges(offset[:-1][inverse], per_address)]
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(per_address)])
    ends = running[chains.offset[1:]]
    depth = ends - running[chains.offset[:-1]]
    return _tree(flat, ends, depth)


def _distinct_rows(where: I32, address: U64, called: Bools) -> tuple[I64, I64]:
    """First index of each distinct (where, address, called), and for each element which of them it is."""
    _, number = distinct(address)
    key = (number * (int(where.max(initial=0)) + 2) + where + 1) * 2 + called
    keys, inverse = distinct(key)
    first = np.empty(len(keys), np.int64)
    first[inverse[::-1]] = np.arange(len(key) - 1, -1, -1)
    return first, inverse


def _tree(flat: I32, ends: I64, depth: I64) -> tuple[I32, I32, I32]:
    """Merge chains of frame indices (leaf first, chain i ending before ``ends[i]``) from their roots."""
    parents: list[I32] = [np.zeros(1, np.int32)]
    frames: list[I32] = [np.full(1, -1, np.int32)]
    at = np.zeros(len(ends), np.int32)
    most = int(flat.max(initial=0)) + 1
    count, level = 1, 0
    live = np.flatnonzero(depth > 0)
    while len(live):
        key = at[live].astype(np.int64) * most + flat[ends[live] - 1 - level]
        nodes, inverse = distinct(key)
        parents.append((nodes // most).astype(np.int32))
        frames.append((nodes % most).astype(np.int32))
        at[live] = count + inverse
        count += len(nodes)
        level += 1
        live = live[depth[live] > level]
    return np.concatenate(parents), np.concatenate(frames), at
