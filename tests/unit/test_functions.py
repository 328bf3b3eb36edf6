"""Self and total of functions against a folder that walks every stack."""

import io
import random
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insitu.session.distinct import distinct
from insitu.symbols.frame import WAKER, Frame
from insitu.views.call_tree import call_tree
from insitu.views.functions import function_costs, spans
from insitu.views.report import build_report
from insitu.views.terminal import Screen
from insitu.views.tree_text import tree_lines


def test_self_and_total_equal_those_of_walking_every_stack(profile_of):
    chance = random.Random(3)
    rows = [("p", 1, [f"f{chance.randrange(6)}" for _ in range(chance.randrange(9))], 2) for _ in range(300)]
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for _, _, stack, count in rows:
        if stack:
            own[stack[-1]] += count
        for function in set(stack):
            total[function] += count
    costs = function_costs(call_tree(profile_of(rows)))
    names = [function.name for function in costs.functions]
    assert {n: int(w) for n, w in zip(names, costs.own, strict=True) if w} == own
    assert {n: int(w) for n, w in zip(names, costs.total, strict=True) if w} == total


def test_the_stack_of_a_waker_costs_nothing(profile_of):
    wait = ["main", Frame("[futex]", kind="blocked")]
    waker = [Frame(name, kind=WAKER) for name in ("wake", "main")]
    costs = function_costs(
        call_tree(profile_of([("p", 1, [*wait, *waker], 3), ("p", 1, wait, 2), ("p", 1, ["main"], 4)]))
    )
    found = {
        each.name: (int(own), int(total))
        for each, own, total in zip(costs.functions, costs.own, costs.total, strict=True)
    }
    assert found == {"all": (0, 0), "main": (4, 9), "[futex]": (5, 5), "wake": (0, 0)}


def test_bottom_up_and_by_lines_a_wait_is_the_leaf_and_its_waker_is_not(profile_of):
    wait = ["main", Frame("pause", file="a.c", line=7), Frame("[futex]", kind="blocked")]
    waker = [
        Frame("wake", "libc.so.6", "b.c", 1, kind=WAKER, inlined=True),
        Frame("libc.so.6+0x12", "libc.so.6", "b.c", 2, kind=WAKER, symbolized=False),
    ]
    stacks = profile_of([("p", 1, [*wait, *waker], 3), ("p", 1, [*wait[:2]], 2)])
    tree = call_tree(stacks, reverse=True)
    roots = {tree.names[tree.name[at]].function: int(tree.total[at]) for at in np.flatnonzero(tree.parent == 0)[1:]}
    assert roots == {"[futex]": 3, "pause": 2}
    lines = build_report(stacks, lines=True).lines
    assert lines is not None and [(row.file, row.line, row.own) for row in lines] == [("a.c", 7, 2)]
    text = io.StringIO()
    Screen(text).write(tree_lines(call_tree(stacks), Screen(text), min_percent=0))
    figures = {line.split()[3]: line.split()[1] for line in text.getvalue().splitlines()[1:]}
    assert figures["[futex]"] == "60.00" and figures["[libc.so.6]"] == "0.00"


def test_spans_nest_as_the_tree_does(profile_of):
    chance = random.Random(5)
    tree = call_tree(profile_of([("p", 1, [f"f{chance.randrange(3)}" for _ in range(6)], 1) for _ in range(40)]))
    where = spans(tree)
    assert sorted(where.start.tolist()) == list(range(len(tree)))
    for node in range(1, len(tree)):
        above = tree.parent[node]
        assert where.start[above] < where.start[node] < where.end[node] <= where.end[above]


@given(st.lists(st.integers(-(2**31), 2**31 - 1)))
def test_distinct_values_are_those_of_numpy_unique(values):
    array = np.array(values, np.int32)
    found, inverse = distinct(array)
    assert found.tolist() == sorted(set(values))
    assert found[inverse].tolist() == values


@given(st.lists(st.integers(-50, 50)))
def test_distinct_values_of_a_small_range_are_those_of_numpy_unique(values):
    found, inverse = distinct(np.array(values, np.int32))
    assert found.tolist() == sorted(set(values))
    assert found[inverse].tolist() == values
