"""speedscope's JSON, expanded again by what its schema says."""

import json
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from insitu.convert.formats.speedscope import write_speedscope
from insitu.symbols.frame import Frame
from insitu.valid_text import valid_text


def _expanded(document):
    """Weight by thread and stack."""
    names = [frame["name"] for frame in document["shared"]["frames"]]
    sums: Counter[tuple[str, ...]] = Counter()
    for profile in document["profiles"]:
        assert profile["type"] == "sampled"
        assert len(profile["samples"]) == len(profile["weights"])
        assert profile["endValue"] - profile["startValue"] == sum(profile["weights"])
        for sample, weight in zip(profile["samples"], profile["weights"], strict=True):
            sums[(profile["name"], *(names[frame] for frame in sample))] += weight
    return sums


def test_each_thread_is_a_profile_whose_weights_are_nanoseconds(profile_of):
    rows = [("p", 1, ["main", "a"], 3), ("q", 2, ["main"], 5), ("p", 1, ["main", "a", "b"], 1)]
    document = json.loads(write_speedscope(profile_of(rows), "run"))
    assert document["$schema"] == "https://www.speedscope.app/file-format-schema.json"
    assert {profile["unit"] for profile in document["profiles"]} == {"nanoseconds"}
    assert document["profiles"][0]["name"] == "q/2"  # the busiest first
    assert _expanded(document) == {
        ("p/1", "main", "a"): 30_000_000,
        ("p/1", "main", "a", "b"): 10_000_000,
        ("q/2", "main"): 50_000_000,
    }


def test_samples_are_in_the_order_of_time(profile_of):
    rows = [("p", 1, ["a"], 2), ("p", 1, ["b"], 2), ("p", 1, ["c"], 1)]
    profile = profile_of(rows, weight=1, ts_ns=np.array([50, 10, 20, 40, 30]))
    document = json.loads(write_speedscope(profile, "run"))
    frames = [document["shared"]["frames"][sample[0]]["name"] for sample in document["profiles"][0]["samples"]]
    assert frames == ["a", "b", "c", "b", "a"]
    assert document["profiles"][0]["weights"] == [1, 1, 1, 1, 1]


def test_too_many_samples_are_merged_by_stack_and_the_title_says_so(profile_of, monkeypatch):
    monkeypatch.setattr("insitu.convert.formats.speedscope._MOST_IN_TIME", 5)
    profile = profile_of([("p", 1, ["a"], 2), ("p", 1, ["b"], 2), ("p", 1, ["a"], 3)], weight=1)
    document = json.loads(write_speedscope(profile, "run"))
    assert document["name"] == "run (by stack, not by time)"
    assert document["profiles"][0]["weights"] == [5, 2]


def test_a_thread_that_renamed_itself_is_one_profile_under_all_its_names(profile_of):
    document = json.loads(write_speedscope(profile_of([("sh", 7, ["a"], 2), ("ls", 7, ["b"], 1)], weight=1), "run"))
    assert [profile["name"] for profile in document["profiles"]] == ["sh, ls/7"]
    assert document["profiles"][0]["weights"] == [2, 1]


def test_frames_carry_file_and_line_where_known(profile_of):
    frames = [Frame("f", "/bin/p", "src/f.c", 7), Frame("g", "/bin/p"), Frame("h")]
    document = json.loads(write_speedscope(profile_of([("p", 1, frames, 1)]), "run"))
    (sample,) = document["profiles"][0]["samples"]
    assert [document["shared"]["frames"][at] for at in sample] == [
        {"name": "f", "file": "src/f.c", "line": 7},
        {"name": "g", "file": "/bin/p"},
        {"name": "h"},
    ]


def test_counts_of_events_have_no_unit_of_time(profile_of):
    document = json.loads(write_speedscope(profile_of([("p", 1, ["a"], 1)], event="page-faults"), "run"))
    assert document["profiles"][0]["unit"] == "none"


def test_a_sample_without_frames_and_a_profile_without_samples_are_whole_documents(profile_of):
    assert json.loads(write_speedscope(profile_of([("p", 1, [], 1)]), "x"))["profiles"][0]["samples"] == [[]]
    assert json.loads(write_speedscope(profile_of([]), "x"))["profiles"] == []


@given(st.text(st.characters()), st.text(st.characters()))
def test_any_name_that_is_valid_text_is_kept_as_it_is(profile_of, name, comm):
    document = json.loads(write_speedscope(profile_of([(comm or "p", 1, [Frame(name)], 1)]), name))
    name, comm = valid_text(name), valid_text(comm)  # see test_valid_text.py
    assert document["shared"]["frames"][0]["name"] == name
    assert document["profiles"][0]["name"] == f"{comm or 'p'}/1"
    assert document["name"] == name
