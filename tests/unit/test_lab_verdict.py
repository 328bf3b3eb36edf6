"""Whether two sets of timings differ: found when they do, silence when they do not."""

import io
import random
import re
from dataclasses import replace

import pytest

from insitu.errors import InsituError
from insitu.lab.compare.compare import Conditions, Side, concluded, parse_sides
from insitu.lab.compare.measure import Run
from insitu.verdict import judge
from insitu.views.compare import compare_blocks, compare_html, verdict_text
from insitu.views.terminal import Screen

# Wall seconds that `insitu lab compare -k 6.1,6.1 -n 15 --json` recorded on a busy two-core machine: one kernel on
# both sides, so that every division of all thirty is of identical guests.
RECORDED = [
    0.8101,
    0.6698,
    0.316,
    0.275,
    0.2213,
    0.2727,
    0.2816,
    0.284,
    0.357,
    0.2403,
    0.273,
    0.242,
    0.2799,
    0.7041,
    0.7118,
]
RECORDED += [
    0.3474,
    0.23,
    0.5758,
    0.211,
    0.2415,
    0.2523,
    0.2544,
    0.2092,
    0.4847,
    0.2113,
    0.2315,
    0.2718,
    0.9144,
    0.9403,
    0.441,
]


@pytest.mark.parametrize("seed", range(20))
def test_identical_guests_recorded_timings_give_no_verdict(seed: int) -> None:
    timings = random.Random(seed).sample(RECORDED, 20)
    assert not judge(timings[:10], timings[10:], seed).differs


# Beyond the spread of the recording, whose machine was busy.
FACTOR = 4.0


@pytest.mark.parametrize("seed", range(20))
def test_a_slower_side_is_found_with_its_ratio(seed: int) -> None:
    timings = random.Random(seed).sample(RECORDED, 20)
    verdict = judge(timings[:10], [FACTOR * seconds for seconds in timings[:10]], seed)
    assert verdict.differs
    assert verdict.low < FACTOR < verdict.high


def test_the_verdict_is_symmetric() -> None:
    slower = [FACTOR * seconds for seconds in RECORDED[:10]]
    assert judge(RECORDED[:10], slower).ratio == pytest.approx(1 / judge(slower, RECORDED[:10]).ratio)
    assert judge(slower, RECORDED[:10]).differs


def test_few_runs_say_so_instead_of_guessing() -> None:
    verdict = judge([1.0, 1.1, 1.0], [2.0, 2.1, 2.0])
    assert not verdict.differs
    assert not verdict.enough_runs


def test_a_certain_but_tiny_difference_is_not_worth_a_verdict() -> None:
    first = [1 + n * 1e-5 for n in range(20)]
    assert not judge(first, [1.01 * seconds for seconds in first]).differs


def side(name: str, wall: float, system: float, shares: dict[str, float] | None = None) -> Side:
    runs = tuple(Run(wall + n * 1e-4, 0.1, system, 10, 0, 1, 1) for n in range(10))
    return Side(name, name, runs, kernel_shares=shares or {})


def test_the_verdict_names_what_most_of_the_difference_is_in() -> None:
    # 0.1 s more of wall time, all of it system time, of which the one function that differs takes all.
    first = side("6.1", 0.3, 0.1, {"entry": 1 / 2})
    second = side("6.12", 0.4, 0.2, {"entry": 1 / 3, "slow": 1 / 3})
    comparison = concluded(("x",), first, second)
    shares = {part.name: part.share for part in comparison.parts}
    assert shares["system time"] == pytest.approx(1)
    assert shares["slow (kernel)"] == pytest.approx(1)
    assert verdict_text(comparison).startswith("6.12 is 1.33 ± 0.00 times slower on this workload; 100 % of")


def test_a_name_in_the_report_stays_text() -> None:
    page = compare_html(concluded(("<script>alert(1)</script>",), side("a", 1, 0), side("<b>", 1, 0)))
    assert page.count("<script>") == 1  # the page's own
    assert "<b>" not in page


def test_the_text_report_begins_with_the_verdict() -> None:
    out = io.StringIO()
    Screen(out).write(compare_blocks(concluded(("x",), side("a", 1, 0), side("b", 1, 0))))
    assert out.getvalue().splitlines()[0] == "no difference of 3% or more between a and b on this workload"


def test_where_the_runs_spread_too_far_nothing_is_claimed() -> None:
    # Medians alike; the interval of their ratio spans far more than the least difference that is reported.
    runs = tuple(Run(wall, 0.1, 0.1, 0, 0, 0, 0) for wall in (1.0, 1.6, 0.7, 1.2, 0.8, 1.5, 1.1, 0.9, 1.4, 1.3))
    comparison = concluded(("x",), Side("a", "a", runs), Side("b", "b", runs[::-1]))
    found = re.match(
        r"cannot tell a from b on this workload: the latter takes (-\d+)% to \+(\d+)% time", verdict_text(comparison)
    )
    assert found and int(found[1]) < -3 and int(found[2]) > 3
    assert "-n 20" in verdict_text(comparison)


@pytest.mark.parametrize("emulated", [True, False])
def test_the_report_says_how_and_where_it_was_measured(emulated: bool) -> None:
    conditions = Conditions("box, Linux 6.1", 8, "2026-11-26 12:00+00:00", 2, "1G", emulated)
    comparison = replace(concluded(("x",), side("a", 1, 0), side("b", 1, 0)), conditions=conditions)
    out = io.StringIO()
    Screen(out).write(compare_blocks(comparison))
    for shown in (out.getvalue(), compare_html(comparison)):
        assert "10 runs of each" in shown
        assert ("emulated (no KVM)" in shown, "run by KVM" in shown) == (emulated, not emulated)
        assert "on box, Linux 6.1, 8 CPUs, at 2026-11-26 12:00+00:00" in shown.replace("&#43;", "+")


@pytest.mark.parametrize("text", ["6.1", "6.1,6.12,6.13", "6.1,", ""])
def test_anything_but_two_kernels_is_refused(text: str) -> None:
    with pytest.raises(InsituError, match="does not name two kernels"):
        parse_sides(text)


@pytest.mark.parametrize(("runs", "enough"), [(6, False), (7, True)])
def test_seven_runs_are_the_fewest_that_can_tell(runs: int, enough: bool) -> None:
    verdict = judge([1 + n / 100 for n in range(runs)], [2 + n / 100 for n in range(runs)])
    assert (verdict.enough_runs, verdict.differs) == (enough, enough)


def test_a_difference_that_the_hosts_load_may_have_made_is_not_one() -> None:
    quiet = Side("a", "a", tuple(Run(1 + n * 1e-3, 0.5, 0.5, 0, 0, 0, 0) for n in range(10)))
    # Twice as long, for as long as it waited for a CPU that others had.
    waiting = Side("b", "b", tuple(Run(2 + n * 1e-3, 1, 1, 0, 0, 0, 0, vcpu_steal=1.0) for n in range(10)))
    comparison = concluded(("x",), quiet, waiting)
    assert not comparison.verdict.differs
    assert "cannot tell a from b: host contention" in verdict_text(comparison)
    out = io.StringIO()
    Screen(out).write(compare_blocks(comparison))
    assert "vCPU steal: time for which the host ran other work" in out.getvalue()
    # Twice as long, and waited little.
    slow = Side("b", "b", tuple(Run(2 + n * 1e-3, 1, 1, 0, 0, 0, 0, vcpu_steal=0.1) for n in range(10)))
    assert concluded(("x",), quiet, slow).verdict.differs
    assert concluded(("x",), slow, quiet).verdict.differs


def test_each_measure_is_shown_in_its_unit() -> None:
    run = Run(1.5, 0.5, 0.25, 10, 2, 7, 3, vcpu_steal=0.125)
    out = io.StringIO()
    Screen(out).write(compare_blocks(concluded(("x",), Side("a", "a", (run,) * 7), Side("b", "b", (run,) * 7))))
    rows = {" ".join(line.split()[:2]): line for line in out.getvalue().splitlines()}
    assert "1.500 s (1.500 to 1.500)" in rows["wall 1.500"]
    assert "10 (10 to 10)" in rows["minor faults"] and " s " not in rows["minor faults"]
    assert "0.125 s" in rows["vCPU steal"]
