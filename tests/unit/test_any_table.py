"""Every view, as a user asks for it, of a table that no module of insitu knows, and of sessions without stacks."""

import io
import json
import re
from pathlib import Path

import polars
import pytest

from insitu.cli import main
from insitu.views.terminal import Screen

from .sessions import empty_session, mixed_session, script_session, waits_session
from .test_flamegraph import stacks_of, unpacked
from .test_heatmap import cells_of


@pytest.fixture(scope="module")
def waits(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(waits_session(tmp_path_factory.mktemp("waits") / "waits.insitu"))


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(script_session(tmp_path_factory.mktemp("script") / "script.insitu"))


def out(capfdbinary: pytest.CaptureFixture[bytes], *words: str, status: int = 0) -> str:
    assert main(list(words)) == status
    shown = capfdbinary.readouterr()
    return (shown.err if status else shown.out).decode()


def test_a_flame_graph_of_waits_is_wide_by_their_duration(waits: str, capfdbinary) -> None:
    html = out(capfdbinary, "flame", waits, "-o", "-")
    assert stacks_of(html) == {
        ("worker5/5", "main", "read_file", "lock_page"): 50_000_000,
        ("worker6/6", "start_thread", "read_file"): 50_000_000,
    }
    assert unpacked(html)[0]["unit"] == "ns"
    assert "10 events" in unpacked(html)[0]["subtitle"] and "blocked" in unpacked(html)[0]["subtitle"]


def test_a_heat_map_of_waits_adds_up_durations_where_they_begin(waits: str, capfdbinary) -> None:
    meta, found = cells_of(out(capfdbinary, "heatmap", waits, "-o", "-", "--rows", "4"))
    assert meta["unit"] == "ns"
    leaves = {5: "lock_page", 6: "read_file"}
    assert found == {
        (at, 5 + at % 2, leaves[5 + at % 2]): 10_000_000 for at in range(10)
    }  # a quarter of a second apart


def test_a_report_on_waits_is_in_their_unit_and_has_no_share_of_a_cpu(waits: str, capfdbinary) -> None:
    text = out(capfdbinary, "report", waits)
    assert "10 of blocked, 100.000 ms" in text and "cpu%" not in text and "samples" not in text
    rows = [line.split() for line in text.splitlines() if line.endswith("lock_page") and "kernel" in line]
    assert rows == [["50.00", "50.000ms", "50.00", "50.000ms", "[kernel.kallsyms]", "lock_page"]]
    document = json.loads(out(capfdbinary, "report", waits, "--json"))
    assert (document["unit"], document["table"], document["counted"]) == ("ns", "event.blocked", "events")
    assert (document["total"], document["samples"]) == (100_000_000, 10)
    assert json.loads(out(capfdbinary, "report", waits, "--json", "--unit", "events"))["total"] == 10


def test_a_report_on_a_scripts_stacks_ends_with_its_maps_that_have_none(waits: str, capfdbinary) -> None:
    text = out(capfdbinary, "report", waits)
    assert text.split("# map.us\n")[1].splitlines()[1].split() == ["read", "0", "16", "3"]
    assert "# map.waits" not in text and "map.waits (2 rows)" in text
    assert "map.us" not in out(capfdbinary, "report", waits, "--folded")


def test_a_map_of_stacks_is_reported_without_threads(waits: str, capfdbinary) -> None:
    text = out(capfdbinary, "report", waits, "--table", "map.waits")
    assert "swapper" not in text and "# threads" not in text
    rows = [line.split() for line in text.splitlines() if line.endswith("lock_page") and "kernel" in line]
    assert rows == [["42.86", "3", "42.86", "3", "[kernel.kallsyms]", "lock_page"]]


def test_exports_of_waits_have_their_durations(waits: str, capfdbinary) -> None:
    folded = "worker5;main;read_file;lock_page 50000000\nworker6;start_thread;read_file 50000000\n"
    assert out(capfdbinary, "report", waits, "--folded") == folded
    document = json.loads(out(capfdbinary, "export", waits, "--format", "speedscope"))
    assert {profile["unit"] for profile in document["profiles"]} == {"nanoseconds"}
    assert sum(sum(profile["weights"]) for profile in document["profiles"]) == 100_000_000
    assert "50.000 ms" in out(capfdbinary, "callgraph", waits)


def test_a_diff_of_waits_compares_durations(waits: str, tmp_path: Path, capfdbinary) -> None:
    longer = str(waits_session(tmp_path / "longer.insitu", times=11))
    text = out(capfdbinary, "diff", waits, longer, "--no-normalise")
    rows = {line.split()[-1]: line.split()[:3] for line in text.splitlines() if not line.startswith("#") and line}
    assert rows["lock_page"] == ["0.0500", "0.1500", "+0.1000"]
    assert "seconds" in text and "CPU" not in text


def test_a_table_is_chosen_by_its_name(tmp_path: Path, capfdbinary) -> None:
    path = str(mixed_session(tmp_path / "mixed.insitu"))
    assert "60 of cpu-clock" in out(capfdbinary, "report", path)
    spans = out(capfdbinary, "report", path, "--table", "span")
    assert "3 of span, 150.000 ms" in spans and "no stack 66.67 % of this" in spans
    assert "tables with stacks: sample, span" in out(capfdbinary, "report", path, "--table", "nope", status=1)
    assert "table event.open has no stacks" in out(capfdbinary, "flame", path, "--table", "event.open", status=1)


def test_a_thread_that_renamed_itself_has_a_row_for_each_name(tmp_path: Path, capfdbinary) -> None:
    path = str(mixed_session(tmp_path / "mixed.insitu"))
    threads = json.loads(out(capfdbinary, "report", path, "--json"))["threads"]
    assert {(row["comm"], row["tid"]): row["self"] for row in threads} == {
        ("sh", 100): 20,
        ("ls", 100): 10,
        ("cat", 100): 20,
        ("helper", 101): 10,
    }


def test_a_report_on_a_script_shows_its_tables_and_its_maps(script: str, capfdbinary) -> None:
    text = out(capfdbinary, "report", script)
    assert "CPU time" not in text and "samples" not in text
    assert re.search(r"event\.open +2 +ts_ns, utid, file, took_ns", text)
    entries = [line.split() for line in text.split("# map.us")[1].splitlines() if not line.startswith("#") and line]
    assert entries == [["write", "16", "32", "1000000"], ["read", "0", "16", "3"]]
    assert "LOST 9 records (ring buffer: 9)" in text
    document = json.loads(out(capfdbinary, "report", script, "--json"))
    assert [table["name"] for table in document["tables"]] == ["event.open", "map.us"]
    assert document["tables"][1]["entries"][0] == {"key": "write", "low": 16, "high": 32, "count": 1_000_000}


@pytest.mark.parametrize(
    "words", [["flame", "-o", "-"], ["heatmap", "-o", "-"], ["callgraph"], ["export", "--format", "dot"]]
)
def test_a_view_of_stacks_says_what_a_trace_holds_instead(script: str, words: list[str], capfdbinary) -> None:
    error = out(capfdbinary, words[0], script, *words[1:], status=1)
    assert "no CPU samples: this is a trace (tables: event.open, map.us)" in error and error.count("\n") == 1


@pytest.mark.parametrize("words", [[], ["--json"], ["--folded"], ["--lines"]])
def test_a_profile_without_samples_is_reported_without_guesses(tmp_path: Path, words: list[str], capfdbinary) -> None:
    path = str(empty_session(tmp_path / "empty.insitu"))
    text = out(capfdbinary, "report", path, *words)
    assert "no CPU time" not in text and "-g" not in text
    for command in ("flame", "heatmap"):
        assert "<!doctype html>" in out(capfdbinary, command, path, "-o", "-")


def test_names_of_a_traced_program_do_not_drive_the_terminal(script: str, tmp_path: Path) -> None:
    for words in (["report", script], ["sql", script, "from event.open", "--format", "table"]):
        for width in (None, 80):
            shown = io.StringIO()
            show(words, shown, width)
            assert "\x1b[31m" not in shown.getvalue(), words
    assert "\\x1b[31m" in shown.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_rows_fit_the_terminal_without_text_cut_to_scraps(width: int) -> None:
    from insitu.views.rows import row_blocks

    path, numbers = "/usr/lib/python3/dist-packages/module.so", [12345678901 + at for at in range(4)]
    frame = polars.DataFrame({"path": [path], "event": ["cpu-clock"], **{f"n{n}": [n] for n in numbers}})
    shown = io.StringIO()
    Screen(shown, width).write(row_blocks(frame, {"path": "path", "event": "name"}, width))
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown.getvalue()).splitlines()]
    assert max(map(len, lines)) <= width
    # Numbers need 4 x 12 columns, the event 9, 12 characters of the path 12, and 5 gaps of 2: 79.
    if width < 79:
        values = dict(line.split(maxsplit=1) for line in lines[1:-1] if len(line.split()) == 2)
        assert values.keys() >= {"event", *(f"n{n}" for n in numbers)} and values["event"] == "cpu-clock"
    else:
        assert len(lines) == 3 and all(str(n) in lines[1] for n in numbers) and "cpu-clock" in lines[1]
        assert lines[1].split()[0].startswith("/usr") and lines[1].split()[0].endswith("e.so")


def show(words: list[str], out: io.StringIO, width: int | None) -> None:
    """What a command writes to a terminal of that width, or to a pipe."""
    from insitu.session.reader import Session
    from insitu.views.rows import row_blocks
    from insitu.views.tables import table_lines

    screen = Screen(out, width)
    with Session(Path(words[1])) as session:
        screen.write(table_lines(session, screen) if words[0] == "report" else row_blocks(session.sql(words[2])))


def test_two_tables_of_one_unit_are_one_picture(tmp_path: Path, capfdbinary) -> None:
    path = str(mixed_session(tmp_path / "mixed.insitu"))
    document = json.loads(out(capfdbinary, "report", path, "--json", "--table", "sample+span", "--unit", "time"))
    assert document["total"] == 60 * 10_000_000 + 150_000_000
    both = out(capfdbinary, "diff", path, path, "--table", "sample+span", "--json")
    assert all(row["noise"] and row["z"] == 0 for row in json.loads(both)["functions"])
    assert "span (3 rows)" not in out(capfdbinary, "report", path, "--table", "sample+span")
