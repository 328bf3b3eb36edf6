"""The call graph's image as a browser shows it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from insitu.session.weighted_stacks import WeightedStacks
from insitu.views.call_tree import call_tree
from insitu.views.callgraph import call_graph, to_dot, to_svg

StacksOf = Callable[..., WeightedStacks]


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz lays out the graph")
def test_a_call_graph_is_as_wide_as_the_window_and_larger_when_the_browser_enlarges_it(
    browser: Browser, stacks_of: StacksOf, tmp_path: Path
) -> None:
    wide = stacks_of([(at, "p", 1, ["main", f"a_function_of_some_length_{at}"]) for at in range(40)])
    narrow = stacks_of([(0, "p", 1, ["main"])])
    widths = {}
    for name, stacks in (("wide", wide), ("narrow", narrow)):
        path = tmp_path / f"{name}.svg"
        path.write_bytes(to_svg(to_dot(call_graph(call_tree(stacks)))))
        for window in (1400, 350):  # the second as at 400 %
            page = browser.new_page(viewport={"width": window, "height": 900})
            page.goto(path.as_uri())
            widths[name, window] = page.evaluate("document.documentElement.getBoundingClientRect().width")
            page.close()
    assert widths["wide", 1400] == 1400 and widths["wide", 350] == 1200
    assert widths["narrow", 1400] == widths["narrow", 350] < 350
