"""What the tables of a recording hold, for recordings that are not stacks: their sizes and the content of maps."""

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from insitu.session import schema
from insitu.session.query import Database
from insitu.session.reader import Session
from insitu.session.stdlib import Header, stdlib_headers
from insitu.valid_text import json_document
from insitu.views.losses import loss_text
from insitu.views.quantity import rest
from insitu.views.report import SHARED, recorded_tables
from insitu.views.rows import Listing
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, Line, Screen, wrapped
from insitu.views.values import column_types, is_numeric, value_text

if TYPE_CHECKING:
    import polars

__all__ = [
    "column_kinds",
    "has_sections",
    "listed_tables",
    "map_lines",
    "section_lines",
    "table_lines",
    "tables_json",
]

_MOST_ROWS: Final = 1_000_000  # of a map that is shown whole


def table_lines(session: Session, screen: Screen, *, limit: int = 30) -> Iterator[Block]:
    """The tables of a session with their rows and columns, then the first ``limit`` (0: all) entries of each map."""
    plain = screen.plain
    for line in _header(session, screen.width and screen.width - 2 * plain):
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
    yield from section_lines(session, screen, limit=limit)
    yield from map_lines(session, screen, limit=limit)


def has_sections(session: Session) -> bool:
    """Whether reports on the session have sections besides those on stacks."""
    return bool(_sections(session))


def section_lines(session: Session, screen: Screen, *, limit: int = 30) -> Iterator[Block]:
    """The first rows of the views of analyses/stdlib that have a place in reports, where they have rows.

    Times count from the start of the recording.
    """
    for name, view in _sections(session).items():
        frame = session.sql(f"select * from {name} limit {limit + 1 if limit else _MOST_ROWS}")
        if frame.is_empty():
            continue
        yield from _section(view.report.partition(" ")[2], screen.plain)
        kinds = column_kinds(session.database, frame)
        numbers = {word for word, kind in frame.schema.items() if kind.is_numeric()}
        columns = [
            Column(_title(word), "right" if word in numbers else "left", spare=word in view.spare)
            for word in frame.columns
        ]
        shown = frame.rows()[: limit or None]
        rows = [
            [
                (_section_text(value, kinds[word], session.manifest.start_ns), "")
                for value, word in zip(row, frame.columns, strict=True)
            ]
            for row in shown
        ]
        yield Table(columns, rows)
        if len(shown) < len(frame):
            total = session.sql(f"select count(*) from {name}").rows()[0][0]
            yield [(rest(int(total) - len(shown), "row"), "dim")]


def _section_text(value: Any, kind: str, start_ns: int) -> str:
    if value is None:
        return ""
    if kind == "timestamp":
        return f"{(int(value) - start_ns) / 1e9:.6f}"
    return value_text(value, kind)


def _sections(session: Session) -> dict[str, Header]:
    """The views that a report shows: those of tables that this session has, and with them those of its processes."""
    recorded = set(recorded_tables(session.manifest))
    views = dict(sorted(stdlib_headers().items(), key=lambda item: item[1].report))
    views = {name: view for name, view in views.items() if view.report}
    own = {name for name, view in views.items() if recorded & _tables_of(name)}
    return {name: view for name, view in views.items() if own and (name in own or _tables_of(name) <= SHARED)}


def _tables_of(view: str) -> set[str]:
    """The tables that a view reads, also through others."""
    views = stdlib_headers()
    return {found for each in views[view].inputs for found in (_tables_of(each) if each in views else {each})}


def _title(column: str) -> str:
    return column.removesuffix("_ns").removesuffix("_bytes").replace("_", " ")


def map_lines(session: Session, screen: Screen, *, limit: int = 30) -> Iterator[Block]:
    """The first ``limit`` (0: all) entries of each map without stacks; a map with stacks has a report of its own."""
    for name in recorded_tables(session.manifest):
        found = session.database.table(name)
        if name.startswith("map.") and found.stack is None:
            yield from _section(name, screen.plain)
            yield from _content(session, found, limit)


def _header(session: Session, width: int | None) -> Iterator[Line]:
    manifest = session.manifest
    for key, said in (
        ("command", shlex.join(manifest.command)),
        ("host", manifest.host),
        ("kernel", manifest.kernel),
        ("source", manifest.imported_from),
    ):
        if said:
            yield [(f"{key:<9}", "dim"), (said, "bold" if key == "command" else "")]
    if manifest.duration_ns:
        yield [(f"{'duration':<9}", "dim"), (f"{manifest.duration_ns / 1e9:.3f} s", "")]
    for note in manifest.notes:
        yield from wrapped((f"{'note':<9}", "dim"), (note, "yellow"), width)
    lost = _lost(session)
    if lost:
        yield from wrapped(("", ""), (loss_text(lost), "bold red"), width)


def _lost(session: Session) -> dict[str, int]:
    rows = session.sql("select source, sum(count)::bigint from lost group by source order by min(ts_ns)").rows()
    return {str(source): int(count) for source, count in rows}


def _section(title: str, plain: bool) -> Iterator[Line]:
    yield []
    yield [("# " if plain else "", ""), (title, "bold cyan")]


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
        yield [(rest(more, "entry", "entries"), "dim")]


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
    return json_document(document)


def listed_tables(database: Database, name: str = "") -> Listing:
    """The tables and views that can be asked, with their rows and what a row is; or the columns of the one ``name``.

    Raises InsituError where there is no such table or view.
    """
    if name:
        return _listed_columns(database, name)
    found: list[tuple[str, str, int | None, str]] = [
        (each, "table", _rows(database, each), database.table(each).doc)
        for each in sorted({*schema.TABLES, *database.names})
    ]
    found += [(each, "view", None, view.doc) for each, view in stdlib_headers().items()]
    return Listing({"name": False, "kind": False, "rows": True, "a row is": False}, found)


def _listed_columns(database: Database, name: str) -> Listing:
    view = stdlib_headers().get(name)
    if view is not None:
        rows = [(column, "", "", said) for column, said in view.columns.items()]
    else:
        rows = [
            (column.name, column.type, column.semantic.unit.strip("*"), column.doc)
            for column in database.table(name).columns
        ]
    return Listing(dict.fromkeys(("column", "type", "unit", "what it says"), False), rows)


def _rows(database: Database, name: str) -> int:
    """The number of rows in all sessions."""
    return sum(database.rows(name, at) for at in range(len(database.paths)))


def column_kinds(database: Database, frame: "polars.DataFrame") -> dict[str, str]:
    """The semantic types of an answer's columns, as far as their names give them."""
    tables = [database.table(name) for name in sorted({*schema.TABLES, *database.names})]
    import polars as pl

    storage = {
        name: "bigint" if kind.is_integer() else "varchar" if kind == pl.String else ""
        for name, kind in frame.schema.items()
    }
    return column_types(storage, tables)
