"""Call trees made from weighted stacks."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.session.weighted_stacks import WeightedStacks
from insitu.views.call_tree import CallTree, call_tree, named_stacks, united

from .stacks import stacks_of

SAMPLES = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), max_size=5), st.integers(1, 3), st.integers(1, 9)), max_size=30
)


def paths(tree: CallTree) -> dict[tuple[str, ...], tuple[int, int]]:
    """Own and total weight of each path of function names below the root."""
    found: dict[int, tuple[str, ...]] = {0: ()}
    for node in range(1, len(tree)):
        assert tree.parent[node] < node
        found[node] = (*found[int(tree.parent[node])], tree.names[tree.name[node]].function)
    result = {path: (int(tree.own[node]), int(tree.total[node])) for node, path in found.items()}
    assert len(result) == len(tree), "siblings of one name must be one node"
    return result


def expected(chains: list[tuple[list[str], int]]) -> dict[tuple[str, ...], tuple[int, int]]:
    own, total = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    total[()] = own[()] = 0
    for functions, weight in chains:
        own[tuple(functions)] += weight
        for length in range(len(functions) + 1):
            total[tuple(functions[:length])] += weight
    return {path: (own[path], total[path]) for path in total}


@settings(max_examples=200, deadline=None)
@given(SAMPLES)
def test_a_tree_sums_own_and_total_of_every_path(samples):
    assert paths(call_tree(stacks_of(samples), value="count")) == expected([(f, 1) for f, _, _ in samples])
    assert paths(call_tree(stacks_of(samples), value="weight")) == expected([(f, w) for f, _, w in samples])


@settings(max_examples=200, deadline=None)
@given(SAMPLES)
def test_a_reversed_tree_is_the_tree_of_reversed_stacks(samples):
    assert paths(call_tree(stacks_of(samples), reverse=True)) == expected([(f[::-1], 1) for f, _, _ in samples])


@settings(max_examples=200, deadline=None)
@given(SAMPLES)
def test_a_tree_by_thread_has_a_level_of_threads_below_the_root(samples):
    for reverse in (False, True):
        tree = paths(call_tree(stacks_of(samples), by_thread=True, reverse=reverse))
        step = -1 if reverse else 1
        assert tree == expected([([f"t{tid}/{tid}", *f[::step]], 1) for f, tid, _ in samples])


@settings(max_examples=200, deadline=None)
@given(SAMPLES, SAMPLES)
def test_united_trees_have_the_paths_of_both_and_their_own_weights(first, second):
    before, after = (call_tree(stacks_of(each)) for each in (first, second))
    one, two = united(before, after)
    np.testing.assert_array_equal(one.parent, two.parent)
    for shown, tree in ((paths(one), paths(before)), (paths(two), paths(after))):
        assert {path: weights for path, weights in shown.items() if weights[1]} == {
            path: weights for path, weights in tree.items() if weights[1]
        }
    assert set(paths(one)) == set(paths(before)) | set(paths(after))


def test_depths_count_from_the_root():
    tree = call_tree(stacks_of([(["a", "b", "c"], 1, 1), (["a"], 1, 1), (["b", "a"], 1, 1)]))
    depths = tree.depths()
    assert depths[0] == 0
    assert all(depths[node] == depths[tree.parent[node]] + 1 for node in range(1, len(tree)))


def test_frames_of_one_function_at_different_lines_are_one_name():
    stacks: WeightedStacks = stacks_of([(["a"], 1, 1), (["a", "b"], 1, 1)])
    lines = [frame._replace(function="a", line=number) for number, frame in enumerate(stacks.frames)]
    stacks = WeightedStacks(**{**stacks.__dict__, "frames": lines})
    assert paths(call_tree(stacks)) == {(): (0, 2), ("a",): (1, 2), ("a", "a"): (1, 1)}
    assert len(named_stacks(stacks).names) == 2


@pytest.mark.parametrize("value", ["count", "weight"])
def test_an_empty_recording_is_a_root_alone(value):
    assert paths(call_tree(stacks_of([]), value=value)) == {(): (0, 0)}
