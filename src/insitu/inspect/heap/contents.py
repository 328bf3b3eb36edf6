"""What is in blocks: objects with virtual functions, text, repeated patterns, pointers; and equal ones together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.leaks import Leaks
from insitu.inspect.heap.memory import WORD
from insitu.inspect.heap.reachability import INDIRECT
from insitu.inspect.variable_names import VariableNames
from insitu.symbols.demangle import demangle

__all__ = ["CONTENTS", "OBJECT", "Contents", "Group", "class_name", "contents", "described", "groups"]

I64 = NDArray[np.int64]
U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]

CONTENTS: Final = ("data", "pointers", "zeros", "pattern", "text", "object")
DATA, POINTERS, ZEROS, PATTERN, TEXT, OBJECT = range(6)
_LOOKED_AT: Final = 8  # words of each block
_PART: Final = 1 << 18  # blocks that are looked at together
_TEXT_BYTES: Final = 48
_LEAST_TEXT: Final = 4
_TEXT: Final = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]{4,}")


class Contents(NamedTuple):
    """For each block: an index into CONTENTS, and its first word, by which objects and patterns are told apart."""

    kind: NDArray[np.int8]
    first: U64


class Group(NamedTuple):
    """Blocks of one class, size and content. ``indirect_*``: of the blocks that are lost with these."""

    kind: int
    size: int
    blocks: int
    indirect_bytes: int
    indirect_blocks: int
    content: str
    name: str
    """Of objects their class, of patterns the word, of text the text of the first block."""
    example: int
    """The address of the first block."""

    @property
    def bytes(self) -> int:
        """Of the blocks themselves."""
        return self.size * self.blocks


def contents(found: Leaks, blocks: I64) -> Contents:
    """What is in blocks, which are indices."""
    parts = [_looked_at(found, blocks[at : at + _PART]) for at in range(0, len(blocks), _PART)]
    if not parts:
        return Contents(np.zeros(0, np.int8), np.zeros(0, np.uint64))
    return Contents(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _looked_at(found: Leaks, blocks: I64) -> Contents:
    heap = found.heap
    offsets = np.arange(_LOOKED_AT, dtype=np.uint64) * np.uint64(WORD)
    words = found.snapshot.memory.read((heap.addresses[blocks, np.newaxis] + offsets).ravel())
    words = words.reshape(-1, _LOOKED_AT)
    has = offsets[np.newaxis] < heap.sizes[blocks, np.newaxis]
    words[~has] = 0
    first = words[:, 0]
    kind = np.full(len(blocks), DATA, np.int8)
    target = np.maximum(np.searchsorted(heap.addresses, words.ravel(), side="right") - 1, 0)
    to_block = (words.ravel() - heap.addresses[target] < heap.sizes[target]).reshape(words.shape)
    kind[(to_block & has).any(axis=1)] = POINTERS
    same = ((words == first[:, np.newaxis]) | ~has).all(axis=1)
    kind[same & (has.sum(axis=1) > 1)] = PATTERN
    kind[(words == 0).all(axis=1)] = ZEROS
    kind[_is_text(words) & ~to_block[:, 0]] = TEXT  # the bytes of an address may be printable
    kind[found.tables.are(first)] = OBJECT
    return Contents(kind, first)


def _is_text(words: U64) -> NDArray[np.bool_]:
    """Whether each row begins with four or more printable characters, up to a zero or the end."""
    data = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
    printable = ((data >= 0x20) & (data != 0x7F)) | ((data >= 9) & (data <= 13))
    length = np.where(printable.all(axis=1), data.shape[1], np.argmin(printable, axis=1))
    ends = np.minimum(length, data.shape[1] - 1)
    zero = data[np.arange(len(data)), ends] == 0
    # Bytes above 0x7f alone are no text.
    ascii_most = ((data < 0x80) & printable)[:, :_LEAST_TEXT].sum(axis=1) >= _LEAST_TEXT - 1
    found: NDArray[np.bool_] = (length >= _LEAST_TEXT) & (zero | (length == data.shape[1])) & ascii_most
    return found


def groups(found: Leaks, kinds: Sequence[int], names: VariableNames) -> list[Group]:
    """The blocks of some classes, equal ones together, the most bytes first, with what is lost with them."""
    verdicts, heap = found.verdicts, found.heap
    blocks = np.flatnonzero(np.isin(verdicts.kind, list(kinds)))
    if not len(blocks):
        return []
    inside = contents(found, blocks)
    told_apart = np.where(np.isin(inside.kind, (OBJECT, PATTERN)), inside.first, np.uint64(0))
    keys = np.stack(
        [verdicts.kind[blocks].astype(np.uint64), heap.sizes[blocks], inside.kind.astype(np.uint64), told_apart], 1
    )
    unique, index, inverse, counts = np.unique(
        keys, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    inverse = inverse.ravel()
    lost_bytes, lost_blocks = _lost_with(found)
    below_bytes = np.bincount(inverse, lost_bytes[blocks], len(unique))
    below_blocks = np.bincount(inverse, lost_blocks[blocks], len(unique))
    result = []
    for row, (kind, size, content, first) in enumerate(unique.tolist()):
        example = int(heap.addresses[blocks[index[row]]])
        name = _name(found, names, content, first, example, size)
        indirect = int(below_bytes[row]), int(below_blocks[row])
        result.append(Group(kind, size, int(counts[row]), *indirect, CONTENTS[content], name, example))
    return sorted(result, key=lambda group: (group.kind, -group.bytes - group.indirect_bytes, group.example))


def _lost_with(found: Leaks) -> tuple[F64, F64]:
    """For each definitely lost block how many bytes, and blocks, are lost with it."""
    count = len(found.heap.addresses)
    indirect = np.flatnonzero(found.verdicts.kind == INDIRECT)
    leader = found.verdicts.leader[indirect]
    sizes = found.heap.sizes[indirect].astype(np.float64)
    many = np.bincount(leader, minlength=count)
    return np.bincount(leader, sizes, count).astype(np.float64), many.astype(np.float64)


def _name(found: Leaks, names: VariableNames, content: int, first: int, example: int, size: int) -> str:
    if content == OBJECT:
        return class_name(names, first)
    if content == PATTERN:
        return f"{first:#x}"
    if content == TEXT:
        return text(found, example, size)
    return ""


def described(found: Leaks, block: int, names: VariableNames) -> str:
    """What is in one block, in words."""
    inside = contents(found, np.array([block]))
    content, address, size = int(inside.kind[0]), int(found.heap.addresses[block]), int(found.heap.sizes[block])
    name = _name(found, names, content, int(inside.first[0]), address, size)
    return f"{CONTENTS[content]} {name}".rstrip()


def class_name(names: VariableNames, table: int) -> str:
    """The C++ class that a table of virtual functions is of, or where the table is."""
    symbol, offset = names.place(table)
    if symbol.startswith("_ZTV"):
        return demangle(symbol.encode()).removeprefix("vtable for ")
    where = names.file(table) or "?"
    return f"{symbol}+{offset:#x}" if symbol else f"{where}, {table:#x}"


def text(found: Leaks, address: int, size: int) -> str:
    """The text that a block begins with, as far as one would show it."""
    match = _TEXT.match(found.snapshot.memory.bytes(address, min(size, _TEXT_BYTES)))
    return match[0].decode(errors="replace") if match else ""
