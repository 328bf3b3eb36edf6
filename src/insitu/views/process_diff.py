"""What changed between two moments of a process: its memory by what it belongs to, its descriptors, its threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from insitu.views.quantity import rest, size
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block

if TYPE_CHECKING:
    from insitu.session.reader import Session

__all__ = ["Change", "changes", "changes_blocks", "changes_document", "shows_processes"]

_MEMORY: Final = """
    select belongs_to, sum(private_bytes), sum(resident_bytes), sum(swapped_bytes), count(*)
    from page_range group by belongs_to"""
# Descriptors are alike if they are open on one file, or sockets of one kind that lead to one address.
_DESCRIPTORS: Final = """
    select kind || case
        when target like '/%' then ' ' || target
        when contains(target, ' -> ') then ' to ' || split_part(target, ' -> ', 2)
        else '' end, count(*)
    from fd group by all"""
_THREADS: Final = "select name, count(*) from thread where tid > 0 group by name"
_MEASURES: Final = {
    "memory": ("private", "resident", "swapped", "mappings"),
    "descriptors": ("count",),
    "threads": ("count",),
}


class Change(NamedTuple):
    """What differs: ``before`` and ``after`` have a value for each measure of its kind, sizes in bytes."""

    kind: str
    """memory, descriptors or threads."""
    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def delta(self) -> int:
        """Of the first measure: private memory, or a count."""
        return self.after[0] - self.before[0]


def shows_processes(session: Session) -> bool:
    """Whether a session is of `insitu proc -o`."""
    return not {"page_range", "fd"}.isdisjoint(session.tables)


def changes(before: Session, after: Session) -> list[Change]:
    """All that was there at either moment, by kind, those that grew most first."""
    found = []
    for kind, query, table in (
        ("memory", _MEMORY, "page_range"),
        ("descriptors", _DESCRIPTORS, "fd"),
        ("threads", _THREADS, "thread"),
    ):
        sides = [_rows(session, query, table) for session in (before, after)]
        none = (0,) * len(_MEASURES[kind])
        made = [
            Change(kind, name, sides[0].get(name, none), sides[1].get(name, none))
            for name in dict.fromkeys([*sides[0], *sides[1]])
        ]
        found += sorted(made, key=lambda each: (-each.delta, -each.after[0], each.name))
    return found


def _rows(session: Session, query: str, table: str) -> dict[str, tuple[int, ...]]:
    if table not in session.tables:
        return {}
    return {str(name): tuple(map(int, values)) for name, *values in session.sql(query).rows()}


def changes_blocks(found: Sequence[Change], limit: int) -> Iterator[Block]:
    """The sums of each kind, and what has changed: ``limit`` rows each."""
    for number, (kind, measures) in enumerate(_MEASURES.items()):
        mine = [each for each in found if each.kind == kind]
        sums = [tuple(map(sum, zip(*side, strict=True))) for side in _sides(mine)] if mine else [(0,), (0,)]
        shown = size if kind == "memory" else _count
        yield from [[]] if number else []
        what = f"private {kind}" if kind == "memory" else kind
        delta = sums[1][0] - sums[0][0]
        change = f"{'+' if delta > 0 else ''}{shown(delta)}" if delta else "no change"
        yield [(f"{what}: {shown(sums[0][0])} to {shown(sums[1][0])} ({change})", "bold")]
        changed = [each for each in mine if each.before != each.after]
        if changed:
            yield Table(_columns(kind, measures), [_row(each, measures, shown) for each in changed[: limit or None]])
        if limit and len(changed) > limit:
            yield [(rest(len(changed) - limit, "change", "changes"), "dim")]


def _sides(found: Sequence[Change]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return [each.before for each in found], [each.after for each in found]


def _columns(kind: str, measures: Sequence[str]) -> list[Column]:
    others = [Column(f"{name} change", spare=True) for name in measures[1:]]
    title = "belongs to" if kind == "memory" else "kind" if kind == "descriptors" else "name"
    return [Column("before"), Column("after"), Column("change"), *others, Column(title, "left")]


def _row(each: Change, measures: Sequence[str], shown: Callable[[int], str]) -> list[Cell]:
    style = "red" if each.delta > 0 else "green" if each.delta < 0 else ""
    row = [(shown(each.before[0]), style), (shown(each.after[0]), style), (_signed(each.delta, shown), style)]
    for at, name in enumerate(measures[1:], 1):
        write = _count if name in ("mappings", "count") else shown
        row.append((_signed(each.after[at] - each.before[at], write), style))
    return [*row, (each.name, style)]


def _signed(value: int, shown: Callable[[int], str]) -> str:
    return f"{'+' if value > 0 else ''}{shown(value)}" if value else ""


def _count(value: int) -> str:
    return f"{value:,}"


def changes_document(found: Sequence[Change]) -> dict[str, Any]:
    """The same for JSON, with what has not changed."""
    return {
        "format": "insitu-proc-diff-1",
        **{
            kind: [
                {
                    "name": each.name,
                    "before": dict(zip(measures, each.before, strict=True)),
                    "after": dict(zip(measures, each.after, strict=True)),
                }
                for each in found
                if each.kind == kind
            ]
            for kind, measures in _MEASURES.items()
        },
    }
