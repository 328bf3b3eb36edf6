"""Many protobuf messages of one shape at once: made by the schema's own classes, then filled from arrays.

One message is serialized with numbers that take a fixed number of bytes, and copied for every row; then each row's
values replace them. Varints are padded to that number of bytes, which every decoder reads.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Rows", "Values", "filled", "in_order"]

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
Values = NDArray[Any] | Sequence[str]
"""A column: an array of uint32 (5 bytes), uint64 and int64 (10 bytes) or float64; or texts."""

_BATCH_ROWS: Final = 1 << 16


class Message(Protocol):
    """What is needed of a protobuf message."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - protobuf's name
        """Its bytes."""


class Rows(NamedTuple):
    """Messages of equal size: ``rows`` are their places among others (i64), ``bytes`` an array of (rows, size)."""

    rows: I64
    bytes: U8


def filled(
    make: Callable[..., Message], columns: Mapping[str, Values], *, fixed: Collection[str] = ()
) -> Iterator[Rows]:
    """The messages that ``make(**row)`` returns for every row of ``columns``; each message has the same fields.

    ``fixed`` names the columns of uint64 that are fields of type fixed64, which take 8 bytes.
    Texts of different sizes make groups, in no order; ``make`` is called a few times for each.
    """
    texts = {
        name: [text.encode(errors="replace") for text in values]
        for name, values in columns.items()
        if not isinstance(values, np.ndarray)
    }
    numbers = {name: values for name, values in columns.items() if isinstance(values, np.ndarray)}
    rows = len(next(iter(columns.values()))) if columns else 0
    groups: list[tuple[tuple[int, ...], I64]] = [((), np.arange(rows))]
    for lines in texts.values():
        size = np.fromiter(map(len, lines), np.int64, rows)
        groups = [
            ((*sizes, each), within[size[within] == each])
            for sizes, within in groups
            for each in np.unique(size[within]).tolist()
        ]
    for sizes, within in groups:
        slots = [_text_slot(name, size) for name, size in zip(texts, sizes, strict=True)]
        slots += [_number_slot(name, values.dtype, name in fixed) for name, values in numbers.items()]
        template, places = _template(make, slots)
        for start in range(0, len(within), _BATCH_ROWS):
            at = within[start : start + _BATCH_ROWS]
            copies = np.tile(np.frombuffer(template, np.uint8), (len(at), 1))
            for slot, place in zip(slots, places, strict=True):
                if slot.name in numbers:
                    _put(copies[:, place : place + slot.size], numbers[slot.name][at], slot.name in fixed)
                elif slot.size:
                    joined = b"".join([texts[slot.name][row] for row in at.tolist()])
                    copies[:, place : place + slot.size] = np.frombuffer(joined, np.uint8).reshape(-1, slot.size)
            yield Rows(at, copies)


def in_order(parts: Sequence[Rows], rows: int) -> bytes:
    """The messages of all parts in the order of their rows, one after the other."""
    size = np.zeros(rows, np.int64)
    for part in parts:
        size[part.rows] = part.bytes.shape[1]
    starts = np.cumsum(size) - size
    out = np.zeros(int(size.sum()), np.uint8)
    for part in parts:
        out[starts[part.rows][:, None] + np.arange(part.bytes.shape[1])] = part.bytes
    return out.tobytes()


class _Slot(NamedTuple):
    """A value's bytes in a message; two values whose encodings differ in the first byte."""

    name: str
    size: int
    first: Any
    second: Any


def _text_slot(name: str, size: int) -> _Slot:
    return _Slot(name, size, "a" * size, "b" * size)


def _number_slot(name: str, kind: np.dtype[Any], fixed: bool) -> _Slot:
    if fixed:
        return _Slot(name, 8, 1, 2)
    if kind == np.uint32:
        return _Slot(name, 5, 1 << 28, (1 << 28) + 1)
    if kind == np.uint64:
        return _Slot(name, 10, 1 << 63, (1 << 63) + 1)
    if kind == np.int64:
        return _Slot(name, 10, -1, -2)
    if kind == np.float64:
        return _Slot(name, 8, _double(1), _double(2))
    raise TypeError(f"column {name} of {kind}")


def _double(first_byte: int) -> float:
    return float(np.frombuffer(bytes((first_byte, 0, 0, 0, 0, 0, 0xF0, 0x3F)), "<f8")[0])


def _template(make: Callable[..., Message], slots: Sequence[_Slot]) -> tuple[bytes, list[int]]:
    """A message's bytes, and where each slot is in them: where another value makes a difference."""
    row = {slot.name: slot.first for slot in slots}
    template = make(**row).SerializeToString()
    before = np.frombuffer(template, np.uint8)
    places = []
    for slot in slots:
        if slot.size:
            after = np.frombuffer(make(**{**row, slot.name: slot.second}).SerializeToString(), np.uint8)
            places.append(int(np.argmax(before != after)))
        else:
            places.append(0)
    return template, places


def _put(place: U8, values: NDArray[Any], fixed: bool) -> None:
    if fixed or values.dtype == np.float64:
        place[:] = values.astype("<f8" if values.dtype == np.float64 else "<u8").view(np.uint8).reshape(-1, 8)
        return
    left = values.astype(np.uint64)
    last = place.shape[1] - 1
    for at in range(last + 1):
        place[:, at] = (left & 0x7F) | (0x80 if at < last else 0)
        left >>= np.uint64(7)
