"""Time series: what CPUs hold put together, and shown on a scale."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.probe.aggregations import TimeSeries
from insitu.probe.output.time_series import merged, series_json, series_rows, series_text

_SECOND = 10**9


def _words(*intervals: tuple[int, int, int]) -> list[int]:
    return [word for interval in intervals for word in interval]


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("", 30), ("sum", 60), ("avg", 20), ("min", 10), ("max", 30)],
)
def test_what_cpus_hold_of_one_interval_is_put_together(aggregate: str, expected: int) -> None:
    # Number of the interval; value; when it came, or how many values it is made of.
    one, other = (7, 10, 1), (7, 20, 1)
    last = (7, 30, 2 if not aggregate else 1)
    assert merged(TimeSeries(_SECOND, 4, aggregate), _words(one, last, other)) == [(7, expected)]


def test_the_mean_is_that_of_all_values_however_many_each_cpu_had() -> None:
    assert merged(TimeSeries(1, 4, "avg"), _words((7, 100, 4), (7, -700, 2))) == [(7, -100)]


def test_intervals_that_are_too_old_are_left_out() -> None:
    words = _words((0, 0, 0), (5, 1, 1), (9, 2, 1), (12, 3, 1))
    assert merged(TimeSeries(1, 4), words) == [(9, 2), (12, 3)]


def test_rows_go_from_the_first_value_to_where_the_whole_map_ends() -> None:
    kind = TimeSeries(100, 4)
    assert series_rows(kind, [(9, 2), (11, 3)], 12) == [(900, 2), (1000, None), (1100, 3), (1200, None)]
    assert series_rows(kind, [(9, 2)], 13) == []


def test_values_are_places_between_the_least_and_the_greatest() -> None:
    kind = TimeSeries(100_000_000, 5)
    rows = [(i * kind.interval, value) for i, value in enumerate([-5, 0, None, 5, 4])]
    lines = series_text(kind, rows).splitlines()
    scale = " " * 13 + f"{-5!s:<21}{5!s:>32}"
    assert lines[0] == lines[-1] == scale
    assert lines[1] == "hh:mm:ss.ms  |" + "_" * 51 + "|"
    assert lines[-2] == " " * 13 + "v" + "_" * 51 + "v"
    bars = [line[13:66] for line in lines[2:-2]]
    # 53 places: the least at the first, the greatest at the last, zero in the middle (53 * 5 / 10).
    assert [bar.find("*") for bar in bars] == [0, 26, -1, 52, 46]
    assert [bar[26] for bar in bars] == [".", "*", ".", ".", "."]
    assert [line[66:] for line in lines[2:-2]] == [" -5", " 0", " -", " 5", " 4"]
    assert all(
        line[:12] == time.strftime("%H:%M:%S", time.localtime(0)) + f".{i}00" for i, line in enumerate(lines[2:-2])
    )


def test_equal_values_stand_in_the_middle() -> None:
    text = series_text(TimeSeries(_SECOND, 5), [(0, 9), (_SECOND, 9)])
    assert text.splitlines()[0].split() == ["8", "10"]
    assert [line.index("*") - 9 for line in text.splitlines() if "*" in line] == [26, 26]
    assert series_text(TimeSeries(_SECOND, 5, "", False), [(0, 0)]).splitlines()[0].split() == ["0", "1"]
    assert series_text(TimeSeries(_SECOND, 5), []) == "<no data>\n"


def test_a_zero_that_is_next_to_the_greatest_value_is_on_the_line() -> None:
    shown = series_text(TimeSeries(_SECOND, 2), [(0, -(10**16)), (_SECOND, 1)]).splitlines()[2:-2]
    ends = [line.partition(" ")[2][:53] for line in shown]
    assert [(line[0], line[-1]) for line in ends] == [("*", "."), ("|", "*")]


def test_json_has_local_time_with_nanoseconds() -> None:
    ((first,)) = series_json([(1_500_000_000_000_000_007, None)])
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(1_500_000_000))
    assert first == {"interval_start": f"{clock}.000000007", "value": None}


_WORDS = st.lists(st.tuples(st.integers(0, 30), st.integers(-(2**63), 2**63 - 1), st.integers(1, 9)), max_size=12)


@given(_WORDS, st.sampled_from(["", "avg", "sum", "min", "max"]), st.integers(1, 6))
def test_any_content_is_shown_line_by_line(cells: list[tuple[int, int, int]], aggregate: str, count: int) -> None:
    kind = TimeSeries(1000, count, aggregate)
    series = merged(kind, _words(*cells))
    assert [number for number, _ in series] == sorted({number for number, _, _ in cells if number})[-len(series) :]
    last = series[-1][0] if series else 0
    rows = series_rows(kind, series, last)
    assert len(rows) <= count and all(b[0] - a[0] == 1000 for a, b in pairwise(rows))
    lines = series_text(kind, rows).splitlines()
    assert lines == ["<no data>"] if not rows else len(lines) == len(rows) + 4
