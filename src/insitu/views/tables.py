"""What the tables of a recording hold, for recordings that are not stacks: their sizes and the content of maps."""

import json
from collections.abc import Iterator
from typing import Any, Final

from insitu.session import schema
from insitu.session.reader import Session
from insitu.views.losses import loss_text
from insitu.views.report import recorded_tables
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, Line, Screen, printable
from insitu.views.values import is_numeric, value_text

__all__ = ["table_lines", "tables_json"]

_MOST_ROWS: Final = 1_000_000  # of a map that is shown whole


def table_lines(session: Session, screen: Screen, *, limit: int = 30) -> Iterator[Block]:
    """The tables of a session with their rows and columns, then the first ``limit`` (0: all) entries of each map."""
    plain = screen.width is None
    for line in _header(session):
        yield [("# ", ""), *line] if plain else line
    tables = {name: session.database.table(name) for name in recorded_tables(session.manifest)}
    if not tables:
        yield [("# " if plain else "", ""), ("nothing was recorded: every table is empty", "bold yellow")]
        return
    yield from _section("tables", plain)
    columns = [Column("table", "left"), Column("rows"), Column("columns", "left", fold=True)]
    rows = [
        [
            (name, "bold"),
            (f"{recorded_tables(session.manifest)[name]}", ""),
            (", ".join(column.name for column in found.columns), ""),
        ]
        for name, found in tables.items()
    ]
    yield Table(columns, rows)
    for name, found in tables.items():
        if name.startswith("map."):
            yield from _section(name, plain)
            yield from _content(session, found, limit)


def _header(session: Session) -> Iterator[Line]:
    manifest = session.manifest
    for key, said in (
        ("command", " ".join(manifest.command)),
        ("host", manifest.host),
        ("kernel", manifest.kernel),
        ("source", manifest.imported_from),
    ):
        if said:
            yield [(f"{key:<9}", "dim"), (printable(said), "bold" if key == "command" else "")]
    if manifest.duration_ns:
        yield [(f"{'duration':<9}", "dim"), (f"{manifest.duration_ns / 1e9:.3f} s", "")]
    for note in manifest.notes:
        yield [(f"{'note':<9}", "dim"), (printable(note), "yellow")]
    lost = _lost(session)
    if lost:
        yield [(printable(loss_text(lost)), "bold red")]


def _lost(session: Session) -> dict[str, int]:
    rows = session.sql("select source, sum(count)::bigint from lost group by source order by min(ts_ns)").rows()
    return {str(source): int(count) for source, count in rows}


def _section(title: str, plain: bool) -> Iterator[Line]:
    yield []
    yield [("# " if plain else "", ""), (printable(title), "bold cyan")]


def _content(session: Session, found: schema.Table, limit: int) -> Iterator[Block]:
    """The entries of a map, the largest value first."""
    entries = _entries(session, found, limit)
    columns = [Column(column.name, "right" if is_numeric(column) else "left") for column in found.columns]
    rows = [
        [(value_text(value, column.type), "") for value, column in zip(entry, found.columns, strict=True)]
        for entry in entries
    ]
    yield Table(columns, rows)
    more = recorded_tables(session.manifest)[found.name] - len(rows)
    if more > 0:
        yield [(f"# {more} more entries; --limit 0 shows all", "dim")]


def _entries(session: Session, found: schema.Table, limit: int) -> list[tuple[Any, ...]]:
    frame = session[found.name].select([column.name for column in found.columns])
    by = [column.name for column in found.columns if is_numeric(column)][-1:]
    if by:
        frame = frame.sort(by, descending=True, nulls_last=True, maintain_order=True)
    return frame.head(limit or _MOST_ROWS).rows()


def tables_json(session: Session, *, limit: int = 0) -> str:
    """The same as one JSON document; docs/report.md describes its fields."""
    manifest = session.manifest
    tables = []
    for name, rows in recorded_tables(manifest).items():
        found = session.database.table(name)
        entry: dict[str, Any] = {
            "name": name,
            "rows": rows,
            "columns": [{"name": column.name, "type": column.type} for column in found.columns],
        }
        if name.startswith("map."):
            names = [column.name for column in found.columns]
            entry["entries"] = [dict(zip(names, row, strict=True)) for row in _entries(session, found, limit)]
        tables.append(entry)
    document = {
        "format": "insitu-tables-1",
        "command": manifest.command,
        "duration_ns": manifest.duration_ns,
        "notes": manifest.notes,
        "lost": _lost(session),
        "tables": tables,
    }
    return json.dumps(document, indent=1, default=str)
