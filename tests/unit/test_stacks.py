"""Callchains reduced to distinct stacks and to a tree of frames."""

import itertools

import numpy as np
import pytest

from insitu.convert.formats.perf_records import EventAttr, SampleDecoder
from insitu.convert.formats.perf_stream import walk
from insitu.convert.stacks import Chains, StackInterner, chains_of
from insitu.session import interning
from insitu.session.interning import StackTree

from . import perf_bytes as pb

ATTR = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE))
KERNEL = 0xFFFFFFFF81000000


def batch_of(*chains: list[int], ip: int = 0x99):
    data = b"".join(pb.sample(ip, 1, 1, 1, chain) for chain in chains)
    (batch,) = SampleDecoder([ATTR]).batches(walk(data))
    return batch


def test_markers_are_dropped_and_return_addresses_are_distinguished_from_interrupted_instructions():
    chains = chains_of(batch_of([pb.CONTEXT_KERNEL, KERNEL, KERNEL + 5, pb.CONTEXT_USER, 0x10, 0x20]))
    assert chains.address.tolist() == [KERNEL, KERNEL + 5, 0x10, 0x20]
    assert chains.called.tolist() == [False, True, False, True]


def test_a_sample_without_a_chain_is_its_instruction_pointer():
    chains = chains_of(batch_of([], [pb.CONTEXT_USER, 0x10], [pb.CONTEXT_USER], ip=0x42))
    assert [part.tolist() for part in np.split(chains.address, chains.offset[1:-1])] == [[0x42], [0x10], [0x42]]


def test_unwound_frames_follow_the_kernels():
    batch = batch_of([pb.CONTEXT_KERNEL, KERNEL], [])
    unwound = (np.array([0, 2, 3]), np.array([0x10, 0x20, 0x30], np.uint64))
    chains = chains_of(batch, unwound)
    assert chains.address.tolist() == [KERNEL, 0x10, 0x20, 0x30]
    assert chains.called.tolist() == [False, False, True, False]


def resolver(frames: dict[int, list[int]], asked: list[int]):
    """Resolves each address to frames; notes what it was asked for."""

    def resolve(epoch, address, called):
        asked.extend(address.tolist())
        found = [frames[each] for each in address.tolist()]
        return np.cumsum([0, *map(len, found)]), np.array([*itertools.chain(*found)], np.int32)

    return resolve


def test_equal_chains_are_one_stack_unless_their_address_spaces_differ():
    asked: list[int] = []
    numbered = iter(range(100))

    def resolve(epoch, address, called):
        asked.extend(address.tolist())
        return np.arange(len(address) + 1), np.array([next(numbered) for _ in address], np.int32)

    table = StackInterner(StackTree(), resolve)
    first = table.add(chains_of(batch_of([0x10, 0x20], [0x10, 0x20], [0x20, 0x10])), np.array([0, 0, 0], np.int32))
    second = table.add(
        chains_of(batch_of([0x10, 0x20], [0x10, 0x20], [KERNEL], [KERNEL])), np.array([0, 1, 0, 1], np.int32)
    )
    assert first[0] == first[1] == second[0]
    assert len({int(first[0]), int(first[2]), int(second[1]), int(second[2])}) == 4
    assert second[2] == second[3]  # a kernel stack means the same in every address space
    # Return addresses and others are different places, and so are those of different address spaces.
    assert sorted(asked) == sorted([0x10, 0x20, 0x20, 0x10, 0x10, 0x20, KERNEL])


def test_the_tree_shares_callers_and_expands_inlined_frames():
    # 0x10 is frame 1 inlined into frame 2; 0x20 is frame 0; 0x30 is frame 3.
    tree, asked = StackTree(), []
    table = StackInterner(tree, resolver({0x10: [1, 2], 0x20: [0], 0x30: [3]}, asked))
    leaf = [*table.add(chains_of(batch_of([0x10, 0x20])), np.zeros(1, np.int32))]
    leaf += [*table.add(chains_of(batch_of([0x30, 0x20])), np.zeros(1, np.int32))]
    parent, frame = tree.parent, tree.frame

    def path(node: int) -> list[int]:
        return [] if node == 0 else [*path(int(parent[node])), int(frame[node])]

    assert [path(int(node)) for node in leaf] == [[0, 2, 1], [0, 3]]
    assert len(parent) == 1 + 4  # root, 0, 2, 1, 3
    assert all(parent[1:] < np.arange(1, len(parent)))
    assert sorted(asked) == [0x10, 0x20, 0x30]  # each place once, over all batches


def test_the_node_of_any_chain_leads_back_to_its_frames():
    random = np.random.default_rng(1)
    of_address = {address: [int(address)] * int(random.integers(0, 3)) for address in range(6)}
    tree = StackTree()
    table = StackInterner(tree, resolver(of_address, []))
    for _ in range(4):
        lists = [random.integers(0, 6, int(random.integers(0, 5))).tolist() for _ in range(200)]
        offset = np.cumsum([0, *map(len, lists)])
        address = np.array([each for one in lists for each in one], np.uint64)
        nodes = table.add(Chains(offset, address, np.zeros(len(address), np.bool_)), np.zeros(200, np.int32))
        parent, frame, depth = tree.parent, tree.frame, tree.depth
        for node, addresses in zip(nodes.tolist(), lists, strict=True):
            wanted = [each for one in addresses for each in of_address[one]]
            assert depth[node] == len(wanted)
            found = []
            while node:
                found.append(int(frame[node]))
                node = int(parent[node])
            assert found == wanted


@pytest.mark.parametrize("recent", [3, 1 << 16])
def test_a_stack_has_one_node_whether_it_comes_alone_or_with_others(
    recent: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interning, "_MOST_RECENT", recent)
    random = np.random.default_rng(2)
    tree = StackTree()
    known: dict[tuple[int, ...], int] = {}
    prefixes: set[tuple[int, ...]] = {()}
    for turn in range(60):
        stacks = [tuple(random.integers(0, 5, int(random.integers(0, 6))).tolist()) for _ in range(7)]
        prefixes |= {stack[at:] for stack in stacks for at in range(len(stack))}
        if turn % 3:
            nodes = [tree.one(stack) for stack in stacks]
        else:
            frames = np.array([frame for stack in stacks for frame in stack], np.int32)
            nodes = tree.add(np.cumsum([0, *map(len, stacks)]), frames).tolist()
        for stack, node in zip(stacks, nodes, strict=True):
            assert known.setdefault(stack, node) == node
        assert len(tree) == len(prefixes)
    assert len(tree) == len(prefixes) == len(tree.parent) == len(tree.frame) == len(tree.depth)
    parent, frame = tree.parent.tolist(), tree.frame.tolist()
    for stack, node in known.items():
        assert tree.depth[node] == len(stack)
        found = []
        while node:
            found.append(frame[node])
            assert parent[node] < node
            node = parent[node]
        assert tuple(found) == stack
