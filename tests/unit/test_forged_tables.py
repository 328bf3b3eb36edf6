"""Values that no recorder writes, in the tables and the manifest of a session that somebody sent."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.unit.sessions import mixed_session, waits_session

import insitu
from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.session.call_table import KERNEL_FUNCTION
from insitu.session.core_tables import SPAN
from insitu.session.directory import create
from insitu.session.expansion import size_sql
from insitu.session.manifest import MANIFEST, Manifest
from insitu.session.special_tables import WALL
from insitu.session.stdlib import tables_in
from insitu.session.writer import SessionWriter
from insitu.symbols.frame import Frame

MOST = 2**63 - 1
ANY_STACKS = "stacks refer to missing frames or stacks (copy the session whole again, or record anew)"
# Runs a command of ours, then says how many KiB of memory it took at most; of ru_maxrss the parent's are part.
MEASURED = """
import pathlib, sys
from insitu import cli
status = cli.main(sys.argv[1:])
print(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(status)
"""


def wall_session(path: Path) -> Path:
    """Two threads: one was blocked for two seconds, one ran for one."""
    create(path, Manifest.here(procfs, command=["./prog"], start_ns=1_000_000_000), procfs)
    with SessionWriter.on_disk(path) as writer:
        upid = writer.processes.process(5)
        utids = [writer.processes.thread(tid, upid, name=f"worker{tid}") for tid in (5, 6)]
        stack = writer.intern_stack([Frame("main", "/bin/prog")])
        row: dict[str, list[Any]] = {"utid": utids, "state": ["blocked", "user"], "cause": ["lock", ""]}
        row |= {"call": ["futex", ""], "object": ["0x10", ""], "holder": [utids[1], None], "waker": [utids[1], None]}
        row |= {"dur_ns": [2_000_000_000, 1_000_000_000], "count": [1, 1], "stack": [stack, stack]}
        writer.append(WALL, row)
        writer.finish(end_ns=3_000_000_000)
    return path


def calls_session(path: Path) -> Path:
    """Two calls of a kernel function, of which each took 5 microseconds."""
    create(path, Manifest.here(procfs, start_ns=1_000), procfs)
    with SessionWriter.on_disk(path) as writer:
        utid = writer.processes.thread(5, writer.processes.process(5), name="a")
        row: dict[str, list[Any]] = {"id": writer.span_ids(2).tolist(), "utid": [utid] * 2, "ts_ns": [1_000, 9_000]}
        row |= {"dur_ns": [5_000] * 2, "self_ns": [5_000] * 2, "category": [KERNEL_FUNCTION] * 2, "name": ["f"] * 2}
        writer.append(SPAN, row)
        writer.finish(end_ns=20_000)
    return path


def forged(session: Path, table: str, column: str, *values: object) -> Path:
    """The session, with these values in all rows of a column, one after another and again."""
    file = session / "tables" / table / "0.parquet"
    frame = pl.read_parquet(file)
    kind = frame.schema[column]
    made = pl.Series(column, [values[at % len(values)] for at in range(len(frame))], dtype=kind)
    frame.with_columns(made).write_parquet(file, metadata=pl.read_parquet_metadata(file))
    return session


def ran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", MEASURED, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False)
    assert "Traceback" not in done.stderr
    return done


def refusal(*words: str | Path) -> str:
    """The one line that a command ends with."""
    done = ran(*words)
    assert (done.returncode, done.stdout) == (1, "")
    line, peak = done.stderr.splitlines()
    assert int(peak) < 500_000  # KiB
    return line


# Memory


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of a few KB whose thousand texts of 3 MB are one."""
    return with_texts(tmp_path_factory.mktemp("bomb") / "sent.insitu", "'x'", options="")


def with_texts(session: Path, start: str, *, options: str) -> Path:
    """A session with a thousand texts of 3 MB that begin as the SQL expression ``start`` does."""
    import duckdb

    file = mixed_session(session) / "tables/span/0.parquet"
    made = file.with_suffix(".made")
    rows = f"select * exclude name, {start} || repeat('x', 2999999) as name from '{file}', range(334)"
    with duckdb.connect(config={"threads": "1"}) as connection:
        connection.execute(f"copy ({rows}) to '{made}' (format parquet, compression zstd{options})")
    made.rename(file)
    assert file.stat().st_size < 1 << 20
    return session


def test_texts_that_differ_are_not_measured_by_loading_them(tmp_path: Path) -> None:
    session = with_texts(tmp_path / "sent.insitu", "(range % 10)::varchar", options=", dictionary_size_limit 1")
    assert "table span has 2.8 GiB of values" in refusal("sql", session, "from span")


@pytest.mark.parametrize(
    "words",
    [("sql", "from span"), ("sql", "from span_summary"), ("timeline", "-o"), ("export", "-f", "chrome", "-o")],
)
def test_texts_that_are_kept_once_are_measured_before_they_are_loaded(
    bomb: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    command, *rest = words
    target = [tmp_path / "out.html"] if rest[-1:] == ["-o"] else []
    line = refusal(command, bomb, *rest, *target)
    assert line.startswith(f"insitu: {bomb}: table span has 2.8 GiB of values in ")  # 1002 * 3 MB / 2^30
    assert line.endswith(" bytes of files, of which at most 1.0 GiB are loaded")
    assert not list(tmp_path.iterdir())


def test_of_two_sessions_the_one_that_takes_memory_is_named(bomb: Path, tmp_path: Path) -> None:
    other = mixed_session(tmp_path / "other.insitu")
    assert refusal("sql", other, bomb, "from span").startswith(f"insitu: {bomb}: table")


def test_such_texts_are_counted_and_other_tables_read(bomb: Path) -> None:
    with insitu.open(bomb) as session:
        assert session.sql("select count(*) from span").rows() == [(1002,)]
        assert session.sql("select name from thread where tid = 101").rows() == [("helper",)]


def test_the_bytes_of_rows_are_those_of_their_texts_and_8_for_each_number() -> None:
    import duckdb

    found = duckdb.sql("select 1 as n, 'abc' as t, '12345'::blob as b, null::varchar as none")
    (size,) = duckdb.sql(f"select {size_sql(found.columns, found.types)} from found").fetchall()[0]
    assert size == 8 + 3 * 16 + 3 + 5
    found = duckdb.sql("select ['abc', 'd'] as t, {'a': 'xyz', 'n': 1} as s, [[1, 2]] as n, map {'k': 'value'} as m")
    (size,) = duckdb.sql(f"select {size_sql(found.columns, found.types)} from found").fetchall()[0]
    assert size == 4 * 16 + (2 * 16 + 4) + (2 * 16 + 3) + (16 + 2 * 16) + (2 * 16 + 6)


def test_the_tables_of_a_query_are_known_by_their_names() -> None:
    names = ["event.blocked", "span", "syscall", "thread"]
    assert tables_in('select * from "event"."Blocked" join thread using (utid)', names) == ["event.blocked", "thread"]
    assert tables_in("from span_summary", names) == ["span"]
    assert tables_in("select spanning from other", names) == []


# Rows that name what is not there


@pytest.mark.parametrize("column", ["utid", "waker", "holder"])
@pytest.mark.parametrize("value", [-1, 99, 2**31 - 1])
def test_a_wait_of_a_thread_that_is_not_there(tmp_path: Path, column: str, value: int) -> None:
    session = forged(wall_session(tmp_path / "sent.insitu"), "wall", column, value)
    text = ran("why", session)
    assert text.returncode == 0
    assert "3.000 s" in text.stdout
    found = json.loads(ran("why", "--json", session).stdout)
    assert found["wall_ns"] == sum(each["ns"] for each in found["causes"]) == 3_000_000_000
    tids = {each["tid"] for each in found["threads"]}
    assert tids == ({0} if column == "utid" else {5, 6})
    if column != "utid":
        wait = next(each for each in found["causes"] if each["state"] == "blocked")
        assert wait["holder"] == (None if column == "holder" else 6)
        assert wait["wakers"] == ([] if column == "waker" else [6])


def test_wall_time_of_states_that_are_not_known_and_of_none(tmp_path: Path) -> None:
    session = forged(wall_session(tmp_path / "sent.insitu"), "wall", "state", "dreaming")
    assert "dreaming" in ran("why", session).stdout
    session = forged(session, "wall", "dur_ns", 0)
    assert json.loads(ran("why", "--json", session).stdout)["wall_ns"] == 0
    assert ran("why", session).returncode == 0


@pytest.mark.parametrize("column", ["parent", "frame"])
@pytest.mark.parametrize("value", [2**31 - 1, -2])
@pytest.mark.parametrize("command", ["timeline", "report"])
def test_a_stack_of_what_is_not_there(tmp_path: Path, column: str, value: int, command: str) -> None:
    session = forged(mixed_session(tmp_path / "sent.insitu"), "stack", column, value)
    target = ["-o", tmp_path / "out.html"] if command == "timeline" else []
    assert refusal(command, session, *target) == f"insitu: {session}: damaged: {ANY_STACKS}"


# Figures


@pytest.mark.parametrize("values", [(MOST,), (MOST, 1), (-1,), (5, -1), (-(2**63), 7), (2**60, 2**60)])
@pytest.mark.parametrize("words", [("folded",), ("dot",), ("pprof",), ("speedscope",)])
def test_durations_that_cannot_be_added_up_are_no_figures(
    tmp_path: Path, values: tuple[int, ...], words: tuple[str, ...]
) -> None:
    session = forged(waits_session(tmp_path / "sent.insitu"), "event.blocked", "waited_ns", *values)
    with insitu.open(session) as opened, pytest.raises(InsituError) as error:
        opened.stacks()
    assert "event.blocked: its ns are negative, or too many to be added up" in str(error.value)
    with insitu.open(session) as opened, pytest.raises(InsituError):
        opened.stacks(times=True)
    if values == (MOST,):
        line = refusal("export", session, "-f", *words, "-o", tmp_path / "out.gz")
        assert line == f"insitu: {error.value}"


def test_the_longest_durations_are_added_up_whole(tmp_path: Path) -> None:
    session = forged(waits_session(tmp_path / "sent.insitu"), "event.blocked", "waited_ns", 2**56)
    with insitu.open(session) as opened:
        assert opened.stacks().weight.sum(dtype=np.int64) == 10 * 2**56


# 2**59 nanoseconds are 18 years: no machine has recorded for so long.
@pytest.mark.parametrize("words", [("why",), ("report", "--table", "wall"), ("flame",)])
def test_wall_time_of_18_years_is_no_figure(tmp_path: Path, words: tuple[str, ...]) -> None:
    session = forged(wall_session(tmp_path / "sent.insitu"), "wall", "dur_ns", 2**59, 1)
    line = refusal(words[0], session, *words[1:])
    assert line.startswith(f"insitu: {session}: wall: its ns are negative, or too many to be added up")


@pytest.mark.parametrize("form", ["perfetto", "chrome", ""])
def test_a_span_of_18_years_is_not_drawn(tmp_path: Path, form: str) -> None:
    session = forged(mixed_session(tmp_path / "sent.insitu"), "span", "dur_ns", 2**59)
    words = ["export", session, "-f", form] if form else ["timeline", session]
    line = refusal(*words, "-o", tmp_path / "out")
    assert line.startswith(f"insitu: {session}: damaged: ") and "of table span that cannot be" in line


@pytest.mark.parametrize("column", ["dur_ns", "self_ns"])
@pytest.mark.parametrize("value", [-2, 2**59, MOST])
def test_calls_of_18_years_or_of_less_than_none_are_no_figures(tmp_path: Path, column: str, value: int) -> None:
    session = forged(calls_session(tmp_path / "sent.insitu"), "span", column, value, 1)
    line = refusal("report", session, "--slowest", "f")
    assert line.startswith(f"insitu: {session}: span: its ns are negative, or too many")


@pytest.mark.parametrize("column", ["ts_ns", "dur_ns"])
@pytest.mark.parametrize("form", ["perfetto", "chrome"])
def test_spans_that_end_after_all_time_are_not_exported(tmp_path: Path, column: str, form: str) -> None:
    session = forged(mixed_session(tmp_path / "sent.insitu"), "span", column, MOST)
    line = refusal("export", session, "-f", form, "-o", tmp_path / "out")
    assert line.startswith(f"insitu: {session}: damaged: times or durations of table span that cannot be")


# The manifest


NUMBERS = [name for name, kind in Manifest.__annotations__.items() if kind in ("int", "int | None")]


@pytest.mark.parametrize("value", [-(2**62) - 1, 2**63, 10**400, 1e308])
@pytest.mark.parametrize("name", [*(each for each in NUMBERS if each != "format"), "pids"])
def test_numbers_of_a_manifest_that_cannot_be(tmp_path: Path, name: str, value: float) -> None:
    content = json.loads(Path(_complete(tmp_path) / MANIFEST).read_text())
    content[name] = [value] if name == "pids" else value
    with pytest.raises(InsituError, match=f"damaged: a value of {name} that cannot be"):
        Manifest.parse(content, "sent.insitu")


@pytest.mark.parametrize("entry", [{"rows": -1}, {"parts": -1}, {"rows": "1"}])
def test_tables_of_a_manifest_that_cannot_be(tmp_path: Path, entry: dict[str, object]) -> None:
    content = json.loads(Path(_complete(tmp_path) / MANIFEST).read_text())
    content["tables"] = {"span": entry}
    with pytest.raises(InsituError, match="damaged"):
        Manifest.parse(content, "sent.insitu")


def test_such_a_manifest_is_one_line(tmp_path: Path) -> None:
    path = _complete(tmp_path) / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), "start_realtime_ns": -1}))
    line = refusal("export", path.parent, "-f", "perfetto", "-o", tmp_path / "out")
    assert line.startswith(f"insitu: {path}: damaged: a value of start_realtime_ns that cannot be")


def _complete(directory: Path) -> Path:
    shutil.rmtree(directory / "sent.insitu", ignore_errors=True)
    return mixed_session(directory / "sent.insitu")
