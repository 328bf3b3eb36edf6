"""Parts of sessions that are read once: what DuckDB and Polars read in them is what was written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest

from insitu.session.coded_texts import CodedTexts
from insitu.session.parquet import write_part
from insitu.session.schema import Column, Table, description

ROWS = 1000


def written(path: Path, kind: str, *parts: Any, nullable: bool = False) -> Path:
    """A part with one column, of these batches."""
    table = Table("event.one", "", (Column("c", kind, nullable=nullable),))
    target = path / "0.parquet"
    with duckdb.connect() as connection:
        write_part(lambda: connection, target, table, [{"c": part} for part in parts], lasting=False)
        codecs = connection.sql(f"select distinct compression from parquet_metadata('{target}')").fetchall()
    assert codecs == [("UNCOMPRESSED",)]
    return target


def assert_read(file: Path, expected: Sequence[Any]) -> None:
    assert [row for (row,) in duckdb.sql(f"select c from '{file}'").fetchall()] == list(expected)
    assert pl.read_parquet(file)["c"].to_list() == list(expected)


NUMBERS = {
    "constant": np.full(ROWS, -7),
    "near": np.arange(ROWS) % 50 - 25,
    "near, two bytes": np.concatenate([np.arange(300), np.zeros(300 * 16, np.int64)]) + 2**40,
    "far": np.array([-(2**63), 2**63 - 1, 0]),
    "one": np.array([5]),
    "nine": np.arange(9) // 8,
}


@pytest.mark.parametrize("values", NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_read_as_they_were_written(tmp_path: Path, values: Any) -> None:
    file = written(tmp_path, "integer", values)
    assert_read(file, values.tolist())
    ends = duckdb.sql(f"select stats_min_value::bigint, stats_max_value::bigint from parquet_metadata('{file}')")
    assert ends.fetchall() == [(values.min(), values.max())]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("cpu", np.array([-1, 2**31 - 1, -(2**31)], np.int32)),
        ("unsigned", np.array([0, 2**64 - 1], np.uint64)),
        ("unsigned", np.full(ROWS, 2**64 - 1, np.uint64)),
        ("number", np.array([0.5, -1e300, np.inf])),
        ("flag", np.arange(ROWS) % 3 == 0),
    ],
)
def test_each_type_of_number_keeps_its_range(tmp_path: Path, kind: str, values: Any) -> None:
    assert_read(written(tmp_path, kind, values), values.tolist())


@pytest.mark.parametrize("step", [1, 10**12])
def test_nulls_are_where_they_were(tmp_path: Path, step: int) -> None:
    values = np.arange(ROWS) * step
    some = np.ma.masked_array(values, values // step % 3 == 0)
    none = np.ma.masked_array(values, np.ones(ROWS, np.bool_))
    parts = [np.tile(values, 10), np.ma.concatenate([some] * 10), np.ma.concatenate([none] * 10)]
    file = written(tmp_path, "timestamp", *parts, nullable=True)
    assert_read(file, [each for part in parts for each in part.tolist()])
    found = duckdb.sql(f"select sum(stats_null_count)::int from parquet_metadata('{file}')").fetchall()
    assert found == [(10 * (334 + ROWS),)]


@pytest.mark.parametrize("count", [1, 200, 70_000])
def test_coded_texts_share_a_dictionary(tmp_path: Path, count: int) -> None:
    names = [f"thread {number} \u00e9" for number in range(count)]
    codes = np.random.default_rng(1).integers(0, count, 100_000)
    parts = [CodedTexts(codes, names), CodedTexts(codes[::-1], names[::-1])]
    assert_read(written(tmp_path, "name", *parts), [name for part in parts for name in part])


def test_texts_and_bytes_with_nulls_and_without_valid_utf_8(tmp_path: Path) -> None:
    texts = ["", None, "a\0b", "\udc80", "\u20ac" * 100]
    assert_read(written(tmp_path, "text", texts, nullable=True), ["", None, "a\0b", "\ufffd", "\u20ac" * 100])
    (tmp_path / "0.parquet").unlink()
    blobs = [b"", b"\0\xff", b"x" * 70_000]
    assert_read(written(tmp_path, "blob", blobs), blobs)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"])
def test_arrays_keep_their_type_and_width(tmp_path: Path, kind: str) -> None:
    limits = np.iinfo(kind)
    rows = np.array([[limits.min, limits.max, 1], [2, 3, 4]], kind)
    file = written(tmp_path, "nested", rows, rows[::-1])
    assert_read(file, [*rows.tolist(), *rows[::-1].tolist()])
    assert pl.read_parquet_schema(file)["c"] == pl.List(pl.Series(rows[0]).dtype)


def test_rows_of_many_batches_are_groups_of_a_quarter_million_and_in_order(tmp_path: Path) -> None:
    values = np.arange(700_000)
    file = written(tmp_path, "timestamp", values[:600_000], values[600_000:600_001], values[600_001:])
    assert_read(file, values.tolist())
    groups = duckdb.sql(
        f"select row_group_num_rows, stats_min_value::bigint from parquet_metadata('{file}')"
    ).fetchall()
    assert groups == [(262_144, 0), (262_144, 262_144), (175_712, 524_288)]


def test_a_part_without_rows_has_its_columns_and_description(tmp_path: Path) -> None:
    table = Table("event.none", "no rows", (Column("n", "integer"), Column("t", "text"), Column("b", "blob")))
    target = tmp_path / "0.parquet"
    with duckdb.connect() as connection:
        write_part(lambda: connection, target, table, [], lasting=False)
        found = connection.sql(f"select * from '{target}'")
        assert (found.columns, [str(kind) for kind in found.types]) == (
            ["n", "t", "b"],
            ["BIGINT", "VARCHAR", "BLOB"],
        )
        ((key, text),) = connection.sql(f"select key, value from parquet_kv_metadata('{target}')").fetchall()
    assert (key, pl.Series([text.decode()]).str.json_decode(pl.Struct({"doc": pl.String}))[0]) == (
        b"insitu",
        {"doc": description(table)["doc"]},
    )


def test_what_only_polars_holds_is_written_by_polars(tmp_path: Path) -> None:
    values = pl.Series([[1], [], [2, 3]])
    table = Table("event.one", "", (Column("c", "nested"),))
    with duckdb.connect() as connection:
        write_part(lambda: connection, tmp_path / "0.parquet", table, [{"c": values}], lasting=False)
    assert_read(tmp_path / "0.parquet", values.to_list())
