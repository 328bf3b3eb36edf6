"""What reaches a terminal: every command, on recordings whose names would drive it; any width, any encoding."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.terminal import HOSTILE, INSITU, assert_harmless, on_terminal, shown_text

from insitu import messages
from insitu.commands import COMMANDS
from insitu.kernel import procfs
from insitu.session.core_tables import SAMPLE
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.schema import Column, Table
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame
from insitu.terminal_text import TerminalStream, columns, printable, printable_lines
from insitu.views.terminal import Screen

MAP = Table("map.opened", "", (Column("key", "text"), Column("value", "count")))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A session whose every string would drive a terminal, in a file of such a name."""
    path = tmp_path / f"{HOSTILE}.insitu"
    manifest = Manifest.here(procfs, command=["./x", HOSTILE], start_ns=0, notes=[f"note {HOSTILE}"], host=HOSTILE)
    create(path, manifest, procfs)
    with SessionWriter.on_disk(path) as writer:
        upid = writer.processes.process(5, exe=HOSTILE)
        writer.processes.thread(5, upid, name=HOSTILE)
        kind = writer.event_type(HOSTILE, "ns")
        leaf = writer.intern_stack([Frame(HOSTILE, HOSTILE, HOSTILE, 3), Frame("main", "/bin/x")])
        rows = {"ts_ns": [1, 2], "utid": [1, 1], "cpu": [0, 0], "event_type": [kind] * 2}
        writer.append(SAMPLE, rows | {"stack": [leaf] * 2, "weight": [10, 10]})
        writer.append(MAP, {"key": [HOSTILE], "value": [3]})
        writer.lost(HOSTILE, 9)
        writer.finish(end_ns=3)
    return path


@pytest.mark.parametrize(
    "words",
    [
        ["report", "RUN"],
        ["report", "RUN", "--lines"],
        ["report", "RUN", "--folded"],
        ["report", "RUN", "--json"],
        ["callgraph", "RUN"],
        ["callgraph", "RUN", "-o", "OUT.dot"],
        ["flame", "RUN", "-o", "-"],
        ["flame", "RUN", "-o", "OUT.html"],
        ["diff", "RUN", "RUN"],
        ["diff", "RUN", "RUN", "--json"],
        ["export", "RUN", "--format", "folded"],
        ["export", "RUN", "--format", "speedscope"],
        ["export", "RUN", "--format", "dot"],
        ["sql", "RUN", "from frame"],
        ["sql", "RUN", "from frame", "--format", "csv"],
        ["sql", "RUN", "from frame", "--format", "tsv"],
        ["sql", "RUN", "from frame", "--json"],
        ["sql", "RUN", "from map.opened"],
        ["sql", "RUN", ".tables"],
    ],
)
def test_names_of_a_recording_do_not_drive_the_terminal(words: list[str], hostile: Path, tmp_path: Path) -> None:
    names = {"RUN": str(hostile), "OUT.dot": f"{tmp_path}/{HOSTILE}.dot", "OUT.html": f"{tmp_path}/{HOSTILE}.html"}
    done = on_terminal([*INSITU, *(names.get(word, word) for word in words)])
    assert_harmless(done.data)
    assert done.status == 0, done.data
    if "--json" in words:
        text = shown_text(done.data)
        assert json.loads(text[text.index("[{" if words[0] == "sql" else "{") :])


@pytest.mark.parametrize(
    "words",
    [
        ["report", HOSTILE],
        ["report", f"--{HOSTILE}"],
        ["report", "RUN", "--limit", HOSTILE],
        ["report", "RUN", "--comm", f"no{HOSTILE}"],
        ["callgraph", "RUN", "-o", f"/nowhere/{HOSTILE}.dot"],
        ["diff", "RUN", HOSTILE],
        ["sql", "RUN", f"select {HOSTILE}"],
        ["sql", "RUN", "select 1", "--param", HOSTILE],
        ["export", "RUN", "-o", HOSTILE],
        ["import", HOSTILE],
        ["trace", f"/nowhere/{HOSTILE}"],
        ["trace", "-e", f'BEGIN {{ print("{HOSTILE}) }}'],
        ["trace", "-l", f"uprobe:/nowhere/{HOSTILE}:*"],
        ["profile", "-p", HOSTILE],
        ["profile", "-n", HOSTILE],
        ["profile", "--", f"/nowhere/{HOSTILE}"],
        ["lab", "stop", HOSTILE],
        ["lab", "run", "-k", HOSTILE, "--", "true"],
        ["doctor", HOSTILE],
        ["completion", HOSTILE],
        [HOSTILE],
    ],
)
def test_errors_that_name_what_was_given_do_not_drive_the_terminal(
    words: list[str], hostile: Path, tmp_path: Path
) -> None:
    done = on_terminal([*INSITU, *(str(hostile) if word == "RUN" else word for word in words)], cwd=tmp_path)
    assert_harmless(done.data)
    assert done.status not in (0, 1) or b"insitu: " in done.data
    assert b"Traceback" not in done.data


def test_the_prompt_shows_rows_and_errors_that_do_not_drive_the_terminal(hostile: Path) -> None:
    typed = b"from frame;\nselect error(chr(27) || chr(155) || chr(8238));\nfrom map.opened;\n.quit\n"
    done = on_terminal([*INSITU, "sql", hostile], typed=typed, env={"TERM": "dumb", "INPUTRC": "/dev/null"})
    assert done.status == 0
    answers = done.data[done.data.index(b"# id") :]
    assert b"owned" in answers and b"error: " in answers
    assert not re.search(rb"\x1b|\x07|\xc2\x9b|\xe2\x80\xae|\xe2\x81\xa6", answers), answers


def test_a_file_name_that_is_no_text_is_shown(tmp_path: Path) -> None:
    (tmp_path / "x\udcff\udc9b.folded").write_text("a;b 1\n")
    done = on_terminal([*INSITU, "report", tmp_path / "x\udcff\udc9b.folded"])
    assert_harmless(done.data)
    assert done.status == 0 and b"x\\udcff\\udc9b.folded" in done.data


def test_bytes_pass_through_a_pipe_unchanged() -> None:
    script = "from insitu import terminal_text; terminal_text.prepare(); print('\\x1b[31m\\x9b\\udcff\\u202e')"
    for more, expected in (
        ({}, b"\x1b[31m\xc2\x9b\xff\xe2\x80\xae\n"),
        ({"PYTHONIOENCODING": "ascii"}, b"\x1b[31m\\x9b\xff\\u202e\n"),
    ):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=os.environ | more, check=True)
        assert done.stdout == expected


@given(st.text())
def test_escaped_text_is_printable_and_printable_text_is_not_changed(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text) == text or not text.isprintable()
    assert all(c.isprintable() or c in "\n\t" for c in printable_lines(text))
    assert printable_lines(text).count("\n") == text.count("\n")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_a_terminal_is_shown_of_json_is_that_json(text: str) -> None:
    shown = printable_lines(json.dumps({text: [text]}, ensure_ascii=False))
    if all(c <= "\uffff" or c.isprintable() for c in text):
        assert json.loads(shown) == {text: [text]}


def test_a_stream_escapes_all_that_is_not_its_own() -> None:
    stream = TerminalStream(io.BytesIO(), "utf-8")
    print("a\x1b[1m", "b\nc\td", file=stream)
    stream.writelines(["\x9b", "é\n"])
    stream.write_styled("\x1b[1m")
    stream.flush()
    assert stream.buffer.getvalue().decode() == "a\\x1b[1m b\nc\td\n\\u009bé\n\x1b[1m"  # type: ignore[attr-defined]


# Widths

WIDTHS = ["99999999", "9" * 4400, "0", "-1", "1", "wide", "", "\u0663"]


@pytest.mark.parametrize("said", WIDTHS)
def test_lines_are_bounded_whatever_columns_says(said: str, tmp_path: Path) -> None:
    (tmp_path / "x.folded").write_text("prog;main;work 10\n")
    for words in _VIEWS:
        done = on_terminal([*INSITU, *words], env={"COLUMNS": said}, cwd=tmp_path)
        assert done.status == 0 and b"Traceback" not in done.data
        assert max(map(len, shown_text(done.data).splitlines())) <= 1000


@pytest.mark.parametrize(
    ("said", "width"), [("99999999", 1000), ("132", 132), ("1", 20), ("0", 80), ("-1", 80), ("wide", 80), ("", 80)]
)
def test_columns_are_taken_within_bounds(said: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", said)
    assert columns(io.StringIO()) == width


_VIEWS = [
    ["report", "x.folded"],
    ["report", "--help"],
    ["diff", "x.folded", "x.folded"],
    ["sql", "x.folded", "from frame"],
]


@pytest.mark.parametrize("width", [0, 1, 2, 65535])
def test_any_width_of_the_terminal_is_taken(width: int, tmp_path: Path) -> None:
    (tmp_path / "x.folded").write_text("prog;main;work 10\n")
    for words in _VIEWS:
        done = on_terminal([*INSITU, *words], columns=width, cwd=tmp_path)
        assert done.status == 0 and b"Traceback" not in done.data
        assert max(map(len, shown_text(done.data).splitlines())) <= 1000


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("said", ["99999999", "1"])
def test_help_of_every_command_fits_any_width(command: str, said: str) -> None:
    done = on_terminal([*INSITU, command, "--help"], env={"COLUMNS": said})
    assert done.status == 0 and shown_text(done.data).startswith("usage: insitu")


# Encodings

_ASCII_TERMINALS = [
    {"LC_ALL": "C"},
    {"LC_ALL": None, "LANG": "C", "LC_CTYPE": None},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
]


@pytest.mark.parametrize("locale", _ASCII_TERMINALS)
@pytest.mark.parametrize("words", [["report", "x.folded"], ["diff", "x.folded", "x.folded"], ["doctor"], ["--help"]])
def test_an_ascii_terminal_gets_ascii(locale: dict[str, str | None], words: list[str], tmp_path: Path) -> None:
    long = "function_of_a_name_that_is_longer_than_the_terminal" * 3
    (tmp_path / "x.folded").write_text(f"prog;main;größe 10\nprog;main;{long} 30\n")
    done = on_terminal([*INSITU, *words], env={"PYTHONIOENCODING": None, "PYTHONUTF8": None} | locale, cwd=tmp_path)
    assert done.status == 0 and done.data.isascii() and b"Traceback" not in done.data
    if words[0] == "report":
        text = shown_text(done.data)
        assert "|- " in text and "`- gr\\xf6\\xdfe" in text and "~" in text
        assert max(map(len, text.splitlines())) <= 100 + len("\\xf6\\xdf")


def test_a_utf_8_terminal_gets_box_drawing(tmp_path: Path) -> None:
    (tmp_path / "x.folded").write_text("prog;main;größe 10\nprog;main;b 30\n")
    for locale in ({"LC_ALL": "C.UTF-8"}, {"LC_ALL": None, "LANG": "C", "LC_CTYPE": "C.UTF-8"}):
        env = {"PYTHONIOENCODING": None, "PYTHONUTF8": None} | locale
        assert "└─ größe" in shown_text(on_terminal([*INSITU, "report", tmp_path / "x.folded"], env=env).data)


@pytest.mark.parametrize("term", [None, "", "dumb"])
def test_a_terminal_without_escape_sequences_gets_plain_text(term: str | None, hostile: Path) -> None:
    for words in (["report", hostile], ["doctor"], ["export", hostile, "--format", "folded"]):
        done = on_terminal([*INSITU, *words], env={"TERM": term})
        assert done.status == 0 and b"\x1b" not in done.data
        assert_harmless(done.data)


def test_thousands_of_messages_are_counted_but_errors_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    messages.finish()  # what tests before this one counted in this process
    capsys.readouterr()
    for run in (25_000, 100, 101):
        for number in range(run):
            messages.warning(f"file {number}")
        messages.note("Lost 3 events")
        messages.error("the end")
        messages.finish()
        more = [f"insitu: warning: {run - 100} more messages like these are not shown"] if run > 100 else []
        warnings = [f"insitu: warning: file {number}" for number in range(100)]
        said = capsys.readouterr().err.splitlines()
        assert said == [*warnings, "insitu: Lost 3 events", "insitu: the end", *more]


def test_lines_in_a_pipe_are_of_any_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = io.StringIO()
    Screen.of(out).write([[("x" * 5000, "")]])
    assert out.getvalue() == "x" * 5000 + "\n"
