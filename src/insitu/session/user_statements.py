"""Statements that users write: they reach no files but the session's, and Ctrl-C ends them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.errors import InsituError
from insitu.limits import refuse_little_memory
from insitu.session.query_rows import rows_of

if TYPE_CHECKING:
    import polars

    from insitu.session.engine import duckdb

__all__ = ["StatementError", "interruptible_rows", "one_line", "refuse_files", "refused_file"]

_POLARS_BYTES: Final = 1 << 30
_WITH_FILES: Final = ("COPY", "COPY_DATABASE", "EXPORT", "ATTACH", "LOAD", "EXTENSION", "???")
_FILE_WORDS: Final = re.compile(r"\b(copy|export|attach|load|install)\b", re.IGNORECASE)
_OTHER_FILE: Final = re.compile(
    r'Cannot access (?:file|directory) "(.*)" - |Table with name (\S*(?:/|\.csv|\.json|\.parquet)\S*) does not exist'
)
_ALLOWING: Final = "insitu sql --allow-files allows that"
_EXCERPT: Final = re.compile(r"^LINE \d+: .*\n *\^", re.MULTILINE)  # DuckDB's


class StatementError(InsituError):
    """DuckDB's message on one line; ``rendered`` has the place in the statement on further lines."""

    def __init__(self, message: str, excerpt: str) -> None:
        super().__init__(message)
        self._excerpt = excerpt

    @classmethod
    def of(cls, text: str) -> StatementError:
        """The error of a message of DuckDB's as it is."""
        found = _EXCERPT.search(text)
        return cls(one_line(text), _with_caret(*found[0].rsplit("\n", 1)) if found else "")

    @property
    def rendered(self) -> str:
        """The message, below it the line of the statement and where in it."""
        return f"{self}\n{self._excerpt}" if self._excerpt else str(self)


def _with_caret(line: str, caret: str) -> str:
    """A line of a statement and the caret below it; tabs and the like, of no width to DuckDB, are blanks here."""
    shown, at = "", len(caret) - 1
    for character in line:
        if not character.isprintable():
            at += len(shown) <= at
            character = " "
        shown += character
    return f"{shown}\n{' ' * at}^"


def one_line(text: str) -> str:
    """A message of DuckDB's on one line, without its excerpt of the statement."""
    lines = [line.strip() for line in _EXCERPT.sub("", text).splitlines() if line.strip()]
    return "; ".join(line.rstrip("!") for line in lines[:3])


def refuse_files(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    """Raise InsituError for statements that write files or load extensions.

    DuckDB would let them write to the session's own files, which it may read.
    """
    for each in connection.extract_statements(query):
        kind = each.type.name
        if kind in _WITH_FILES or (kind in ("EXPLAIN", "PREPARE") and _FILE_WORDS.search(each.query)):
            raise InsituError("queries cannot write files or load extensions", remedy=_ALLOWING)


def refused_file(message: str) -> InsituError | None:
    """The error for a query of a file that is not the session's, by DuckDB's message; None for other messages."""
    found = _OTHER_FILE.search(message)
    if found is None:
        return None
    return InsituError(f"{found[1] or found[2]}: queries can only read the session's files", remedy=_ALLOWING)


def interruptible_rows(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    refuse: Callable[[Sequence[Any]], object],
) -> polars.DataFrame:
    """The query's rows (see ``rows_of``), fetched in another thread: on the main one DuckDB may swallow a Ctrl-C."""
    import signal
    import threading
    from concurrent.futures import ThreadPoolExecutor, wait

    refuse_little_memory(_POLARS_BYTES)
    import polars  # noqa: F401

    handler = signal.getsignal(signal.SIGINT)
    if handler is not None and threading.current_thread() is threading.main_thread():
        # Importing Polars replaces the SIGINT handler: restore it.
        signal.signal(signal.SIGINT, handler)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(rows_of, connection, query, parameters, refuse)
        try:
            return result.result()
        except (KeyboardInterrupt, SystemExit):
            while not result.done():  # repeated, since the query may begin after the first interrupt
                connection.interrupt()
                wait([result], 0.1)
            raise
