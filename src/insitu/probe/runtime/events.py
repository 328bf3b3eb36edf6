"""The events of a run that is not recorded to disk: kept in memory, decoded as recordings are, shown as frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from insitu.probe.output.formatting import Formatter
from insitu.probe.runtime.event_columns import CopiedStackColumn, StackColumn
from insitu.probe.runtime.event_decode import EventDecoder
from insitu.probe.runtime.record_log import MemoryLog
from insitu.probe.runtime.stack_records import StackContents, StackReader
from insitu.probe.types import Stack

if TYPE_CHECKING:
    import polars

    from insitu.probe.runtime.event_columns import Column

__all__ = ["Events", "frame"]


class Events:
    """Events of all labels as they come."""

    def __init__(self, layout: Mapping[str, Any], stacks: StackReader, formatter: Formatter) -> None:
        """``stacks`` reads those that fields mean by id."""
        self._layout = layout
        self._decoder = EventDecoder(layout, text=formatter.text)
        self._formatter = formatter
        self._stacks = stacks
        self._stack_parts: list[bytes] = []
        self.log = MemoryLog()
        self.labels = self._decoder.labels

    def frames(self, *, take: bool = False) -> dict[str, polars.DataFrame]:
        """All events so far by label; with ``take`` they are forgotten here."""
        self._stack_parts.append(self._stacks.new())
        contents = StackContents.of(self._stack_parts, self._layout["stack_maps"])
        found = self._decoder.decode(self.log.take() if take else self.log.content(), contents).tables
        return {
            label: frame(found.get(label) or self._decoder.empty(label), self._formatter) for label in self.labels
        }


def frame(columns: Mapping[str, Column], formatter: Formatter) -> polars.DataFrame:
    """Columns as a Polars frame; stacks become text, in the form of their mode."""
    import polars

    shown: dict[str, Any] = {}
    for name, column in columns.items():
        if isinstance(column, CopiedStackColumn):
            column = _unwound(column, formatter)
        shown[name] = _texts(column, formatter) if isinstance(column, StackColumn) else column
    return polars.DataFrame(shown)


def _texts(column: StackColumn, formatter: Formatter) -> polars.Series:
    """Stacks as text. Each distinct one is looked up once."""
    import polars

    known: dict[tuple[int, bytes], str] = {}
    found = []
    offset = column.offset.tolist()
    kinds = (Stack(False, mode=column.mode), Stack(True, mode=column.mode))
    for row, pid in enumerate(column.pid.tolist()):
        addresses = column.address[offset[row] : offset[row + 1]]
        key = pid, addresses.tobytes()
        if key not in known:
            known[key] = formatter.symbols.stack_text(addresses.tolist(), pid, kinds[pid != 0], 8)
        found.append(known[key])
    return polars.Series(found, dtype=polars.String)


def _unwound(column: CopiedStackColumn, formatter: Formatter) -> StackColumn:
    """Stacks of mode dwarf, unwound with the mappings that their processes have (or had at last)."""
    from insitu.symbols.unwind import unwind

    processes = formatter.symbols.processes
    stacks = column.user_stacks(processes.latest_epochs(column.pid))
    offset, address = unwind(stacks, processes.map, formatter.symbols.open_elf)
    return StackColumn(offset, address, column.pid)
