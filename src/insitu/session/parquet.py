"""Parts of tables as parquet files, each with the description of its table."""

import errno
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.files import name_beside
from insitu.session.schema import Table, description, quoted

if TYPE_CHECKING:
    import polars

    from insitu.session.engine import duckdb

__all__ = ["KEY", "Batch", "batch_rows", "literal", "write_part"]

Batch = Mapping[str, Any]
"""Columns of equal length by name: arrays, lists, or Polars series. A masked array's masked values are null."""

KEY: Final = "insitu"
"""Key of the table's description (JSON) in the parquet file's metadata."""

_OPTIONS: Final = "format parquet, compression zstd, compression_level 1, row_group_size 262144"
_NO_SPACE = re.compile(r"No space left|os error 28|errno 28|Disk quota|os error 122", re.IGNORECASE)


def batch_rows(batch: Batch) -> int:
    """The number of rows of a batch."""
    return len(next(iter(batch.values()))) if batch else 0


def write_part(
    connection: "duckdb.DuckDBPyConnection", target: Path, table: Table, columns: Mapping[str, Any]
) -> None:
    """Write ``columns`` (all of the table's, in the right types: see SessionWriter) as one parquet file.

    Raises OSError when the disk is full.
    """
    text = json.dumps(description(table))
    temporary = Path(name_beside(target))
    try:
        if any(column.type == "nested" for column in table.columns):
            _write_with_polars(temporary, table, columns, text)
        else:
            _write_with_duckdb(connection, temporary, table, columns, text)
        temporary.chmod(0o644)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_with_duckdb(
    connection: "duckdb.DuckDBPyConnection", target: Path, table: Table, columns: Mapping[str, Any], text: str
) -> None:
    from insitu.session.engine import duckdb

    batch: dict[str, NDArray[Any]] = {}
    selected = []
    for number, column in enumerate(table.columns):
        values, null = _plain(columns[column.name], column.semantic.storage)
        batch[f"c{number}"] = values
        term = f"c{number}"
        if null is not None:
            batch[f"n{number}"] = null
            term = f"case when n{number} then null else c{number} end"
        selected.append(f"cast({term} as {column.semantic.storage}) as {quoted(column.name)}")
    try:
        with _no_search_for_pandas():
            connection.register("batch", batch)
            connection.execute(
                f"copy (select {', '.join(selected)} from batch) to {literal(str(target))}"
                f" ({_OPTIONS}, kv_metadata {{{KEY}: {literal(text)}}})"
            )
    except duckdb.Error as error:
        raise _os_error(str(error), target) or error from None
    finally:
        connection.unregister("batch")


@contextmanager
def _no_search_for_pandas() -> Iterator[None]:
    """DuckDB looks for pandas.NA in every text: where pandas is not loaded, a search of all of sys.path each time."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment] # an import then fails at once
    try:
        yield
    finally:
        del sys.modules["pandas"]


def _plain(values: Any, storage: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Values as an array that DuckDB scans, and a mask of nulls (None: no nulls)."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    null: NDArray[np.bool_] | None = None
    if isinstance(values, np.ma.MaskedArray):
        null = np.ma.getmaskarray(values)
        values = values.data
    elif storage in ("varchar", "blob"):
        items = list(values)
        null = np.array([item is None for item in items], np.bool_)
        values = np.empty(len(items), object)
        if storage == "varchar":
            # Lone surrogates (names that are not UTF-8) cannot be stored.
            values[:] = ["" if item is None else _storable(item) for item in items]
        else:
            values[:] = [b"" if item is None else item for item in items]
    values = np.ascontiguousarray(values)
    return values, null if null is not None and null.any() else None


def _storable(text: Any) -> str:
    shown = str(text)
    if shown.isascii():
        return shown
    return shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _write_with_polars(target: Path, table: Table, columns: Mapping[str, Any], text: str) -> None:
    import polars as pl

    storage: dict[str, Any] = {
        "bigint": pl.Int64,
        "integer": pl.Int32,
        "ubigint": pl.UInt64,
        "double": pl.Float64,
        "boolean": pl.Boolean,
        "varchar": pl.String,
        "blob": pl.Binary,
    }
    series = []
    for column in table.columns:
        values = columns[column.name]
        kind = storage.get(column.semantic.storage)
        if isinstance(values, np.ma.MaskedArray):
            data, mask = values.data, np.ma.getmaskarray(values)
            made = pl.Series(column.name, data).to_frame().with_columns(pl.Series("null", mask))
            values = made.select(pl.when(~pl.col("null")).then(pl.col(column.name))).to_series()
        if column.semantic.storage == "varchar" and not isinstance(values, pl.Series):
            values = [None if item is None else _storable(item) for item in values]
        one = values.alias(column.name) if isinstance(values, pl.Series) else pl.Series(column.name, values)
        series.append(one.cast(kind) if kind is not None and one.dtype != kind else one)
    frame: polars.DataFrame = pl.DataFrame(series)
    try:
        frame.write_parquet(
            target, compression="zstd", compression_level=1, row_group_size=262144, metadata={KEY: text}
        )
    except pl.exceptions.ComputeError as error:
        raise _os_error(str(error), target) or error from None


def _os_error(text: str, target: Path) -> OSError | None:
    """The OSError of a failed write(2), of which both libraries keep only the text."""
    code = re.search(r"\(os error (\d+)\)", text)
    number = int(code[1]) if code else errno.ENOSPC if _NO_SPACE.search(text) else 0
    if not number and text.startswith("IO Error"):
        number = errno.EFBIG if "File too large" in text else errno.EIO
    return OSError(number, os.strerror(number), str(target)) if number else None


def literal(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
