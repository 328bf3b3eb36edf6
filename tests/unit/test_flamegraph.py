"""Flame graph pages: what travels in them, read back here independently of the front end."""

import base64
import hashlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.cli import main
from insitu.errors import InsituError
from insitu.session.manifest import Manifest
from insitu.session.weighted_stacks import WeightedStacks
from insitu.symbols.frame import Frame
from insitu.views import page
from insitu.views.call_tree import CallTree, call_tree
from insitu.views.flamegraph import diff_flame_html, flame_html, tree_flame_html
from insitu.views.heatmap import heatmap_html
from insitu.views.hints import hints
from insitu.views.time_range import check_range, time_range

ProfileOf = Callable[..., WeightedStacks]


def unpacked(html: str) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """The metadata and the arrays of a page."""
    match = re.search(r'<script id="data" type="application/octet-stream">([A-Za-z0-9+/=]*)</script>', html)
    assert match
    data = zlib.decompress(base64.b64decode(match[1]))
    start = 4 + int.from_bytes(data[:4], "little")
    header = json.loads(data[4:start])
    arrays = {}
    for name, (code, at, length) in header["sections"].items():
        if code[1] == "6":  # the lower four bytes of all, then the upper two
            upper = start + at + (length * 4 + 7 & ~7)
            values = np.frombuffer(data, "<u2", length, upper).astype(np.int64) << 32
            values = values | np.frombuffer(data, "<u4", length, start + at)
        else:
            values = np.frombuffer(data, f"<{code.replace('d', 'u')}", length, start + at)
        arrays[name] = (np.cumsum(values) if code[0] == "d" else values).astype(np.int64).tolist()
    return header["meta"], arrays


def stacks_of(html: str, count: str = "entryCount") -> dict[tuple[str, ...], int]:
    """The stacks in a page, from the thread on, and their counts."""
    meta, arrays = unpacked(html)
    names, parent, threads = meta["names"]["function"], arrays["parent"], meta["threads"]
    found: Counter[tuple[str, ...]] = Counter()
    for node, group, number in zip(arrays["entryNode"], arrays["entryGroup"], arrays[count], strict=True):
        words = []
        while node:
            words.append(names[arrays["name"][node]])
            assert parent[node] < node
            node = parent[node]
        thread = [f"{threads['comm'][group]}/{threads['tid'][group]}"] if threads["tid"] else []
        found[(*thread, *reversed(words))] += number
    return {stack: number for stack, number in found.items() if number}


WORDS = st.sampled_from(["main", "f", "g", "<b>", "ü\udc80"])
SHOWN = {"ü\udc80": "ü\\udc80"}
ROWS = st.lists(
    st.tuples(st.just("prog"), st.integers(1, 3), st.lists(WORDS, min_size=1, max_size=6), st.integers(1, 4)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS)
def test_a_page_holds_every_stack_of_every_thread(profile_of: ProfileOf, rows: list[Any]) -> None:
    expected: Counter[tuple[str, ...]] = Counter()
    for comm, tid, stack, count in rows:
        expected[(f"{comm}/{tid}", *(SHOWN.get(word, word) for word in stack))] += count
    assert stacks_of(flame_html(profile_of(rows), title="x")) == dict(expected)


def test_weights_beyond_32_bits_are_exact(profile_of: ProfileOf) -> None:
    profile = profile_of([("p", 1, ["main"], 3)], weight=4_000_000_001)
    html = flame_html(profile, title="x", value="weight")
    assert stacks_of(html) == {("p/1", "main"): 12_000_000_003}
    assert unpacked(html)[0]["unit"] == "ns"


def test_only_selected_samples_and_their_names_travel(profile_of: ProfileOf) -> None:
    profile = profile_of([("p", 1, ["main", "seen"], 2), ("p", 1, ["main", "secret"], 3)])
    html = flame_html(profile.only(np.array([True, True, False, False, False])), title="x")
    assert stacks_of(html) == {("p/1", "main", "seen"): 2}
    assert "secret" not in unpacked(html)[0]["names"]["function"]


def test_a_call_tree_makes_a_page_without_threads(profile_of: ProfileOf) -> None:
    tree = call_tree(profile_of([("p", 1, ["main", "f"], 2), ("p", 1, ["main"], 3)]))
    assert stacks_of(tree_flame_html(tree, title="x")) == {("main", "f"): 2, ("main",): 3}


@settings(max_examples=40, deadline=None)
@given(before=ROWS, after=ROWS)
def test_a_difference_holds_the_stacks_of_both_sides(
    profile_of: ProfileOf, before: list[Any], after: list[Any]
) -> None:
    html = diff_flame_html(call_tree(profile_of(before)), call_tree(profile_of(after)), title="x")
    for rows, count in ((before, "entryBefore"), (after, "entryCount")):
        expected: Counter[tuple[str, ...]] = Counter()
        for _, _, stack, number in rows:
            expected[tuple(SHOWN.get(word, word) for word in stack)] += number
        assert stacks_of(html, count) == dict(expected)


def test_a_difference_of_unlike_units_says_so(profile_of: ProfileOf) -> None:
    one = profile_of([("p", 1, ["main"], 2)])
    notes = unpacked(diff_flame_html(call_tree(one), call_tree(one, value="weight"), title="x"))[0]["notes"]
    assert any("samples before, ns after" in note for note in notes)


def test_an_empty_tree_makes_a_page() -> None:
    none = np.zeros(1, np.int32)
    tree = CallTree(none, none, none.astype(np.int64), none.astype(np.int64), [])
    assert stacks_of(tree_flame_html(tree, title="x")) == {}


def test_the_page_allows_its_own_script_and_style_and_no_network(profile_of: ProfileOf) -> None:
    html = flame_html(profile_of([("p", 1, ["main"], 1)]), title="x")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
    assert policy
    rules = dict(rule.strip().split(" ", 1) for rule in policy[1].split(";"))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", html)


@pytest.mark.parametrize("title", ["</title><script>alert(1)</script>", '"><img src=x>', "a & b", "\udcff"])
def test_a_title_is_text(profile_of: ProfileOf, title: str) -> None:
    html = flame_html(profile_of([]), title=title)
    assert html.count("<script") == 2  # data and program
    assert "<img" not in html
    html.encode("utf-8")


def test_pages_that_were_not_built_are_an_error_with_the_remedy(
    profile_of: ProfileOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(page, "_DIST", tmp_path)
    with pytest.raises(InsituError, match="make setup"):
        flame_html(profile_of([]), title="x")


def test_a_range_is_seconds_since_the_first_sample(profile_of: ProfileOf) -> None:
    assert time_range("0.01-2.5") == (0.01, 2.5)
    for wrong in ("1", "2-1", "a-b", "-1-2", "0-", "9" * 400 + "-1"):
        with pytest.raises(InsituError, match="is not a range"):
            time_range(wrong)
    profile = profile_of([("p", 1, ["main"], 100)])  # 1 ms apart
    with pytest.raises(InsituError, match=r"all are in 0-0\.100"):  # the last is at 0.099
        check_range(profile.only(np.zeros(100, np.bool_)), "5-6")
    check_range(profile, "0-1")


def test_insitu_flame_writes_a_page_beside_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.folded").write_text("prog;main;f 3\nprog;main 2\n")
    assert main(["flame", "run.folded", "--title", "my <run>"]) == 0
    html = (tmp_path / "run.folded.html").read_text()
    assert {stack[1:]: count for stack, count in stacks_of(html).items()} == {("main", "f"): 3, ("main",): 2}
    assert "<title>my &lt;run&gt;</title>" in html
    assert main(["flame", "run.folded", "-o", "-", "--comm", "other"]) == 1
    assert b"commands: prog" in capsysbinary.readouterr().err


def test_insitu_flame_into_a_missing_directory_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.folded").write_text("prog;main 2\n")
    assert main(["flame", str(tmp_path / "run.folded"), "-o", str(tmp_path / "no" / "x.html")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("width", ["nan", "inf", "0", "-1"])
def test_a_least_width_that_is_none_is_refused(width: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["flame", "run.folded", "--min-width", width]) == 2
    assert "--min-width" in capsys.readouterr().err


def test_pages_say_what_the_report_hints_at(profile_of: ProfileOf) -> None:
    unknown = Frame("[unknown]", symbolized=False)
    broken = profile_of([("p", 1, [unknown, "inner"], 3)], manifest=Manifest(imported_from="perf.data"))
    assert len(hints(broken)) == 1
    for html in (flame_html(broken, title="x"), heatmap_html(broken, title="x")):
        assert unpacked(html)[0]["notes"] == hints(broken)
