"""Ticks of `insitu top`: what is kept of them, how functions and rows are put in order, and plain text of them."""

import json

import pytest

from insitu.probe.aggregations import Histogram
from insitu.probe.output.map_text import percentile
from insitu.record.top import machine as machine_files
from insitu.record.top.functions import stacks_of
from insitu.record.top.tick import CpuUse, History, Sample
from insitu.views.top.columns import SORTED_BY, Shown, percent, short
from insitu.views.top.summary import summary
from insitu.views.top.text import as_json, plain

from .top_ticks import NamedFunctions, machine, process, tick


def test_a_history_drops_its_oldest_ticks_by_number_and_by_rows():
    history = History(3)
    for number in range(1, 6):
        history.append(tick(number))
    assert [each.number for each in history.after(0)] == [3, 4, 5]
    assert [each.number for each in history.until(4)] == [3, 4]
    assert [each.number for each in history.until(1)] == [3]
    small = History(100, most_rows=10)
    for number in range(1, 6):
        small.append(tick(number, [process(pid) for pid in range(4)]))
    assert [each.number for each in small.after(0)] == [4, 5]
    small.append(tick(6, [process(pid) for pid in range(50)]))
    assert [each.number for each in small.after(0)] == [6]


def test_rows_are_sorted_by_any_column_and_filtered_by_name_or_pid():
    rows = [
        process(5, "b", cpu=0.5, rss_bytes=1),
        process(6, "A", cpu=0.1, rss_bytes=3, calls=None),
        process(7, "c", cpu=0.9, rss_bytes=2, calls=5.0),
    ]

    def order(name, **known):
        return [row.pid for row in Shown(SORTED_BY[name], **known).rows(rows)]

    assert order("cpu") == [7, 5, 6]
    assert order("cpu", reverse=True) == [6, 5, 7]
    assert order("rss") == [6, 7, 5]
    assert order("pid") == [5, 6, 7]
    assert order("name") == [6, 5, 7]
    assert order("calls") == [7, 5, 6]  # what is not known comes last
    assert order("cpu", filter="a") == [6]
    assert order("cpu", filter="5") == [5]
    assert order("cpu", filter=".*") == []


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [
        (None, 1000, "-"),
        (0, 1000, "0"),
        (999.4, 1000, "999"),
        (999.6, 1000, "1.0k"),
        (12_345, 1000, "12.3k"),
        (99_960, 1000, "100k"),
        (1023, 1024, "1023"),
        (1024, 1024, "1.0K"),
        (5 << 30, 1024, "5.0G"),
    ],
)
def test_numbers_are_short(value, base, text):
    assert short(value, base) == text


def test_percentages_have_a_decimal_until_they_are_large():
    assert [percent(share) for share in (None, 0.0, 0.1234, 1.0, 12.0)] == ["-", "0.0", "12.3", "100.0", "1200"]


def test_functions_are_added_up_by_own_and_total_samples_and_recursion_counts_once():
    names = {10: "leaf", 20: "middle", 30: "main", 99: "entry_SYSCALL"}
    on_cpu = {
        Sample(1, 1, (99,), (10, 20, 30)): 3,
        Sample(1, 2, (), (20, 20, 30)): 2,
        Sample(2, 2, (), (10,)): 5,
    }
    ticks = [tick(1, on_cpu=on_cpu), tick(2, on_cpu={Sample(1, 1, (), (30,)): 1})]
    costs = NamedFunctions(names).costs(stacks_of(ticks, 1, 0, waits=False))
    assert {(c.function, c.own, c.total) for c in costs} == {
        ("entry_SYSCALL", 3, 3),
        ("leaf", 0, 3),
        ("middle", 2, 5),
        ("main", 1, 6),
    }
    assert costs[0].function == "entry_SYSCALL"
    assert sum(stacks_of(ticks, 0, 0, waits=False).values()) == 11
    assert sum(stacks_of(ticks, 1, 2, waits=False).values()) == 2


def test_plain_text_and_json_escape_names_and_bound_rows():
    rows = [process(pid, "evil\x1b[2J\nname", cpu=pid / 10) for pid in range(1, 5)]
    text = plain(tick(1, rows, hidden=7), Shown(), 2)
    table = text[text.index(next(line for line in text if line.startswith("#"))) :]
    assert len(table) == 4 and table[1].split()[0] == "4" and "\x1b" not in "".join(text)
    assert table[1].endswith("evil\\x1b[2J\\nname") and table[3] == "# 7 more processes are not read"
    found = json.loads(
        as_json(tick(1, rows, on_cpu={Sample(1, 1, (), (10,)): 4}), Shown(), 2, NamedFunctions({10: "f"}))
    )
    assert [each["pid"] for each in found["processes"]] == [4, 3]
    assert found["functions"] == [{"function": "f", "module": "/usr/bin/prog", "share": 1.0}]
    assert found["machine"]["pressure"] == {"cpu": 0.125, "memory": 0.0, "io": 0.03}


def test_many_cpus_are_cells_of_a_strip_and_few_have_a_line_each():
    few = list(summary([tick(1), tick(2)], 80))
    assert few[0][0][0].strip() == "CPU 0" and len([cell for cell in few[0] if cell[0] == "▅"]) == 2
    cpus = {cpu: CpuUse(1.0 if cpu == 100 else 0.0, 0, 0, 0, 0) for cpu in range(128)}
    many = list(summary([tick(1, machine=machine(cpus=0, load=0.1)._replace(cpus=cpus))], 80))
    strips = [line for line in many if line[0][0].startswith("CPU")]
    assert sum(len(line) - 2 for line in strips) == 128
    assert sum(cell[0] == "█" for line in strips for cell in line) == 1
    assert all(len("".join(text for text, _ in line)) <= 80 for line in [*few, *many])


def test_counters_of_cpus_that_go_backwards_are_no_negative_shares():
    use = machine_files._use((100, 0, 50, 1000, 40, 0, 0, 0), (150, 0, 70, 1020, 30, 5, 5, 20))
    assert use == CpuUse(pytest.approx(100 / 120), pytest.approx(50 / 120), pytest.approx(30 / 120), 0.0, 20 / 120)
    assert machine_files._use((1,) * 8, (1,) * 8).busy == 0


def test_disks_are_added_up_with_the_mean_time_of_a_request():
    before, now = (10, 0, 100, 50, 5, 0, 40, 10), (30, 0, 300, 90, 15, 0, 140, 30)
    disks = machine_files._disk_use(before, now, 2.0)
    assert disks == (10.0, 5.0, 200 * 512 / 2, 100 * 512 / 2, (40 + 20) / 30 * 1e6)


def test_a_percentile_is_the_middle_of_its_range():
    kind = Histogram(bits=4)  # below 16, each number has a range of its own
    cells = [0] * kind.cells
    assert percentile(kind, cells, 50) == 0
    cells[1 + 7] = 98
    cells[1 + 16 + 3] = 2  # 19
    assert [percentile(kind, cells, each) for each in (1, 50, 98, 99)] == [7, 7, 7, 19]
