"""SQL over a session: its tables as DuckDB views."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from insitu.errors import InsituError
from insitu.session import store
from insitu.session.schema import TABLES, TEXT

if TYPE_CHECKING:
    import duckdb
    import polars

__all__ = ["connect", "run"]

_SQL_TYPES = {
    np.dtype(np.int32): "integer",
    np.dtype(np.int64): "bigint",
    np.dtype(np.uint64): "ubigint",
    np.dtype(np.bool_): "boolean",
    np.dtype(np.float64): "double",
}


@contextmanager
def connect(path: Path) -> "Iterator[duckdb.DuckDBPyConnection]":
    """A DuckDB connection that sees the session's tables as views, the documented ones also when they are empty.

    ``event.LABEL`` and ``map.NAME`` are views of the schemas ``event`` and ``map``. Queries can read the session's
    files and nothing else of this machine, and load no extension.
    """
    import duckdb

    connection = duckdb.connect()
    try:
        connection.execute("set allow_community_extensions = false")
        connection.execute("set autoinstall_known_extensions = false")
        connection.execute("set autoload_known_extensions = false")
        files = store.table_files(path)
        for name, parts in files.items():
            schema, _, label = name.rpartition(".")
            if schema:
                connection.execute(f"create schema if not exists {_quoted(schema)}")
            view = f"{_quoted(schema)}.{_quoted(label)}" if schema else _quoted(label)
            listed = ", ".join(_literal(str(part)) for part in parts)
            connection.execute(f"create view {view} as select * from read_parquet([{listed}])")
        for name, columns in TABLES.items():
            if name not in files:
                typed = ", ".join(f"{_quoted(column)} {_sql_type(kind)}" for column, kind in columns.items())
                connection.execute(f"create table {_quoted(name)} ({typed})")
        connection.execute(f"set allowed_directories = [{_literal(str(path / 'tables'))}]")
        connection.execute("set enable_external_access = false")
        yield connection
    except duckdb.Error as error:
        raise InsituError(f"{path}: a table cannot be read: {str(error).splitlines()[0]}") from None
    finally:
        connection.close()


def run(connection: "duckdb.DuckDBPyConnection", query: str) -> "polars.DataFrame":
    """Run one statement; its rows (none for a statement without an answer). InsituError says what DuckDB said.

    Ctrl-C, or another exception that a signal handler raises, ends the query.
    """
    import duckdb

    try:
        return _interruptible(connection, query)
    except duckdb.Error as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InsituError("; ".join(lines[:3])) from None


def _interruptible(connection: "duckdb.DuckDBPyConnection", query: str) -> "polars.DataFrame":
    """The query's rows, fetched in a thread of their own: called from this one DuckDB may swallow a Ctrl-C."""
    import signal
    import threading
    from concurrent.futures import ThreadPoolExecutor, wait

    import polars  # noqa: F401

    handler = signal.getsignal(signal.SIGINT)
    if handler is not None and threading.current_thread() is threading.main_thread():
        # Polars, once imported, keeps SIGINT to itself while it works: the handler is put back.
        signal.signal(signal.SIGINT, handler)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(_rows, connection, query)
        try:
            return answer.result()
        except (KeyboardInterrupt, SystemExit):
            while not answer.done():  # again, should the query have begun after it
                connection.interrupt()
                wait([answer], 0.1)
            raise


def _rows(connection: "duckdb.DuckDBPyConnection", query: str) -> "polars.DataFrame":
    import polars as pl

    relation = connection.sql(query)
    return pl.DataFrame() if relation is None else _plain_integers(pl.DataFrame(relation))


def _plain_integers(frame: "polars.DataFrame") -> "polars.DataFrame":
    """DuckDB's 128-bit integers (what sum() gives) arrive as decimals: 64-bit integers where they fit."""
    import polars as pl

    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Decimal) and kind.scale == 0:
            narrow = frame[name].cast(pl.Int64, strict=False)
            if narrow.null_count() == frame[name].null_count():
                frame = frame.with_columns(narrow)
    return frame


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _sql_type(kind: object) -> str:
    return "varchar" if kind == TEXT else _SQL_TYPES[np.dtype(kind)]  # type: ignore[call-overload]
