"""Values of tables as people read them, by the semantic type of their column."""

import json
from typing import Any, Final

from insitu.session.schema import Column, Table, value_type
from insitu.views.quantity import duration, size

__all__ = ["column_types", "is_numeric", "value_text"]


_OF_UNIT: Final = {"ns": "duration", "bytes": "bytes"}


def value_text(value: Any, kind: str, unit: str = "") -> str:
    """A value of a column of the semantic type ``kind``, such as "1.500 ms", "12.0 KiB" or "0xffffffff81000000".

    ``unit`` is what weights in its row count: "ns", "bytes" or the name of an event.
    """
    if kind == "weight":
        kind = _OF_UNIT.get(unit, kind)
    if value is None:
        return "null"
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (dict, list)):
        return json.dumps(value, default=str, ensure_ascii=False)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    match kind:
        case "duration":
            return duration(value)
        case "bytes":
            return size(value)
        case "timestamp":
            seconds, rest = divmod(int(value), 1_000_000_000)
            return f"{seconds}.{rest:09}"
        case "kernel_address" | "user_address" | "file_offset":
            return f"{int(value):#x}"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def column_types(names: dict[str, str], tables: list[Table]) -> dict[str, str]:
    """The semantic type of each column of an answer: ``names`` maps them to DuckDB's types.

    A column has the type that the columns of this name have in ``tables`` (of text, those that hold text), where
    these agree, else the one that its name gives it (see schema.value_type). Of names that end in ``_weight`` the
    unit is the row's (see value_text).
    """
    known: dict[str, set[str]] = {}
    for table in tables:
        for column in table.columns:
            if (names.get(column.name) == "varchar") == (column.semantic.storage == "varchar"):
                known.setdefault(column.name, set()).add(column.type)
    found = {}
    for name, storage in names.items():
        kind = next(iter(known[name])) if len(known.get(name, ())) == 1 else value_type(name, storage)
        found[name] = "weight" if storage == "bigint" and name.endswith("_weight") else kind
    return found


def is_numeric(column: Column) -> bool:
    """Whether a column's values stand to the right."""
    return column.semantic.storage in ("bigint", "ubigint", "integer", "double")
