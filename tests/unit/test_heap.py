"""Chunks, pointers and classes of made-up heaps, whose contents are known by construction."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.inspect.heap import blocks, chunks
from insitu.inspect.heap.blocks import Heap
from insitu.inspect.heap.chunks import walk
from insitu.inspect.heap.core_file import read_core
from insitu.inspect.heap.glibc_version import refuse_unknown
from insitu.inspect.heap.leaks import examine
from insitu.inspect.heap.memory import Memory, joined, without
from insitu.inspect.heap.pointers import Pointers, Tables, pointers
from insitu.inspect.heap.reachability import DEFINITE, INDIRECT, POSSIBLE, REACHABLE, Graph, classify

_START = 0x5000_0000


def _heap(sizes: list[int], in_use: list[bool]) -> tuple[NDArray[np.uint64], int]:
    """The words of chunks of these sizes with a top of 64 bytes; the address of the top."""
    words = np.zeros((sum(sizes) + 64) // 8, np.uint64)
    at, before = 0, True
    for size, used in zip([*sizes, 64], [*in_use, True], strict=True):
        words[at + 1] = size | before
        at, before = at + size // 8, used
    return words, _START + sum(sizes)


def test_chunks_are_found_with_those_in_use() -> None:
    sizes, in_use = [32, 48, 1040, 32, 4096], [True, False, True, True, False]
    words, top = _heap(sizes, in_use)
    found = walk(words, _START, top, main=True)
    assert found.sizes.tolist() == sizes and found.in_use.tolist() == in_use
    assert found.addresses.tolist() == [_START + sum(sizes[:at]) for at in range(5)]
    assert not found.damaged and not found.gaps and found.end == top


@pytest.mark.parametrize("largest", [100, 5_000, 400_000])
def test_a_large_heap_is_walked_in_many_places_with_the_same_result(largest: int) -> None:
    random = np.random.default_rng(largest)
    sizes = (random.integers(2, largest // 16 + 3, 40_000_000 // largest) * 16).tolist()
    in_use = (random.random(len(sizes)) < 0.7).tolist()
    words, top = _heap(sizes, in_use)
    # What blocks hold may look like sizes of chunks.
    starts = np.cumsum([0, *sizes])[:-1] // 8
    inner = np.setdiff1d(random.integers(0, int(starts[-1]), len(words) // 4), np.concatenate([starts, starts + 1]))
    words[inner] = random.integers(0, 300, len(inner)).astype(np.uint64)
    found = walk(words, _START, top, main=True)
    assert found.sizes.tolist() == sizes and found.in_use.tolist() == in_use and not found.damaged


def test_an_overwritten_size_is_one_block_and_what_follows_is_found() -> None:
    sizes = [64] * 100
    words, top = _heap(sizes, [True] * 100)
    words[50 * 8 + 1] = 0x4141414141414141
    found = walk(words, _START, top, main=True)
    assert [(each.address, each.value) for each in found.damaged] == [(_START + 50 * 64, 0x4141414141414141)]
    assert found.sizes.tolist() == sizes and found.in_use.all()


def test_fences_are_passed_without_a_look_at_all_of_the_rest_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ends a chain of chunks, as where a program calls sbrk() itself: two chunks of 16 bytes (malloc.c)."""
    looked_at = []
    guesses = chunks._Walker._guesses

    def counted(walker: chunks._Walker, at: int, limit: int) -> NDArray[np.bool_]:
        looked_at.append(limit - at)
        return guesses(walker, at, limit)

    monkeypatch.setattr(chunks._Walker, "_guesses", counted)
    many, between = 2000, 40
    sizes = ([64] * between + [32]) * many + [4096] * 2000
    words, top = _heap(sizes, [True] * len(sizes))
    starts = np.cumsum([0, *sizes])[:-1] // 8
    fences = starts[between : many * (between + 1) : between + 1]
    words[fences + 1], words[fences + 3] = 16 | 1, 16 | 1
    found = walk(words, _START, top, main=True)
    kept = np.setdiff1d(starts, fences)
    assert found.addresses.tolist() == (kept * 8 + _START).tolist()
    assert found.gaps == [(_START + 8 * int(at), _START + 8 * int(at) + 32) for at in fences] and not found.damaged
    assert len(words) > 1 << 19  # else nothing is walked in many places
    assert sum(looked_at) <= 4 * len(words)


def test_lists_of_free_chunks_that_meet_are_followed_once() -> None:
    count = 1000
    words = np.zeros(4 * count, np.uint64)
    every = np.arange(_START, _START + 32 * count, 32, dtype=np.uint64)
    fields = every + np.uint64(16)  # what a list of a tcache points to: the next one, as malloc.c protects it
    words[2::4][:-1] = fields[1:] ^ (fields[:-1] >> np.uint64(12))
    words[2::4][-1] = fields[-1] >> np.uint64(12)
    memory = Memory(words, np.array([_START], np.uint64), np.array([32 * count], np.uint64))
    seen: set[int] = set()
    lists = [list(blocks._listed(memory, first, 0, every, seen)) for first in fields[::-1].tolist()]
    assert lists == [[first] for first in fields[::-1].tolist()]
    assert list(blocks._listed(memory, int(fields[0]), 0, every, set())) == fields.tolist()


def test_memory_reads_what_was_copied_and_zeros_elsewhere() -> None:
    memory = Memory(np.arange(1, 7, dtype=np.uint64), np.array([64, 256], np.uint64), np.array([16, 32], np.uint64))
    assert [memory.word(address) for address in (56, 64, 72, 80, 256, 280, 288)] == [0, 1, 2, 0, 3, 6, 0]
    assert memory.read(np.array([72, 80, 264], np.uint64)).tolist() == [2, 0, 4]
    assert memory.filled(64, 96).tolist() == [1, 2, 0, 0] and memory.bytes(65, 8) == b"\0" * 7 + b"\2"
    assert [(at, words.tolist()) for at, words in memory.parts(72, 272)] == [(72, [2]), (256, [3, 4])]


def test_ranges_are_joined_and_cut() -> None:
    assert joined([(0, 4), (4, 8), (10, 12), (11, 11)]) == [(0, 8), (10, 12)]
    assert list(without(0, 20, [(2, 4), (8, 30)])) == [(0, 2), (4, 8)]


def _classes(edges: list[tuple[int, int, bool]], roots: list[tuple[int, bool]], count: int) -> list[int]:
    ordered = sorted(edges)
    first = np.searchsorted([source for source, _, _ in ordered], np.arange(count + 1)).astype(np.int64)
    target = np.array([to for _, to, _ in ordered], np.int32)
    graph = Graph(first, target, np.array([sure for _, _, sure in ordered], np.bool_))
    to = np.array([block for block, _ in roots], np.int32)
    sure = np.array([each for _, each in roots], np.bool_)
    return classify(graph, Pointers(np.zeros(len(to), np.uint64), to, sure)).kind.tolist()


def test_classes_follow_the_chains_of_pointers() -> None:
    # 0 -> 1 (to its inside) -> 2; 3 -> 4 in a circle; 5 alone; a root leads to 0
    edges = [(0, 1, False), (1, 2, True), (3, 4, True), (4, 3, True)]
    assert _classes(edges, [(0, True)], 6) == [REACHABLE, POSSIBLE, POSSIBLE, DEFINITE, INDIRECT, DEFINITE]


@pytest.mark.parametrize("width", [1, 3000])
def test_long_lists_and_wide_fans_are_followed_alike(width: int) -> None:
    # A list of 5000 blocks, or blocks that each lead to many.
    count = 5001
    edges = [((block - 1) // width, block, True) for block in range(1, count)]
    assert set(_classes(edges, [(0, True)], count)) == {REACHABLE}
    assert _classes(edges, [], count) == [DEFINITE] + [INDIRECT] * (count - 1)


@pytest.mark.parametrize("seed", range(20))
def test_a_heap_that_was_overwritten_gives_chunks_that_do_not_overlap(seed: int) -> None:
    random = np.random.default_rng(seed)
    sizes = (random.integers(2, 60, 5000) * 16).tolist()
    words, top = _heap(sizes, [True] * 5000)
    at = int(random.integers(0, len(words) - 1))
    words[at : at + int(random.integers(1, 20_000))] = np.uint64(int(random.integers(0, 600)))
    words[random.integers(0, len(words), 100)] = random.integers(0, 4000, 100).astype(np.uint64)
    found = walk(words, _START, top if seed % 2 else 0, main=bool(seed % 3))
    assert (found.addresses[:-1] + found.sizes[:-1] <= found.addresses[1:]).all()
    assert int(found.addresses[-1] + found.sizes[-1]) <= _START + 8 * len(words)


def test_links_that_malloc_left_in_a_block_lead_to_no_block() -> None:
    """A chunk's header begins in the last word that may be used of the block before; another word is of the block."""
    words = np.zeros(40, np.uint64)
    memory = Memory(words, np.array([_START - 128], np.uint64), np.array([320], np.uint64))
    addresses, sizes = np.array([_START, _START + 64], np.uint64), np.array([56, 56], np.uint64)
    none = np.zeros(2, np.bool_)
    whole = [(_START - 128, _START + 192)]
    heap = Heap(addresses, sizes, none, np.zeros(2, np.int32), 1, 0, 0, whole, ())
    header, inner = _START + 64 - 16, _START + 64 + 16  # in the first block, in the second
    words[[1, 16 + 3, 16 + 4]] = [header, header, inner]  # outside of blocks, and in the first block
    found = pointers(memory, heap, Tables(memory, ()), whole)
    assert found.where.tolist() == [_START - 120, _START + 32]
    assert found.target.tolist() == [0, 1] and not found.sure.any()


def test_a_core_whose_c_library_is_not_here_is_read_and_that_is_said() -> None:
    core = (
        Path(__file__).parents[2] / "fuzz/corpus/heap_core/circle.core"
    )  # a circle of three, and one block after it
    found = examine(read_core(core))
    assert [tuple(total)[1:] for total in found.totals] == [(24, 1), (48 + 200, 3), (0, 0), (0, 0)]
    assert len(found.snapshot.notes) == 1 and "is not known" in found.snapshot.notes[0]


@pytest.mark.parametrize(("version", "known"), [((2, 30), False), ((2, 31), True), ((2, 41), True), ((2, 42), False)])
def test_only_known_versions_of_glibc_are_taken(version: tuple[int, int], known: bool) -> None:
    if known:
        refuse_unknown(version)
    else:
        with pytest.raises(InsituError, match=rf"glibc 2\.{version[1]}, whose heap"):
            refuse_unknown(version)
