"""An open session: its tables, its stacks, and SQL queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from insitu.session.manifest import Manifest
from insitu.session.schema import quoted_table
from insitu.session.stack_query import load_stacks, rows_in_time, tables_with_stacks
from insitu.session.weighted_stacks import Selection, TimedRows, Value, WeightedStacks

if TYPE_CHECKING:
    from types import TracebackType

    import polars

    from insitu.session.query import Database

__all__ = ["Session"]


class Session:
    """A session on disk. Tables are read lazily.

    ``session["sample"]`` is a table as a Polars frame, ``session.sql("select ...")`` a query's rows as one,
    ``session.stacks()`` its weighted stacks as arrays. ``session.manifest`` is session.json.
    Use it as a context manager, or close it.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self.path = path
        self.name = name or str(path)
        """What the user calls it: of a temporary session, the file that it was made of."""
        self.manifest = Manifest.read(path)
        self.on_close: Callable[[], object] = lambda: None
        """Called when the session is closed; removes a temporary one."""

    @cached_property
    def database(self) -> Database:
        """The session's DuckDB connection."""
        from insitu.session.query import Database

        return Database(self.path, called=[self.name])

    @property
    def tables(self) -> list[str]:
        """The names of the tables that this session has."""
        return self.database.names

    @property
    def tables_with_stacks(self) -> list[str]:
        """The names of the tables whose rows have stacks."""
        return [table.name for table in tables_with_stacks(self.database)]

    def __getitem__(self, table: str) -> polars.DataFrame:
        if table not in self.tables:
            raise KeyError(f"no table {table!r}; this session has: {', '.join(self.tables)}")
        return self.sql(f"from {quoted_table(table)}")

    def sql(self, query: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> polars.DataFrame:
        """The rows of a DuckDB query over the session's tables, as a Polars frame.

        ``parameters`` fill ``?`` or ``$name``. Raises InsituError when the query cannot be run.
        """
        return self.database.sql(query, parameters)

    def stacks(self, want: Selection | None = None, *, times: bool = False, by_thread: bool = True) -> WeightedStacks:
        """The weighted stacks of one table with stacks (see Selection); ``times`` keeps each row and its time.

        Without ``by_thread`` rows of different threads may be added up.
        Raises InsituError when nothing is selected, or tables are damaged.
        """
        return load_stacks(self.database, self.manifest, want or Selection(), times=times, by_thread=by_thread)

    def rows_in_time(self, want: Selection, stacks: WeightedStacks, value: Value) -> Iterator[TimedRows]:
        """Each row that ``stacks`` (of the same selection) adds up, with its time: batches in the order of time."""
        return rows_in_time(self.database, want, stacks, value)

    def close(self) -> None:
        """Close the connection."""
        if "database" in self.__dict__:
            self.database.close()
            del self.__dict__["database"]
        self.on_close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<insitu session {self.name!r}>"
