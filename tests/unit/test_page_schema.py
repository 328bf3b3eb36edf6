"""What travels in a page is declared once."""

import sys
from pathlib import Path

import numpy as np
import pytest

from insitu.views.flamegraph import tree_flame_html
from insitu.views.page import data_page

from .stacks import recorded

ROOT = Path(__file__).parents[2]


def test_the_front_ends_types_are_those_that_python_declares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import page_schema

    assert page_schema.TARGET.read_text(encoding="utf-8") == page_schema.generated()
    sys.modules.pop("page_schema")


def test_a_page_has_the_arrays_of_its_type_and_no_others() -> None:
    from insitu.views.call_tree import call_tree

    assert "<!doctype html>" in tree_flame_html(call_tree(recorded([("p", 1, ["main"], 1)])), title="x")
    with pytest.raises(ValueError, match="entryBefore"):
        data_page({"mode": "diff", "title": "x"}, {"parent": np.zeros(1, np.int32)})  # type: ignore[typeddict-item]
