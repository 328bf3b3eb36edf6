"""The screen of `insitu top`, driven by keys, with ticks made by hand."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from textual.pilot import Pilot

import insitu
from insitu.record.top.save import save
from insitu.record.top.tick import Sample
from insitu.views.top.columns import Shown
from insitu.views.top.lines import Lines
from insitu.views.top.screen import TopScreen

from .top_ticks import NamedFunctions, ScriptedSampler, process, tick

NAMES = {10: "leaf", 20: "main", 30: "other", 50: "do_nanosleep", 60: "__schedule", 70: "bpf_prog_1_sched_switch"}
ON_CPU = {Sample(1, 1, (), (10, 20)): 6, Sample(1, 2, (), (30, 20)): 2, Sample(2, 2, (), (30,)): 2}
OFF_CPU = {Sample(1, 1, (70, 60, 50), (20,)): 1_500_000}


def drive(script: Callable[["Driven"], Awaitable[None]], size: tuple[int, int] = (100, 30)) -> None:
    """Run the screen headless while ``script`` presses keys."""

    async def run() -> None:
        driven = Driven()
        async with driven.app.run_test(size=size) as pilot:
            driven.pilot = pilot
            await script(driven)

    with ThreadPoolExecutor(1) as pool:  # in this thread, the browser's tests may have a loop running
        pool.submit(asyncio.run, run()).result()


class Driven:
    pilot: Pilot[Any]

    def __init__(self) -> None:
        self.sampler = ScriptedSampler(NAMES)
        self.saved: list[Any] = []
        self.app = TopScreen(self.sampler, Shown(), target="whole machine", save=self._save)

    def _save(self, ticks: Any, wanted: Any) -> str:
        self.saved.append(([each.number for each in ticks], wanted))
        return "top.insitu: saved"

    async def give(self, *ticks: Any) -> None:
        for each in ticks:
            self.sampler.give(each)
        await self.pilot.pause()

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()

    def text(self, part: str = "table") -> str:
        return self.app.query_one(f"#{part}", Lines).text

    def column(self, at: int) -> list[str]:
        return [line.split()[at] for line in self.text().splitlines()[1:]]


def rows() -> list[Any]:
    return [
        process(1, "alpha", cpu=0.9, rss_bytes=1 << 20),
        process(2, "beta", cpu=0.2, rss_bytes=3 << 20, calls=5000.0),
        process(3, "gamma", cpu=0.4, rss_bytes=2 << 20),
    ]


def test_processes_are_shown_sorted_by_the_key_of_a_column_and_reversed():
    async def script(top: Driven) -> None:
        await top.give(tick(1, rows()))
        assert top.column(0) == ["1", "3", "2"]
        for key, order in {
            "m": ["2", "3", "1"],
            "s": ["2", "1", "3"],
            "p": ["1", "2", "3"],
            "R": ["3", "2", "1"],
        }.items():
            await top.press(key)
            assert top.column(0) == order, key
        head = top.text("head")
        assert "live" in head and "own CPU 1.2 %" in head and "3 processes" in head and "page cache 3.0G" in head
        assert "run queue 3 runnable" in head and "cpu 12.5 %" in head and "calls 12.3k/s" in head

    drive(script)


def test_slash_filters_while_one_types_and_escape_shows_all():
    async def script(top: Driven) -> None:
        await top.give(tick(1, rows()))
        await top.press("slash", "a", "m")
        assert top.column(0) == ["3"]
        await top.press("enter", "p")
        assert top.column(0) == ["3"] and 'with "am"' in top.text("head")
        await top.press("escape")
        assert top.column(0) == ["1", "2", "3"]

    drive(script)


def test_enter_goes_from_process_to_threads_to_functions_to_stacks_and_escape_back():
    async def script(top: Driven) -> None:
        threads = [process(1, "alpha")._replace(parent=1), process(9, "worker", cpu=0.7)._replace(parent=1)]
        await top.give(tick(1, rows(), threads=threads, on_cpu=ON_CPU, off_cpu=OFF_CPU))
        await top.press("enter")
        assert top.sampler.looked == 1
        table = top.text().splitlines()
        assert "all threads" in table[1] and table[2].split()[0] == "9"
        await top.press("enter")
        found = {line.split()[2]: line.split()[:2] for line in top.text().splitlines()[1:]}
        assert found == {"leaf": ["75.0", "75.0"], "other": ["25.0", "25.0"], "main": ["0.0", "100.0"]}
        await top.press("t")
        assert top.text().splitlines()[1].split()[2] == "main"
        await top.press("s", "enter")
        assert [line.split() for line in top.text().splitlines()[1:4]] == [
            ["75.0", "%", "6", "samples"],
            ["leaf", "prog"],
            ["main", "prog"],
        ]
        await top.press("escape", "o")
        assert [line.split()[2] for line in top.text().splitlines()[1:]] == ["do_nanosleep", "main"]
        await top.press("escape", "escape")
        assert top.sampler.looked == 0 and top.column(0) == ["1", "3", "2"]
        await top.press("f")
        assert top.text().splitlines()[1].split()[:3] == ["60.0", "60.0", "leaf"]

    drive(script)


def test_a_wide_screen_has_the_functions_of_the_machine_beside_the_processes():
    async def script(top: Driven) -> None:
        await top.give(tick(1, rows(), on_cpu=ON_CPU))
        lines = [line[80:].split() for line in top.text().splitlines()]
        assert lines[1:3] == [["60.0", "leaf", "prog"], ["40.0", "other", "prog"]]
        assert [line.split()[0] for line in top.text().splitlines()[1:4]] == ["1", "3", "2"]

    drive(script, (160, 30))


def test_the_chosen_process_stays_chosen_while_it_moves():
    async def script(top: Driven) -> None:
        await top.give(tick(1, rows()))
        await top.press("down")  # 3
        await top.give(tick(2, [process(3, "gamma", cpu=2.0), *rows()[:2]]))
        assert top.column(0) == ["3", "1", "2"]
        await top.press("enter")
        assert top.sampler.looked == 3

    drive(script)


def test_space_freezes_and_left_and_right_go_through_the_last_ticks():
    async def script(top: Driven) -> None:
        await top.give(*(tick(number, [process(number)]) for number in range(1, 5)))
        await top.press("space")
        await top.give(tick(5, [process(5)]))
        assert top.column(0) == ["4"] and "frozen, 2 s ago" in top.text("head")
        await top.press("left", "left")
        assert top.column(0) == ["2"] and "frozen, 6 s ago" in top.text("head")
        await top.press("shift+left")
        assert top.column(0) == ["1"]
        await top.press("right")
        assert top.column(0) == ["2"]
        await top.press("space")
        assert top.column(0) == ["5"] and "live" in top.text("head")

    drive(script)


def test_names_cannot_drive_the_terminal_and_long_ones_are_cut():
    async def script(top: Driven) -> None:
        await top.give(tick(1, [process(1, "\x1b[2J\u202eevil" + "x" * 300)]))
        assert "\\x1b[2J" in top.text() and "\x1b" not in top.text()
        assert max(map(len, top.text().splitlines())) <= 80
        await top.press("enter")
        assert "\x1b" not in top.text("head")

    drive(script, (80, 24))


@pytest.mark.parametrize("size", [(80, 24), (200, 50), (40, 8), (20, 3)])
def test_any_size_is_filled_without_an_overlong_line(size: tuple[int, int]):
    async def script(top: Driven) -> None:
        await top.give(tick(1, [process(pid, f"name{pid}", cpu=1 / pid) for pid in range(1, 200)]))
        await top.press("end")
        lines = [*top.text("head").splitlines(), *top.text().splitlines()]
        assert len(lines) <= size[1]
        if size[1] > 10:
            assert len(lines) == size[1] - 1 and "199" in lines[-1] and max(map(len, lines)) <= size[0]
        await top.press("question_mark", "x", "f", "enter", "enter")

    drive(script, size)


def test_r_saves_what_is_shown():
    async def script(top: Driven) -> None:
        await top.give(tick(1, rows()), tick(2, rows()))
        await top.press("slash", "b", "e", "enter", "r")
        await top.app.workers.wait_for_complete()
        await top.pilot.pause()
        assert "top.insitu: saved" in top.text("foot")
        ((numbers, wanted),) = top.saved
        assert numbers == [1, 2] and [row.pid for row in rows() if wanted(row)] == [2]

    drive(script)


def test_a_saved_session_has_processes_samples_and_counters(tmp_path):
    path = tmp_path / "top.insitu"
    ticks = [tick(number, rows(), on_cpu=ON_CPU) for number in (1, 2)]
    said = save(path, ticks, lambda row: row.pid == 1, NamedFunctions(NAMES))
    assert said.endswith("4 s, 1 process, 16 samples")
    with insitu.open(path) as session:
        found = session.sql(
            "select pid, sum(cpu_ns)::bigint as ns, max(rss_bytes) as rss"
            " from process_tick join process using (upid) group by pid"
        )
        assert found.rows() == [(1, round(2 * 2e9 * 0.9), 1 << 20)]
        weights = session.sql("select sum(weight)::bigint as ns from sample")
        assert abs(weights["ns"].item() - 16 * 10**9 / 49) < 10
        pressure = session.sql("select value from counter join track on track = id where name = 'pressure cpu'")
        assert pressure["value"].to_list() == [0.125, 0.125]
        names = session.sql("select distinct function from frame order by all")["function"].to_list()
        assert names == ["leaf", "main", "other"]
