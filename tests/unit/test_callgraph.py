"""The call graph: shares by arithmetic, DOT that survives any name, SVG through graphviz."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.errors import InsituError
from insitu.views.call_tree import call_tree
from insitu.views.callgraph import call_graph, to_dot, to_svg

needs_graphviz = pytest.mark.skipif(shutil.which("dot") is None, reason="no graphviz")


def _edges(graph):
    return {(graph.nodes[e.caller].function, graph.nodes[e.callee].function): e.weight for e in graph.edges}


def test_nodes_and_edges_weigh_the_samples_that_pass_through_them(profile_of):
    rows = [("p", 1, ["main", "a", "leaf"], 60), ("p", 1, ["main", "b", "leaf"], 30), ("p", 1, ["main", "b"], 10)]
    graph = call_graph(call_tree(profile_of(rows)))
    assert {node.function: (node.own, node.total) for node in graph.nodes} == {
        "main": (0, 100),
        "a": (0, 60),
        "leaf": (90, 90),
        "b": (10, 40),
    }
    assert _edges(graph) == {("main", "a"): 60, ("main", "b"): 40, ("a", "leaf"): 60, ("b", "leaf"): 30}


def test_recursion_is_an_edge_to_itself_that_counts_a_sample_once(profile_of):
    graph = call_graph(
        call_tree(profile_of([("p", 1, ["main", "fib", "fib", "fib"], 5), ("p", 1, ["main", "fib"], 3)]))
    )
    assert _edges(graph) == {("main", "fib"): 8, ("fib", "fib"): 5}
    assert {node.function: node.total for node in graph.nodes} == {"main": 8, "fib": 8}


def test_mutual_recursion_counts_each_call_once_per_sample(profile_of):
    graph = call_graph(call_tree(profile_of([("p", 1, ["a", "b", "a", "b"], 7)])))
    assert _edges(graph) == {("a", "b"): 7, ("b", "a"): 7}


def test_light_functions_and_calls_are_left_out_and_counted(profile_of):
    rows = [("p", 1, ["main", "hot"], 995), ("p", 1, ["main", "cold"], 4), ("p", 1, ["main", "mild", "hot"], 6)]
    graph = call_graph(call_tree(profile_of(rows)), node_percent=0.5, edge_percent=1)
    assert {node.function for node in graph.nodes} == {"main", "hot", "mild"}
    assert graph.hidden == 1
    assert _edges(graph) == {("main", "hot"): 995}
    assert "1 lighter function is not shown" in to_dot(graph)


def test_a_program_of_ten_thousand_functions_is_cut_to_the_heaviest(profile_of):
    rows = [("p", 1, ["main", f"f{i % 100}", f"g{i}"], 1) for i in range(300)]
    graph = call_graph(call_tree(profile_of(rows)), node_percent=0, edge_percent=0, limit=50)
    assert len(graph.nodes) == 50
    assert {node.function for node in graph.nodes} >= {"main", "f0"}
    assert len(call_graph(call_tree(profile_of(rows)), node_percent=0, edge_percent=0, limit=0).nodes) == 401


@needs_graphviz
@settings(max_examples=15, deadline=None)
@given(name=st.text(min_size=1, max_size=5) | st.sampled_from(['\\N"', "&lt;", "<script>", "a\\", "]]>", "\\n{|}"]))
def test_graphviz_shows_any_name_as_it_is(profile_of, name):
    graph = call_graph(call_tree(profile_of([("p", 1, ["main", "x" + name + "x"], 3)])))
    image = ElementTree.fromstring(to_svg(to_dot(graph)))
    shown = {"".join(text.itertext()) for text in image.iter("{http://www.w3.org/2000/svg}text")}
    expected = "x" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name) + "x"
    assert re.sub(r"\s+", " ", expected) in {re.sub(r"[\s\xa0]+", " ", text) for text in shown}


@needs_graphviz
def test_graphviz_accepts_every_attribute(profile_of):
    dot = to_dot(
        call_graph(call_tree(profile_of([("p", 1, ["main", "f", "f"], 3)]), value="weight")), title='a "run"'
    )
    done = subprocess.run(["dot", "-Tsvg"], input=dot.encode(), capture_output=True)
    assert done.returncode == 0
    assert done.stderr == b""


def test_without_graphviz_the_remedy_is_named(profile_of, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "PATH", str(tmp_path))
    with pytest.raises(InsituError, match="apt-get install graphviz"):
        to_svg(to_dot(call_graph(call_tree(profile_of([("p", 1, ["main"], 1)])))))
