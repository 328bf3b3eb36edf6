"""What queries of a session may reach, and how much of it is loaded."""

import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from tests.unit.test_session import rewritten, written

import insitu
from insitu import cli
from insitu.convert.open import load_stacks
from insitu.errors import InsituError

REFUSED = [
    "from '{file}'",
    "from read_text('{file}')",
    "from read_csv('{file}')",
    "from read_parquet('/proc/self/environ')",
    "from glob('/*')",
    "from sniff_csv('{file}')",
    "from read_blob('https://localhost/')",
    "copy (select 1) to '{file}'",
    "explain analyze copy (select 1) to '{file}'",
    "prepare p as copy (select 1) to '{file}'",
    "copy sample from '{file}'",
    "attach '{file}'",
    "export database '{file}'",
    "import database '/etc'",
    "install httpfs",
    "load httpfs",
    "from duckdb_secrets()",
]


@pytest.mark.parametrize("query", REFUSED)
def test_queries_reach_nothing_but_the_session(tmp_path: Path, query: str):
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    with insitu.open(written(tmp_path / "s.insitu")) as session, pytest.raises(InsituError) as error:
        session.sql(query.replace("{file}", str(secret)))
    assert "queries can only read" in str(error.value) or "queries cannot write files" in str(error.value)
    assert error.value.remedy == "insitu sql --allow-files allows that"
    assert "\n" not in str(error.value)
    assert secret.read_text() == "a\n1\n"


def test_queries_do_not_write_to_the_sessions_own_files(tmp_path: Path):
    path = written(tmp_path / "s.insitu")
    before = {file: file.read_bytes() for file in path.rglob("*.parquet")}
    with insitu.open(path) as session:
        session.sql("from sample")
        for query in ("copy (select 1 a) to '{}'", "explain analyze copy (select 1 a) to '{}'"):
            for descriptor in [each.name for each in Path("/proc/self/fd").iterdir()]:
                with pytest.raises(InsituError):
                    session.sql(query.format(f"/proc/self/fd/{descriptor}"))
    assert {file: file.read_bytes() for file in path.rglob("*.parquet")} == before


def test_the_environment_is_not_in_reach_of_queries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("INSITU_SECRET", "do not tell")
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        with pytest.raises(InsituError, match="getenv"):
            session.sql("select getenv('INSITU_SECRET')")
        assert "do not tell" not in str(session.sql("from duckdb_settings()").rows())


def test_files_can_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path, file = written(tmp_path / "s.insitu"), tmp_path / "stacks.csv"
    query = f"copy (select count(*) as n from sample) to '{file}' (header true)"
    assert cli.main(["sql", str(path), "--allow-files", query]) == 0
    assert file.read_text() == "n\n3\n"
    capsys.readouterr()
    assert cli.main(["sql", str(path), "--allow-files", "--format", "csv", f"from '{file}'"]) == 0
    assert capsys.readouterr().out == "n\n3\n"


def test_columns_of_one_name_are_told_apart(tmp_path: Path):
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        assert session.sql("select 1 as a, 2 as a, 3 as b").rows(named=True) == [{"a": 1, "a_1": 2, "b": 3}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("interval 1 day", "1 day"),
        ("[interval 2 hours]", "['02:00:00']"),
        ("'101'::bit", "101"),
        ("340282366920938463463374607431768211455::uhugeint", "340282366920938463463374607431768211455"),
        ("union_value(a := 1)", "1"),
        ("timetz '01:00:00+00'", "01:00:00+00"),
    ],
)
def test_values_of_types_that_polars_lacks_are_texts(tmp_path: Path, value: str, text: str):
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        assert session.sql(f"select {value} as a, 7 as b").rows() == [(text, 7)]


@pytest.mark.parametrize(
    "value",
    [
        *("'infinity'::date", "'-infinity'::timestamptz", "'5000000-01-01'::date", "'infinity'::timestamp_s"),
        *("[['10000-01-01'::timestamp]]", "{'in': 'infinity'::date}"),
    ],
)
@pytest.mark.parametrize("form", ["json", "csv", "table"])
def test_times_that_cannot_be_shown_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str, form: str
):
    path = str(written(tmp_path / "s.insitu"))
    assert cli.main(["sql", path, "--format", form, f"select {value} as far"]) == 1
    written_line = capsys.readouterr().err
    assert written_line.startswith("insitu: column far")
    assert written_line.endswith(": a time before the year 1 or after 9999 (cast it to varchar)\n")


def test_the_first_and_the_last_time_of_python_are_shown(tmp_path: Path):
    first, last = datetime.datetime.min, datetime.datetime.max
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        query = f"select '{first}'::timestamp as a, '{last}'::timestamp as b, '9999-12-31'::date as c"
        assert session.sql(query).rows() == [(first, last, datetime.date.max)]


def test_what_a_killed_query_spilled_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = written(tmp_path / "s.insitu")
    program = f"import insitu, os, signal\nwith insitu.open({str(path)!r}) as session:\n    session.sql('select 1')\n"
    program += "    os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    left = list((tmp_path / "cache/insitu/sql").iterdir())
    assert len(left) == 1
    (left[0] / "duckdb_temp_storage.tmp").write_bytes(b"x")
    with insitu.open(path) as session:
        session.sql("select 1")
        assert not left[0].exists()
    assert not list((tmp_path / "cache/insitu/sql").iterdir())


@pytest.mark.parametrize(
    ("form", "empty", "without_rows"),
    [("json", "[]", "[]"), ("csv", "n", ""), ("tsv", "n", ""), ("table", "# n\n# 0 rows", "")],
)
def test_an_empty_answer_has_its_columns_and_a_statement_without_rows_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str, empty: str, without_rows: str
):
    path = str(written(tmp_path / "s.insitu"))
    for query, text in (("select 1 as n where false", empty), ("create table t(a int)", without_rows)):
        assert cli.main(["sql", path, "--format", form, query]) == 0
        assert capsys.readouterr().out.strip() == text


def test_an_empty_query_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["sql", str(written(tmp_path / "s.insitu")), " ; "]) == 2
    assert capsys.readouterr().err == "insitu: the query is empty (see insitu sql --help)\n"


@pytest.mark.parametrize("table", ["frame", "thread", "event_type"])
def test_a_small_file_that_claims_more_rows_than_fit_is_refused_before_they_are_loaded(tmp_path: Path, table: str):
    path = written(tmp_path / "s.insitu")
    file = path / "tables" / table / "0.parquet"
    one = f"(select * from '{file}' limit 1)"
    duckdb.sql(f"copy (select f.* from {one} f, range(4000001)) to '{file}.new' (format parquet)")
    file.with_name(f"{file.name}.new").rename(file)
    with pytest.raises(InsituError, match=f"table {table} has 4000001 rows, of which at most 4000000 are loaded"):
        load_stacks(path)


def test_long_texts_in_many_rows_are_refused_before_they_are_loaded(tmp_path: Path):
    path = written(tmp_path / "s.insitu")
    file = path / "tables/frame/0.parquet"
    row = f"(select * replace (repeat('x', 1 << 20) as function) from '{file}' limit 1)"
    duckdb.sql(f"copy (select f.* from {row} f, range(3 << 10)) to '{file}.new' (format parquet, compression zstd)")
    file.with_name(f"{file.name}.new").rename(file)
    assert file.stat().st_size < 16 << 20
    with pytest.raises(InsituError, match="table frame has 3 GiB of text, of which at most 1 GiB are loaded"):
        load_stacks(path)


@pytest.mark.parametrize("table", ["frame", "stack"])
@pytest.mark.parametrize("ids", ["id + 1", "0", "2 * id", "null::integer"])
def test_ids_that_are_not_the_numbers_from_0_on_are_damage(tmp_path: Path, table: str, ids: str):
    path = written(tmp_path / "s.insitu")
    rewritten(path, table, f"* replace ({ids} as id)")
    with pytest.raises(InsituError, match=f"damaged: the ids of table {table} are not 0 to"):
        load_stacks(path)


def test_a_process_that_is_there_twice_multiplies_no_thread(tmp_path: Path):
    path = written(tmp_path / "s.insitu")
    file = path / "tables/process/0.parquet"
    duckdb.sql(f"copy (select p.* from '{file}' p, range(3)) to '{file}.new' (format parquet)")
    file.with_name(f"{file.name}.new").rename(file)
    stacks = load_stacks(path)
    assert stacks.total_count == 3
    assert {thread.pid for thread in stacks.threads} == {10}


def test_the_memory_of_queries_is_half_of_what_there_is(tmp_path: Path):
    with insitu.open(written(tmp_path / "s.insitu")) as session:
        ((limit,),) = session.sql("select current_setting('memory_limit')").rows()
    number, unit = limit.split()
    taken = float(number) * 1024 ** ("KiB", "MiB", "GiB", "TiB").index(unit) * 1024
    assert 0 < taken <= 0.51 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
