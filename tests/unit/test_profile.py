"""Call trees made from stacks, and thread names over time."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.session.profile import CallTree, Profile, Thread
from insitu.symbols.frame import Frame

I32, I64 = np.int32, np.int64


def profile_of(samples: list[tuple[list[str], int, int]], threads: tuple[Thread, ...] = ()) -> Profile:
    """From (outermost-first functions, tid, weight) a sample each, one nanosecond apart."""
    names: dict[str, int] = {}
    nodes: dict[tuple[int, int], int] = {}
    parent, frame, leaves = [0], [-1], []
    for functions, _, _ in samples:
        node = 0
        for function in functions:
            key = (node, names.setdefault(function, len(names)))
            if key not in nodes:
                nodes[key] = len(parent)
                parent.append(key[0])
                frame.append(key[1])
            node = nodes[key]
        leaves.append(node)
    n = len(samples)
    return Profile(
        frames=[Frame(name, line=number) for number, name in enumerate(names)],
        stack_parent=np.array(parent, I32),
        stack_frame=np.array(frame, I32),
        ts_ns=np.arange(n, dtype=I64),
        cpu=np.zeros(n, I32),
        tid=np.array([tid for _, tid, _ in samples], I32),
        stack=np.array(leaves, I32),
        event=np.zeros(n, I32),
        weight=np.array([weight for _, _, weight in samples], I64),
        threads=list(threads),
    )


def paths(tree: CallTree) -> dict[tuple[str, ...], tuple[int, int]]:
    """Own and total weight of each path of function names below the root."""
    found: dict[int, tuple[str, ...]] = {0: ()}
    for node in range(1, len(tree)):
        found[node] = (*found[int(tree.parent[node])], tree.names[tree.name[node]].function)
    result = {path: (int(tree.own[node]), int(tree.total[node])) for node, path in found.items()}
    assert len(result) == len(tree), "siblings of one name must be one node"
    return result


SAMPLES = st.lists(
    st.tuples(st.lists(st.sampled_from("abc"), max_size=5), st.integers(1, 3), st.integers(1, 9)), max_size=30
)


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
    assert paths(profile_of(samples).tree()) == expected([(f, 1) for f, _, _ in samples])
    assert paths(profile_of(samples).tree(value="weight")) == expected([(f, w) for f, _, w in samples])


@settings(max_examples=200, deadline=None)
@given(SAMPLES)
def test_a_reversed_tree_is_the_tree_of_reversed_stacks(samples):
    assert paths(profile_of(samples).tree(reverse=True)) == expected([(f[::-1], 1) for f, _, _ in samples])


@settings(max_examples=200, deadline=None)
@given(SAMPLES)
def test_a_tree_by_thread_has_a_level_of_threads_below_the_root(samples):
    tree = paths(profile_of(samples).tree(by_thread=True))
    assert tree == expected([([f":{tid}/{tid}", *f], 1) for f, tid, _ in samples])


def test_a_mask_selects_samples():
    profile = profile_of([(["a"], 1, 1), (["b"], 1, 1), (["a"], 2, 1)])
    assert paths(profile.tree(select=profile.tid == 1)) == expected([(["a"], 1), (["b"], 1)])


def test_depths_count_from_the_root():
    tree = profile_of([(["a", "b", "c"], 1, 1), (["a"], 1, 1), (["b", "a"], 1, 1)]).tree()
    depths = tree.depths()
    assert depths[0] == 0
    assert all(depths[node] == depths[tree.parent[node]] + 1 for node in range(1, len(tree)))


def test_a_thread_goes_by_the_name_it_had_at_the_time():
    threads = (Thread(1, 1, 0, "sh", start_ns=0, end_ns=2), Thread(1, 1, 0, "ls", start_ns=2), Thread(2, 2, 0, "cat"))
    profile = profile_of([(["f"], 1, 1), (["f"], 1, 1), (["f"], 1, 1), (["f"], 2, 1), (["f"], 3, 1)], threads)
    names, index = profile.commands(profile.tid, profile.ts_ns)
    assert [names[i] for i in index] == ["sh", "sh", "ls", "cat", ":3"]
    assert set(paths(profile.tree(by_comm=True))) >= {("sh", "f"), ("ls", "f"), ("cat", "f"), (":3", "f")}
