"""Differences between two profiles: figures by arithmetic, noise by drawing from one distribution."""

import io
import json
import math
import random
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from insitu.errors import InsituError
from insitu.session.manifest import Manifest
from insitu.symbols.frame import Frame
from insitu.views.call_tree import call_tree, united
from insitu.views.diff import diff_folded, diff_stacks, diff_to_json
from insitu.views.diff_text import diff_lines
from insitu.views.terminal import Screen

from .stacks import recorded


def _rows(**counts):
    return [("p", 1, ["main", function], count) for function, count in counts.items()]


def _text(diff, width=None, limit=30):
    out = io.StringIO()
    Screen(out, width).write(diff_lines(diff, Screen(out, width), limit=limit))
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())


def test_shares_are_normalised_by_each_recordings_total(profile_of):
    diff = diff_stacks(profile_of(_rows(a=60, b=40)), profile_of(_rows(a=60, b=140)))
    by_name = {row.function: row for row in diff.rows}
    assert by_name["a"][2:6] == pytest.approx((60.0, 30.0, -30.0, 0.5))
    assert by_name["b"][2:6] == pytest.approx((40.0, 70.0, 30.0, 1.75))
    assert diff.samples == (100, 200)


def test_z_is_that_of_the_two_proportion_test(profile_of):
    diff = diff_stacks(profile_of(_rows(a=60, b=40)), profile_of(_rows(a=45, b=55)))
    pooled = 105 / 200
    expected = (0.45 - 0.60) / math.sqrt(pooled * (1 - pooled) * (1 / 100 + 1 / 100))
    assert next(row.z for row in diff.rows if row.function == "a") == pytest.approx(expected)


def test_new_and_gone_functions_are_called_that(profile_of):
    diff = diff_stacks(profile_of(_rows(a=500, old=500)), profile_of(_rows(a=500, fresh=500)))
    ratios = {row.function: row.ratio for row in diff.rows}
    assert ratios == {"a": 1.0, "old": 0.0, "fresh": None}
    lines = {line.split()[-1]: line.split()[3] for line in _text(diff).splitlines() if "prog" in line}
    assert lines == {"a": "1.00", "old": "gone", "fresh": "new"}


def test_rows_are_sorted_by_the_size_of_the_difference(profile_of):
    diff = diff_stacks(profile_of(_rows(a=50, b=30, c=20)), profile_of(_rows(a=45, b=10, c=45)))
    assert [row.function for row in diff.rows] == ["c", "b", "a"]


def test_twenty_pairs_of_recordings_of_the_same_thing_hardly_ever_show_a_change(profile_of):
    chance = random.Random(11)
    names = [f"f{at}" for at in range(200)]
    weights = [1 / (1 + at) for at in range(200)]
    changed = 0
    for _ in range(20):
        sides = [profile_of(_rows(**Counter(chance.choices(names, weights, k=5000)))) for _ in range(2)]
        changed += any(not row.noise for row in diff_stacks(*sides).rows)
    assert changed <= 4  # 5 % each: more than 4 of 20 has a chance of 0.3 %


def test_a_function_that_doubles_stands_out_of_the_noise(profile_of):
    chance = random.Random(12)
    names = [f"f{at}" for at in range(50)]
    before = Counter(chance.choices(names, k=10_000))
    after = Counter(chance.choices(names, [2 if name == "f7" else 1 for name in names], k=10_000))
    diff = diff_stacks(profile_of(_rows(**before)), profile_of(_rows(**after)))
    assert [row.function for row in diff.rows if not row.noise] == ["f7"]
    assert diff.rows[0].ratio == pytest.approx(2, rel=0.2)


def test_total_counts_a_recursive_function_once(profile_of):
    before = profile_of([("p", 1, ["main", "f", "f"], 50), ("p", 1, ["main"], 50)])
    after = profile_of([("p", 1, ["main", "f", "f", "f"], 100)])
    totals = {row.function: (row.before, row.after) for row in diff_stacks(before, after, part="total").rows}
    assert totals == {"main": (100, 100), "f": (50, 100)}


def test_by_time_divides_by_each_recordings_seconds(profile_of):
    before = profile_of(_rows(a=100), manifest=Manifest(start_ns=10, end_ns=10 + 2 * 10**9))
    after = profile_of(_rows(a=300), manifest=Manifest(start_ns=5, end_ns=5 + 3 * 10**9))
    row = diff_stacks(before, after, scale="rate", value="weight").rows[0]
    assert row[2:6] == pytest.approx((0.5e9, 1.0e9, 0.5e9, 2.0))  # 10 ms a sample: 1 s in 2 s, 3 s in 3 s
    pooled = 400 / 5
    assert row.z == pytest.approx((100 - 50) / math.sqrt(pooled / 2 + pooled / 3))


def test_by_time_without_a_known_duration_says_so(profile_of):
    before, after = profile_of(_rows(a=1)), profile_of(_rows(a=1))
    with pytest.raises(InsituError, match="before took is not known"):
        diff_stacks(before, after, scale="rate")


def test_amounts_in_two_units_are_refused_but_shares_are_not(profile_of):
    before, after = profile_of(_rows(a=1)), profile_of(_rows(a=1), event="cycles")
    with pytest.raises(InsituError, match="ns before and cycles after"):
        diff_stacks(before, after, scale="amount", value="weight")
    assert "only percentages" in diff_stacks(before, after, value="weight").notes[0]


def test_an_empty_side_is_one_line_of_error(profile_of):
    with pytest.raises(InsituError, match="no samples after"):
        diff_stacks(profile_of(_rows(a=1)), profile_of([]))


def test_a_rebuilt_module_elsewhere_is_the_same_module(profile_of):
    before = profile_of(
        [("p", 1, [Frame("f", "/old/bin/prog"), Frame("prog+0x10", "/old/bin/prog", symbolized=False)], 10)]
    )
    after = profile_of(
        [("p", 1, [Frame("f", "/new/bin/prog"), Frame("prog+0x2c", "/new/bin/prog", symbolized=False)], 10)]
    )
    rows = diff_stacks(before, after, part="total").rows
    assert {(row.function, row.module): row.delta for row in rows} == {("f", "prog"): 0, ("[prog]", "prog"): 0}


def test_a_profile_without_modules_is_compared_by_names_alone(profile_of):
    diff = diff_stacks(profile_of([("p", 1, [Frame("f", "/bin/prog")], 10)]), profile_of([("p", 1, [Frame("f")], 4)]))
    assert [(row.function, row.delta) for row in diff.rows] == [("f", 0)]


def test_waits_are_the_same_wherever_a_run_has_its_locks_and_pipes(profile_of):
    def stacks(lock, pipe):
        named = [f"[futex {lock}]", f"[read pipe:[{pipe}]]", "[read /tmp/0x10]", "[read anon_inode:[eventfd]]"]
        return profile_of([("p", 1, ["main", Frame(name, kind="blocked")], 25) for name in named])

    sides = stacks("0x7ff4b908d990", 569561), stacks("0x7f86225db990", 7)
    lasting = {"[futex]", "[read pipe]", "[read /tmp/0x10]", "[read anon_inode:[eventfd]]"}
    assert {row.function: (row.before, row.after) for row in diff_stacks(*sides).rows} == dict.fromkeys(
        lasting, (25.0, 25.0)
    )
    assert set(diff_folded(*sides).splitlines()) == {f"p;main;{name} 25 25" for name in lasting}
    one, two = united(*map(call_tree, sides))
    assert one.own.tolist() == two.own.tolist()
    assert {one.names[at].function for at in one.name[one.own > 0].tolist()} == lasting


def test_folded_lines_are_those_of_difffolded(profile_of):
    before, after = profile_of(_rows(a=10, b=5)), profile_of(_rows(a=10, c=20))
    assert diff_folded(before, after, normalise=False) == "p;main;a 10 10\np;main;b 5 0\np;main;c 0 20\n"
    # difffolded.pl -n: int(10 * 30 / 15) and int(5 * 30 / 15)
    assert diff_folded(before, after) == "p;main;a 20 10\np;main;b 10 0\np;main;c 0 20\n"


def test_json_holds_every_row(profile_of):
    document = json.loads(diff_to_json(diff_stacks(profile_of(_rows(a=60, b=40)), profile_of(_rows(c=5)))))
    assert document["samples"] == {"before": 100, "after": 5}
    assert {row["function"]: row["ratio"] for row in document["functions"]} == {"a": 0.0, "b": 0.0, "c": None}


@pytest.mark.parametrize("width", [40, 80, 200])
def test_lines_fit_the_terminal(profile_of, width):
    rows = [("p", 1, ["std::vector<" + "x" * 300 + ">::push_back"], 10), ("p", 1, ["short"], 5)]
    diff = diff_stacks(profile_of(rows), profile_of(rows))
    table = _text(diff, width).split("\n\n")[1]
    assert all(len(line) <= width for line in table.splitlines())
    assert "h_back" in table


def test_nothing_but_noise_is_said_in_one_line(profile_of):
    same = profile_of(_rows(a=50, b=50))
    assert "no significant change" in _text(diff_stacks(same, same))
    assert np.isfinite([row.z for row in diff_stacks(same, same).rows]).all()


def _waits(chance, functions, mean):
    """Waits of exponential length, as rows of a table with durations."""
    rows = [("p", 1, ["main", name], 1) for name in functions]
    lengths = np.array([int(chance.expovariate(1 / mean)) + 1 for _ in functions], np.int64)
    return recorded(
        rows,
        table="event.wait",
        counted="events",
        preferred="weight",
        weight=lengths,
        squares=lengths.astype(float) ** 2,
    )


def test_durations_are_as_uncertain_as_they_vary():
    chance = random.Random(13)
    names = [f"f{at}" for at in range(20)]
    changed = 0
    for _ in range(20):
        sides = [_waits(chance, chance.choices(names, k=2000), 1e6) for _ in range(2)]
        changed += any(not row.noise for row in diff_stacks(*sides).rows)
    assert changed <= 4  # 5 % each: more than 4 of 20 has a chance of 0.3 %
    # As many waits in one function, each three times as long: its count alone would show nothing.
    functions = names * 100
    before = _waits(chance, functions, 1e6)
    longer = np.array([3 if name == "f7" else 1 for name in functions])
    after = replace(before, weight=before.weight * longer, squares=before.squares * longer**2)
    assert [row.function for row in diff_stacks(before, after).rows if not row.noise] == ["f7"]


def test_z_of_durations_is_that_of_a_compound_poisson_process():
    def side(weight, count):
        rows = [("p", 1, ["a"], count)]
        squares = np.full(count, float(weight) ** 2)
        known = {"table": "event.wait", "preferred": "weight", "squares": squares}
        return recorded(rows, weight=weight, manifest=Manifest(start_ns=1, end_ns=1 + 10**9), **known)

    row = diff_stacks(side(2, 100), side(2, 150), scale="rate").rows[0]
    assert row.z == pytest.approx((300 - 200) / math.sqrt(4 * 100 + 4 * 150))
