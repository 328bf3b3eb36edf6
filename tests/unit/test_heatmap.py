"""Heat map pages: which cell a sample falls into, by arithmetic on its time."""

import base64
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.cli import main
from insitu.errors import InsituError
from insitu.session.weighted_stacks import WeightedStacks
from insitu.views.heatmap import MAX_ROWS, heatmap_html

ProfileOf = Callable[..., WeightedStacks]


def cells_of(html: str) -> tuple[dict[str, Any], Counter[tuple[int, int, str]]]:
    """The grid of a page, and the samples of each (cell, thread id, leaf function)."""
    match = re.search(r'octet-stream">([^<]*)<', html)
    assert match
    data = zlib.decompress(base64.b64decode(match[1]))
    start = 4 + int.from_bytes(data[:4], "little")
    header = json.loads(data[4:start])
    columns = []
    for name in ("entryCell", "entryGroup", "entryNode", "entryCount", "name"):
        code, at, length = header["sections"][name]
        values = np.frombuffer(data, f"<{code.replace('d', 'u')}", length, start + at)
        columns.append((np.cumsum(values) if code[0] == "d" else values).astype(np.int64).tolist())
    meta, (*entries, names) = header["meta"], columns
    found: Counter[tuple[int, int, str]] = Counter()
    for cell, group, node, count in zip(*entries, strict=True):
        found[cell, meta["threads"]["tid"][group], meta["names"]["function"][names[node]]] += count
    return meta, found


def at_times(profile_of: ProfileOf, times: list[int]) -> WeightedStacks:
    names = [("p", 1 + i % 2, [f"f{i % 3}"], 1) for i in range(len(times))]
    return replace(profile_of(names), ts_ns=np.array(times, np.int64))


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(1, 90 * 10**9), min_size=1, max_size=30), rows=st.integers(1, MAX_ROWS))
def test_a_sample_falls_into_the_cell_of_its_time(profile_of: ProfileOf, times: list[int], rows: int) -> None:
    meta, found = cells_of(heatmap_html(at_times(profile_of, times), title="x", rows=rows))
    expected: Counter[tuple[int, int, str]] = Counter()
    for i, time in enumerate(times):
        seconds, rest = divmod(time - min(times), 10**9)
        expected[seconds * rows + rest * rows // 10**9, 1 + i % 2, f"f{i % 3}"] += 1
    assert found == expected
    assert meta["heat"] == {
        "columns": (max(times) - min(times)) // 10**9 + 1,
        "rows": rows,
        "columnNs": 10**9,
    }


def test_a_day_has_columns_of_many_seconds_and_says_so(profile_of: ProfileOf) -> None:
    day = 86_400
    meta, found = cells_of(heatmap_html(at_times(profile_of, [1, day * 10**9]), title="x"))
    assert meta["heat"]["columnNs"] == 24 * 10**9
    assert meta["heat"]["columns"] == day // 24
    assert max(cell for cell, *_ in found) == day // 24 * 50 - 1
    assert any("24 seconds" in note for note in meta["notes"])


def test_times_as_far_apart_as_can_be_make_a_page(profile_of: ProfileOf) -> None:
    meta, found = cells_of(heatmap_html(at_times(profile_of, [0, 2**63 - 1]), title="x"))
    assert found.total() == 2
    assert meta["heat"]["columns"] <= 3600


@pytest.mark.parametrize("rows", [0, -1, MAX_ROWS + 1])
def test_rows_out_of_range_are_refused(profile_of: ProfileOf, rows: int) -> None:
    with pytest.raises(InsituError, match="rows"):
        heatmap_html(profile_of([]), title="x", rows=rows)


def test_only_selected_samples_travel(profile_of: ProfileOf) -> None:
    profile = at_times(profile_of, [1, 2, 3])
    _, found = cells_of(heatmap_html(profile.only(np.array([False, True, False])), title="x"))
    assert found == {(0, 2, "f1"): 1}


def test_cells_of_durations_add_them_up(profile_of: ProfileOf) -> None:
    rows = [("p", 1, ["f0"], 2), ("p", 1, ["f1"], 1)]
    meta, found = cells_of(
        heatmap_html(profile_of(rows, weight=5, ts_ns=np.array([1, 2, 3])), title="x", value="weight")
    )
    assert meta["unit"] == "ns"
    assert found == {(0, 1, "f0"): 10, (0, 1, "f1"): 5}


def test_folded_stacks_have_no_times_and_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.folded").write_text("prog;main 2\n")
    assert main(["heatmap", str(tmp_path / "run.folded")]) == 1
    assert "no times" in capsys.readouterr().err
