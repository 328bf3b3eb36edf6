"""Rows of a registered table written to raw/ while recording, for sources that produce them one at a time."""

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from insitu.convert.row_format import CODES, HEADER, VARIABLE
from insitu.session.schema import Table, description

__all__ = ["RowLog"]


class RowLog:
    """Appends rows to a file: numbers of 8 bytes each, then texts, bytes and stacks of variable length.

    A stack is given as its addresses, innermost first; a thread as (pid, tid). See convert/row_format.py.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = [column for column in table.columns if column.semantic.storage or column.type == "stack"]
        self._fixed = struct.Struct("<" + "".join(CODES.get(column.type, "q") for column in self._columns))
        self._pending: list[bytes] = []
        self._fd = -1

    @property
    def layout(self) -> Mapping[str, Any]:
        """The content of layout.json."""
        return {"kind": "rows", "table": description(self._table), "machine": os.uname().machine}

    def open(self, directory: Path) -> None:
        """Make the file. Raises OSError."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd = os.open(directory / "rows.records", flags, 0o644)

    def append(self, **values: Any) -> None:
        """Add a row: a value for each column of the table."""
        numbers: list[Any] = []
        tail = b""
        for column in self._columns:
            value = values[column.name]
            if column.type == "utid":
                numbers += value
            elif column.type in VARIABLE:
                part = _encoded(column.type, value)
                numbers.append(len(part))
                tail += part + bytes(-len(part) % 8)
            else:
                numbers.append(value)
        body = self._fixed.pack(*numbers) + tail
        self._pending.append(HEADER.pack(HEADER.size + len(body), 0) + body)

    def write(self) -> int:
        """Write the rows added since the last call; returns the number of bytes. Raises OSError."""
        data = b"".join(self._pending)
        self._pending.clear()
        done = 0
        while done < len(data):
            done += os.write(self._fd, data[done:])
        return done

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
