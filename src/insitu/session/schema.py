"""The registry of tables: names, columns, their meanings and units.

``register(Table(...))`` is called for our tables in core_tables.py and special_tables.py. The parquet files, the
DuckDB views, ``.tables`` at the SQL prompt, docs/session-format.md and the tests come from it. A column has a
*semantic type*, by which output, exports and views format and sum; none of them depends on a column's name. The
description of a table is stored in its parquet files, so that a session can be read without its registration.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "TABLES",
    "Column",
    "SemanticType",
    "Table",
    "described",
    "description",
    "quoted",
    "quoted_table",
    "register",
    "semantic",
    "value_type",
]


@dataclass(frozen=True)
class SemanticType:
    """The meaning of a column's values. ``storage`` is their DuckDB type ("": nested, any).

    ``unit`` is the unit of their sum ("ns", "bytes"; "" if a sum is meaningless). ``refers_to`` names
    the table whose ``id`` (or utid, upid) the values are.
    """

    name: str
    storage: str
    unit: str = ""
    refers_to: str = ""


def _types(*types: SemanticType) -> dict[str, SemanticType]:
    return {kind.name: kind for kind in types}


_SEMANTIC: Final = _types(
    SemanticType("timestamp", "bigint"),  # CLOCK_MONOTONIC nanoseconds
    SemanticType("duration", "bigint", "ns"),
    SemanticType("bytes", "bigint", "bytes"),
    SemanticType("count", "bigint", "events"),
    SemanticType("weight", "bigint", "*"),  # in the unit of the row's event_type
    SemanticType("utid", "integer", refers_to="thread"),
    SemanticType("upid", "integer", refers_to="process"),
    SemanticType("machine", "integer", refers_to="machine"),
    SemanticType("stack", "integer", refers_to="stack"),
    SemanticType("frame", "integer", refers_to="frame"),
    SemanticType("module", "integer", refers_to="module"),
    SemanticType("event_type", "integer", refers_to="event_type"),
    SemanticType("track", "integer", refers_to="track"),
    SemanticType("span", "bigint", refers_to="span"),
    SemanticType("id", "bigint"),
    SemanticType("cpu", "integer"),
    SemanticType("pid", "integer"),
    SemanticType("tid", "integer"),
    SemanticType("uid", "integer"),
    SemanticType("errno", "integer"),
    SemanticType("signal", "integer"),
    SemanticType("line", "integer"),
    SemanticType("depth", "integer"),
    SemanticType("kernel_address", "ubigint"),
    SemanticType("user_address", "ubigint"),
    SemanticType("file_offset", "ubigint"),
    SemanticType("integer", "bigint"),
    SemanticType("unsigned", "ubigint"),
    SemanticType("number", "double"),
    SemanticType("flag", "boolean"),
    SemanticType("name", "varchar"),
    SemanticType("enum", "varchar"),
    SemanticType("path", "varchar"),
    SemanticType("build_id", "varchar"),
    SemanticType("text", "varchar"),
    SemanticType("blob", "blob"),
    SemanticType("nested", ""),  # lists and structs of a probe program, as Polars holds them
)

_NAME: Final = re.compile(r"(?=.{1,200}\Z)[^\W.][\w\-]*(?:\.[\w\-]+)*")
_ZERO: Final[Mapping[str, Any]] = {"varchar": "", "boolean": False, "double": 0.0, "blob": b"", "": None}


def semantic(name: str) -> SemanticType:
    """The semantic type of that name. Raises KeyError."""
    return _SEMANTIC[name]


@dataclass(frozen=True)
class Column:
    """A column: its name, semantic type and, for users, its meaning.

    ``default`` is the value in recordings without the column, if it is not the type's zero.
    A ``nullable`` column may hold null (an open end, an unknown value).
    """

    name: str
    type: str
    doc: str = ""
    default: Any = None
    nullable: bool = False

    @property
    def semantic(self) -> SemanticType:
        """The column's semantic type."""
        return _SEMANTIC[self.type]

    @property
    def missing(self) -> Any:
        """The value in recordings without the column."""
        if self.default is not None or self.nullable:
            return self.default
        return _ZERO.get(self.semantic.storage, 0)


@dataclass(frozen=True)
class Table:
    """A table: name, what a row is, and its columns. ``version`` rises when the meaning of a column changes."""

    name: str
    doc: str
    columns: tuple[Column, ...]
    version: int = 1

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):  # it becomes a directory's name
            raise ValueError(f"{self.name!r} cannot be the name of a table")
        names = [column.name.casefold() for column in self.columns]  # SQL does not tell them apart by case
        if len(set(names)) != len(names):
            raise ValueError(f"table {self.name}: two columns of one name")
        for column in self.columns:
            _SEMANTIC[column.type]

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)

    def of_type(self, kind: str) -> Column | None:
        """The first column of a semantic type, or None."""
        return next((column for column in self.columns if column.type == kind), None)

    @property
    def stack(self) -> Column | None:
        """The column for weighted stacks: ``stack``, else the first of type stack."""
        found = self.column("stack")
        return found if found is not None and found.type == "stack" else self.of_type("stack")

    @property
    def weights(self) -> tuple[Column, ...]:
        """The columns with a unit: durations, sizes, counts, weights."""
        return tuple(column for column in self.columns if column.semantic.unit)


TABLES: Final[dict[str, Table]] = {}
"""Every registered table, by name."""


def register(table: Table) -> Table:
    """Add a table to the registry. Registering the same table again changes nothing.

    Raises ValueError if another table has that name.
    """
    known = TABLES.setdefault(table.name, table)
    if known != table:
        raise ValueError(f"another table is registered as {table.name!r}")
    return known


def description(table: Table) -> dict[str, Any]:
    """A table as plain JSON, as stored in its parquet files and raw records."""
    columns = []
    for column in table.columns:
        entry: dict[str, Any] = {"name": column.name, "type": column.type}
        if column.doc:
            entry["doc"] = column.doc
        if column.nullable:
            entry["nullable"] = True
        if column.default is not None:
            entry["default"] = column.default
        columns.append(entry)
    return {"name": table.name, "doc": table.doc, "version": table.version, "columns": columns}


def described(found: Any) -> Table:
    """The table of a ``description``. Raises ValueError if ``found`` is not one."""
    try:
        columns = tuple(
            Column(
                str(each["name"]),
                each["type"] if each["type"] in _SEMANTIC else "nested",
                str(each.get("doc", "")),
                _scalar(each.get("default")),
                bool(each.get("nullable")),
            )
            for each in found["columns"]
        )
        return Table(str(found["name"]), str(found.get("doc", "")), columns, int(found.get("version", 1)))
    except (KeyError, TypeError, AttributeError):
        raise ValueError("not the description of a table") from None


def _scalar(value: Any) -> Any:
    """A default as it may stand in SQL. Raises ValueError for anything else, which may come from a forged file."""
    if value is None or isinstance(value, (str, bool)) or (isinstance(value, int) and -(2**63) <= value < 2**64):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise ValueError("not a default of a column")


def value_type(name: str, storage: str) -> str:
    """The semantic type of a probe program's own field: names that end in ``_ns`` are durations, in ``_bytes`` sizes.

    ``storage`` is DuckDB's type of the values. docs/language.md documents the rule.
    """
    if storage in ("bigint", "ubigint", "integer"):
        if name.endswith("_ns") or name == "ns":
            return "duration"
        if name.endswith("_bytes") or name == "bytes":
            return "bytes"
    plain = {"bigint": "integer", "integer": "integer", "ubigint": "unsigned", "double": "number", "boolean": "flag"}
    return plain.get(storage, {"varchar": "text", "blob": "blob"}.get(storage, "nested"))


def quoted(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def quoted_table(name: str) -> str:
    """A table's name as a quoted SQL identifier; the part before its last dot is the schema."""
    schema, _, label = name.rpartition(".")
    return f"{quoted(schema or 'main')}.{quoted(label)}"
