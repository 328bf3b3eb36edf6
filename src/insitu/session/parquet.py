"""Parts of tables as parquet files, each with the description of its table."""

import errno
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.files import name_beside, naming, new_file
from insitu.session.batches import Batch, batch_rows, whole
from insitu.session.coded_texts import CodedTexts
from insitu.session.plain_parquet import PlainColumn, plain_column, write_plain
from insitu.session.schema import Table, description, quoted
from insitu.valid_text import valid_text

if TYPE_CHECKING:
    import polars

    from insitu.session.engine import duckdb

__all__ = ["KEY", "literal", "write_part"]

KEY: Final = "insitu"
"""Key of the table's description (JSON) in the parquet file's metadata."""

_ROW_GROUP: Final = 1 << 18
_MANY_ROWS: Final = 1 << 17
_SMALL_BATCH: Final = 1 << 13  # rows, below which batches are joined first: each is a page of every column
_MOST_CATEGORIES: Final = 1 << 12  # Polars keeps each in memory
_TEXTS_AT_ONCE: Final = 1 << 12  # a list's unnest() takes time by the square of its length
_NO_SPACE = re.compile(r"No space left|os error 28|errno 28|Disk quota|os error 122", re.IGNORECASE)


def write_part(
    connection: "Callable[[], duckdb.DuckDBPyConnection]",
    target: Path,
    table: Table,
    batches: Sequence[Batch],
    *,
    lasting: bool,
) -> None:
    """Write batches with all of the table's columns, in the right types (see SessionWriter), as one parquet file.

    ``connection`` is called where DuckDB is needed. Not ``lasting``: quicker and larger, where none of the columns
    is nested. Raises OSError when the disk is full.
    """
    text = json.dumps(description(table))
    temporary = Path(name_beside(target))
    try:
        with naming(target, temporary), open(new_file(temporary), "wb") as file:  # noqa: PTH123
            plain = None if lasting else _plain_columns(table, batches)
            if plain is not None:
                write_plain(file, plain, {KEY: text})
            else:  # both libraries write into the file as it is
                columns = whole(table, batches)
                # DuckDB takes objects, as bytes are, one by one; Polars takes longer to start.
                by_object = any(column.semantic.storage in ("", "blob") for column in table.columns)
                if by_object or batch_rows(columns) >= _MANY_ROWS:
                    _write_with_polars(temporary, table, columns, text)
                else:
                    _write_with_duckdb(connection(), temporary, table, columns, text)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _plain_columns(table: Table, batches: Sequence[Batch]) -> dict[str, PlainColumn] | None:
    """The columns as ``write_plain`` takes them; None where it cannot write one of them."""
    if sum(map(batch_rows, batches)) <= _SMALL_BATCH * len(batches):
        batches = [whole(table, batches)]
    found = {
        column.name: plain_column([batch[column.name] for batch in batches], column.semantic.storage)
        for column in table.columns
    }
    plain = {name: column for name, column in found.items() if column is not None}
    return plain if len(plain) == len(found) else None


def _write_with_duckdb(
    connection: "duckdb.DuckDBPyConnection", target: Path, table: Table, columns: Mapping[str, Any], text: str
) -> None:
    from insitu.session.engine import duckdb

    # A column that is not written says how many rows there are: all others may be texts.
    batch: dict[str, NDArray[Any]] = {"rows": np.zeros(batch_rows(columns), np.bool_)}
    texts: dict[str, NDArray[Any]] = {}
    selected, split = [], []
    for number, column in enumerate(table.columns):
        name, storage = f"c{number}", column.semantic.storage
        values, null = _plain(columns[column.name], storage)
        if storage == "varchar":
            texts[name], escaped = _joined(values)
            split.append(f"unnest(string_split({name}, chr(0))) as {name}")
            name = f"replace(replace({name}, '\1z', chr(0)), '\1y', '\1')" if escaped else name
        else:
            batch[name] = np.ascontiguousarray(values)
        if null is not None:
            batch[f"n{number}"] = null
            name = f"case when n{number} then null else {name} end"
        selected.append(f"cast({name} as {storage}) as {quoted(column.name)}")
    source = f"batch positional join (select {', '.join(split)} from texts)" if split else "batch"
    try:
        with _no_search_for_pandas():
            connection.register("batch", batch)
            connection.register("texts", texts or batch)
            connection.execute(
                f"copy (select {', '.join(selected)} from {source}) to {literal(str(target))}"
                f" (format parquet, compression zstd, compression_level 1, row_group_size {_ROW_GROUP},"
                f" use_tmp_file false, kv_metadata {{{KEY}: {literal(text)}}})"
            )
    except duckdb.Error as error:
        raise _os_error(str(error), target) or error from None
    finally:
        connection.unregister("batch")
        connection.unregister("texts")


@contextmanager
def _no_search_for_pandas() -> Iterator[None]:
    """DuckDB looks for pandas.NA in every object: without pandas, a search of all of sys.path each time."""
    if "pandas" in sys.modules:
        yield
        return
    sys.modules["pandas"] = None  # type: ignore[assignment] # an import then fails at once
    try:
        yield
    finally:
        del sys.modules["pandas"]


def _plain(values: Any, storage: str) -> tuple[Any, NDArray[np.bool_] | None]:
    """Values without nulls, as an array or a list of objects, and a mask of nulls (None: no nulls)."""
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    if hasattr(values, "filled"):  # a masked array; to name its type would import numpy.ma
        null = np.array(values.mask, np.bool_)
        return values.data, np.broadcast_to(null, len(values)) if null.any() else None
    if storage not in ("varchar", "blob"):
        return values, None
    items = list(values)
    null = np.array([item is None for item in items], np.bool_)
    empty = "" if storage == "varchar" else b""
    if null.any():
        items = [empty if item is None else item for item in items]
    if storage == "varchar":
        return items, null if null.any() else None
    objects = np.empty(len(items), object)
    objects[:] = items
    return objects, null if null.any() else None


def _joined(items: Sequence[Any]) -> tuple[NDArray[Any], bool]:
    """Texts joined by zeros, as DuckDB is slow in taking object after object; whether zeros in them are escaped."""
    texts = [*map(str, items)]
    starts = range(0, len(texts), _TEXTS_AT_ONCE)
    joined = ["\0".join(texts[at : at + _TEXTS_AT_ONCE]) for at in starts]
    escaped = sum(piece.count("\0") for piece in joined) > len(texts) - len(starts)
    if escaped:
        texts = [text.replace("\1", "\1y").replace("\0", "\1z") for text in texts]
        joined = ["\0".join(texts[at : at + _TEXTS_AT_ONCE]) for at in starts]
    pieces = np.empty(len(starts), object)
    pieces[:] = [*map(valid_text, joined)]
    return pieces, escaped


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
        if isinstance(values, CodedTexts):
            # Polars writes categories twice as fast; they are text to all readers of parquet.
            kind = pl.Categorical() if len(values.values) <= _MOST_CATEGORIES else pl.String()
            values = pl.Series([*map(valid_text, values.values)], dtype=kind).gather(pl.Series(values.codes))
        if isinstance(values, np.ma.MaskedArray):
            data, mask = values.data, np.ma.getmaskarray(values)
            made = pl.Series(column.name, data).to_frame().with_columns(pl.Series("null", mask))
            values = made.select(pl.when(~pl.col("null")).then(pl.col(column.name))).to_series()
        if getattr(values, "ndim", 1) == 2:
            values = pl.Series(values=values).arr.to_list()
        if column.semantic.storage == "varchar" and not isinstance(values, pl.Series):
            try:
                values = pl.Series(column.name, values, dtype=pl.String)
            except (UnicodeEncodeError, TypeError):  # surrogates, or other objects
                values = [None if item is None else valid_text(str(item)) for item in values]
        one = values.alias(column.name) if isinstance(values, pl.Series) else pl.Series(column.name, values)
        series.append(one.cast(kind) if kind is not None and one.dtype != kind else one)
    frame: polars.DataFrame = pl.DataFrame(series)
    try:
        frame.write_parquet(
            target,
            compression="zstd",
            compression_level=1,
            row_group_size=_ROW_GROUP,
            metadata={KEY: text},
        )
    except pl.exceptions.ComputeError as error:
        raise _os_error(str(error), target) or error from None


def _os_error(text: str, target: Path) -> OSError | None:
    """The OSError of a failed write(2), of which both libraries keep only the text."""
    code = re.search(r"\(os error (\d+)\)", text)
    number = int(code[1]) if code else errno.ENOSPC if _NO_SPACE.search(text) else 0
    if not number and (text.startswith("IO Error") or "transport error" in text):  # the latter: of a file's end
        full = os.statvfs(target.parent).f_bavail == 0
        number = errno.EFBIG if "File too large" in text else errno.ENOSPC if full else errno.EIO
    return OSError(number, os.strerror(number), str(target)) if number else None


def literal(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"
