"""Callchains of millions of samples reduced to the distinct ones, and those to a tree of frames.

A distinct stack is an address-space epoch and a callchain; its callers are identified by a 64-bit hash of both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from insitu.convert.formats.perf_records import CONTEXT_MAX, SampleBatch
from insitu.session.distinct import offsets_of, ranges
from insitu.session.interning import GrowingIndex, StackTree

__all__ = ["KERNEL_HALF", "Chains", "StackInterner", "chains_of"]

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
Bools = NDArray[np.bool_]

KERNEL_HALF = np.uint64(0xFFF0 << 48)
"""Kernel addresses lie above this, user addresses below (x86-64; aarch64 with up to 52-bit addresses)."""

_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
_ODD = np.uint64(0xD1342543DE82EF95)
_BASE = 0xD1342543DE82EF95  # odd, with no pattern (a multiplier of Steele and Vigna, 2021)


@dataclass(frozen=True)
class Chains:
    """Callchains, leaf first and without markers: chain i is ``address[offset[i]:offset[i + 1]]``.

    ``called`` is set where the address is a return address, so that the call is before it.
    """

    offset: I64
    address: U64
    called: Bools

    def __len__(self) -> int:
        return len(self.offset) - 1

    @classmethod
    def from_leaf(cls, offset: I64, address: U64) -> "Chains":
        """Chains that begin where each thread was; all other addresses are return addresses."""
        called = np.ones(len(address), np.bool_)
        called[offset[:-1][np.diff(offset) > 0]] = False
        return cls(offset, address, called)

    @property
    def lengths(self) -> I64:
        return np.diff(self.offset)

    def take(self, start: I64, end: I64) -> "Chains":
        """The parts [start, end) of the addresses, each as a chain."""
        at = ranges(start, end - start)
        return Chains(offsets_of(end - start), self.address[at], self.called[at])


def chains_of(batch: SampleBatch, unwound: tuple[I64, U64] | None = None, *, move_back: bool = True) -> Chains:
    """The callchain of each sample of a batch; ``unwound`` (offsets, addresses) is appended to the recorded part.

    A sample without a callchain has its instruction pointer as its only frame. Without ``move_back`` no address of
    the recorded part counts as a return address (see build).
    """
    lengths = batch.chain_len
    raw = batch.words[ranges(batch.chain_at, lengths)]
    chain = _without_markers(raw, offsets_of(lengths))
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
    kept = offsets_of(real)
    return Chains(kept[offset], raw[real], called[real])


def _joined(first: Chains, unwound: tuple[I64, U64]) -> Chains:
    """Each chain of ``first`` followed by the user frames that were unwound from its sample."""
    tail = Chains.from_leaf(*unwound)
    lengths = first.lengths + tail.lengths
    result = offsets_of(lengths)
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
    result = offsets_of(lengths)
    addresses = np.empty(int(result[-1]), np.uint64)
    calls = np.empty(int(result[-1]), np.bool_)
    filled = np.ones(len(chain), np.bool_)
    filled[rows] = False
    to = ranges(result[:-1][filled], lengths[filled])
    addresses[to], calls[to] = chain.address, chain.called
    to = ranges(result[:-1][rows], others.lengths)
    addresses[to], calls[to] = others.address, others.called
    return Chains(result, addresses, calls)


class StackInterner:
    """Callchains of batches of samples as nodes of a session's call tree; each distinct one is resolved once.

    Most samples differ from an earlier one in the leaf alone, so a chain is looked up as its callers and its leaf.
    """

    def __init__(self, tree: StackTree, resolve: Callable[[I32, U64, Bools], tuple[I64, I32]]) -> None:
        """``resolve(epoch, address, called)`` returns offsets and frames, leaf first, of n distinct addresses."""
        self._tree = tree
        self._resolve = resolve
        self._callers = GrowingIndex()
        self._callers_nodes = np.zeros(0, np.int32)
        self._stacks = GrowingIndex()
        self._nodes = np.zeros(0, np.int32)
        self._places = GrowingIndex()
        self._offset = np.zeros(1, np.int64)
        self._frames = np.zeros(0, np.int32)

    def add(self, chains: Chains, epoch: I32) -> I32:
        """The node of each chain."""
        rows = np.flatnonzero(chains.lengths)
        nodes = np.zeros(len(chains), np.int32)
        leaf, end, epoch = chains.offset[:-1][rows], chains.offset[1:][rows], epoch[rows]
        ids, new = self._callers.number(_hash(chains, leaf + 1, end, epoch))
        if len(new):
            grown = self._grown(chains.take(leaf[new] + 1, end[new]), epoch[new])
            self._callers_nodes = np.concatenate([self._callers_nodes, grown])
        outer = self._callers_nodes[ids]
        place = self._placed(chains.address[leaf], chains.called[leaf], epoch)
        ids, new = self._stacks.number(outer.astype(np.uint64) << np.uint64(32) | place.astype(np.uint64))
        if len(new):
            grown = self._tree.add(*self._frames_at(place[new]), outer[new])
            self._nodes = np.concatenate([self._nodes, grown])
        nodes[rows] = self._nodes[ids]
        return nodes

    def _grown(self, chains: Chains, epoch: I32) -> I32:
        """The nodes of new chains."""
        places = self._placed(chains.address, chains.called, np.repeat(epoch, chains.lengths))
        running, frames = self._frames_at(places)
        return self._tree.add(running[chains.offset], frames)

    def _placed(self, address: U64, called: Bools, epoch: I32) -> I64:
        """The id of each address, whose frames are resolved by then."""
        where = np.where(address < KERNEL_HALF, epoch, np.int32(-1))
        place = (address + called) * _MIX ^ (where.astype(np.int64).view(np.uint64) + np.uint64(2)) * _ODD
        place ^= called.astype(np.uint64) << np.uint64(63)
        ids, new = self._places.number(place)
        if len(new):
            offset, frames = self._resolve(where[new], address[new], called[new])
            self._offset = np.concatenate([self._offset, self._offset[-1] + offset[1:]])
            self._frames = np.concatenate([self._frames, frames])
        return ids

    def _frames_at(self, places: I64) -> tuple[I64, I32]:
        """Offsets (n + 1) and frames, leaf first, of n places."""
        start = self._offset[places]
        count = self._offset[places + 1] - start
        return offsets_of(count), self._frames[ranges(start, count)]


def _hash(chains: Chains, start: I64, end: I64, epoch: I32) -> U64:
    """A 64-bit hash of each epoch and part [start, end) of the addresses: a polynomial, modulo 2**64."""
    mixed = chains.address + chains.called
    mixed *= _MIX
    mixed ^= mixed >> np.uint64(29)
    # All chains are weighted by one run of powers of an odd base; its inverse's powers bring each back to its start.
    mixed *= _powers(_BASE, len(mixed))
    # A running sum makes sums over ranges, empty ones included, of two look-ups; wrap-around is meant.
    running = np.zeros(len(mixed) + 1, np.uint64)
    np.cumsum(mixed, out=running[1:])
    back = _powers(pow(_BASE, -1, 1 << 64), len(mixed) + 1)
    sums = (running[end] - running[start]) * back[start]
    # User addresses depend on the epoch; a stack of kernel addresses alone does not.
    user = np.where(chains.address[end - 1] < KERNEL_HALF, epoch + 2, 1).astype(np.uint64)
    salted: U64 = (sums + (end - start).astype(np.uint64)) * _MIX + user * np.uint64(_BASE)
    return salted


_known_powers: Final[dict[int, U64]] = {}


def _powers(base: int, count: int) -> U64:
    """base**0, base**1 and so on, modulo 2**64; kept, since each batch of samples needs about as many."""
    powers = _known_powers.get(base)
    if powers is None or len(powers) < count:
        factors = np.full(count + count // 8, base, np.uint64)
        factors[:1] = 1
        powers = _known_powers[base] = np.cumprod(factors, dtype=np.uint64)
    return powers[:count]
