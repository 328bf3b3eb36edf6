"""Reports on recorded calls, against sums over the kernel's own text of the same recording."""

import json
from collections import Counter

import pytest
from tests.unit.function_graph_data import TextCall, calls_of_text, recording
from tests.unit.trace_dat_files import file

from insitu.cli import main
from insitu.convert.open import import_file, open_session

KERNEL = "6.12"  # no interrupt came in this one


@pytest.fixture
def text() -> list[TextCall]:
    return calls_of_text(KERNEL)


def own_ns(text: list[TextCall], at: int) -> int:
    return text[at].dur_ns - sum(call.dur_ns for call in text if call.parent == at)


def printed(capsys, *words: object) -> str:
    assert main([*map(str, words)]) == 0
    return capsys.readouterr().out


def test_functions_have_the_calls_and_self_times_of_the_kernels_text(tmp_path, capsys, text) -> None:
    run = recording(tmp_path / "run.insitu", KERNEL)
    report = json.loads(printed(capsys, "report", run, "--json", "--limit", 0))
    found = {row["function"]: row for row in report["calls"]}
    assert {name: row["calls"] for name, row in found.items()} == Counter(call.function for call in text)
    for name, row in found.items():
        at = [index for index, call in enumerate(text) if call.function == name]
        assert row["self_ns"] == sum(own_ns(text, index) for index in at)
        assert row["max_ns"] == max(text[index].dur_ns for index in at)
        assert row["mean_ns"] == pytest.approx(sum(text[index].dur_ns for index in at) / len(at))
    roots = sum(call.dur_ns for call in text if call.parent < 0)
    assert report["total"] == sum(row["self_ns"] for row in found.values()) == roots
    assert "do_sys_openat2" in printed(capsys, "report", run)


def test_stacks_of_calls_weigh_self_times(tmp_path, text) -> None:
    with open_session(recording(tmp_path / "run.insitu", KERNEL)) as session:
        stacks = session.stacks()
    assert stacks.unit == "ns"
    assert int(stacks.weight.sum()) == sum(call.dur_ns for call in text if call.parent < 0)


def test_the_slowest_call_is_shown_with_all_that_it_called(tmp_path, capsys, text) -> None:
    run = recording(tmp_path / "run.insitu", KERNEL)
    slowest = max((call for call in text if call.function == "do_filp_open"), key=lambda call: call.dur_ns)
    at = text.index(slowest)
    end = next((index for index in range(at + 1, len(text)) if text[index].parent < at), len(text))
    lines = [
        json.loads(line)
        for line in printed(capsys, "report", run, "--slowest", "do_filp_open", "--json").splitlines()
    ]
    assert [(line["function"], line["dur_ns"]) for line in lines] == [
        (call.function, call.dur_ns) for call in text[at:end]
    ]
    shown = printed(capsys, "report", "--slowest", run).splitlines()
    root = max((call for call in text if call.parent < 0), key=lambda call: call.dur_ns)
    assert shown[1].endswith(root.function)


def test_what_no_traced_callee_took_is_the_callers_time_less_that_of_its_callees(tmp_path, capsys, text) -> None:
    run = recording(tmp_path / "run.insitu", KERNEL)
    found = json.loads(printed(capsys, "report", run, "--callees", "path_openat", "--json"))
    callers = [at for at, call in enumerate(text) if call.function == "path_openat"]
    callees = Counter(call.function for call in text if call.parent in callers)
    assert found["calls"] == len(callers)
    assert found["total_ns"] == sum(text[at].dur_ns for at in callers)
    assert {part["function"]: part["calls"] for part in found["parts"][:-1]} == callees
    assert found["parts"][-1] == {
        "function": None,
        "calls": len(callers),
        "total_ns": sum(own_ns(text, at) for at in callers),
    }
    assert "[itself and callees that were not traced]" in printed(capsys, "report", run, "--callees", "path_openat")


def test_the_cost_of_tracing_that_the_recorder_noted_is_taken_off(tmp_path, text) -> None:
    with open_session(recording(tmp_path / "run.insitu", KERNEL, cost_ns=(100, 50))) as session:
        found = session.sql("select name, sum(self_ns)::bigint from span group by name").rows()
    expected: Counter[str] = Counter()
    for at, call in enumerate(text):
        callees = sum(each.parent == at for each in text)
        expected[call.function] += max(own_ns(text, at) - 100 - 50 * callees, 0)
    assert dict(found) == expected


def test_a_diff_compares_self_times_in_total_and_for_each_call(tmp_path, capsys) -> None:
    runs = [recording(tmp_path / f"{kernel}.insitu", kernel) for kernel in ("6.1", "6.12")]
    rows = json.loads(printed(capsys, "diff", *runs, "--json", "--limit", 0))["functions"]
    found = {row["function"]: row for row in rows if row["category"] == "kernel function"}
    for side, kernel in enumerate(("6.1", "6.12")):
        text = calls_of_text(kernel)
        at = [index for index, call in enumerate(text) if call.function == "do_sys_openat2"]
        assert found["do_sys_openat2"]["calls"][side] == len(at)
        own = sum(own_ns(text, index) for index in at)
        assert found["do_sys_openat2"]["self_ns"][side] == own
        assert found["do_sys_openat2"]["each_ns"][side] == pytest.approx(own / len(at))
    assert found["vfs_open"]["p"] == 1  # fewer than five calls
    same = json.loads(printed(capsys, "diff", runs[0], runs[0], "--json"))["functions"]
    assert all(row["self_ns"][0] == row["self_ns"][1] and row["p"] == 1 for row in same)
    assert "do_sys_openat2" in printed(capsys, "diff", *runs, "--limit", 0)


def test_calls_of_a_trace_cmd_file_are_compared_as_those_of_a_session(tmp_path, capsys) -> None:
    path = file("graph_2.9.1", tmp_path)
    import_file(path, tmp_path / "run.insitu")
    rows = json.loads(printed(capsys, "diff", path, tmp_path / "run.insitu", "--json", "--limit", 0))["functions"]
    found = {row["function"]: row for row in rows}
    assert found["do_sys_openat2"]["calls"] == [6, 6]
    assert all(row["self_ns"][0] == row["self_ns"][1] for row in rows)
    amounts = printed(capsys, "diff", path, path, "--no-normalise", "--json")
    assert "calls" not in amounts  # amounts of stacks were asked for


@pytest.mark.parametrize("option", [["--slowest"], ["--callees", "b"]])
def test_calls_of_a_recording_of_stacks_are_an_error(option, tmp_path, capsys) -> None:
    path = tmp_path / "a.folded"
    path.write_text("a;b 3\n")
    assert main(["report", str(path), *option]) == 1
    assert f"{path}: no calls of functions" in capsys.readouterr().err


def test_a_function_that_was_not_recorded_is_an_error_with_the_nearest_name(tmp_path, capsys) -> None:
    run = recording(tmp_path / "run.insitu", KERNEL)
    assert main(["report", str(run), "--slowest", "do_sys_opnat2"]) == 1
    assert "did you mean 'do_sys_openat2'?" in capsys.readouterr().err
