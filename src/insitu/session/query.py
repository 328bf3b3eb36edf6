"""A session's tables in DuckDB: typed, with defaults for missing columns, read lazily."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import insitu.session.core_tables
import insitu.session.special_tables  # noqa: F401 - these two register our tables
from insitu.cache_home import own_cache
from insitu.errors import InsituError, damaged_recording
from insitu.session.directory import open_part, table_files
from insitu.session.expansion import holds_texts, most_bytes, taken_bytes
from insitu.session.manifest import Manifest
from insitu.session.parquet import KEY, literal
from insitu.session.schema import TABLES, Column, Table, described, quoted, quoted_table
from insitu.session.stdlib import header, stdlib, tables_in
from insitu.session.user_statements import (
    StatementError,
    interruptible_rows,
    one_line,
    refuse_files,
    refused_file,
)
from insitu.temporary_directories import TemporaryDirectory
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    import polars

    from insitu.session.engine import duckdb

__all__ = ["Database"]


_MOST_ROWS: Final = 4_000_000
"""Of a table whose rows become Python objects: frames, threads, processes and their names."""
_MOST_TEXT_BYTES: Final = 1 << 30
_DESCRIPTOR: Final = r"/proc/self/fd/(\d+)"
_MEMORY_SHARE: Final = 2


def _memory_bytes() -> int:
    """What DuckDB may take: half of the machine's memory, or of what this process may have of it."""
    bounds = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError):  # "max"
        bounds.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    for limit in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY:
            bounds.append(soft)
    return min(bounds) // _MEMORY_SHARE


def _spill_directory() -> TemporaryDirectory | None:
    """Where DuckDB writes what is larger than memory; None where there is no such place."""
    home = own_cache("sql")
    with contextlib.suppress(OSError):
        return TemporaryDirectory(home, "spill-", "") if home else None
    return None


class Database:
    """One DuckDB connection over one session, or over several: then each table has a column ``session`` first.

    Queries can read the sessions' files and nothing else of this machine, write nothing, and load no extension, but
    with ``allow_files``. DuckDB is given the descriptors of these files: what lies under a name may change.
    """

    def __init__(self, *paths: Path, called: Sequence[str] = (), allow_files: bool = False) -> None:
        """``called``: what the user calls each session (default: its path).

        Raises InsituError when files of a table are missing.
        """
        from insitu.session.engine import duckdb

        self.paths = paths
        self.called = list(called) or [str(path) for path in paths]
        self._files = [_whole(path) for path in paths]
        self._tables: dict[str, Table] = {}
        self._relations: dict[tuple[int, str], str] = {}
        self._opened: dict[Path, int] = {}
        self._bounded: set[tuple[str, bool]] = set()
        self._spill = _spill_directory()
        config = {
            "temp_directory": "" if self._spill is None else self._spill.path,
            "memory_limit": f"{_memory_bytes() >> 10}KiB",
        }
        self._connection = duckdb.connect(config={"allow_community_extensions": "false", **config})
        self._allow_files = allow_files
        self._has_views = False

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        if self._spill is not None:
            self._spill.remove()
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened.clear()

    def _place(self, file: Path) -> str:
        """What DuckDB opens ``file`` by, as an SQL literal."""
        if file not in self._opened:
            session = file.parents[2]
            self._opened[file] = open_part(session, file.relative_to(session))
        return literal(f"/proc/self/fd/{self._opened[file]}")

    @property
    def names(self) -> list[str]:
        """The tables that the sessions hold."""
        return sorted({name for files in self._files for name in files})

    def table(self, name: str) -> Table:
        """The description of a table: the registered one, else the one its files carry.

        Raises InsituError if the table does not exist, or its first file cannot be read.
        """
        found = self._tables.get(name)
        if found is None:
            found = self._tables[name] = TABLES.get(name) or self._described(name)
        return found

    def _described(self, name: str) -> Table:
        file = next((files[name][0] for files in self._files if name in files), None)
        if file is None:
            raise InsituError(f"no table {name}", remedy=f"tables: {', '.join(self.names)}")
        text = f"select value from parquet_kv_metadata({self._place(file)}) where key = {literal(KEY)}"
        rows = self._execute(text, file).fetchall()
        try:
            return described(json.loads(bytes(rows[0][0])) if rows else None)
        except (ValueError, IndexError, RecursionError):
            columns = tuple(Column(each, "nested") for each in self._physical(file))
            return Table(name, "", columns)

    def _physical(self, file: Path) -> list[str]:
        """The columns that a parquet file has."""
        rows = self._execute(f"select * from read_parquet({self._place(file)}) limit 0", file)
        try:
            return [column[0] for column in rows.description or ()]
        except UnicodeDecodeError as error:  # DuckDB does not check the names that a file has
            raise self._unreadable(file.parent, error) from None

    def _execute(self, text: str, file: Path) -> duckdb.DuckDBPyConnection:
        from insitu.session.engine import duckdb

        try:
            return self._connection.execute(text)
        except duckdb.Error as error:
            raise self._unreadable(file.parent, error) from None

    def relation(self, name: str, session: int = 0) -> str:
        """SQL that reads a table of one session: columns in their declared types, defaults for missing ones."""
        key = (session, name)
        if key not in self._relations:
            self._relations[key] = self._relation(name, self._files[session].get(name))
        return self._relations[key]

    def between(self, name: str, column: Column, low: int, high: int) -> str:
        """SQL that reads the rows of a table whose ``column`` lies in [low, high].

        The condition reaches the parquet reader, which skips row groups by their statistics; through the defaults of
        ``relation`` it would not.
        """
        bounds = f"between {low} and {high}"
        raw = f"cast({quoted(column.name)} as {column.semantic.storage}) {bounds}"
        has_nulls = isinstance(column.missing, int) and low <= column.missing <= high  # which read as this default
        source = self._relation(name, self._files[0].get(name), "" if has_nulls else raw)
        return f"(select * from {source} where {quoted(column.name)} {bounds})"

    def _relation(self, name: str, files: Sequence[Path] | None, raw_filter: str = "") -> str:
        table = self.table(name)
        present = self._physical(files[0]) if files else []
        terms = []
        for column in table.columns:
            storage = column.semantic.storage
            if column.name in present:
                own = quoted(column.name)
                term = f"cast({own} as {storage})" if storage else own
                if not column.nullable and storage:  # nulls here are damage: replaced by the default
                    term = f"coalesce({term}, {_default(column)})"
                terms.append(f"{term} as {own}")
            else:
                terms.append(f"{_default(column)} as {quoted(column.name)}")
        known = {column.name for column in table.columns}
        terms += [quoted(each) for each in present if each not in known]
        if not files:
            return f"(select {', '.join(terms)} where false)"
        listed = ", ".join(map(self._place, files))
        where = f" where {raw_filter}" if raw_filter else ""
        return f"(select {', '.join(terms)} from read_parquet([{listed}]){where})"

    def rows(self, name: str, session: int = 0) -> int:
        """The number of rows of a table; 0 where the session has none."""
        if name not in self._files[session]:
            return 0
        (count,) = self.fetch(f"select count(*) as n from {self.relation(name, session)}")["n"].tolist()
        return int(count)

    def loadable(self, name: str, most: int = _MOST_ROWS) -> str:
        """``relation`` of a table whose rows are about to be loaded. Raises InsituError where they are too many.

        A file of some KB can claim any number of rows; and long texts in each.
        """
        if name not in self._files[0]:
            return self.relation(name)
        rows = self.rows(name)
        if rows > most:
            raise self._too_much(name, f"{rows} rows", f"{most}")
        texts = [column.name for column in self.table(name).columns if column.semantic.storage == "varchar"]
        if texts and rows:
            lengths = " + ".join(f"strlen({quoted(each)})" for each in texts)
            found = self.fetch(f"select sum({lengths})::double as bytes from {self.relation(name)}")
            if found["bytes"][0] > _MOST_TEXT_BYTES:
                raise self._too_much(name, f"{found['bytes'][0] / 2**30:.0f} GiB of text", "1 GiB")
        return self.relation(name)

    def bounded(self, name: str, *, texts: bool = True) -> str:
        """``relation`` of a table of which any number of rows is about to become arrays; ``texts``: of texts too.

        Raises InsituError where they take more memory than rows of a recorder ever do.
        """
        for session, files in enumerate(self._files if (name, texts) not in self._bounded else ()):
            if name in files:
                self._refuse_expansion(name, session, texts=texts)
        self._bounded |= {(name, texts), (name, False)}
        return self.relation(name)

    def _refuse_expansion(self, name: str, session: int, *, texts: bool) -> None:
        from insitu.session.engine import duckdb

        files = self._files[session][name]
        listed = f"[{', '.join(map(self._place, files))}]"
        on_disk = sum(os.fstat(self._opened[file]).st_size for file in files)
        most = most_bytes(on_disk)
        try:
            taken = taken_bytes(self._connection, listed, most, texts=texts)
        except duckdb.Error as error:
            raise self._unreadable(self.called[session], error) from None
        if taken > most:
            held = f"{taken / 2**30:.1f} GiB of values in {on_disk:,} bytes of files"
            raise self._too_much(name, held, f"{most / 2**30:.1f} GiB", session)

    def _too_much(self, name: str, found: str, most: str, session: int = 0) -> InsituError:
        return InsituError(f"{self.called[session]}: table {name} has {found}, of which at most {most} are loaded")

    def fetch(self, text: str, parameters: Sequence[Any] = ()) -> dict[str, Any]:
        """The rows of an internal query as arrays by column, nulls as the type's zero.

        Raises InsituError where a table cannot be read.
        """
        from insitu.session.engine import duckdb

        try:
            found = self._connection.execute(text, list(parameters)).fetchnumpy()
        except duckdb.Error as error:
            raise self._unreadable(self.called[0], error) from None
        return {name: _filled(values) for name, values in found.items()}

    def all(self, text: str) -> list[tuple[Any, ...]]:
        """The rows of an internal query as tuples. Raises InsituError where a table cannot be read."""
        from insitu.session.engine import duckdb

        try:
            return self._connection.execute(text).fetchall()
        except duckdb.Error as error:
            raise self._unreadable(self.called[0], error) from None

    def _unreadable(self, path: Path | str, error: Exception) -> InsituError:
        return self._damage(error) or InsituError(f"{path}: cannot read the table: {one_line(self._message(error))}")

    def _damage(self, error: Exception) -> InsituError | None:
        """The error to show for a file that is not valid parquet; None for other errors of DuckDB's."""
        from insitu.session.engine import duckdb

        if "Cannot open file" in str(error):  # for want of descriptors: the file is open already
            return None
        found = re.search(_DESCRIPTOR, str(error))
        file = next((each for each, fd in self._opened.items() if found and str(fd) == found[1]), None)
        of_file = file is not None and isinstance(error, (duckdb.InvalidInputException, duckdb.IOException))
        if not of_file and type(error) is not duckdb.Error:  # which its parquet reader's own exceptions become
            return None
        where = file or ", ".join(self.called)
        return damaged_recording(where, "the file cannot be read")

    def _message(self, error: Exception) -> str:
        """DuckDB's message, in which files have the names that users know."""
        names = {str(descriptor): str(file) for file, descriptor in self._opened.items()}
        return re.sub(_DESCRIPTOR, lambda found: names.get(found[1], found[0]), str(error))

    # Queries of users

    def _open_to_users(self) -> None:
        """Create a view for every table, add the standard library's views, and disable access to other files."""
        from insitu.session.engine import duckdb

        if self._has_views:
            return
        try:
            if len(self.paths) == 1:
                self._create_views(0)
            else:
                self._create_united_views()
            self._has_views = True
            if self._allow_files:
                return
            allowed = ", ".join(map(self._place, self._opened))
            self._connection.execute("set autoinstall_known_extensions = false")
            self._connection.execute("set autoload_known_extensions = false")
            self._connection.execute(f"set allowed_paths = [{allowed}]")
            self._connection.execute("set enable_external_access = false")
            self._connection.execute("set lock_configuration = true")
        except duckdb.Error as error:
            raise self._unreadable(self.called[0], error) from None

    def _create_views(self, session: int) -> list[str]:
        """Views of one session's tables and the standard library's, in the current catalog; their names."""
        names = list(dict.fromkeys([*TABLES, *self.names]))
        for name in names:
            self._create_view(name, f"from {self.relation(name, session)}")
        # Tables that one recorder alone makes are known where it runs, and from its sessions.
        views: list[str] = []
        for name, text in stdlib().items():
            if {*names, *views}.issuperset(header(text).inputs):
                self._connection.execute(text)
                views.append(name)
        return [*names, *views]

    def _create_united_views(self) -> None:
        """Views of all sessions' rows, with a column ``session`` first.

        Each session has its views in a catalog of its own, so that ids are joined within a session only.
        """
        catalogs = [f"session_{at}" for at in range(len(self.paths))]
        names: list[str] = []
        for at, catalog in enumerate(catalogs):
            self._connection.execute(f"attach ':memory:' as {catalog}")
            self._connection.execute(f"use {catalog}")
            names = self._create_views(at)
        self._connection.execute("use memory")
        labels = _distinct_names(self.called)
        for name in names:
            parts = [
                f"select {literal(valid_text(label))} as session, * from {catalog}.{quoted_table(name)}"
                for label, catalog in zip(labels, catalogs, strict=True)
            ]
            self._create_view(name, " union all by name ".join(parts))

    def _create_view(self, name: str, query: str) -> None:
        schema, _, _ = name.rpartition(".")
        if schema:
            self._connection.execute(f"create schema if not exists {quoted(schema)}")
        self._connection.execute(f"create view {quoted_table(name)} as {query}")

    def words(self) -> list[str]:
        """Names of tables and columns, for completion at the prompt."""
        self._open_to_users()
        found = self._connection.execute(
            "select table_name, column_name from duckdb_columns()"
            " where database_name = current_database() and not internal"
        )
        return sorted({word for row in found.fetchall() for word in row})

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> polars.DataFrame:
        """The rows of a user's statement (none if it returns no rows), of several those of the last.

        ``parameters`` fill ``?`` or ``$name``. Raises InsituError with DuckDB's message.
        Ctrl-C, or another exception that a signal handler raises, ends the query.
        """
        from insitu.session.engine import duckdb

        self._open_to_users()
        try:
            if not self._allow_files:
                refuse_files(self._connection, query)
            return interruptible_rows(self._connection, query, parameters, partial(self._refuse_memory, query))
        except duckdb.Error as error:
            if refused := refused_file(str(error)):
                raise refused from None
            raise self._damage(error) or StatementError.of(self._message(error)) from None

    def _refuse_memory(self, query: str, kinds: Sequence[Any]) -> None:
        """Raise InsituError where a table of a query is too much for rows with columns of these types."""
        for name in tables_in(query, self.names):
            self.bounded(name, texts=holds_texts(kinds))

    def statements(self, text: str) -> list[tuple[str, frozenset[str]]]:
        """The statements in a text, each with the names of its parameters. Raises as sql()."""
        from insitu.session.engine import duckdb

        try:
            if not self._allow_files:
                refuse_files(self._connection, text)
            return [
                (each.query, frozenset(each.named_parameters)) for each in self._connection.extract_statements(text)
            ]
        except duckdb.Error as error:
            raise StatementError.of(self._message(error)) from None


def _whole(path: Path) -> dict[str, list[Path]]:
    """The files of each table, none of those missing that were written: totals without them would be wrong."""
    files = table_files(path)
    for name, entry in Manifest.read(path).tables.items():
        there, written = len(files.get(name, ())), entry.get("parts")
        if isinstance(written, int) and there < written:
            raise InsituError(
                f"{path}: {there} of the {written} files of table {name} exist", remedy="copy the session whole"
            )
    return files


def _distinct_names(called: Sequence[str]) -> list[str]:
    """Labels of sessions: their names without directories and .insitu, or as they were given if two are equal."""
    names = [Path(each).name.removesuffix(".insitu") or each for each in called]
    return names if len(set(names)) == len(names) else list(called)


def _default(column: Column) -> str:
    storage = column.semantic.storage or "varchar"
    value = column.missing
    if value is None:
        return f"cast(null as {storage})"
    if isinstance(value, str):
        return f"cast({literal(value)} as {storage})"
    if isinstance(value, bytes):
        return "''::blob"
    if not isinstance(value, (bool, int, float)):
        raise InsituError(f"column {column.name}: invalid default")
    return f"cast({value} as {storage})"


def _filled(values: Any) -> Any:
    if hasattr(values, "filled"):  # a masked array; to name its type would import numpy.ma
        if values.dtype == object:
            return values.filled("")
        return values.filled(np.zeros(1, values.dtype)[0])
    return values
