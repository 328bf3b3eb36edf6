"""From the bytes of a ring of events to columns by label, given only their description (event_layout.py).

No kernel, script or map is needed: the bytes may be those of a recording whose recorder has died.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.errors import InsituError, damaged_recording
from insitu.probe.output.formatting import Formatter
from insitu.probe.runtime.event_columns import Rows, fixed_column, joined, variable_column
from insitu.probe.runtime.event_layout import FORMAT, HEAD
from insitu.probe.runtime.record_walk import record_offsets
from insitu.probe.runtime.symbols import Symbols
from insitu.probe.runtime.type_json import type_from_json
from insitu.probe.types import Type, Variable, stored_size
from insitu.session.distinct import groups

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from insitu.probe.runtime.event_columns import Column, Texts
    from insitu.probe.runtime.stack_records import StackContents

__all__ = ["Decoded", "EventDecoder", "decode_events", "layout_formatter"]

I64 = npt.NDArray[np.int64]

_HEADER_BYTES = 8
_HEAD_BYTES = 24
_MAX_PART = 1 << 24


@dataclass
class Decoded:
    """``tables`` are columns by label: ts_ns, cpu, pid, tid and the label's fields.

    ``taken`` bytes were whole records; what follows them is torn unless more is to come. ``malformed`` counts
    records whose length or kind is not one of the layout's.
    """

    tables: dict[str, dict[str, Column]] = field(default_factory=dict)
    taken: int = 0
    malformed: int = 0


def decode_events(
    data: Buffer,
    layout: Mapping[str, Any],
    *,
    stacks: StackContents | None = None,
    text: Texts | None = None,
) -> Decoded:
    """The events in ``data``, which begins with a record, in the order in which the ring had them.

    ``stacks`` are those that fields mean by id (of variables and maps). ``text`` names values like symbols and users;
    by default this machine's files and the layout do.

    Raises InsituError for a layout that is damaged or of another version.
    """
    return EventDecoder(layout, text=text).decode(data, stacks)


def layout_formatter(layout: Mapping[str, Any], symbols: Symbols | None = None) -> Formatter:
    """What turns the values of a recording into text."""
    try:
        points = {int(number): (str(names[0]), str(names[1])) for number, names in layout["points"].items()}
        return Formatter(
            symbols or Symbols({}),
            points,
            [str(text) for text in layout["texts"]],
            int(layout["boot_offset_ns"]),
            str(layout["trailer"]),
            int(layout["max_strlen"]),
        )
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        raise _damaged("texts") from None


class _Kind:
    """One kind of event: its label, fixed size, and fields (name, offset, type)."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.label = str(content["label"])
        self.size = int(content["size"])
        self.fields: list[tuple[str, int, Type]] = [
            (str(each["name"]), int(each["at"]), type_from_json(each["type"])) for each in content["fields"]
        ]
        self.has_parts = any(isinstance(kind, Variable) for _, _, kind in self.fields)
        if not _HEAD_BYTES <= self.size <= _MAX_PART or any(
            at < _HEAD_BYTES or at % 8 or at + stored_size(kind) > self.size for _, at, kind in self.fields
        ):
            raise ValueError(self.label)


class EventDecoder:
    """Decodes events of one recording, in any number of pieces."""

    def __init__(self, layout: Mapping[str, Any], *, text: Texts | None = None) -> None:
        """See decode_events()."""
        try:
            if layout["format"] != FORMAT or {k: tuple(v) for k, v in layout["head"].items()} != HEAD:
                raise InsituError("these events were recorded by another version of insitu")
            self._kinds = {int(number): _Kind(content) for number, content in layout["kinds"].items()}
            self.labels = [str(label) for label in layout["labels"]]
            registers = layout["registers"]
            self._mask, self._count = int(registers["mask"]), int(registers["count"])
        except (KeyError, TypeError, ValueError, AttributeError):
            raise _damaged("kinds") from None
        if self._mask.bit_count() != self._count or self._count > 64:
            raise _damaged("registers")
        self._text = text or layout_formatter(layout).text

    def decode(self, data: Buffer, stacks: StackContents | None = None) -> Decoded:
        """The events in ``data``; labels without any are left out."""
        offsets, taken = record_offsets(data)
        view = np.frombuffer(memoryview(data)[:taken], np.uint8)
        words = view.view("<u4")
        length = (words[offsets >> 2] & np.uint32(0x3FFFFFFF)).astype(np.int64)
        found = Decoded(taken=taken)
        whole = length >= _HEAD_BYTES
        found.malformed = int(len(whole) - whole.sum())
        if found.malformed:
            offsets, length = offsets[whole], length[whole]
        parts: dict[str, list[tuple[I64, dict[str, Column]]]] = {}
        for number, rows in _groups(words[(offsets >> 2) + 2].astype(np.int64)):
            kind = self._kinds.get(number)
            if kind is None:
                found.malformed += len(rows)
                continue
            at, size = (offsets, length) if len(rows) == len(offsets) else (offsets[rows], length[rows])
            columns, kept = self._columns(kind, Rows(view, at + _HEADER_BYTES), size, stacks)
            found.malformed += len(at) - len(kept)
            parts.setdefault(kind.label, []).append((kept, columns))
        for label in self.labels:
            if label in parts:
                found.tables[label] = _joined(parts[label])
        return found

    def empty(self, label: str) -> dict[str, Column]:
        """The columns of a label without any events."""
        kind = next(each for each in self._kinds.values() if each.label == label)
        nothing = np.zeros(0, np.int64)
        return self._columns(kind, Rows(np.zeros(0, np.uint8), nothing), nothing, None)[0]

    def _columns(
        self, kind: _Kind, rows: Rows, length: I64, stacks: StackContents | None
    ) -> tuple[dict[str, Column], I64]:
        """The columns of records of a kind, and where those begin that are as the kind says."""
        lengths = {at: rows.words(at) for _, at, each in kind.fields if isinstance(each, Variable)}
        total = np.full(len(rows), kind.size, np.int64)
        starts: dict[int, I64] = {}
        good = np.ones(len(rows), np.bool_)
        for at, part in lengths.items():
            good &= part <= np.uint64(_MAX_PART)
            starts[at] = total
            total = total + ((np.minimum(part, np.uint64(_MAX_PART)).astype(np.int64) + 7) & ~7)
        good &= total == length
        if not good.all():
            rows = rows.take(good)
            lengths = {at: part[good] for at, part in lengths.items()}
            starts = {at: start[good] for at, start in starts.items()}
        columns: dict[str, Column] = {
            "ts_ns": rows.numbers(*HEAD["ts_ns"]).astype(np.int64),
            "cpu": rows.numbers(*HEAD["cpu"]).astype(np.int32),
            "pid": rows.numbers(*HEAD["pid"]).astype(np.int32),
            "tid": rows.numbers(*HEAD["tid"]).astype(np.int32),
        }
        pid = columns["pid"]
        assert isinstance(pid, np.ndarray)
        nothing = np.zeros(0, np.int64)
        for name, at, each in kind.fields:
            if isinstance(each, Variable):
                size = lengths[at].astype(np.int64) if at in lengths else nothing
                start = rows.at + starts[at] if at in starts else nothing
                column = variable_column(rows, start, size, each.element, pid, self._mask, self._count)
            else:
                column = fixed_column(rows, at, each, self._text, stacks)
            columns[name] = column
        return columns, rows.at


def _groups(numbers: I64) -> Iterator[tuple[int, I64]]:
    """Each number and the rows that have it. Often there is one only."""
    if len(numbers) and bool((numbers == numbers[0]).all()):
        yield int(numbers[0]), np.arange(len(numbers))
    else:
        yield from groups(numbers)


def _joined(parts: list[tuple[I64, dict[str, Column]]]) -> dict[str, Column]:
    """Kinds of one label put together, in the order of the ring."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([at for at, _ in parts]), kind="stable")
    names = parts[0][1]
    if any(list(columns) != list(names) for _, columns in parts):
        raise _damaged("fields")
    return {name: joined([columns[name] for _, columns in parts], order) for name in names}


def _damaged(what: str) -> InsituError:
    return damaged_recording("the layout of the recording", what)
