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
import polars
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from insitu.cli import main
from insitu.convert.open import open_session
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.session import stack_query
from insitu.session.core_tables import SAMPLE, SPAN
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.weighted_stacks import WeightedStacks
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame
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
    return replace(profile_of(names), ts_ns=np.array(times, np.int64), first_ns=min(times), last_ns=max(times))


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


def waits(profile_of: ProfileOf, times: list[int], durations: list[int]) -> WeightedStacks:
    stacks = at_times(profile_of, times)
    return replace(stacks, table="span", counted="events", unit="ns", weight=np.array(durations, np.int64))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(1, 10**11), st.integers(0, 10**10)), min_size=1, max_size=30),
    of_ten=st.integers(1, MAX_ROWS // 10),
)
def test_a_wait_falls_into_the_cell_of_its_start_and_its_duration(
    profile_of: ProfileOf, rows: list[tuple[int, int]], of_ten: int
) -> None:
    times, durations = [at for at, _ in rows], [took for _, took in rows]
    html = heatmap_html(waits(profile_of, times, durations), title="x", latency=True, rows=of_ten)
    meta, found = cells_of(html)
    heat = meta["heat"]
    edges = heat["edgesNs"]
    assert len(edges) == heat["rows"] + 1
    expected: Counter[tuple[int, int, str]] = Counter()
    for i, (at, took) in enumerate(rows):
        if took:  # 0: without an end
            row = max(row for row, edge in enumerate(edges[:-1]) if edge <= took)
            assert took < edges[row + 1]
            expected[(at - min(times)) // heat["columnNs"] * heat["rows"] + row, 1 + i % 2, f"f{i % 3}"] += 1
    assert found == expected
    extent = max(times) - min(times) + 1
    assert heat["columns"] == -(-extent // heat["columnNs"]) <= 120


def test_durations_have_whole_powers_of_ten_from_the_shortest_to_the_longest(profile_of: ProfileOf) -> None:
    page = heatmap_html(waits(profile_of, [1, 2, 3], [1500, 999_999, 20_000]), title="x", latency=True, rows=10)
    edges = cells_of(page)[0]["heat"]["edgesNs"]
    assert edges[::10] == pytest.approx([1e3, 1e4, 1e5, 1e6])
    assert edges[13] == pytest.approx(10**4.3)


def test_a_latency_map_adds_up_time_where_that_is_asked_for(profile_of: ProfileOf) -> None:
    stacks = waits(profile_of, [1, 1], [1500, 1600])
    meta, found = cells_of(heatmap_html(stacks, title="x", latency=True, rows=1, value="weight"))
    assert meta["unit"] == "ns" and found == {(0, 1, "f0"): 1500, (0, 2, "f1"): 1600}


def test_samples_have_no_durations(profile_of: ProfileOf) -> None:
    for stacks in (at_times(profile_of, [1, 2]), replace(at_times(profile_of, [1, 2]), unit="ns")):
        with pytest.raises(InsituError, match="no durations"):
            heatmap_html(stacks, title="x", latency=True, rows=10)


def test_folded_stacks_have_no_times_and_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.folded").write_text("prog;main 2\n")
    assert main(["heatmap", str(tmp_path / "run.folded")]) == 1
    assert "no times" in capsys.readouterr().err


def timed_session(path: Path, *, ordered: bool) -> list[tuple[int, int, str, str, int]]:
    """A session of 1,000 samples: (time, thread id, its name then, leaf, weight) of each."""
    random = np.random.default_rng(5)
    times = 10**9 + random.integers(0, 7 * 10**9, 1000)
    times = np.sort(times) if ordered else times
    tid, leaf, weight = random.integers(11, 14, 1000), random.integers(0, 4, 1000), random.integers(0, 300, 1000)
    create(path, Manifest.here(procfs, command=["x"]), procfs)
    with SessionWriter.on_disk(path) as writer:
        process = writer.processes.process(11)
        utids = {each: writer.processes.thread(each, process, name="early") for each in (11, 12, 13)}
        writer.processes.renamed(utids[12], 4 * 10**9, "late")
        stacks = [writer.intern_stack([Frame(f"f{at}", "/bin/x")]) for at in range(4)]
        batch = {
            "ts_ns": times,
            "utid": np.array([utids[each] for each in tid.tolist()]),
            "event_type": np.full(1000, writer.event_type("cpu-clock", "ns")),
            "stack": np.array(stacks)[leaf],
            "weight": weight,
        }
        writer.append(SAMPLE, batch)
        writer.finish()
    return [
        (ts_ns, who, "late" if who == 12 and ts_ns >= 4 * 10**9 else "early", f"f{at}", much)
        for ts_ns, who, at, much in zip(times.tolist(), tid.tolist(), leaf.tolist(), weight.tolist(), strict=True)
    ]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("options", [[], ["-n", "late"], ["--thread", "13"], ["--unit", "time"], ["--rows", "7"]])
def test_a_sessions_rows_are_read_in_windows_and_each_is_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], ordered: bool
) -> None:
    monkeypatch.setattr(stack_query, "_BATCH_ROWS", 90)
    samples = timed_session(tmp_path / "s.insitu", ordered=ordered)
    assert main(["heatmap", str(tmp_path / "s.insitu"), "-o", str(tmp_path / "s.html"), *options]) == 0
    meta, found = cells_of((tmp_path / "s.html").read_text())
    rows = 7 if "--rows" in options else 50
    first = min(ts_ns for ts_ns, *_ in samples)
    expected: Counter[tuple[int, int, str]] = Counter()
    for ts_ns, tid, name, leaf, weight in samples:
        if ("late" in options and name != "late") or ("--thread" in options and tid != 13):
            continue
        seconds, rest = divmod(ts_ns - first, 10**9)
        expected[seconds * rows + rest * rows // 10**9, tid, leaf] += weight if "time" in options else 1
    assert found == expected
    assert meta["heat"]["columns"] == 7
    assert ("late" in meta["threads"]["comm"]) == ("--thread" not in options)


def test_rows_whose_time_is_null_are_read_with_the_window_of_zero(tmp_path: Path) -> None:
    timed_session(tmp_path / "s.insitu", ordered=True)
    part = tmp_path / "s.insitu/tables/sample/0.parquet"
    frame = polars.read_parquet(part)
    frame.with_columns(polars.when(polars.col("ts_ns") % 2 == 0).then("ts_ns")).write_parquet(part)
    nulls = int((frame["ts_ns"] % 2 != 0).sum())
    with open_session(tmp_path / "s.insitu") as session:
        relation = session.database.between("sample", SAMPLE.columns[0], 0, 5)
        assert session.database.all(f"select count(*) from {relation}") == [(nulls,)]
        relation = session.database.between("sample", SAMPLE.columns[0], 1, 2**62)
        assert session.database.all(f"select count(*) from {relation}") == [(1000 - nulls,)]


def test_cells_of_two_tables_together_add_up_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_query, "_BATCH_ROWS", 90)
    create(tmp_path / "s.insitu", Manifest.here(procfs, command=["x"], default_table="sample+span"), procfs)
    random = np.random.default_rng(6)
    expected: Counter[tuple[int, int, str]] = Counter()
    tables = {}
    for table, column in ((SAMPLE, "weight"), (SPAN, "dur_ns")):
        times, tid, weight = (random.integers(low, high, 300) for low, high in ((5, 3 * 10**9), (11, 14), (1, 9)))
        tables[table] = times, tid, column, weight
    first = min(int(times.min()) for times, *_ in tables.values())
    with SessionWriter.on_disk(tmp_path / "s.insitu") as writer:
        process = writer.processes.process(11)
        utids = {each: writer.processes.thread(each, process, name="x") for each in (11, 12, 13)}
        for table, (times, tid, column, weight) in tables.items():
            name = f"in_{table.name}"
            batch = {
                "ts_ns": times,
                "utid": np.array([utids[each] for each in tid.tolist()]),
                "stack": np.full(300, writer.intern_stack([Frame(name, "/bin/x")])),
                column: weight,
            }
            if table is SAMPLE:
                batch["event_type"] = np.full(300, writer.event_type("cpu-clock", "ns"))
            writer.append(table, batch)
            for ts_ns, who, much in zip(times.tolist(), tid.tolist(), weight.tolist(), strict=True):
                expected[(ts_ns - first) * 50 // 10**9, who, name] += much
        writer.finish()
    assert main(["heatmap", str(tmp_path / "s.insitu"), "-o", str(tmp_path / "s.html")]) == 0
    meta, found = cells_of((tmp_path / "s.html").read_text())
    assert found == expected
    assert meta["unit"] == "ns"
    assert main(["heatmap", str(tmp_path / "s.insitu"), "-o", str(tmp_path / "t.html"), "--thread", "12"]) == 0
    _, found = cells_of((tmp_path / "t.html").read_text())
    assert found == Counter({key: much for key, much in expected.items() if key[1] == 12})


def test_a_thread_that_got_its_name_back_is_selected_by_it(tmp_path: Path) -> None:
    create(tmp_path / "s.insitu", Manifest.here(procfs, command=["x"]), procfs)
    with SessionWriter.on_disk(tmp_path / "s.insitu") as writer:
        utid = writer.processes.thread(11, writer.processes.process(11), name="a")
        for ts_ns, name in ((5, "b"), (15, "a"), (18, "b")):
            writer.processes.renamed(utid, ts_ns, name)
        batch = {
            "ts_ns": np.array([2, 20]),
            "utid": np.full(2, utid),
            "event_type": np.full(2, writer.event_type("cpu-clock", "ns")),
            "stack": np.full(2, writer.intern_stack([Frame("f", "/bin/x")])),
        }
        writer.append(SAMPLE, batch)
        writer.finish()
    assert main(["heatmap", str(tmp_path / "s.insitu"), "-o", str(tmp_path / "s.html"), "-n", "a"]) == 0
    meta, found = cells_of((tmp_path / "s.html").read_text())
    assert found == {(0, 11, "f"): 1}
    assert meta["threads"]["comm"] == ["a"]
