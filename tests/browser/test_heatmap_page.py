"""The heat map page: what is selected is counted here from the times of the samples."""

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from insitu.session.weighted_stacks import WeightedStacks
from insitu.views.heatmap import heatmap_html

StacksOf = Callable[..., WeightedStacks]
Open = Callable[..., Page]

START = 5_123_456_789
ROWS = 50
CELL = 1_000_000_000 // ROWS


def some_samples() -> list[tuple[int, str, int, list[str]]]:
    chance = random.Random(2)
    times = sorted(chance.randrange(12 * 10**9) for _ in range(3000))
    times[0] = 0
    return [
        (START + at, f"prog{tid}", tid, ["main", "late" if at > 6 * 10**9 else "early", f"f{chance.randrange(5)}"])
        for at in times
        for tid in [chance.choice([1, 1, 2])]
    ]


@pytest.fixture(scope="module")
def samples() -> list[Any]:
    return some_samples()


@pytest.fixture
def page(open_page: Open, stacks_of: StacksOf, samples: list[Any]) -> Page:
    return open_page(heatmap_html(stacks_of(samples), title="a test", rows=ROWS))


def within(samples: list[Any], first: int, last: int) -> list[Any]:
    """The samples of these cells, both included, by arithmetic on their times."""
    return [sample for sample in samples if first * CELL <= sample[0] - START < (last + 1) * CELL]


def centre(page: Page, cell: int) -> tuple[float, float]:
    at = page.evaluate(f"insitu.cellCentre({cell})")
    return at["x"], at["y"]


def tallied(page: Page) -> int:
    total: int = page.evaluate("insitu.tallied().total")
    return total


def says(page: Page, samples: list[Any], part: list[Any]) -> None:
    share = f"{100 * len(part) / len(samples):.2f} %"
    expect(page.locator(".range")).to_contain_text(f"{len(part):,} samples · {share}")


def test_hovering_shows_the_samples_of_a_cell(page: Page, samples: list[Any]) -> None:
    counts = Counter((sample[0] - START) // CELL for sample in samples)
    cell, most = counts.most_common(1)[0]
    page.mouse.move(*centre(page, cell))
    expect(page.locator(".tooltip:visible strong")).to_have_text(f"{most} samples")


def test_dragging_shows_the_flame_graph_of_just_that_range(page: Page, samples: list[Any]) -> None:
    first, last = 3 * ROWS + 20, 7 * ROWS + 33
    page.mouse.move(*centre(page, first))
    page.mouse.down()
    page.mouse.move(*centre(page, last), steps=4)
    page.mouse.up()
    part = within(samples, first, last)
    says(page, samples, part)
    assert tallied(page) == len(part)
    drawn = {f["function"]: f["total"] for f in page.evaluate("insitu.frames()") if f["depth"] == 2}
    assert drawn == dict(Counter(sample[3][1] for sample in part))


def test_two_clicks_select_in_either_order_and_the_address_holds_the_range(
    page: Page, open_page: Open, stacks_of: StacksOf, samples: list[Any]
) -> None:
    first, last = 2 * ROWS + 5, 9 * ROWS + 41
    page.mouse.click(*centre(page, last))
    expect(page.locator(".range")).to_contain_text("now click the end")
    page.mouse.click(*centre(page, first))
    part = within(samples, first, last)
    says(page, samples, part)
    assert tallied(page) == len(part)
    address = page.evaluate("location.hash")
    assert re.search(r"range=2\.10-9\.84", address)
    other = open_page(heatmap_html(stacks_of(samples), title="a test", rows=ROWS), hash=address)
    assert tallied(other) == len(part)
    page.get_by_role("button", name="Clear selection").click()
    assert tallied(page) == len(samples)
    page.go_back()
    page.wait_for_function(f"insitu.tallied().total === {len(part)}")


def test_the_axis_selects_a_whole_second(page: Page, samples: list[Any]) -> None:
    x, y = centre(page, 4 * ROWS)
    page.mouse.click(x, y + 14)
    part = within(samples, 4 * ROWS, 5 * ROWS - 1)
    says(page, samples, part)
    assert tallied(page) == len(part)


def test_the_keyboard_selects_a_range(page: Page, samples: list[Any]) -> None:
    page.locator(".heat").focus()
    for key in ["ArrowRight", "ArrowRight", "ArrowRight", "ArrowUp", "ArrowUp", "Enter", "ArrowRight", "Enter"]:
        page.keyboard.press(key)
    # The first key puts the cursor on cell 0.
    part = within(samples, 2 * ROWS + 2, 3 * ROWS + 2)
    says(page, samples, part)
    assert tallied(page) == len(part)
    page.keyboard.press("Escape")
    assert tallied(page) == len(samples)


def test_a_thread_counts_in_the_map_and_in_the_graph(page: Page, samples: list[Any]) -> None:
    page.get_by_label("Threads shown").select_option("t:2")
    mine = [sample for sample in samples if sample[2] == 2]
    x, y = centre(page, 6 * ROWS)
    page.mouse.click(x, y + 14)
    part = within(mine, 6 * ROWS, 7 * ROWS - 1)
    says(page, mine, part)
    assert tallied(page) == len(part)


def test_other_rows_and_hostile_names(open_page: Open, stacks_of: StacksOf) -> None:
    name = "</script><script>alert(1)</script>"
    page = open_page(heatmap_html(stacks_of([(0, name, 1, [name]), (10**9, name, 1, [name])]), title=name, rows=7))
    assert page.title() == name
    assert {f["function"] for f in page.evaluate("insitu.frames()")} == {"all", name}
    page.get_by_role("button", name="Log").click()


@pytest.mark.parametrize("rows", [1, 7, 333, 500])
def test_a_range_survives_its_address(open_page: Open, stacks_of: StacksOf, samples: list[Any], rows: int) -> None:
    html = heatmap_html(stacks_of(samples), title="x", rows=rows)
    page = open_page(html)
    page.locator(".heat").focus()
    for key in ["ArrowRight", "ArrowRight", "ArrowUp", "Enter", "ArrowRight", "ArrowRight", "ArrowUp", "Enter"]:
        page.keyboard.press(key)
    first, last = (rows + 1, 3 * rows + 2) if rows > 1 else (2, 5)
    part = [s for s in samples if first <= (s[0] - START) * rows // 10**9 <= last]
    assert tallied(page) == len(part)
    assert tallied(open_page(html, hash=page.evaluate("location.hash"))) == len(part)


def test_no_samples_are_said(open_page: Open, stacks_of: StacksOf) -> None:
    page = open_page(heatmap_html(stacks_of([]), title="nothing"))
    expect(page.locator(".range")).to_have_text("No samples")


def test_labels_of_the_vertical_axis_are_whole(page: Page) -> None:
    """Right-aligned text that is too long for its margin touches the edge of the canvas."""
    inked = page.evaluate(
        """() => {
            const canvas = document.querySelector(".heat canvas");
            const data = canvas.getContext("2d").getImageData(0, 0, 1, canvas.height).data;
            return data.some(value => value > 0);
        }"""
    )
    assert not inked


def test_a_rectangle_of_a_latency_map_is_what_began_then_and_took_that_long(
    open_page: Open, stacks_of: StacksOf, samples: list[Any]
) -> None:
    chance = random.Random(3)
    took = [int(10 ** chance.uniform(3, 6.99)) for _ in samples]
    stacks = replace(stacks_of(samples), table="span", counted="events", unit="ns", weight=np.array(took, np.int64))
    html = heatmap_html(stacks, title="a test", latency=True, rows=10)
    page = open_page(html)
    heat = page.evaluate("insitu.heat()")
    rows, edges, column_ns = heat["rows"], heat["edgesNs"], heat["columnNs"]
    assert rows == 40 and edges[0] == 1000
    low, high, left, right = 3, 25, 20, 60  # rows and columns, both included
    page.mouse.move(*centre(page, left * rows + high))
    page.mouse.down()
    page.mouse.move(*centre(page, right * rows + low), steps=4)
    page.mouse.up()
    inside = [
        sample
        for sample, ns in zip(samples, took, strict=True)
        if left <= (sample[0] - START) // column_ns <= right and edges[low] <= ns < edges[high + 1]
    ]
    assert 100 < len(inside) < len(samples)
    expect(page.locator(".range")).to_contain_text(re.compile(rf"2 µs . 398 µs · {len(inside):,} events"))
    assert tallied(page) == len(inside)
    drawn = {f["function"]: f["total"] for f in page.evaluate("insitu.frames()") if f["depth"] == 2}
    assert drawn == dict(Counter(sample[3][1] for sample in inside))
    other = open_page(html, hash=page.evaluate("location.hash"))
    assert tallied(other) == len(inside)
