"""Rows of a registered table written to raw/ while recording, for sources that produce them one at a time."""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.convert.row_format import CODES, HEADER, MOST_COLUMNS, VARIABLE
from insitu.files import new_file, write_all
from insitu.session.schema import Table, description

__all__ = ["RowLog"]


class RowLog:
    """Appends rows to a file: numbers of 8 bytes each, then texts, bytes and stacks of variable length.

    A stack is given as its addresses, innermost first; a thread as (pid, tid); None is null, in columns that are
    nullable. See convert/row_format.py.
    """

    def __init__(self, table: Table) -> None:
        """Raises ValueError for a table of more than 32 columns."""
        self._table = table
        self._columns = [column for column in table.columns if column.semantic.storage or column.type == "stack"]
        if len(self._columns) > MOST_COLUMNS:
            raise ValueError(f"{table.name}: rows have at most {MOST_COLUMNS} columns")
        self._fixed = struct.Struct("<" + "".join(CODES.get(column.type, "q") for column in self._columns))
        self._pending: list[bytes] = []
        self._fd = -1

    @property
    def layout(self) -> Mapping[str, Any]:
        """The content of layout.json."""
        return {"kind": "rows", "table": description(self._table), "machine": os.uname().machine}

    @property
    def is_open(self) -> bool:
        """Whether rows are kept."""
        return self._fd >= 0

    def open(self, directory: Path) -> None:
        """Make the file. Raises OSError."""
        self._fd = new_file(directory / "rows.records")

    def append(self, **values: Any) -> None:
        """Add a row: a value for each column of the table."""
        numbers: list[Any] = []
        tail = b""
        null = 0
        for index, column in enumerate(self._columns):
            value = values[column.name]
            if value is None and column.nullable:
                null |= 1 << index
                value = (0, 0) if column.type == "utid" else b"" if column.type in VARIABLE else 0
            if column.type == "utid":
                numbers += value
            elif column.type in VARIABLE:
                part = _encoded(column.type, value)
                numbers.append(len(part))
                tail += part + bytes(-len(part) % 8)
            else:
                numbers.append(value)
        body = self._fixed.pack(*numbers) + tail
        self._pending.append(HEADER.pack(HEADER.size + len(body), null) + body)

    def write(self) -> int:
        """Write the rows added since the last call; returns the number of bytes. Raises OSError."""
        data = b"".join(self._pending)
        self._pending.clear()
        write_all(self._fd, data)
        return len(data)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _encoded(kind: str, value: Any) -> bytes:
    if kind == "stack":
        addresses: Sequence[int] = value
        return struct.pack(f"<{len(addresses)}Q", *addresses)
    if isinstance(value, bytes):
        return value
    return str(value).encode("utf-8", "surrogateescape")
