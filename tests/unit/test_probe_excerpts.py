"""Where errors point: the line with its caret, long lines cut, and files that begin with a byte order mark."""

from pathlib import Path

import pytest

from insitu.probe.bpftrace.scripts import read_script
from insitu.probe.source import ScriptError, Source, Span

from .probe_scripts import checked


def _excerpt(line: str, word: str) -> tuple[str, str]:
    """The excerpt of a text for the place of a word in it: the line, the caret under it."""
    at = line.index(word)
    shown, carets = Source(line).excerpt(Span(at, at + len(word))).split("\n")
    return shown, carets


@pytest.mark.parametrize("before", [0, 10, 79, 80, 81, 500, 50_000, 99_990])
def test_of_a_long_line_160_columns_are_shown_around_the_caret(before: int) -> None:
    shown, carets = _excerpt("a" * before + "WORD" + "b" * (99_996 - before), "WORD")
    assert shown.strip("…") in "a" * before + "WORD" + "b" * (99_996 - before)
    assert len(shown.strip("…")) == 160
    assert shown.startswith("…") == (before > 80)
    assert shown.endswith("…") == (before < 99_900)
    assert shown[len(carets) - 4 : len(carets)] == "WORD"
    assert carets.strip() == "^^^^"


def test_a_line_of_160_columns_is_shown_whole() -> None:
    line = "a" * 120 + "WORD" + "b" * 36
    assert _excerpt(line, "WORD") == (line, " " * 120 + "^^^^")


def test_what_is_marked_ends_with_the_window() -> None:
    line = "x" * 1000
    shown, carets = Source(line).excerpt(Span(0, 1000)).split("\n")
    assert shown == "x" * 160 + "…"
    assert carets == "^" * 160


@pytest.mark.parametrize(
    ("before", "indent"),
    [
        ("日本", "    "),  # two columns each
        ("e\u0301", " "),  # a letter with an accent of its own
        ("\t日", "\t  "),
        ("\x1b", "    "),  # shown as \\x1b
        ("\udcff", "      "),  # a byte that is not UTF-8, shown as \\udcff
    ],
)
def test_the_caret_stands_under_its_character(before: str, indent: str) -> None:
    shown, carets = _excerpt(before + "WORD", "WORD")
    assert shown.endswith("WORD")
    assert shown.isprintable() or "\t" in shown
    assert carets == indent + "^^^^"
    assert _excerpt("WORD" + before, "WORD")[1] == "^^^^"


def test_windows_of_wide_characters_and_tabs_have_as_many_columns() -> None:
    shown, carets = _excerpt("日" * 1000 + "WORD" + "本" * 1000, "WORD")
    assert shown == "…" + "日" * 40 + "WORD" + "本" * 38 + "…"
    assert carets == " " * 81 + "^^^^"
    shown, carets = _excerpt("\t" * 1000 + "WORD" + "\t" * 1000, "WORD")
    assert shown == "…" + "\t" * 10 + "WORD" + "\t" * 9 + "…"
    assert carets == " " + "\t" * 10 + "^^^^"


def test_an_error_at_the_end_of_a_long_line_is_in_the_window() -> None:
    with pytest.raises(ScriptError) as caught:
        checked("BEGIN { " + "@x = 1; " * 20_000 + "@y = ")
    shown, carets = caught.value.rendered.splitlines()[1:3]
    assert shown.startswith("…")
    assert shown.endswith("@y = ")
    assert len(shown) == 161
    assert carets == " " * 161 + "^"


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    script = tmp_path / "script.bt"
    script.write_bytes(b"\xef\xbb\xbf#!/usr/bin/env bpftrace\nBEGIN { @x = 1; }\n")
    assert checked(read_script(str(script)).text).checker.maps
    script.write_bytes(b"\xef\xbb\xbfBEGIN { $x = ; }\n")
    with pytest.raises(ScriptError) as caught:
        checked(read_script(str(script)).text)
    assert caught.value.rendered.splitlines() == [
        "stdin:1:14: error: unexpected ';', expected an expression",
        "BEGIN { $x = ; }",
        "             ^",
    ]


def test_imports_and_headers_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "lib.bt").write_bytes(b"\xef\xbb\xbfmacro one() { 1 }\n")
    (tmp_path / "own.h").write_bytes(b"\xef\xbb\xbf#define TWO 2\nstruct s { int a; };\n")
    script = tmp_path / "script.bt"
    script.write_text('import "lib.bt"\n#include "own.h"\nBEGIN { @x = one() + TWO + sizeof(struct s); }\n')
    from insitu.probe.options import Options
    from insitu.probe.passes import Unit, run_passes

    from .probe_scripts import NoKernel

    assert run_passes(Unit(read_script(str(script)), Options(), NoKernel())).checker.maps
