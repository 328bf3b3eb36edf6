"""Every SQL statement that help texts and documentation show runs, on a session with all kinds of tables."""

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from insitu.cli import command_parser, main
from insitu.commands import COMMANDS
from insitu.kernel import procfs
from insitu.session.core_tables import SPAN
from insitu.session.directory import create
from insitu.session.manifest import Manifest
from insitu.session.query import Database
from insitu.session.stdlib import header, stdlib, stdlib_headers
from insitu.session.writer import SessionWriter

from .sessions import mixed_session, switches_session, waits_session

ROOT = Path(__file__).parents[2]
PARAMETERS = {"function": "main", "name": "main"}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"""insitu sql [^"'\n]*(?:"([^"\n]+)"|'([^'\n]+)')""")
_PYTHON = re.compile(r"""\.sql\(\s*((?:"[^"\n]*"\s*)+)""")


def documented(text: str) -> list[str]:
    """The SQL statements in a page of documentation, or a help text."""
    found = [body for language, body in _FENCE.findall(text) if language == "sql"]
    found += [double or single for double, single in _COMMAND.findall(text)]
    found += ["".join(re.findall(r'"([^"\n]*)"', parts)) for parts in _PYTHON.findall(text)]
    return [each for each in found if not each.startswith((".tables", "..."))]


def shown() -> list[tuple[str, str]]:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    texts = [(page.name, page.read_text(encoding="utf-8")) for page in pages]
    texts += [(f"{name} --help", command_parser(name).format_help()) for name in COMMANDS]
    return [(name, statement) for name, text in texts for statement in documented(text)]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed_session(tmp_path_factory.mktemp("sql") / "mixed.insitu")


@pytest.fixture(scope="module")
def both(path: Path) -> Database:
    return Database(path, waits_session(path.with_name("waits.insitu")))


@pytest.mark.parametrize(("name", "statement"), shown())
def test_a_documented_statement_runs(path: Path, both: Database, name: str, statement: str) -> None:
    used = {key: value for key, value in PARAMETERS.items() if f"${key}" in statement}
    database = both if re.search(r"\bsession\b", statement) else Database(path)
    if "event.sched_" in statement:
        database = Database(switches_session(path.with_name("switches.insitu")))
    if "event.qemu" in statement:
        pytest.skip("needs a session of QEMU's trace")
    assert database.sql(statement, used).width


def test_statements_are_found_where_they_are_shown() -> None:
    text = 'x\n```sql\nfrom a\n```\ninsitu sql run.insitu --format csv "from b" > x\ns.sql("from"\n      " c")\n'
    assert documented(text) == ["from a\n", "from b", "from c"]
    assert {name for name, _ in shown()} >= {"README.md", "sql.md", "sql --help"}


def test_every_sample_has_one_row_with_its_thread_though_a_pid_was_used_again(path: Path) -> None:
    found = Database(path).sql("select thread, exe, count(*) n from sample_with_thread group by all order by thread")
    assert found.rows() == [
        ("cat", "/bin/cat", 20),
        ("helper", "/bin/cat", 10),
        ("ls", "/bin/sh", 10),
        ("sh", "/bin/sh", 20),
    ]


def test_samples_of_threads_and_functions_add_up(path: Path) -> None:
    database = Database(path)
    assert database.sql("select thread, tid, samples, weight from thread_samples order by samples").rows() == [
        ("helper", 101, 10, 100_000_000),
        ("cat", 100, 20, 200_000_000),
        ("ls", 100, 30, 300_000_000),
    ]
    functions = database.sql("select function, self_samples, total_samples, total_weight from function_samples")
    assert sorted(functions.rows()) == [
        ("main", 20, 60, 600_000_000),
        ("parse", 20, 20, 200_000_000),
        ("sys_read", 20, 20, 200_000_000),
    ]


def test_a_span_has_what_its_children_leave(path: Path) -> None:
    found = Database(path).sql("select id, children_ns, self_ns from span_self order by id")
    assert found.rows() == [(1, 50_000_000, 50_000_000), (2, 0, 30_000_000), (3, 0, 20_000_000)]


def test_ids_are_joined_within_a_session_only(both: Database) -> None:
    found = both.sql("select session, count(*) n from sample_with_thread group by session")
    assert found.rows() == [("mixed", 60)]
    assert sorted(both.sql("select session, count(*) n from thread group by session").rows()) == [
        ("mixed", 4),
        ("waits", 3),
    ]


@pytest.mark.parametrize("name", sorted(stdlib()))
def test_a_view_has_the_columns_that_its_header_and_its_page_name(path: Path, name: str) -> None:
    found = stdlib_headers()[name]
    assert Database(path).sql(f"from {name} limit 0").columns == list(found.columns)
    assert found.doc.endswith(".") and found.question.endswith("?")
    row = next(line for line in (ROOT / "docs" / "sql.md").read_text().splitlines() if line.startswith(f"| `{name}`"))
    assert re.findall(r"`(\w+)`", row.rpartition("| ")[0] and row.split(" | ")[2]) == list(found.columns)


def test_a_header_line_of_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="header line"):
        header("-- A row.\n-- no colon here\ncreate view x as select 1")


def test_tables_are_listed_with_what_a_row_is(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", str(path), ".tables", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "event.open,table,2,A file that was opened." in lines
    assert any(line.startswith("thread_samples,view,") for line in lines)
    assert main(["sql", str(path), ".tables event.open"]) == 0
    assert "took_ns\tduration\tns\t" in capsys.readouterr().out
    assert main(["sql", str(path), ".tables nothing"]) == 1
    assert "no table nothing" in capsys.readouterr().err


def test_tables_are_listed_without_polars_in_every_form(path: Path) -> None:
    script = "import sys; from insitu.cli import main; main(sys.argv[1:]); print('polars' in sys.modules)"
    doc = "A file that was opened."
    for form, line in (
        ("tsv", f"event.open\ttable\t2\t{doc}"),
        ("json", f'"name":"event.open","kind":"table","rows":2,"a row is":"{doc}"'),
        ("table", f"event.open table 2 {doc}"),
    ):
        words = ["sql", str(path), ".tables", "--format", form]
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("False\n")
        assert line in (re.sub(" +", " ", done.stdout) if form == "table" else done.stdout)


def test_a_table_shows_values_by_what_they_are_and_other_forms_plainly(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select ts_ns, took_ns, took_ns * 2 as n from event.open order by ts_ns"
    assert main(["sql", str(path), query, "--format", "table"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["1.000000001", "1.500", "us", "3000"]
    assert main(["sql", str(path), query]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["1000000001", "1500", "3000"]


def test_parameters_are_values_and_not_text_of_the_query(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select count(*) n from frame where function = $f"
    assert main(["sql", str(path), query, "--param", "f=main"]) == 0
    assert main(["sql", str(path), query, "--param", "f=' or 1=1"]) == 0
    assert capsys.readouterr().out.split() == ["n", "1", "n", "0"]
    assert main(["sql", str(path), query, "--param", "nothing"]) == 2
    assert main(["sql", str(path), query]) == 1
    assert "no value for $f (--param f=VALUE)" in capsys.readouterr().err


def test_of_several_statements_the_rows_of_each_are_printed(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select 1 as a, ';' as s; create temp table t as select 2 as b; from t where b = $two::int"
    outputs = {
        "csv": "a,s\n1,;\n\nb\n2\n",
        "tsv": "a\ts\n1\t;\n\nb\n2\n",
        "json": '[{"a":1,"s":";"}]\n[{"b":2}]\n',
    }
    for form, expected in outputs.items():
        assert main(["sql", str(path), query, "--param", "two=2", "--format", form]) == 0
        assert capsys.readouterr().out == expected
    for wrong in ("select 1; selec 2", "select 1; copy frame to '/tmp/x'"):
        assert main(["sql", str(path), wrong]) == 1
        assert capsys.readouterr().out == ""  # nothing is run


def test_text_that_is_not_utf_8_is_refused_in_queries_and_replaced_in_names(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words in (["select '\udcff'"], ["select $x", "--param", "x=\udcff"]):
        assert main(["sql", str(path), *words]) == 2
        assert "not UTF-8" in capsys.readouterr().err
    shutil.copytree(path, tmp_path / "run\udcff.insitu")
    runs = [str(path), str(tmp_path / "run\udcff.insitu")]
    assert main(["sql", *runs, "select distinct session from frame order by 1", "--json"]) == 0
    assert [row["session"] for row in json.loads(capsys.readouterr().out)] == [path.stem, "run\ufffd"]


def test_several_runs_are_asked_at_once(path: Path, both: Database, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(path), str(path.with_name("waits.insitu"))]
    assert main(["sql", *runs, "select session, count(*) n from event.blocked group by session"]) == 0
    assert capsys.readouterr().out.split() == ["session", "n", "waits", "10"]


def test_a_run_that_does_not_exist_is_not_taken_for_a_query(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", str(path), "gone.insitu"]) == 1
    assert "gone.insitu: no such file" in capsys.readouterr().err


def test_a_thread_is_on_the_cpu_between_its_waits(tmp_path: Path) -> None:
    create(tmp_path / "x.insitu", Manifest.here(procfs), procfs)
    with SessionWriter.on_disk(tmp_path / "x.insitu") as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="x")
        waits = {"id": [1, 2, 3], "ts_ns": [100, 130, 200], "utid": [utid] * 3, "category": ["off-cpu"] * 3}
        lengths = np.ma.masked_array([20, 70, 0], [False, False, True])  # the last is still open
        writer.append(SPAN, {**waits, "name": ["read"] * 3, "dur_ns": lengths, "stack": [0] * 3})
        writer.finish()
    found = Database(tmp_path / "x.insitu").sql("select ts_ns, dur_ns, state from off_cpu_state order by ts_ns")
    assert found.rows() == [(100, 20, "off-cpu"), (120, 10, "on-cpu"), (130, 70, "off-cpu"), (200, None, "off-cpu")]


def test_sessions_have_the_names_of_the_files_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old").mkdir()
    for name in ("run.cpp.folded", "mk.folded", "old/mk.folded"):
        Path(name).write_text("prog;main 3\n")
    query = "select session, count(*) n from thread group by session order by session"
    for runs, names in (
        (["run.cpp.folded", "mk.folded"], ["mk.folded", "run.cpp.folded"]),
        (["mk.folded", "old/mk.folded"], ["mk.folded", "old/mk.folded"]),
    ):
        assert main(["sql", *runs, query, "--json"]) == 0
        assert [row["session"] for row in json.loads(capsys.readouterr().out)] == names
    assert main(["export", "mk.folded", "--format", "trace.dat", "-o", "out.dat"]) == 1
    assert capsys.readouterr().err.startswith("insitu: mk.folded: ")


@pytest.mark.parametrize(
    ("query", "line", "word"),
    [
        ("select * frm sample", "LINE 1: select * frm sample", "sample"),
        ("select ts_ns,\n  utid\tfrm sample", "LINE 2:   utid frm sample", "sample"),
    ],
)
def test_an_error_in_sql_has_the_caret_below_the_word(
    path: Path, capsys: pytest.CaptureFixture[str], query: str, line: str, word: str
) -> None:
    assert main(["sql", str(path), query]) == 1
    first, shown, caret = capsys.readouterr().err.splitlines()
    assert first == f'insitu: Parser Error: syntax error at or near "{word}"'
    assert shown == line and caret.rstrip("^").strip() == "" and shown[len(caret) - 1 :].startswith(word)


def test_an_error_in_sql_is_one_line_where_its_message_names_the_word(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sql", str(path), "select nothing from sample"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and '"nothing"' in said and "LINE" not in said


def test_commands_as_other_prompts_have_them(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def printed(*words: str, text: str = "") -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        assert main(["sql", str(path), *words]) == 0
        return capsys.readouterr().out

    assert printed(".schema") == printed(".tables") and "thread_wall" in printed(".tables")
    assert printed(".schema frame") == printed(".tables frame")
    assert ".tables NAME" in printed(".help")
    select = "select 1 as one;\n"
    assert printed("-", text=select) == printed(text=select) == "one\n1\n"
    mixed = printed("-", text=f"{select}.tables frame\nselect 2 as two")
    assert mixed == f"one\n1\n\n{printed('.tables frame')}\ntwo\n2\n"
    assert main(["sql", str(path), ".mode"]) == 2
    assert capsys.readouterr().err == "insitu: no command .mode (.help lists them)\n"


def test_weights_are_shown_in_the_unit_of_their_row_and_paths_on_one_line(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("insitu.views.terminal.is_plain", lambda out: False)
    monkeypatch.setenv("COLUMNS", "100")
    query = """select 'f' as function, '/usr/lib/x86_64-linux-gnu/' || repeat('deep/', 20) || 'libx.so' as module,
        unnest([355355355, 2048, 7]) as self_weight, unnest(['ns', 'bytes', 'faults']) as unit"""
    assert main(["sql", str(path), query, "--format", "table"]) == 0
    rows = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert [row.split()[-3:] for row in rows[1:3]] == [["355.355", "ms", "ns"], ["2.0", "KiB", "bytes"]]
    assert rows[3].split()[-2:] == ["7", "faults"] and rows[4] == "# 3 rows"
    assert all("libx.so" in row for row in rows[1:4])
