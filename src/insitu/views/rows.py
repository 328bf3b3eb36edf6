"""Rows of a query: a table for a person, or text for the next program."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars

__all__ = ["print_rows"]


def print_rows(frame: "polars.DataFrame", form: str) -> None:
    """Print all rows to standard output as "table", "csv", "tsv" or "json" (one array of objects)."""
    if form == "csv":
        sys.stdout.write(frame.write_csv() if frame.width else "")
    elif form == "tsv":
        sys.stdout.write(_flat(frame).write_csv(separator="\t") if frame.width else "")
    elif form == "json":
        print(frame.write_json())
    elif frame.width:
        _print_table(frame)


def _flat(frame: "polars.DataFrame") -> "polars.DataFrame":
    """Lists and structs as JSON text, which CSV cannot hold otherwise."""
    import json

    import polars as pl

    nested = [name for name, kind in frame.schema.items() if kind.is_nested()]
    as_text = [
        pl.Series(name, [json.dumps(value, default=str) for value in frame[name].to_list()]) for name in nested
    ]
    return frame.with_columns(as_text)


def _print_table(frame: "polars.DataFrame") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name, kind in frame.schema.items():
        table.add_column(Text(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.iter_rows():
        table.add_row(*(_cell(value) for value in row))
    console = Console(highlight=False)
    console.print(table)
    console.print(Text(f"{frame.height} row{'' if frame.height == 1 else 's'}", style="dim"))


def _cell(value: Any) -> Any:
    from rich.text import Text

    if value is None:
        return Text("null", style="dim")
    return Text(f"{value:.6g}" if isinstance(value, float) else str(value))
