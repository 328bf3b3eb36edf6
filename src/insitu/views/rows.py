"""Rows of a query: a table for a person, or text for the next program."""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.plurals import counted
from insitu.valid_text import json_line
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block, Screen
from insitu.views.values import value_text

if TYPE_CHECKING:
    import polars

__all__ = ["Listing", "print_listing", "print_rows", "row_blocks"]

_LEAST_TEXT: Final = 12  # columns of a terminal; narrower, no path or name can be recognised


class Listing(NamedTuple):
    """Some rows of numbers and texts, for which Polars need not be started.

    ``columns``: the name of each and whether it has numbers.
    """

    columns: Mapping[str, bool]
    rows: Sequence[tuple[int | str | None, ...]]


def print_listing(listing: Listing, form: str) -> None:
    """Print rows in the forms of ``print_rows``."""
    if form == "json":
        print(json_line([dict(zip(listing.columns, row, strict=True)) for row in listing.rows]))
    elif form == "table":
        columns = [
            Column(name, "right" if numbers else "left", fold=not numbers)
            for name, numbers in listing.columns.items()
        ]
        rows = [[_cell(value) for value in row] for row in listing.rows]
        screen = Screen.of(sys.stdout)
        screen.write(_blocks(columns, rows, screen.width))
    else:
        lines = csv.writer(sys.stdout, delimiter="\t" if form == "tsv" else ",", lineterminator="\n")
        lines.writerows([listing.columns, *listing.rows])


def print_rows(frame: "polars.DataFrame", form: str, types: Mapping[str, str] | None = None) -> None:
    """Print all rows to standard output as "table", "csv", "tsv" or "json" (one array of objects).

    ``types`` has the semantic types of columns, by which a table shows durations, sizes and addresses; the other
    forms hold plain values.
    """
    if form == "csv":
        sys.stdout.write(_flat(frame).write_csv() if frame.width else "")
    elif form == "tsv":
        sys.stdout.write(_flat(frame).write_csv(separator="\t") if frame.width else "")
    elif form == "json":
        print(_plain(frame).write_json())
    elif frame.width:
        screen = Screen.of(sys.stdout)
        screen.write(row_blocks(frame, types, screen.width))


def _flat(frame: "polars.DataFrame") -> "polars.DataFrame":
    """Lists and structs as JSON text, which CSV cannot hold otherwise."""
    import polars as pl

    frame = _plain(frame)
    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    as_text = [
        pl.Series(name, [json.dumps(value, default=str) for value in frame[name].to_list()]) for name in nested
    ]
    return frame.with_columns(as_text)


def _plain(frame: "polars.DataFrame") -> "polars.DataFrame":
    """Bytes as hexadecimal digits and time spans as text, which CSV and JSON lack."""
    import polars as pl

    texts: list[pl.Expr | pl.Series] = [
        pl.col(name).bin.encode("hex") for name, kind in frame.schema.items() if kind == pl.Binary
    ]
    texts += [
        pl.Series(name, [None if value is None else str(value) for value in frame[name].to_list()], dtype=pl.String)
        for name, kind in frame.schema.items()
        if kind == pl.Duration
    ]
    return frame.with_columns(texts)


def row_blocks(
    frame: "polars.DataFrame", types: Mapping[str, str] | None = None, width: int | None = None
) -> list[Block]:
    """All rows as a table for people, and how many there are.

    Names and paths are shortened where the table is wider than the terminal (``width`` columns); where that does not
    suffice, each row is shown with a line for each column.
    """
    kinds = [(types or {}).get(name, "") for name in frame.columns]
    columns = [
        Column(
            name,
            "right" if dtype.is_numeric() else "left",
            fold=not dtype.is_numeric() and kind not in ("name", "path"),
        )
        for (name, dtype), kind in zip(frame.schema.items(), kinds, strict=True)
    ]
    rows = [
        [_cell(value, kind, unit) for value, kind in zip(row, kinds, strict=True)]
        for row, unit in zip(frame.iter_rows(), _units(frame), strict=True)
    ]
    return _blocks(columns, rows, width)


def _cell(value: Any, kind: str = "", unit: str = "") -> Cell:
    return value_text(value, kind, unit), "dim" if value is None else ""


def _blocks(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None) -> list[Block]:
    count: Block = [(f"# {counted(len(rows), 'row')}", "dim")]
    if width is None or _least_width(columns, rows) <= width:
        return [Table(columns, rows), count]
    sides = [Column("column", "left"), Column("value", "left", fold=True)]
    blocks: list[Block] = []
    for number, row in enumerate(rows, 1):
        lines = [[(column.title, "bold"), cell] for column, cell in zip(columns, row, strict=True)]
        blocks += [[(f"# row {number}", "dim")], Table(sides, lines, head=False)]
    return [*blocks, count]


def _units(frame: "polars.DataFrame") -> list[str]:
    """What the weights of each row count, where a column says it."""
    import polars as pl

    if frame.schema.get("unit") != pl.String:
        return [""] * frame.height
    return frame["unit"].fill_null("").to_list()


def _least_width(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> int:
    """Terminal columns that a table needs at least: numbers whole, of a text at least some characters."""
    total = 2 * (len(columns) - 1)
    for at, column in enumerate(columns):
        widest = max([len(column.title), *(len(row[at][0]) for row in rows)])
        total += widest if column.align == "right" else min(widest, _LEAST_TEXT)
    return total
