"""Rows of event tables as records of the kernel's trace ring buffer, in its pages (include/linux/ring_buffer.h)."""

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.errors import InsituError
from insitu.kernel.tracefs import EventFormat, Field
from insitu.session.distinct import ranges

if TYPE_CHECKING:
    import polars

__all__ = ["HEADER_EVENT", "HEADER_PAGE", "PAGE_BYTES", "Bodies", "bodies", "pages"]

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]

PAGE_BYTES: Final = 4096
_DATA_AT: Final = 16
_ROOM: Final = PAGE_BYTES - _DATA_AT
_LARGEST: Final = _ROOM - 8  # bytes of a record
_MOST_SHORT: Final = 28 * 4  # bytes whose number of words fits into type_len
_TIME_EXTEND: Final = 30
_DELTA_BITS: Final = 27
_MOST_TEXT: Final = 2048
_AT_ONCE: Final = 1 << 16

HEADER_PAGE: Final = (
    "\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;\n"
    "\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;\n"
    "\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;\n"
    f"\tfield: char data;\toffset:{_DATA_AT};\tsize:{_ROOM};\tsigned:0;\n"
)
HEADER_EVENT: Final = (
    "# compressed entry header\n\ttype_len    :    5 bits\n\ttime_delta  :   27 bits\n\tarray       :   32 bits\n\n"
    f"\tpadding     : type == 29\n\ttime_extend : type == {_TIME_EXTEND}\n\ttime_stamp : type == 31\n"
    "\tdata max type_len  == 28\n"
)


class Bodies(NamedTuple):
    """Records without their headers: each has ``size`` bytes (a multiple of 4) from ``at`` in ``memory``."""

    memory: U8
    at: I64
    size: I64


def bodies(shape: EventFormat, tid: I64, fields: "polars.DataFrame") -> Bodies:
    """The records of an event, of threads ``tid`` and with these fields; what a column lacks is 0, or empty."""
    rows = len(tid)
    fixed = max((field.offset + field.size for field in (*shape.common, *shape.fields)), default=8)
    if fixed > _LARGEST:
        raise InsituError(f"{shape.name}: its format is of {fixed} bytes, more than a page holds")
    table = np.zeros((rows, fixed + 3 & ~3), np.uint8)
    table[:, :2] = np.full(rows, shape.id, "<u2").view(np.uint8).reshape(-1, 2)
    for field in shape.common:
        if field.name == "common_pid":
            _put(table, field, tid)
    after: list[list[bytes]] = []
    lengths = np.zeros(rows, np.int64)
    for field in shape.fields:
        if field.name not in fields.columns:
            continue
        column = fields[field.name]
        if field.location or field.size == 0:
            texts = [_bytes(value)[:_MOST_TEXT] for value in column.to_list()]
            size = np.fromiter(map(len, texts), np.int64, rows)
            if field.location:
                start = table.shape[1] + lengths - (field.offset + 4 if field.location == "relative" else 0)
                _put(table, field, size << 16 | start)
            padded = size + 3 & ~3
            after.append([text + bytes(-len(text) & 3) for text in texts])
            lengths += padded
        elif column.dtype.is_numeric() or column.dtype.is_nested():
            _put(table, field, _numbers(column, field, rows))
        else:
            texts = [_bytes(value)[: field.size] for value in column.to_list()]
            table[:, field.offset : field.offset + field.size] = (
                np.array(texts, f"S{field.size}").view(np.uint8).reshape(rows, field.size)
            )
    if not after:
        size = np.full(rows, table.shape[1])
        return Bodies(table.reshape(-1), np.arange(rows) * table.shape[1], size)
    size = table.shape[1] + lengths
    if int(size.max(initial=0)) > _LARGEST:
        raise InsituError(f"{shape.name}: an event of {size.max()} bytes, more than a page holds")
    parts = [table[row].tobytes() + b"".join(each[row] for each in after) for row in range(rows)]
    return Bodies(np.frombuffer(b"".join(parts), np.uint8), np.cumsum(size) - size, size)


def _bytes(value: Any) -> bytes:
    """A text with its end, or bytes."""
    if value is None:
        return b""
    return bytes(value) if isinstance(value, bytes) else str(value).encode(errors="surrogateescape") + b"\0"


def _numbers(column: "polars.Series", field: Field, rows: int) -> NDArray[Any]:
    if not column.dtype.is_nested():
        return column.fill_null(0).to_numpy()
    elements = min(max(field.count or 1, 1), field.size)
    flat = np.zeros((rows, elements), np.int64 if field.signed else np.uint64)
    for row, values in enumerate(column.to_list()):
        kept = (values or [])[:elements]
        flat[row, : len(kept)] = kept
    return flat


def _put(table: U8, field: Field, values: NDArray[Any]) -> None:
    elements = values.shape[1] if values.ndim == 2 else 1
    width = field.size // elements
    if width in (1, 2, 4, 8):
        raw = values.astype(np.int64 if values.dtype.kind == "i" else np.uint64).astype(f"<u{width}")
        table[:, field.offset : field.offset + field.size] = raw.reshape(len(table), -1).view(np.uint8)


def pages(ts_ns: I64, records: Bodies) -> bytes:
    """The pages of one CPU; records are in the order of time. Each page begins with its first record's time."""
    long = records.size > _MOST_SHORT
    whole = records.size + np.where(long, 8, 4)
    delta = np.diff(ts_ns, prepend=ts_ns[:1])
    extended = delta >> _DELTA_BITS > 0
    ends = np.cumsum(whole + 8 * extended)
    first, firsts = 0, []
    while first < len(ts_ns):  # a page takes what fits; its first record needs no extended time
        firsts.append(first)
        used = int(ends[first]) - int(whole[first])
        first = max(int(np.searchsorted(ends, used + _ROOM, side="right")), first + 1)
    starts = np.array(firsts, np.int64)
    page = np.zeros(len(ts_ns), np.int64)
    page[starts[1:]] = 1
    page = np.cumsum(page)
    extended[starts] = False
    delta[starts] = 0
    step = whole + 8 * extended
    before = np.cumsum(step) - step
    at = page * PAGE_BYTES + _DATA_AT + before - before[starts][page]
    out = np.zeros(len(starts) * PAGE_BYTES, np.uint8)
    words = out.view("<u4")
    base = np.arange(len(starts)) * (PAGE_BYTES >> 2)
    words[base], words[base + 1] = ts_ns[starts] & 0xFFFFFFFF, ts_ns[starts] >> 32
    last = np.append(starts[1:], len(ts_ns)) - 1
    words[base + 2] = at[last] + step[last] - np.arange(len(starts)) * PAGE_BYTES - _DATA_AT
    far = np.flatnonzero(extended)
    words[at[far] >> 2] = (delta[far] & (1 << _DELTA_BITS) - 1) << 5 | _TIME_EXTEND
    words[(at[far] >> 2) + 1] = delta[far] >> _DELTA_BITS
    at = at + 8 * extended
    near = np.where(extended, 0, delta)
    words[at >> 2] = near << 5 | np.where(long, 0, records.size >> 2)
    words[(at[long] >> 2) + 1] = records.size[long] + 4
    body = at + np.where(long, 8, 4)
    source = records.memory.view("<u4")
    for low in range(0, len(ts_ns), _AT_ONCE):
        part = slice(low, low + _AT_ONCE)
        size = records.size[part] >> 2
        words[ranges(body[part] >> 2, size)] = source[ranges(records.at[part] >> 2, size)]
    return out.tobytes()
