"""What recorded reads of counters come to: scaling, sums, metrics and their text; a PMU is played here."""

import errno
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from insitu.errors import InsituError
from insitu.kernel import pmu
from insitu.kernel.perf_event import Attr, Hardware, Software, Type
from insitu.kernel.topology import Domain, domains
from insitu.record import counters
from insitu.record.count_metrics import METRICS, metric_events
from insitu.record.counters import Count, Counted, Counters, Place, Value, choose_counted, summed
from insitu.record.event_names import NamedEvent, all_events, named_events
from insitu.record.sources.counting import Reading
from insitu.verdict import turns
from insitu.views.counts.compare import Measured, comparison_blocks, comparison_json
from insitu.views.counts.figures import rows_of, spread_percent
from insitu.views.counts.metric_only import MetricColumns
from insitu.views.counts.records import csv_lines, json_lines
from insitu.views.counts.text import Labels, Times, count_lines, time_lines
from insitu.views.terminal import Screen

NO_NAMES = Labels({})
Refuse = Callable[[Attr, int, int], int]


def chosen(text: str) -> list[Counted]:
    return [Counted(event) for event in all_events(text)]


def read(value: int, enabled: int = 1000, running: int | None = None, *, event: int = 0, cpu: int = -1) -> Value:
    """A counter's value with its times, in ns."""
    return Value(event, Place(cpu=cpu), value, enabled, enabled if running is None else running)


def rows(text: str, values: Sequence[tuple[int, int, int]], elapsed_s: float = 1.0):
    events = chosen(text)
    readings = [read(*value, event=number) for number, value in enumerate(values)]
    return rows_of([summed(events, readings, "all")], elapsed_s)


def metrics(text: str, *values: int, elapsed_s: float = 1.0) -> dict[str, tuple[float, str]]:
    found = rows(text, [(value, 1000, 1000) for value in values], elapsed_s)
    return {row.event.name: (row.metric.value, row.metric.unit) for row in found if row.metric}


# Scaling


def test_a_count_of_two_fifths_of_the_time_is_scaled_to_all_of_it_and_marked() -> None:
    [row] = rows("cycles", [(1_000_000, 10_000_000, 4_000_000)])
    assert (row.value, row.percent) == (2_500_000, 40.0)
    [line] = count_lines([row], NO_NAMES)
    assert "2,500,000" in line and "(40.00% of the time)" in line


def test_each_counter_is_scaled_by_its_own_time_before_they_are_added() -> None:
    events = chosen("cycles")
    readings = [read(100, 1000, 500, cpu=0), read(100, 1000, 1000, cpu=1)]
    [count] = summed(events, readings, "all")
    assert (count.value, count.enabled_ns, count.running_ns) == (300, 2000, 1500)
    assert [each.value for each in summed(events, readings, "cpu")] == [200, 100]


def test_an_event_that_never_got_a_counter_is_not_counted_rather_than_zero() -> None:
    [row] = rows("cycles", [(0, 5_000_000, 0)])
    assert row.value is None
    assert "<not counted>" in "\n".join(count_lines([row], NO_NAMES))
    assert list(csv_lines([row], NO_NAMES, ",")) == ["<not counted>,,cycles,0,0.00,,"]


def test_a_target_that_never_ran_had_no_event() -> None:
    [row] = rows("page-faults", [(0, 0, 0)])
    assert row.value == 0


def test_an_interval_is_scaled_by_its_own_times_so_that_it_is_never_negative() -> None:
    first, second = read(100, 1000, 500), read(110, 2000, 1500)  # 200, and 146 as a whole
    [count] = summed(chosen("cycles"), [second.since(first)], "all")
    assert (count.value, count.enabled_ns, count.running_ns) == (10, 1000, 1000)


def test_pmus_of_one_kind_are_one_sum() -> None:
    event = all_events("cycles")[0]
    pair = [Counted(event._replace(name="imc/reads/", type=kind, unit="MiB", scale=0.5)) for kind in (24, 25)]
    [row] = rows_of([summed(pair, [read(10, cpu=0), read(30, event=1, cpu=0)], "all")], 1.0)
    assert (row.value, row.unit) == (20.0, "MiB")


# Metrics


def test_instructions_are_shown_per_cycle_and_cycles_per_nanosecond_of_cpu_time() -> None:
    found = metrics("task-clock,cycles,instructions", 500_000_000, 1_500_000_000, 3_000_000_000, elapsed_s=2.0)
    assert found == {
        "task-clock": (0.25, "CPUs utilized"),
        "cycles": (3.0, "GHz"),
        "instructions": (2.0, "insn per cycle"),
    }


def test_misses_are_a_share_of_what_they_are_misses_of() -> None:
    found = metrics("branches,branch-misses,cache-references,cache-misses", 2000, 50, 400, 100)
    assert found["branch-misses"] == (2.5, "% of all branches")
    assert found["cache-misses"] == (25.0, "% of all cache refs")
    found = metrics("L1-dcache-loads,L1-dcache-load-misses", 1000, 10)
    assert found["L1-dcache-load-misses"] == (1.0, "% of all L1-dcache accesses")


def test_events_of_user_code_are_compared_with_those_of_user_code() -> None:
    found = metrics("cycles,cycles:u,instructions:u", 1000, 100, 300)
    assert found["instructions:u"] == (3.0, "insn per cycle")
    assert metrics("cycles,instructions:u", 1000, 300)["instructions:u"] == (300.0, "/sec elapsed")


def test_rates_are_per_second_of_cpu_time_or_else_of_elapsed_time_and_say_so() -> None:
    assert metrics("task-clock,page-faults", 10_000_000, 50)["page-faults"] == (5.0, "K/sec")
    assert metrics("page-faults", 50, elapsed_s=2.0)["page-faults"] == (25.0, "/sec elapsed")
    assert "page-faults" not in metrics("task-clock,page-faults", 0, 0)


def test_top_down_level_1_adds_up_to_100_per_cent(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from .pmu_trees import write

    monkeypatch.setattr(pmu, "DEVICES", write(tmp_path))
    names = ("retiring", "bad-spec", "fe-bound", "be-bound")
    found = metrics(
        "{cpu/slots/," + ",".join(f"cpu/topdown-{each}/" for each in names) + "}", 1000, 300, 100, 200, 400
    )
    assert found == {
        "cpu/topdown-retiring/": (30.0, "% retiring"),
        "cpu/topdown-bad-spec/": (10.0, "% bad speculation"),
        "cpu/topdown-fe-bound/": (20.0, "% frontend bound"),
        "cpu/topdown-be-bound/": (40.0, "% backend bound"),
    }


# Several runs


def test_runs_are_shown_by_their_mean_and_its_standard_error() -> None:
    # mean 12, deviations -2 0 2: variance 4, error of the mean sqrt(4/3) = 1.1547, 9.62 %
    assert spread_percent([10, 12, 14]) == pytest.approx(9.6225, abs=1e-4)
    events = chosen("page-faults")
    runs = [summed(events, [read(value)], "all") for value in (10, 12, 14)]
    [row] = rows_of(runs, 1.0)
    assert row.value == 12 and row.spread == pytest.approx(9.6225, abs=1e-4)
    [line] = count_lines([row], NO_NAMES)
    assert "( +- 9.62% )" in line
    [elapsed, *_] = [line for line in time_lines(Times([1.0, 1.2, 1.4])) if line]
    assert elapsed.split() == ["1.2000000", "+-", "0.1154701", "seconds", "time", "elapsed", "(", "+-", "9.62%", ")"]


# Places, metrics, and what is not there


# Two sockets; the first has two threads on its first core. Of each CPU: socket, die, core, node.
TREE = {0: (0, 0, 0, 0), 1: (0, 0, 1, 0), 2: (1, 0, 0, 1), 3: (1, 0, 1, 1), 4: (0, 0, 0, 0)}


@pytest.fixture
def system(tmp_path: Path) -> str:
    for cpu, (socket, die, core, node) in TREE.items():
        topology = tmp_path / f"cpu/cpu{cpu}/topology"
        topology.mkdir(parents=True)
        for name, number in (("physical_package_id", socket), ("die_id", die), ("core_id", core)):
            (topology / name).write_text(f"{number}\n")
        (topology.parent / f"node{node}").mkdir()
    return str(tmp_path)


def test_cpus_are_added_up_by_core_socket_and_node(system: str) -> None:
    events = chosen("cs")
    readings = [read(10**cpu, cpu=cpu) for cpu in TREE]

    def counted(kind: Domain) -> list[Count]:
        return summed(events, readings, "domain", domains(kind, TREE, system))

    def sums(kind: Domain) -> dict[str, tuple[int, int]]:
        return {count.place.domain: (count.value, count.counters) for count in counted(kind)}

    cores = {"S0-D0-C0": (10_001, 2), "S0-D0-C1": (10, 1), "S1-D0-C0": (100, 1), "S1-D0-C1": (1000, 1)}
    assert sums("core") == cores
    assert sums("die") == {"S0-D0": (10_011, 3), "S1-D0": (1100, 2)}
    assert sums("socket") == {"S0": (10_011, 3), "S1": (1100, 2)}
    assert sums("node") == {"N0": (10_011, 3), "N1": (1100, 2)}
    lines = csv_lines(rows_of([counted("socket")], 1.0), NO_NAMES, ",")
    assert [line.split(",")[:3] for line in lines] == [["S0", "3", "10011"], ["S1", "2", "1100"]]
    assert domains("core", [9], system) == {9: "S0-D0-C0"}  # without a directory


def test_metrics_alone_are_columns_whose_unit_stays_the_same() -> None:
    columns = MetricColumns(NO_NAMES)
    slow = rows("task-clock,page-faults,cycles", [(10**9, 1, 1), (500, 1, 1), (0, 5, 0)])
    fast = rows("task-clock,page-faults,cycles", [(10**9, 1, 1), (5000, 1, 1), (0, 5, 0)])
    assert list(columns.csv(slow, ",", 1.0)) == ["time,CPUs utilized,page-faults /sec", "1.000000000,1.000,500.000"]
    assert list(columns.csv(fast, ",", 2.0)) == ["2.000000000,1.000,5000.000"]
    assert [json.loads(each) for each in columns.json(fast)] == [{"CPUs utilized": 1.0, "page-faults /sec": 5000.0}]


def test_metrics_are_made_of_the_events_that_their_figures_need() -> None:
    for name in METRICS:
        if name != "topdown":
            assert all_events(metric_events(name))
    names = [each.name for each in all_events(metric_events("IPC,faults"))]
    assert names == ["instructions", "cycles", "task-clock", "page-faults"]
    with pytest.raises(InsituError, match="did you mean 'ipc'"):
        metric_events("ipcc")


def test_many_events_without_a_count_for_one_reason_are_one_line() -> None:
    events = chosen("cycles,instructions,branches,branch-misses,LLC-loads")
    found = rows_of([summed([each._replace(reason="no PMU") for each in events], [], "all")], 1.0)
    assert list(count_lines(found, NO_NAMES)) == [
        "",
        " cycles, instructions, branches, branch-misses and 1 more not counted: no PMU",
    ]
    assert len(list(count_lines(found, NO_NAMES, fold=False))) == len(found) + 2


# Two commands


def measured(command: str, elapsed_s: Sequence[float], faults: int) -> Measured:
    events = chosen("page-faults,major-faults,cycles")
    events[2] = events[2]._replace(reason="no PMU")
    counts = summed(events, [read(faults), read(0, event=1)], "all")
    return Measured(command, [Reading(each, each, counts) for each in elapsed_s], [(each, 0.0) for each in elapsed_s])


def test_a_command_that_takes_twice_as_long_is_slower_and_equal_counts_are_alike() -> None:
    times = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.0, 1.0]
    first, second = measured("a", times, 300), measured("b", [2 * each for each in times], 300)
    page = io.StringIO()
    Screen(page).write(comparison_blocks(first, second))
    lines = page.getvalue().splitlines()
    assert lines[1].startswith("B is 2.00 ± 0.0") and lines[1].endswith(" times slower")
    figures = {line.split()[0]: line.split()[1:] for line in lines if line.startswith("  ")}
    assert figures["elapsed"][:5] == ["1.0000", "s", "2.0000", "s", "2.00"] and figures["elapsed"][-1] == "differs"
    assert figures["page-faults"] == ["300", "300", "1.00", "1.00", "to", "1.00", "alike"]
    assert figures["major-faults"] == ["0", "0"]  # of zeros there is no ratio
    assert lines[-1] == " cycles: no PMU"


def test_where_times_do_not_decide_the_quantities_that_differ_are_named() -> None:
    times = [1.0, 2.0, 0.5, 3.0, 1.5, 0.7, 2.2, 1.1]
    found = json.loads(comparison_json(measured("a", times, 100), measured("b", times[::-1], 200)))
    assert found["text"].startswith("cannot tell A from B: ") and found["text"].endswith(
        ". page-faults: this differs"
    )


def test_neither_side_always_runs_first() -> None:
    assert list(turns(3)) == [(1, 0), (1, 1), (2, 1), (2, 0), (3, 0), (3, 1)]


# For programs


def test_json_has_an_object_for_each_count_with_perfs_names() -> None:
    [clock, faults] = map(
        json.loads, json_lines(rows("task-clock,page-faults", [(500_000, 1, 1), (7, 1, 1)]), NO_NAMES)
    )
    assert (clock["event"], float(clock["counter-value"]), clock["unit"]) == ("task-clock", 0.5, "msec")
    assert (float(faults["counter-value"]), faults["metric-unit"]) == (7.0, "K/sec")


def test_places_are_named_in_every_form_without_a_terminals_control_characters() -> None:
    count = Count(chosen("page-faults")[0], Place(tid=42), 3, 10, 10)
    names = Labels({42: "evil\x1b[2J"})
    found = rows_of([[count]], 1.0)
    assert "evil\\x1b[2J-42" in next(count_lines(found, names))
    assert next(csv_lines(found, names, ";")).startswith("evil\\x1b[2J-42;3;;page-faults;")
    assert json.loads(next(json_lines(found, names)))["thread"] == "evil\\x1b[2J-42"


# A kernel that is played


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Refuse], list[Attr]]]:
    opened: list[Attr] = []

    def play(refuse: Refuse) -> list[Attr]:
        def open_event(attr: Attr, *, pid: int = 0, cpu: int = -1, group_fd: int = -1, flags: int = 0) -> int:
            code = refuse(attr, pid, group_fd)
            if code:
                raise InsituError("refused") from OSError(code, os.strerror(code))
            opened.append(attr)
            return os.open(os.devnull, os.O_RDONLY)

        monkeypatch.setattr(counters, "open_event", open_event)
        return opened

    yield play


def reason_of(text: str, *, whole_system: bool = False) -> str:
    [only], _ = choose_counted(all_events(text), [], whole_system=whole_system)
    return only.reason


def test_the_reason_says_whether_there_is_a_pmu(kernel, monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    from .pmu_trees import write

    kernel(lambda attr, pid, group: errno.ENOENT if attr.type == Type.HARDWARE else 0)
    monkeypatch.setattr(pmu, "DEVICES", str(tmp_path / "none"))
    assert reason_of("cycles") == "no PMU (virtual machine?)"
    monkeypatch.setattr(pmu, "DEVICES", write(tmp_path))
    assert reason_of("bus-cycles") == "not an event of this CPU's PMU"
    assert reason_of("energy-pkg") == "this PMU counts for whole CPUs only: -a"
    assert reason_of("energy-pkg", whole_system=True) == ""
    assert reason_of("page-faults") == ""


def test_a_user_who_may_not_count_the_kernel_counts_user_code_and_the_name_says_so(kernel) -> None:
    kernel(lambda attr, pid, group: 0 if attr.exclude_kernel else errno.EACCES)
    found, notes = choose_counted(all_events("page-faults,cs,cycles:p"), [], whole_system=False)
    assert [each.event.name for each in found] == ["page-faults:u", "context-switches", "cycles:pu"]
    assert [bool(each.reason) for each in found] == [False, True, False]
    assert "which this user may not count (perf_event_paranoid=" in found[1].reason
    assert len(notes) == 1 and notes[0].startswith("kernel code not counted (perf_event_paranoid=")


def test_an_event_that_does_not_fit_into_its_group_is_counted_by_itself_and_that_is_said(kernel) -> None:
    opened = kernel(
        lambda attr, pid, group: errno.EINVAL if group >= 0 and attr.config == Hardware.BRANCH_MISSES else 0
    )
    found = Counters(chosen("{cycles,instructions,branch-misses}"), inherit=True)
    for number in found.events:
        found.open(number, 1)
    assert len(opened) == 3
    assert found.notes == ["branch-misses does not fit into its group: counted by itself"]
    found.close_events()


def test_what_only_happens_in_the_kernel_is_not_a_zero_of_user_code(kernel) -> None:
    kernel(lambda attr, pid, group: 0)
    assert reason_of("cs:u") == "it happens in the kernel, which :u and --all-user leave out"
    assert reason_of("cs:k") == reason_of("page-faults:u") == ""


def test_a_pmu_that_cannot_exclude_guests_counts_them_too(kernel) -> None:
    opened = kernel(lambda attr, pid, group: errno.EINVAL if attr.exclude_guest else 0)
    assert reason_of("cycles") == ""
    assert opened[-1].exclude_guest == 0


def test_the_attributes_ask_for_times_and_for_children_from_exec_on(kernel) -> None:
    opened = kernel(lambda attr, pid, group: 0)
    found = Counters(chosen("page-faults"), inherit=True, enable_on_exec=True)
    found.open(0, 1)
    found.close_events()
    attr = opened[0]
    assert (attr.type, attr.config, attr.disabled) == (Type.SOFTWARE, Software.PAGE_FAULTS, 1)
    # PERF_FORMAT_TOTAL_TIME_ENABLED | PERF_FORMAT_TOTAL_TIME_RUNNING
    assert (attr.read_format, attr.inherit, attr.enable_on_exec, attr.sample_period) == (3, 1, 1, 0)


def test_of_a_category_of_tracepoints_one_is_tried(kernel) -> None:
    opened = kernel(lambda attr, pid, group: 0)
    events = [NamedEvent(f"a:{number}", Type.TRACEPOINT, number) for number in range(5)]
    found, _ = choose_counted([*events, NamedEvent("b:x", Type.TRACEPOINT, 9)], [], whole_system=False)
    assert len(found) == 6 and [attr.config for attr in opened] == [0, 9]


def test_elapsed_time_is_counted_without_the_kernel(kernel) -> None:
    opened = kernel(lambda attr, pid, group: 0)
    found = Counters(chosen("duration_time,cs"), inherit=True)
    assert found.events == [1]
    assert found.read(5_000_000) == [Value(0, Place(), 5_000_000, 5_000_000, 5_000_000)]
    assert not opened
    with pytest.raises(InsituError, match="cannot be sampled"):
        named_events("duration_time")


def test_one_event_in_several_cgroups_is_several_counts() -> None:
    events = all_events("cs,cs,page-faults")
    found, _ = choose_counted(events, ["a", "b", "a"], whole_system=True)
    assert [(each.event.name, each.cgroup) for each in found] == [
        ("context-switches", "a"),
        ("context-switches", "b"),
        ("page-faults", "a"),
    ]
    found, _ = choose_counted(events, ["a"], whole_system=True)
    assert [(each.event.name, each.cgroup) for each in found] == [("context-switches", "a"), ("page-faults", "a")]
