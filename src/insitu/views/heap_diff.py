"""What grew on a heap between two moments (insitu leaks -o): by class, and by size and content."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.views.quantity import rest, size
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["HeapChange", "heap_changes", "heap_changes_blocks", "heap_changes_document", "shows_heaps"]

_TABLE: Final = "heap_block"
# Patterns are told apart by their word, objects by their class; of others the first word says nothing.
_GROUPS: Final = """
    select class, content,
        case when content = 'pattern' then printf('0x%x', first_word) else object_class end,
        size, sum(size)::bigint, count(*)
    from heap_block group by all"""
_CLASSES: Final = ("definitely lost", "indirectly lost", "possibly lost", "still reachable")


class HeapChange(NamedTuple):
    """Blocks of one class, content and size at two moments. ``size`` 0: all sizes of a class."""

    kind: str
    content: str
    name: str
    size: int
    bytes: tuple[int, int]
    blocks: tuple[int, int]

    @property
    def delta(self) -> int:
        """Bytes that there are more of."""
        return self.bytes[1] - self.bytes[0]


def shows_heaps(session: Session) -> bool:
    """Whether a session is of `insitu leaks -o`."""
    return _TABLE in session.tables


def heap_changes(before: Session, after: Session) -> list[HeapChange]:
    """All groups that were there at either moment, those that grew most first."""
    sides = [{tuple(row[:4]): row[4:] for row in session.sql(_GROUPS).rows()} for session in (before, after)]
    found = []
    for key in dict.fromkeys([*sides[0], *sides[1]]):
        kind, content, name, length = key
        (low, few), (high, many) = (side.get(key, (0, 0)) for side in sides)
        found.append(HeapChange(str(kind), str(content), str(name), int(length), (low, high), (few, many)))
    return sorted(found, key=lambda each: (-each.delta, -each.bytes[1], each))


def _sums(found: Sequence[HeapChange]) -> list[HeapChange]:
    """The sum of each class."""
    sums = []
    for kind in _CLASSES:
        mine = [each for each in found if each.kind == kind]
        totals = [
            (sum(each.bytes[side] for each in mine), sum(each.blocks[side] for each in mine)) for side in (0, 1)
        ]
        (low, few), (high, many) = totals
        sums.append(HeapChange(kind, "", "", 0, (low, high), (few, many)))
    return sums


def heap_changes_blocks(found: Sequence[HeapChange], limit: int) -> Iterator[Block]:
    """The sums of the classes, and what has changed: ``limit`` rows (0: all)."""
    sums = _sums(found)
    low, high = (sum(each.bytes[side] for each in sums) for side in (0, 1))
    change = f"{'+' if high > low else ''}{size(high - low)}" if high != low else "no change"
    yield [(f"blocks of malloc(): {size(low)} to {size(high)} ({change})", "bold")]
    columns = [Column("before"), Column("after"), Column("change"), Column("blocks"), Column("", "left")]
    yield Table(columns, [[*_numbers(each), (each.kind, "")] for each in sums])
    changed = [each for each in found if each.delta]
    if not changed:
        return
    yield []
    columns = [Column("before"), Column("after"), Column("change"), Column("blocks"), Column("class", "left")]
    columns += [Column("size"), Column("content", "left"), Column("", "left")]
    rows: list[Sequence[Cell]] = [
        [*_numbers(each), (each.kind, ""), (f"{each.size:,}", ""), (each.content, ""), (each.name, "")]
        for each in changed[: limit or None]
    ]
    yield Table(columns, rows)
    if limit and len(changed) > limit:
        yield [(rest(len(changed) - limit, "change", "changes"), "dim")]


def _numbers(each: HeapChange) -> list[Cell]:
    style = "red" if each.delta > 0 else "green" if each.delta < 0 else ""
    blocks = each.blocks[1] - each.blocks[0]
    values = (f"{each.bytes[0]:,}", f"{each.bytes[1]:,}", f"{each.delta:+,}", f"{blocks:+,}")
    return [(value, style) for value in values]


def heap_changes_document(found: Sequence[HeapChange]) -> dict[str, Any]:
    """The same for JSON, with what has not changed."""

    def side(each: HeapChange, at: int) -> dict[str, int]:
        return {"bytes": each.bytes[at], "blocks": each.blocks[at]}

    return {
        "format": "insitu-leaks-diff-1",
        "classes": [{"class": each.kind, "before": side(each, 0), "after": side(each, 1)} for each in _sums(found)],
        "groups": [
            {
                "class": each.kind,
                "content": each.content,
                "name": each.name,
                "size": each.size,
                "before": side(each, 0),
                "after": side(each, 1),
            }
            for each in found
        ],
    }
