"""Short names of functions. The cases are also those of src/insitu/web/tests/shorten.test.ts: pages shorten alike."""

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.symbols.frame import Frame
from insitu.views.call_tree import call_tree
from insitu.views.callgraph import call_graph, to_dot
from insitu.views.diff import diff_stacks
from insitu.views.diff_text import diff_lines
from insitu.views.function_names import module_labels, name_forms, short_name, told_apart
from insitu.views.report import build_report
from insitu.views.report_text import report_lines
from insitu.views.terminal import Screen

_CASES = json.loads(Path(__file__).with_name("function_names.json").read_text(encoding="utf-8"))

TREE = (
    "std::_Rb_tree<{0}, std::pair<{0} const, {0}>, std::_Select1st<std::pair<{0} const, {0}> >, std::less<{0}>,"
    " std::allocator<std::pair<{0} const, {0}> > >::_S_right(std::_Rb_tree_node_base*)"
)


@pytest.mark.parametrize(("name", "shorter"), _CASES["shorter"].items())
def test_each_form_of_a_name_is_shorter_and_says_which_function_it_is(name, shorter):
    assert name_forms(name) == [name, *shorter]


@pytest.mark.parametrize("case", _CASES["apart"], ids=lambda case: case["names"][0])
def test_names_that_shorten_alike_are_told_apart(case):
    assert told_apart(case["names"], case["modules"]) == case["shown"]


@pytest.mark.parametrize("case", _CASES["modules"], ids=lambda case: case["paths"][0])
def test_modules_of_one_file_name_are_told_apart(case):
    assert module_labels(case["paths"]) == case["labels"]


@pytest.mark.parametrize("part", ["(", "<", "[", "{", "operator", "f<", "a::", " -> ", " ", "a:/", "(<"])
def test_a_hostile_name_is_dealt_with_at_once(part):
    name = part * 50_000
    assert len(short_name(name)) <= len(name)


_PARTS = [
    *"ab<>()[]{}:*&'$ -=,.#~/…é",
    "::",
    "operator",
    "operator<",
    "operator bool",
    " const",
    " -> ",
    "JS:*",
    " /a.js",
]


@given(st.lists(st.sampled_from(_PARTS)).map("".join) | st.text())
def test_any_text_has_forms_each_shorter_than_the_one_before(name):
    forms = name_forms(name)
    assert forms[0] == name
    assert all(len(after) < len(before) for after, before in zip(forms[1:], forms[:-1], strict=True))
    assert short_name(name) in forms


def test_a_name_that_nests_deep_is_not_shortened():
    name = f"f{'<a' * 900}{'>' * 900}"
    assert name_forms(name) == [name]


def _shown(blocks, width):
    out = io.StringIO()
    Screen(out, width).write(blocks)
    return out.getvalue()


@pytest.fixture
def long_names(profile_of):
    return profile_of([("p", 1, ["main", TREE.format("int")], 6), ("p", 1, ["main", "py::f.<locals>.<genexpr>"], 4)])


def test_a_terminals_report_shows_short_names_where_whole_ones_do_not_fit(long_names):
    report = build_report(long_names)
    table, tree = _shown(report_lines(report, Screen(io.StringIO(), 80)), 80).split("call tree")
    for part in (table, tree):
        assert "std::_Rb_tree<…>::_S_right" in part
        assert "py::f.<locals>.<genexpr>" in part
    assert TREE.format("int") in _shown(report_lines(report, Screen(io.StringIO(), 400)), 400)


def test_two_functions_that_shorten_alike_are_told_apart_in_a_report(profile_of):
    name = "ns::Table<{0}, std::less<{0}> >::find({0} const&, std::vector<{0}> const&)"
    profile = profile_of([("p", 1, ["main", name.format("Key")], 6), ("p", 1, ["main", name.format("Sum")], 4)])
    table, tree = _shown(report_lines(build_report(profile), Screen(io.StringIO(), 90)), 90).split("call tree")
    for part in (table, tree):
        assert "ns::Table<Key, std::less<…> >::find" in part
        assert "ns::Table<Sum, std::less<…> >::find" in part


def test_functions_of_one_name_are_told_apart_in_a_narrow_tree(profile_of):
    name = "a_function_with_a_long_name_indeed_such_as_nobody_would_have_thought_of(int, int, int)"
    profile = profile_of(
        [("p", 1, ["main", Frame(name, module)], n) for module, n in (("/lib/a.so", 6), ("/lib/b.so", 4))]
    )
    tree = _shown(report_lines(build_report(profile), Screen(io.StringIO(), 100)), 100).split("call tree")[1]
    assert "of (a.so)" in tree
    assert "of (b.so)" in tree


def test_a_terminals_diff_shows_short_names(long_names):
    assert "std::_Rb_tree<…>::_S_right" in _shown(
        diff_lines(diff_stacks(long_names, long_names), Screen(io.StringIO(), 80)), 80
    )


def test_boxes_of_a_call_graph_have_short_names_and_whole_ones_as_hints(long_names):
    dot = to_dot(call_graph(call_tree(long_names)))
    assert 'label="std::_Rb_tree<…>::_S_right\\n' in dot
    assert f'tooltip="{TREE.format("int")} /usr/bin/prog"' in dot
