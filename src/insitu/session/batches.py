"""Batches of rows as a table declares them, and several of them as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from insitu.session.coded_texts import CodedTexts, joined_texts
from insitu.session.schema import Column, Table

__all__ = ["Batch", "batch_rows", "joined", "typed", "whole"]

Batch = Mapping[str, Any]
"""Columns of equal length by name: arrays, lists, or Polars series. A masked array's masked values are null."""

_DTYPES: Final[dict[str, Any]] = {
    "bigint": np.int64,
    "integer": np.int32,
    "ubigint": np.uint64,
    "double": np.float64,
    "boolean": np.bool_,
}


def batch_rows(batch: Batch) -> int:
    """The number of rows of a batch."""
    return len(next(iter(batch.values()))) if batch else 0


def typed(batch: Batch, column: Column, rows: int) -> Any:
    """A batch's column in the type that the table declares; its default where the batch lacks it.

    Raises ValueError if it does not have so many rows.
    """
    dtype = _DTYPES.get(column.semantic.storage)
    values = batch.get(column.name)
    if values is None:
        missing = column.missing
        if dtype is None:
            return [missing] * rows
        if missing is None:
            return np.ma.masked_array(np.zeros(rows, dtype), np.ones(rows, np.bool_))
        return np.full(rows, missing, dtype)
    if len(values) != rows:
        raise ValueError(f"column {column.name}: {len(values)} values for {rows} rows")
    if dtype is None:
        return values
    if isinstance(values, np.ndarray):
        return _narrowed(values, dtype)
    items = values.to_list() if hasattr(values, "to_list") else list(values)
    null = [item is None for item in items]
    numbers = np.array([item or 0 for item in items]) if len(items) else np.zeros(0, dtype)
    if numbers.dtype == object:  # both below 0 and beyond 63 bits
        numbers = np.array([min(max(int(item or 0), -(2**63)), 2**63 - 1) for item in items], np.int64)
    found = _narrowed(numbers, dtype)
    return np.ma.masked_array(found, null) if column.nullable and any(null) else found


def _narrowed(values: Any, dtype: Any) -> Any:
    """Numbers in a column's type. Those that are too large become the largest: no row is lost for one value."""
    wanted = np.dtype(dtype)
    if wanted.kind in "iu" and values.dtype.kind in "iu" and len(values):
        have, limits = np.iinfo(values.dtype), np.iinfo(wanted)
        if have.max > limits.max or have.min < limits.min:
            low, high = max(limits.min, have.min), min(limits.max, have.max)
            if int(values.max()) > high or int(values.min()) < low:
                values = np.clip(values, low, high)
    return values.astype(wanted, copy=False)


def whole(table: Table, batches: Sequence[Batch]) -> Batch:
    """Batches that have all columns of a table, as one."""
    return {
        column.name: joined([batch[column.name] for batch in batches], column.semantic.storage)
        for column in table.columns
    }


def joined(parts: Sequence[Any], storage: str = "") -> Any:
    """Parts of a column concatenated."""
    if not parts:
        dtype = _DTYPES.get(storage)
        return [] if dtype is None else np.zeros(0, dtype)
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, CodedTexts) for part in parts):
        return joined_texts(parts)
    if all(type(part) is np.ndarray for part in parts):
        return np.concatenate(parts)
    if any(isinstance(part, np.ma.MaskedArray) for part in parts):
        masks = [np.ma.getmaskarray(part) for part in parts]
        return np.ma.masked_array(np.concatenate([np.asarray(part) for part in parts]), np.concatenate(masks))
    if hasattr(parts[0], "to_list") and hasattr(parts[0], "append"):
        import polars

        return polars.concat([part if isinstance(part, polars.Series) else polars.Series(part) for part in parts])
    return [item for part in parts for item in part]
