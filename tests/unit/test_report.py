"""The report: figures by arithmetic, lines that fit their terminal, text that tools can read in a pipe."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from insitu.session.manifest import Manifest
from insitu.symbols.frame import KERNEL, Frame
from insitu.terminal_text import printable
from insitu.views.report import build_report, to_json
from insitu.views.report_text import report_lines
from insitu.views.terminal import Screen, shorten

_LONG = (
    "std::map<std::basic_string<char>, std::vector<int, std::allocator<int> > >::_M_emplace_hint_unique(int) const"
)


def _shown(profile, width=None, **options):
    build = {key: options.pop(key) for key in ("reverse", "sort", "lines", "value") if key in options}
    screen = Screen(io.StringIO(), width)
    screen.write(report_lines(build_report(profile, **build), screen, **options))
    return screen.out.getvalue()


def _tree(text):
    """Function -> its drawing, of the call tree's part of a plain report."""
    lines = text.split("call tree")[1].splitlines()[2:]
    drawings = [line.split(maxsplit=3)[3] for line in lines]
    return {drawing.lstrip("├└─│ "): drawing for drawing in drawings}


def test_self_and_total_are_counted_by_function(profile_of):
    rows = [("p", 1, ["main", "a"], 60), ("p", 1, ["main", "b"], 30), ("p", 1, ["main"], 10)]
    functions = {row.function: (row.own, row.total) for row in build_report(profile_of(rows)).functions}
    assert functions == {"a": (60, 60), "b": (30, 30), "main": (10, 100)}


def test_a_recursive_function_is_counted_once_per_sample(profile_of):
    rows = [("p", 1, ["main", "fib", "fib", "g", "fib"], 5), ("p", 1, ["main", "g"], 5)]
    functions = {row.function: (row.own, row.total) for row in build_report(profile_of(rows)).functions}
    assert functions == {"fib": (5, 5), "g": (5, 10), "main": (0, 10)}


def test_functions_of_one_name_in_two_modules_are_two(profile_of):
    rows = [("p", 1, [Frame("init", "/lib/a.so")], 1), ("p", 1, [Frame("init", "/lib/b.so")], 2)]
    assert [(row.module, row.own) for row in build_report(profile_of(rows)).functions] == [
        ("/lib/b.so", 2),
        ("/lib/a.so", 1),
    ]


def test_addresses_without_a_symbol_are_one_row_unless_kept_apart(profile_of):
    stripped = [Frame(f"wc+0x{at:x}", "/usr/bin/wc", symbolized=False) for at in (0x10, 0x20)]
    profile = profile_of([("wc", 1, stripped, 3), ("wc", 1, stripped[:1], 2)])
    for reverse in (False, True):
        together = build_report(profile, reverse=reverse)
        assert [(row.function, row.own, row.total) for row in together.functions] == [("[wc]", 5, 5)]
        assert {name.function for name in together.tree.names} == {"all", "[wc]"}
        apart = build_report(profile, reverse=reverse, addresses=True)
        assert [(row.function, row.own, row.total) for row in apart.functions] == [
            ("wc+0x20", 3, 3),
            ("wc+0x10", 2, 5),
        ]
        assert {name.function for name in apart.tree.names} == {"all", "wc+0x10", "wc+0x20"}


def test_functions_are_sorted_by_self_or_by_total(profile_of):
    profile = profile_of([("p", 1, ["main", "a"], 3), ("p", 1, ["main", "b"], 5)])
    assert [row.function for row in build_report(profile).functions] == ["b", "a", "main"]
    assert [row.function for row in build_report(profile, sort="total").functions] == ["main", "b", "a"]


def test_functions_of_equal_weight_are_in_the_order_of_their_names(profile_of):
    profile = profile_of([("p", 1, [name], 3) for name in ("sort", "alloc", "parse")])
    assert [row.function for row in build_report(profile).functions] == ["alloc", "parse", "sort"]


def test_threads_show_their_share_of_a_cpu(profile_of):
    rows = [("p", 1, ["main"], 75), ("q", 2, ["main"], 25)]  # 10 ms of CPU time a sample
    profile = profile_of(rows, manifest=Manifest(start_ns=1, end_ns=1 + 1_000_000_000))
    assert [(row.comm, row.tid, row.own, row.cpu_share) for row in build_report(profile).threads] == [
        ("p", 1, 75, 0.75),
        ("q", 2, 25, 0.25),
    ]


def test_events_that_are_not_times_have_no_share_of_a_cpu(profile_of):
    report = build_report(profile_of([("p", 1, ["main"], 2)], event="page-faults"))
    assert report.threads[0].cpu_share is None


def test_a_pipe_gets_whole_names_in_columns_without_escape_codes(profile_of):
    text = _shown(profile_of([("p", 1, ["main", _LONG], 3), ("p", 1, ["main"], 1)]))
    assert "\x1b" not in text
    rows = [
        line.split(maxsplit=5) for line in text.splitlines() if line.endswith(("main", "const")) and "prog" in line
    ]
    assert rows == [
        ["75.00", "3", "75.00", "3", "prog", _LONG],
        ["25.00", "1", "100.00", "4", "prog", "main"],
    ]
    assert all(line == line.rstrip() for line in text.splitlines())


def test_the_tree_shows_chains_flat_and_branches_indented(profile_of):
    rows = [
        ("p", 1, ["main", "run", "a", "a1"], 6),
        ("p", 1, ["main", "run", "b"], 3),
        ("p", 1, ["main", "run", "c"], 1),
    ]
    assert _tree(_shown(profile_of(rows))) == {
        "main": "main",
        "run": "run",
        "a": "├─ a",
        "a1": "│  a1",
        "b": "├─ b",
        "c": "└─ c",
    }


def test_light_branches_are_left_out_of_the_tree(profile_of):
    rows = [("p", 1, ["main", "a"], 98), ("p", 1, ["main", "b"], 2)]
    assert set(_tree(_shown(profile_of(rows), min_percent=5))) == {"main", "a"}
    assert set(_tree(_shown(profile_of(rows), min_percent=2))) == {"main", "a", "b"}


def test_branches_left_out_are_counted_where_they_weigh_as_much_as_one_that_is_shown(profile_of):
    light = [("p", 1, ["main", "a", f"light{at}"], 1) for at in range(9)]
    lighter = [("p", 1, ["main", "b", "light"], 1)]
    profile = profile_of([("p", 1, ["main", "a", "heavy"], 60), ("p", 1, ["main", "b"], 30), *light, *lighter])
    text = _shown(profile, min_percent=5)
    lines = [line.split() for line in text.split("call tree")[1].splitlines()[2:]]
    assert lines == [
        ["100.00", "0.00", "100", "main"],
        ["69.00", "0.00", "69", "├─", "a"],
        ["60.00", "60.00", "60", "│", "├─", "heavy"],
        ["9.00", "9", "│", "└─", "...", "9", "more"],
        ["31.00", "30.00", "31", "└─", "b"],
    ]
    document = json.loads(to_json(build_report(profile), min_percent=5))
    assert document["tree_omitted"] == 0
    assert {node["function"]: node["omitted"] for node in document["tree"]} == {"main": 0, "a": 9, "heavy": 0, "b": 1}


def test_the_reverse_tree_has_the_own_time_of_the_running_function_at_every_caller(profile_of):
    rows = [("p", 1, ["main", "a", "hot"], 6), ("p", 1, ["main", "b", "hot"], 3), ("p", 1, ["main"], 1)]
    text = _shown(profile_of(rows), reverse=True).split("callers of")[1]
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["#", "self%", "self", "function"],
        ["90.00", "9", "hot"],
        ["60.00", "6", "├─", "a"],
        ["60.00", "6", "│", "main"],
        ["30.00", "3", "└─", "b"],
        ["30.00", "3", "main"],
        ["10.00", "1", "main"],
    ]


def test_the_reverse_tree_begins_with_the_running_functions(profile_of):
    text = _shown(profile_of([("p", 1, ["main", "a", "hot"], 6), ("p", 1, ["main", "b", "hot"], 3)]), reverse=True)
    names = [line.split()[-1] for line in text.split("callers of")[1].splitlines()[2:]]
    assert names == ["hot", "a", "main", "b", "main"]


def test_encodings_without_box_drawing_get_ascii(profile_of):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    screen = Screen(out)
    profile = profile_of([("p", 1, ["main", "a"], 6), ("p", 1, ["main", "b", "größe"], 3)])
    screen.write(report_lines(build_report(profile), screen))
    out.flush()
    assert b"gr\\xf6\\xdfe" in out.buffer.getvalue()
    assert b"|- a" in out.buffer.getvalue() and b"`- b" in out.buffer.getvalue()


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(profile_of, width):
    deep = [f"{_LONG}::level{at}" for at in range(40)]
    rows = [("p", 1, [*deep[: at + 1], "leaf"], 10) for at in range(40)] + [("a thread of a long name", 2, ["x"], 9)]
    profile = profile_of(rows, manifest=Manifest(command=["/usr/bin/program", *["argument"] * 40]))
    import re

    lines = re.sub(r"\x1b\[[0-9;]*m", "", _shown(profile, width)).splitlines()
    assert max(map(len, lines)) <= width
    assert sum("leaf" in line for line in lines) >= 40


def test_every_part_of_a_terminal_report_is_coloured_text_only(profile_of):
    text = _shown(profile_of([("p", 1, ["main", "\x1b]0;owned\x07", "a\rb\nc"], 5)]), 80)
    assert "\x1b]" not in text and "\x07" not in text and "\r" not in text
    assert "\\x1b]0;owned\\x07" in text and "a\\rb\\nc" in text


def test_losses_and_notes_stand_before_the_tables(profile_of):
    profile = profile_of(
        [("p", 1, ["main"], 5)],
        losses={"ring": 7, "throttle": 1},
        notes=("no hardware cycles here: cpu-clock instead",),
        manifest=Manifest(sources=[{"options": {"frequency_hz": 99}}], command=["./prog", "x"]),
    )
    head = _shown(profile).split("hottest functions")[0]
    assert "LOST 8 records (ring: 7, throttle: 1)" in head
    assert "no hardware cycles here" in head
    assert "./prog x" in head and "5 of cpu-clock at 99 Hz" in head


def test_a_profile_without_samples_says_so(profile_of):
    assert "samples  none of cpu-clock" in _shown(profile_of([]))


def test_weights_of_a_clock_are_shown_in_seconds(profile_of):
    text = _shown(profile_of([("p", 1, ["main"], 150)]), value="weight")
    assert next(line for line in text.splitlines() if "prog" in line).split()[:2] == ["100.00", "1.500s"]


def test_tables_longer_than_the_limit_say_how_much_more_there_is(profile_of):
    profile = profile_of([("p", 1, [f"f{at}"], 1) for at in range(40)])
    assert "# 10 more functions" in _shown(profile)
    assert "more functions" not in _shown(profile, limit=0)
    assert "# 1 more function; --limit 0" in _shown(profile, limit=39)


def test_hottest_lines_are_those_of_the_running_frames(profile_of):
    hot = [Frame("hot", "/bin/p", "p.c", 12), Frame("hot", "/bin/p", "p.c", 13)]
    main = Frame("main", "/bin/p", "p.c", 40)
    report = build_report(profile_of([("p", 1, [main, hot[0]], 7), ("p", 1, [main, hot[1]], 3)]), lines=True)
    assert [(row.file, row.line, row.own) for row in report.lines] == [("p.c", 12, 7), ("p.c", 13, 3)]
    assert "no source line is known" in _shown(profile_of([("p", 1, ["main"], 1)]), lines=True)


def test_json_names_every_figure(profile_of):
    rows = [("p", 1, ["main", Frame("sys_read", "[kernel.kallsyms]", kind=KERNEL)], 3), ("p", 1, ["main"], 1)]
    document = json.loads(to_json(build_report(profile_of(rows))))
    assert document["functions"][0] == {
        "function": "sys_read",
        "module": "[kernel.kallsyms]",
        "kind": "kernel",
        "self": 3,
        "total": 3,
        "self_percent": 75.0,
        "total_percent": 75.0,
    }
    assert [(node["parent"], node["function"], node["total"]) for node in document["tree"]] == [
        (-1, "main", 4),
        (0, "sys_read", 3),
    ]


@given(st.text(), st.integers(0, 60))
def test_shortened_names_fit_and_short_ones_stay(text, width):
    short = shorten(text, width)
    assert len(short) <= width
    assert short == text or len(text) > width


@given(st.text(st.characters()))
def test_printable_text_is_printable_and_printable_text_stays(text):
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


def test_help_of_the_commands_imports_no_library():
    script = "import sys; from insitu.cli import command_parser\nfor c in 'report callgraph diff export'.split():\n"
    script += " command_parser(c)\nprint(*{'numpy', 'rich', 'polars', 'duckdb'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(("count", "shown"), [(20, 21), (21, 2)])
def test_more_than_twenty_threads_of_a_name_are_one_row_of_their_sum(profile_of, count: int, shown: int) -> None:
    rows = [("worker", 100 + at, ["main"], 2) for at in range(count)] + [("main", 7, ["main"], 3)]
    text = _shown(profile_of(rows), limit=0)
    threads = text[text.index("# threads") :].split("\n\n")[0].splitlines()[2:]
    assert len(threads) == shown
    summed = [line.split() for line in threads if "worker" in line and "threads" in line]
    assert [(row[0], row[-3:]) for row in summed] == [("93.33", ["21", "threads", "worker"])] * (count == 21)
    assert len(build_report(profile_of(rows)).threads) == count + 1


@pytest.mark.parametrize("width", [20, 40, 80])
def test_advice_is_wrapped_and_whole_on_a_terminal(profile_of, width):
    advice = (
        "half of the call stacks are broken, as without frame pointers: record with perf record --call-graph dwarf"
    )
    lost = {"the kernel's ring buffer": 5, "reader": 1}
    profile = replace(profile_of([("p", 1, ["main"], 1)]), notes=(advice, "x" * 100), losses=lost)
    out = io.StringIO()
    screen = Screen(out, width)
    screen.write(report_lines(build_report(profile), screen, tree=False))
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).split("hottest functions")[0].splitlines()
    assert max(map(len, lines)) <= width
    words = "".join("".join(lines).split())  # a word that is longer than a line is on two
    whole = "".join(f"note{advice}note{'x' * 100}".split())
    assert whole in words and words.endswith("percentagesareofwhatwaskept")
    plain = io.StringIO()
    Screen(plain).write(report_lines(build_report(profile), Screen(plain), tree=False))
    assert f"# note     {advice}\n" in plain.getvalue()


def test_lines_have_the_function_last_so_that_a_long_one_pushes_nothing_away(profile_of):
    frames = [Frame("f" * 500, "/bin/p", "/src/a.c", 7), Frame("g", "/bin/p", "/src/b.c", 9)]
    out = io.StringIO()
    report = build_report(profile_of([("p", 1, [each], 1) for each in frames]), lines=True)
    Screen(out).write(report_lines(report, Screen(out), tree=False))
    rows = [line.split() for line in out.getvalue().partition("# hottest lines")[2].splitlines()[1:4]]
    assert rows[0] == ["#", "self%", "self", "file:line", "function"]
    assert [row[2:] for row in rows[1:]] == [["/src/a.c:7", "f" * 500], ["/src/b.c:9", "g"]]
