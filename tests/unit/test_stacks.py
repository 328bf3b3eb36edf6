"""Callchains reduced to distinct stacks and to a tree of frames."""

import itertools

import numpy as np

from insitu.convert.formats.perf_records import EventAttr, SampleDecoder
from insitu.convert.formats.perf_stream import walk
from insitu.convert.stacks import StackTable, chains_of, stack_tree

from . import perf_bytes as pb

ATTR = EventAttr.parse(pb.attr(pb.SAMPLE_TYPE))
KERNEL = 0xFFFFFFFF81000000


def batch_of(*chains: list[int], ip: int = 0x99):
    data = b"".join(pb.sample(ip, 1, 1, 1, chain) for chain in chains)
    (batch,) = SampleDecoder([ATTR]).batches(walk(data))
    return batch


def test_markers_are_dropped_and_return_addresses_are_told_from_places_of_interruption():
    chains = chains_of(batch_of([pb.CONTEXT_KERNEL, KERNEL, KERNEL + 5, pb.CONTEXT_USER, 0x10, 0x20]))
    assert chains.address.tolist() == [KERNEL, KERNEL + 5, 0x10, 0x20]
    assert chains.called.tolist() == [False, True, False, True]


def test_a_sample_without_a_chain_is_its_instruction_pointer():
    chains = chains_of(batch_of([], [pb.CONTEXT_USER, 0x10], [pb.CONTEXT_USER], ip=0x42))
    assert [chains.take(np.array([i])).address.tolist() for i in range(3)] == [[0x42], [0x10], [0x42]]


def test_unwound_frames_go_behind_the_kernels():
    batch = batch_of([pb.CONTEXT_KERNEL, KERNEL], [])
    unwound = (np.array([0, 2, 3]), np.array([0x10, 0x20, 0x30], np.uint64))
    chains = chains_of(batch, unwound)
    assert chains.address.tolist() == [KERNEL, 0x10, 0x20, 0x30]
    assert chains.called.tolist() == [False, False, True, False]


def test_equal_chains_are_one_stack_unless_their_address_spaces_differ():
    table = StackTable()
    table.add(chains_of(batch_of([0x10, 0x20], [0x10, 0x20], [0x20, 0x10])), np.array([0, 0, 0], np.int32))
    table.add(chains_of(batch_of([0x10, 0x20], [0x10, 0x20], [KERNEL], [KERNEL])), np.array([0, 1, 0, 1], np.int32))
    rows, epoch, chains = table.finish()
    assert len(chains) == 4
    assert rows[0] == rows[1] == rows[3]
    assert len({rows[0], rows[2], rows[4], rows[5]}) == 4
    assert rows[5] == rows[6]  # a kernel stack means the same in every address space
    assert epoch[rows[4]] == 1


def test_the_tree_shares_callers_and_expands_inlined_frames():
    chains = chains_of(batch_of([0x10, 0x20], [0x30, 0x20]))

    def resolve(epoch, address, called):
        # 0x10 is frame 1 inlined into frame 2; 0x20 is frame 0; 0x30 is frame 3.
        frames = {0x10: [1, 2], 0x20: [0], 0x30: [3]}
        found = [frames[a] for a in address.tolist()]
        lengths = [len(f) for f in found]
        return np.cumsum([0, *lengths]), np.array([*itertools.chain(*found)], np.int32)

    parent, frame, leaf = stack_tree(chains, np.array([0, 0], np.int32), resolve)

    def path(node: int) -> list[int]:
        return [] if node == 0 else [*path(parent[node]), int(frame[node])]

    assert [path(node) for node in leaf] == [[0, 2, 1], [0, 3]]
    assert len(parent) == 1 + 4  # root, 0, 2, 1, 3
    assert all(parent[1:] < np.arange(1, len(parent)))
