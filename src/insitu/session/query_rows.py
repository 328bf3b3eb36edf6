"""The rows of a statement as a Polars frame: DuckDB's types that Polars does not know, or shows wrong."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.errors import InsituError
from insitu.session.schema import quoted

if TYPE_CHECKING:
    import polars

    from insitu.session.engine import duckdb

__all__ = ["rows_of"]

# Polars panics at these types.
_AS_TEXT: Final = re.compile(r"INTERVAL|UHUGEINT|\bBIT\b|UNION|BIGNUM|VARIANT|GEOMETRY|TIME WITH")
# Of these, values that do not fit become others on the way.
_COARSE_TIMES: Final = ("TIMESTAMP_S", "TIMESTAMP_MS")
_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()
_FIRST_DAY: Final = datetime.date.min.toordinal() - _EPOCH
_END_DAY: Final = datetime.date.max.toordinal() + 1 - _EPOCH
_PER_DAY: Final = {"ms": 86_400_000, "us": 86_400_000_000}


def rows_of(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    parameters: Sequence[Any] | Mapping[str, Any],
    refuse: Callable[[Sequence[Any]], object],
) -> polars.DataFrame:
    """All rows of a statement; none if it returns no rows.

    ``refuse`` is called with the types of its columns, in DuckDB, before there are any rows.
    """
    import polars as pl

    given = dict(parameters) if isinstance(parameters, Mapping) else list(parameters)
    relation = connection.sql(query, params=given) if given else connection.sql(query)
    if relation is None:
        return pl.DataFrame()
    refuse(relation.types)
    if len(set(relation.columns)) < len(relation.columns):
        relation = relation.project("*")  # names a second "a" a_1
    if any(_polars_type(kind) for kind in relation.types):
        relation = relation.project(", ".join(map(_as_polars_can, relation.columns, relation.types)))
    try:
        frame = pl.DataFrame(relation)
    except pl.exceptions.PolarsError as error:
        reason = str(error).partition("\n")[0]
        raise InsituError(f"the answer cannot be shown: {reason}", remedy="ask for fewer or shorter values") from None
    for name in frame.columns:
        _refuse_far_times(name, frame[name])
    return _plain_integers(frame)


def _polars_type(kind: object) -> str:
    """The type that a column is cast to for Polars; "" where Polars reads it as it is."""
    if _AS_TEXT.search(str(kind)):
        return "varchar"
    return "timestamp" if str(kind) in _COARSE_TIMES else ""


def _as_polars_can(name: str, kind: object) -> str:
    own, other = quoted(name), _polars_type(kind)
    return f"cast({own} as {other}) as {own}" if other else own


def _refuse_far_times(name: str, values: polars.Series) -> None:
    """Raise InsituError for times that neither Polars nor Python can show, such as DuckDB's 'infinity'."""
    import polars as pl

    kind = values.dtype
    if isinstance(kind, pl.Struct):
        for each in kind.fields:
            _refuse_far_times(f"{name}.{each.name}", values.struct.field(each.name))
    elif isinstance(kind, (pl.List, pl.Array)):
        _refuse_far_times(name, values.explode())
    elif isinstance(kind, (pl.Date, pl.Datetime)):
        if isinstance(kind, pl.Datetime) and kind.time_unit == "ns":
            return  # 64 bits of them end in 2262
        days = _PER_DAY[kind.time_unit] if isinstance(kind, pl.Datetime) else 1
        far = (values.to_physical() < _FIRST_DAY * days) | (values.to_physical() >= _END_DAY * days)
        if far.any():
            raise InsituError(f"column {name}: a time before the year 1 or after 9999", remedy="cast it to varchar")


def _plain_integers(frame: polars.DataFrame) -> polars.DataFrame:
    """DuckDB's 128-bit integers (of sum()) arrive as decimals: 64-bit integers where they fit."""
    import polars as pl

    for name, kind in frame.schema.items():
        if isinstance(kind, pl.Decimal) and kind.scale == 0:
            narrow = frame[name].cast(pl.Int64, strict=False)
            if narrow.null_count() == frame[name].null_count():
                frame = frame.with_columns(narrow)
    return frame
