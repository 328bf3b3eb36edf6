"""Many values that lie in memory as C lays them out, as one Polars column: memory_form.reader() for whole tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from insitu.probe.runtime.struct_decode import members
from insitu.probe.types import Array, Field, Integer, Pointer, Record, String, Type

if TYPE_CHECKING:
    import polars

__all__ = ["memory_column", "texts"]

Rows = npt.NDArray[np.uint8]


def memory_column(data: Rows, kind: Type) -> polars.Series:
    """``data`` is (values, at least the bytes of one): numbers of C's widths, text, structs of columns, lists."""
    import polars

    kind = kind.resolve()
    if isinstance(kind, String):
        return texts(data[:, : kind.capacity])
    if isinstance(kind, Record):
        found = {name: _member(data, each) for name, each in members(kind)}
        return polars.DataFrame(found).to_struct()
    if isinstance(kind, Array):
        return _lists(data, kind)
    if isinstance(kind, Integer | Pointer):
        numbers = np.ascontiguousarray(data[:, : kind.size]).view(_dtype(kind)).reshape(-1)
        return polars.Series(numbers != 0 if isinstance(kind, Integer) and kind.enum == "bool" else numbers)
    return polars.Series([None] * len(data), dtype=polars.Null)


def texts(data: Rows) -> polars.Series:
    """Each row up to its first zero. Strings repeat: each distinct one is decoded once."""
    import polars

    if not data.size:
        return polars.Series([""] * len(data), dtype=polars.String)
    rows = np.ascontiguousarray(data).view(f"V{data.shape[1]}").reshape(-1)
    distinct, which = np.unique(rows, return_inverse=True)
    decoded = [each.tobytes().split(b"\0")[0].decode("utf-8", "replace") for each in distinct]
    return polars.Series(decoded, dtype=polars.String).gather(which)


def _dtype(kind: Integer | Pointer) -> str:
    return f"<{'i' if isinstance(kind, Integer) and kind.signed else 'u'}{kind.size}"


def _member(data: Rows, member: Field) -> polars.Series:
    kind = member.type.resolve()
    if not member.bits or not isinstance(kind, Integer):
        return memory_column(data[:, member.offset :], kind)
    import polars

    word = np.zeros(len(data), np.uint64)
    for index in range(-(-(member.shift + member.bits) // 8)):
        part = data[:, member.offset + index].astype(np.uint64)
        place = 8 * index - member.shift
        word |= part << np.uint64(place) if place >= 0 else part >> np.uint64(-place)
    left = np.uint64(64 - member.bits)
    word = word << left
    shifted: npt.NDArray[Any] = word.view(np.int64) >> left.astype(np.int64) if kind.signed else word >> left
    return polars.Series(shifted != 0 if kind.enum == "bool" else shifted.astype(_dtype(kind)))


def _lists(data: Rows, kind: Array) -> polars.Series:
    """A list for each row, of lists for an array of arrays."""
    import polars

    counts: list[int] = []
    element: Type = kind
    while isinstance(element, Array):
        counts.append(element.count)
        element = element.element.resolve()
    every = math.prod(counts)
    flat = memory_column(data[:, : every * element.size].reshape(len(data) * every, element.size), element)
    wanted: polars.DataType = flat.dtype
    for _ in counts:
        wanted = polars.List(wanted)
    if not every:
        return polars.Series([[]] * len(data), dtype=wanted)
    return flat.reshape((len(data), *counts)).cast(wanted)
