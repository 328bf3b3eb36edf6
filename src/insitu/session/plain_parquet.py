"""Parts of tables as parquet files without compression, at the speed of memory: for sessions that are read once.

https://parquet.apache.org/docs/file-format/ and parquet.thrift there. A column is written as it lies in memory;
texts, and numbers that are near each other, are codes of one, two or four bytes with a dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.session.coded_texts import CodedTexts
from insitu.session.thrift import Field, binary, i32, i64, listed, nested, struct, varint
from insitu.valid_text import valid_text

__all__ = ["PlainColumn", "plain_column", "write_plain"]

_MAGIC: Final = b"PAR1"
_ROW_GROUP: Final = 1 << 18
_ROWS_A_CODE: Final = 16  # with fewer for each possible value, numbers are not coded
_CODES: Final = (np.dtype("<u1"), np.dtype("<u2"), np.dtype("<u4"))
# Physical types, converted types, repetition, encodings and types of pages, as parquet.thrift numbers them.
_BOOLEAN, _INT32, _INT64, _DOUBLE, _BYTE_ARRAY = 0, 1, 2, 5, 6
_UTF8, _LIST, _UINT8, _UINT16, _UINT32, _UINT64, _INT8, _INT16 = 0, 3, 11, 12, 13, 14, 15, 16
_REQUIRED, _OPTIONAL, _REPEATED = 0, 1, 2
_PLAIN, _RLE, _RLE_DICTIONARY = 0, 3, 8
_DATA_PAGE, _DICTIONARY_PAGE = 0, 2
_NO_TYPE: Final = -1
_NUMBERS: Final = {
    "b1": (_BOOLEAN, _NO_TYPE, "b1"),
    "i1": (_INT32, _INT8, "<i4"),
    "u1": (_INT32, _UINT8, "<u4"),
    "i2": (_INT32, _INT16, "<i4"),
    "u2": (_INT32, _UINT16, "<u4"),
    "i4": (_INT32, _NO_TYPE, "<i4"),
    "u4": (_INT32, _UINT32, "<u4"),
    "i8": (_INT64, _NO_TYPE, "<i8"),
    "u8": (_INT64, _UINT64, "<u8"),
    "f8": (_DOUBLE, _NO_TYPE, "<f8"),
}
"""Of a type of numpy's: the physical and the converted type, and how a file has the values."""

Bools = NDArray[np.bool_]
Buffer = bytes | memoryview


class _Part(NamedTuple):
    """Rows of a column: numbers (n, or n x width), or codes of ``texts``; ``null``: those without a value."""

    values: NDArray[Any]
    null: Bools | None = None
    texts: Sequence[bytes] | None = None


class PlainColumn(NamedTuple):
    """A column as ``write_plain`` takes it: parts of it, each of which becomes a page or several.

    ``width``: how many numbers each row has, 0: one. ``optional``: some rows may have no value.
    """

    parts: Sequence[_Part]
    physical: int
    converted: int
    width: int
    optional: bool


def plain_column(parts: Sequence[Any], storage: str) -> PlainColumn | None:
    """The parts of a column that is stored as ``storage``; None where ``write_plain`` cannot write them.

    Those are Polars series, as nested columns are.
    """
    if storage in ("varchar", "blob"):
        coded = [_coded(part, storage) for part in parts]
        found = [part for part in coded if part is not None]
        optional = any(part.null is not None for part in found)
        return (
            PlainColumn(found, _BYTE_ARRAY, _UTF8 if storage == "varchar" else _NO_TYPE, 0, optional)
            if len(found) == len(parts)
            else None
        )
    if not all(isinstance(part, np.ndarray) for part in parts) or len({part.dtype for part in parts}) != 1:
        return None
    shape = {part.shape[1:] for part in parts}
    known = _NUMBERS.get(parts[0].dtype.str[1:])
    width = next(iter(shape))[0] if parts[0].ndim == 2 else 0
    is_matrix = parts[0].ndim == 2 and width > 0 and parts[0].dtype != np.bool_
    if known is None or len(shape) != 1 or not (parts[0].ndim == 1 or is_matrix):
        return None
    physical, converted, kind = known
    masks = [np.ma.getmaskarray(part) if isinstance(part, np.ma.MaskedArray) else None for part in parts]
    if width and any(mask is not None for mask in masks):
        return None
    found = [_Part(np.asarray(part).astype(kind, copy=False), mask) for part, mask in zip(parts, masks, strict=True)]
    return PlainColumn(found, physical, converted, width, any(mask is not None for mask in masks))


def _coded(part: Any, storage: str) -> _Part | None:
    """Texts or bytes as codes; None for other objects than those, a list and ``CodedTexts``."""
    if isinstance(part, CodedTexts):
        return _Part(part.codes, None, [valid_text(text).encode() for text in part.values])
    if not isinstance(part, (list, tuple)):
        return None
    own: Any = str if storage == "varchar" else bytes
    index: dict[Any, int] = {}
    codes = np.array([-1 if item is None else index.setdefault(own(item), len(index)) for item in part], np.int32)
    null = codes < 0
    texts = [valid_text(item).encode() for item in index] if own is str else [*index]
    return _Part(codes, null if null.any() else None, texts)


def write_plain(file: IO[bytes], columns: Mapping[str, PlainColumn], metadata: Mapping[str, str]) -> None:
    """Write columns of equally long parts as one parquet file, with texts by key about it. Raises OSError."""
    parts = [len(part.values) for part in next(iter(columns.values())).parts]
    output = _Output(file)
    output.write([_MAGIC])
    groups: list[list[Field]] = []
    for rows in _row_groups(parts):
        start = output.at
        chunks = [_chunk(output, name, column, rows) for name, column in columns.items()]
        count = sum(high - low for _, low, high in rows)
        groups.append([listed(1, chunks), i64(2, output.at - start), i64(3, count)])
    schema = [[binary(4, b"schema"), i32(5, len(columns))]]
    for name, column in columns.items():
        schema += _schema(name, column)
    about = [
        i32(1, 1),
        listed(2, schema),
        i64(3, sum(parts)),
        listed(4, groups),
        listed(5, [[binary(1, key.encode()), binary(2, text.encode())] for key, text in metadata.items()]),
        binary(6, b"insitu"),
        listed(7, [[nested(1, [])]] * len(columns)),  # minima and maxima are by the order of the type
    ]
    footer = struct(about)
    output.write([footer, len(footer).to_bytes(4, "little"), _MAGIC])


class _Output:
    """A file, and how many bytes have been written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.at = 0

    def write(self, buffers: Sequence[Buffer]) -> None:
        """Write all of them."""
        for each in buffers:
            self._file.write(each)
            self.at += len(each)


def _row_groups(parts: Sequence[int]) -> Iterator[list[tuple[int, int, int]]]:
    """What each row group has of which parts: (part, first row, row after the last)."""
    group: list[tuple[int, int, int]] = []
    gathered = 0
    for number, rows in enumerate(parts):
        for low in range(0, rows, _ROW_GROUP):
            high = min(low + _ROW_GROUP, rows)
            group.append((number, low, high))
            gathered += high - low
            if gathered >= _ROW_GROUP:
                yield group
                group, gathered = [], 0
    if group:
        yield group


def _schema(name: str, column: PlainColumn) -> list[list[Field]]:
    """The elements of the schema for a column."""
    named = binary(4, name.encode())
    converted = [] if column.converted == _NO_TYPE else [i32(6, column.converted)]
    repetition = _OPTIONAL if column.optional else _REQUIRED
    if not column.width:
        return [[i32(1, column.physical), i32(3, repetition), named, *converted]]
    return [
        [i32(3, repetition), named, i32(5, 1), i32(6, _LIST)],
        [i32(3, _REPEATED), binary(4, b"list"), i32(5, 1)],
        [i32(1, column.physical), i32(3, _REQUIRED), binary(4, b"element"), *converted],
    ]


def _chunk(output: _Output, name: str, column: PlainColumn, rows: Sequence[tuple[int, int, int]]) -> list[Field]:
    """Write a column of a row group; returns its description (ColumnChunk)."""
    parts = [
        part._replace(values=part.values[low:high], null=None if part.null is None else part.null[low:high])
        for part, low, high in ((column.parts[number], low, high) for number, low, high in rows)
    ]
    levels = [_levels(part, column) for part in parts]
    values = [part.values if part.null is None else part.values[~part.null] for part in parts]
    statistics = [i64(3, sum(len(part.values) - len(one) for part, one in zip(parts, values, strict=True)))]
    if column.physical == _BYTE_ARRAY:
        dictionary, codes = _joined(values, [part.texts or () for part in parts])
    elif column.width or column.physical in (_BOOLEAN, _DOUBLE):
        dictionary, codes = None, []
    else:
        filled = [one for one in values if len(one)]
        low, high = min(map(int, map(np.min, filled)), default=0), max(map(int, map(np.max, filled)), default=0)
        if filled:
            kind = values[0].dtype
            statistics += [binary(number, np.array(one, kind).tobytes()) for number, one in ((5, high), (6, low))]
        dictionary, codes = _near(values, low, high)
    start, dictionary_at = output.at, None
    if dictionary is not None:
        dictionary_at = start
        about = [i32(1, dictionary[0]), i32(2, _PLAIN)]
        _page(output, [i32(1, _DICTIONARY_PAGE)], nested(7, about), [dictionary[1]])
        contents = [_code_page(each, dictionary[0]) for each in codes]
    else:
        contents = [_plain_page(one) for one in values]
    data_at = output.at
    encoding = _PLAIN if dictionary is None else _RLE_DICTIONARY
    for part, level, content in zip(parts, levels, contents, strict=True):
        about = [i32(1, part.values.size), i32(2, encoding), i32(3, _RLE), i32(4, _RLE)]
        _page(output, [i32(1, _DATA_PAGE)], nested(5, about), [*level, *content])
    path = [name, "list", "element"] if column.width else [name]
    size = output.at - start
    description = [
        i32(1, column.physical),
        listed(2, [i32(0, each) for each in sorted({_PLAIN, _RLE, encoding})]),
        listed(3, [binary(0, word.encode()) for word in path]),
        i32(4, 0),  # no compression
        i64(5, sum(part.values.size for part in parts)),
        i64(6, size),
        i64(7, size),
        i64(9, data_at),
        *([] if dictionary_at is None else [i64(11, dictionary_at)]),
        nested(12, statistics),
    ]
    return [i64(2, start), nested(3, description)]


def _page(output: _Output, kind: Sequence[Field], about: Field, data: Sequence[Buffer]) -> None:
    size = sum(map(len, data))
    output.write([struct([*kind, i32(2, size), i32(3, size), about]), *data])


def _levels(part: _Part, column: PlainColumn) -> list[Buffer]:
    """The repetition and definition levels of a page: where a row begins, and which values exist."""
    rows = len(part.values)
    if column.width:
        begins = np.ones((rows, column.width), np.bool_)
        begins[:, 0] = False
        defined = varint(rows * column.width << 1) + b"\1"
        levels = [_bits(begins.reshape(-1)), defined]
    elif not column.optional:
        return []
    else:
        levels = [varint(rows << 1) + b"\1" if part.null is None else _bits(~part.null)]
    return [piece for each in levels for piece in (len(each).to_bytes(4, "little"), each)]


def _bits(values: Bools) -> bytes:
    """A run of values of one bit each."""
    packed = np.packbits(values, bitorder="little")
    return varint(len(packed) << 1 | 1) + packed.tobytes()


def _plain_page(values: NDArray[Any]) -> list[Buffer]:
    if values.dtype == np.bool_:
        return [np.packbits(values, bitorder="little").tobytes()]
    return [np.ascontiguousarray(values).reshape(-1).data.cast("B")] if values.size else []


def _code_page(codes: NDArray[Any], count: int) -> list[Buffer]:
    """A page of codes below ``count``: their width in bits, and one run."""
    rows = len(codes)
    if count <= 1:
        return [b"\1" + varint(rows << 1) + b"\0"]
    width = codes.itemsize
    groups = rows + 7 >> 3
    head = bytes([8 * width]) + varint(groups << 1 | 1)
    return [head, codes.tobytes(), bytes((8 * groups - rows) * width)]


def _near(values: Sequence[NDArray[Any]], low: int, high: int) -> tuple[tuple[int, bytes] | None, list[NDArray[Any]]]:
    """Numbers as codes with a dictionary of all values from ``low`` to ``high`` (their count, and the values)."""
    count = high - low + 1
    rows = sum(map(len, values))
    if count > max(rows // _ROWS_A_CODE, 1) or count > 1 << 16:
        return None, []
    kind = values[0].dtype
    first = kind.type(low)
    dictionary = (np.arange(count).astype(kind) + first).tobytes()
    return (count, dictionary), [_codes(one - first, count) if count > 1 else one for one in values]


def _joined(
    codes: Sequence[NDArray[Any]], texts: Sequence[Sequence[bytes]]
) -> tuple[tuple[int, bytes], list[NDArray[Any]]]:
    """Codes of different texts as codes with one dictionary (its count, and the texts)."""
    index: dict[bytes, int] = {}
    numbers = [np.array([index.setdefault(each, len(index)) for each in own], np.int64) for own in texts]
    count = len(index)
    joined = [_codes(number, count)[own] for number, own in zip(numbers, codes, strict=True)]
    return (count, b"".join(len(each).to_bytes(4, "little") + each for each in index)), joined


def _codes(values: NDArray[Any], count: int) -> NDArray[Any]:
    kind = next(each for each in _CODES if count <= 1 << 8 * each.itemsize)
    return values.astype(kind)
