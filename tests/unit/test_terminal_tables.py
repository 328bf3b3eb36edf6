"""Tables on terminals of some widths."""

import io
import re

import pytest

from insitu.views.table import Column, Table
from insitu.views.terminal import Prose, Screen


def _lines(table: Table, width: int) -> list[str]:
    out = io.StringIO()
    Screen(out, width).write([table])
    return [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in out.getvalue().splitlines()]


def test_spare_columns_are_left_out_the_first_first_before_names_become_illegible() -> None:
    columns = [Column("pid"), Column("kind", spare=True), Column("from", spare=True), Column("file", "left")]
    table = Table(columns, [[("1", ""), ("k" * 20, ""), ("f" * 20, ""), ("/etc/" + "x" * 60, "")]])
    titles = {width: _lines(table, width)[0].split() for width in (70, 64, 60, 50)}
    assert titles == {
        70: ["pid", "kind", "from", "file"],
        64: ["pid", "from", "file"],
        60: ["pid", "from", "file"],
        50: ["pid", "file"],
    }
    assert max(len(line) for width in titles for line in _lines(table, width) if width == 60) <= 60


def test_of_spare_columns_those_of_a_higher_rank_are_left_out_last() -> None:
    columns = [Column("kept", spare=True, rank=1), Column("gone", spare=True), Column("file", "left")]
    table = Table(columns, [[("k" * 30, ""), ("g" * 30, ""), ("f" * 16, "")]])
    assert _lines(table, 70)[0].split() == ["kept", "file"]
    assert _lines(table, 61)[0].split() == ["kept", "file"]


def test_lines_of_words_go_on_below_and_other_lines_are_cut() -> None:
    words = "  Lost: 327.8 KiB in 2,515 blocks (61.0 % of what is allocated); most: 500 blocks of 200 bytes, zeros."
    for width in (40, 80):
        out = io.StringIO()
        Screen(out, width).write([Prose([("  Lost: ", "bold"), (words[8:], "")]), [(words, "")]])
        lines = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in out.getvalue().splitlines()]
        assert max(map(len, lines)) <= width
        assert all(line.startswith("  ") and line[2] != " " for line in lines[:-1])
        assert " ".join(line.strip() for line in lines[:-1]) == words.strip()
        assert lines[-1] == words[: width - 1] + "…"


def test_columns_of_the_environment_bound_lines_in_pipes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "std::_Rb_tree<int, std::pair<int const, int> >::_S_right(std::_Rb_tree_node_base*)"
    columns = [Column("self%"), Column("total", spare=True), Column("function", "left", names=True)]
    table = Table(columns, [[("1.00", "bold red"), ("12345678901234567890", ""), (name, "red")]])

    def shown() -> list[str]:
        out = io.StringIO()
        Screen.of(out).write([[("# a line of words that is longer than 40 columns", "bold")], table])
        return out.getvalue().splitlines()

    monkeypatch.delenv("COLUMNS", raising=False)
    assert shown()[2] == f"   1.00  12345678901234567890  {name}"
    monkeypatch.setenv("COLUMNS", "40")
    lines = shown()
    assert max(map(len, lines)) <= 40
    assert (
        lines[1] == "# self%  function" and lines[2].startswith("   1.00  std::_Rb") and "\x1b" not in "".join(lines)
    )
