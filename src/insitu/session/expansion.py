"""What the rows of a table take in memory: a file of some KB can hold any amount, as equal values are kept once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from insitu.session.schema import quoted

if TYPE_CHECKING:
    from insitu.session.engine import duckdb

__all__ = ["holds_texts", "most_bytes", "size_sql", "taken_bytes"]

_LEAST: Final = 1 << 30
_TIMES: Final = 100
"""Those of recordings take up to 40 times what their files do."""
_NUMBER_BYTES: Final = 8
_TEXT_BYTES: Final = 16
"""Of each text or list, with what is in it: where it lies, and how long it is."""
_WITH_PARTS: Final = ("list", "array", "struct", "map", "union")


def most_bytes(file_bytes: int) -> int:
    """What the values of a table may take that has files of so many bytes."""
    return max(_LEAST, _TIMES * file_bytes)


def holds_texts(kinds: Sequence[Any]) -> bool:
    """Whether values of one of these types of DuckDB's may be of any size."""
    return any(kind.id in ("varchar", "blob", "bit", "bignum", *_WITH_PARTS) for kind in kinds)


def taken_bytes(connection: duckdb.DuckDBPyConnection, files: str, most: int, *, texts: bool) -> float:
    """The bytes that all rows of parquet files (a list in SQL) take; without ``texts`` those of other columns alone.

    More than ``most`` is said early: what is not kept once takes as much memory to measure. Raises duckdb.Error.
    """

    def found(query: str) -> float:
        ((taken,),) = connection.execute(query).fetchall()
        return float(taken)

    stored = found(f"select coalesce(sum(total_uncompressed_size), 0)::double from parquet_metadata({files})")
    if stored > most:
        return stored
    rows = connection.sql(f"from read_parquet({files})")
    kept = [at for at, kind in enumerate(rows.types) if texts or not holds_texts([kind])]
    size = size_sql([rows.columns[at] for at in kept], [rows.types[at] for at in kept])
    return found(f"select ({size})::double from read_parquet({files})")


def size_sql(columns: Sequence[str], kinds: Sequence[Any]) -> str:
    """An SQL aggregate for the bytes that all rows take: columns, and their types in DuckDB.

    Each text is an aggregate of its own, so that DuckDB measures the distinct ones of a page alone.
    """
    sums = [
        f"coalesce(sum({_size(quoted(name), kind)}), 0)"
        for name, kind in zip(columns, kinds, strict=True)
        if holds_texts([kind])
    ]
    fixed = _NUMBER_BYTES * (len(kinds) - len(sums)) + _TEXT_BYTES * len(sums)
    return " + ".join([f"count(*) * {fixed}", *sums])


def _size(value: str, kind: Any, depth: int = 0) -> str:
    """Of what a value holds: what is not in the row itself."""
    match kind.id:
        case "varchar":
            return f"strlen({value})"
        case "blob":
            return f"octet_length({value})"
        case "list" | "array":
            return _items(value, dict(kind.children)["child"], depth)
        case "map":
            parts = dict(kind.children)
            return " + ".join(_items(f"map_{part}s({value})", parts[part], depth) for part in ("key", "value"))
        case "struct":
            fields = [_size(f"{value}.{quoted(name)}", each, depth) for name, each in kind.children]
            return " + ".join(f"{_TEXT_BYTES} + coalesce({each}, 0)" for each in fields)
        case _:
            return "0"


def _items(value: str, kind: Any, depth: int) -> str:
    item = f"item_{depth}"
    size = f"{_TEXT_BYTES} + coalesce({_size(item, kind, depth + 1)}, 0)"
    return f"coalesce(list_sum(list_transform({value}, lambda {item}: {size})), 0)"
