"""Columns of every table in types that they do not have: each way in ends in one line or in a default."""

import contextlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from tests.unit.sessions import mixed_session
from tests.unit.test_session import rewritten

from insitu import cli

EACH = 4  # of these are tried with each column, others with the next
VALUES = [
    "null::integer",
    "'x'",
    "repeat('x', 100000)",
    "''::blob",
    "true",
    "'nan'::double",
    "170141183460469231731687303715884105727::hugeint",
    "18446744073709551615::ubigint",
    "[[1, null], [2]]",
    "{'a': 1}",
    "interval 1 day",
    "uuid()",
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mixed_session(tmp_path_factory.mktemp("whole") / "s.insitu")


@contextlib.contextmanager
def said(file: Path) -> Iterator[list[str]]:
    """The lines that come to standard error, also those of libraries."""
    lines: list[str] = []
    before, descriptor = os.dup(2), os.open(file, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 2)
    own = io.StringIO()
    try:
        with contextlib.redirect_stderr(own), contextlib.redirect_stdout(io.StringIO()):
            yield lines
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(descriptor)
        lines += (own.getvalue() + file.read_text()).splitlines()


def in_sql(table: str) -> str:
    return "from " + ".".join(f'"{part}"' for part in table.split(".", 1))


TABLES = ["event.open", "event_type", "frame", "lost", "process", "sample", "span", "stack", "thread", "thread_name"]


@pytest.mark.parametrize("table", TABLES)
def test_a_column_of_any_other_type_ends_in_one_line_or_in_a_default(whole: Path, tmp_path: Path, table: str) -> None:
    path = tmp_path / "s.insitu"
    shutil.copytree(whole, path)
    file, original = path / "tables" / table / "0.parquet", whole / "tables" / table / "0.parquet"
    columns = [name for name, *_ in duckdb.sql(f"describe select * from '{original}'").fetchall()]
    commands = [("report",), ("export", "--format", "folded", "-o", str(tmp_path / "out")), ("sql", in_sql(table))]
    for at, column in enumerate(columns):
        for number in range(at * EACH, (at + 1) * EACH):
            value = VALUES[number % len(VALUES)]
            shutil.copyfile(original, file)
            rewritten(path, table, f'* replace ({value} as "{column}")')
            name, *words = commands[number % len(commands)]
            with said(tmp_path / "stderr") as lines:
                status = cli.main([name, str(path), *words])
            assert status in (0, 1), (column, value, name)
            assert not status or len(lines) == 1, (column, value, name, lines)
            assert not any("panicked" in line or "Traceback" in line for line in lines), (column, value, name)
