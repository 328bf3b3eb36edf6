"""What changed between two recordings of calls: self times by function, for each call and in total."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from insitu.session.call_table import INTERRUPT
from insitu.valid_text import json_document
from insitu.views.calls.functions import FunctionCalls
from insitu.views.quantity import duration, rest
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, Screen

__all__ = ["CallChange", "call_changes", "changes_json", "changes_table"]

_SIGNIFICANT: Final = 0.05
_FEWEST: Final = 5  # calls on each side, for a deviation worth the name


class CallChange(NamedTuple):
    """A function in both recordings: (before, after) each; times in nanoseconds.

    ``p`` is the probability of so large a difference of self times for each call by chance (Welch's test, normal):
    1 where there are too few calls to tell, 0 where one side has none of them.
    """

    function: str
    category: str
    calls: tuple[int, int]
    self_ns: tuple[int, int]
    each_ns: tuple[float, float]
    p: float

    @property
    def delta_ns(self) -> int:
        """Change of the self time in total."""
        return self.self_ns[1] - self.self_ns[0]


def call_changes(before: Sequence[FunctionCalls], after: Sequence[FunctionCalls]) -> list[CallChange]:
    """The functions of both, by falling change of their self time in total."""
    sides = [{(row.function, row.category): row for row in rows} for rows in (before, after)]
    found = []
    for function, category in dict.fromkeys([*sides[0], *sides[1]]):
        rows = [side.get((function, category)) for side in sides]
        calls = tuple(row.calls if row else 0 for row in rows)
        own = tuple(row.self_ns if row else 0 for row in rows)
        each = tuple(total / count if count else 0.0 for total, count in zip(own, calls, strict=True))
        p = 0.0 if not min(calls) and max(calls) >= _FEWEST else 1.0
        if rows[0] and rows[1] and min(calls) >= _FEWEST:
            spread = math.sqrt(sum(row.own_deviation_ns**2 / row.calls for row in rows if row))
            p = math.erfc(abs(each[1] - each[0]) / spread / math.sqrt(2)) if spread else float(each[0] == each[1])
        found.append(CallChange(function, category, calls, own, each, p))  # type: ignore[arg-type]  # pairs
    return sorted(found, key=lambda row: (-abs(row.delta_ns), row.function))


def changes_table(rows: Sequence[CallChange], screen: Screen, *, limit: int = 30) -> Iterator[Block]:
    """The ``limit`` (0: all) largest changes; "*" marks a change of the self time of each call, "~" none for sure."""
    mark = ("# ", "") if screen.plain else ("", "")
    yield [mark, ("self time by function; * each call's changed, ~ not significant (p >= 0.05)", "")]
    yield []
    columns = [
        Column("self before"),
        Column("after"),
        Column("delta"),
        Column("calls before", spare=True),
        Column("after", spare=True),
        Column("each before"),
        Column("after"),
        Column("~", "left"),
        Column("function", "left", names=True),
    ]
    cells = []
    for row in rows[: limit or None]:
        noise = row.p >= _SIGNIFICANT
        style = "dim" if noise else "red" if row.delta_ns > 0 else "green"
        texts = [*map(duration, row.self_ns), f"{'+' if row.delta_ns > 0 else ''}{duration(row.delta_ns)}"]
        texts += [*map(str, row.calls), *map(duration, row.each_ns), "~" if noise else "*"]
        name = row.function + " (interrupt)" * (row.category == INTERRUPT)
        cells.append([*((text, style) for text in texts), (name, style)])
    yield Table(columns, cells)
    if limit and len(rows) > limit:
        yield [(rest(len(rows) - limit, "function"), "dim")]


def changes_json(rows: Sequence[CallChange], limit: int = 0) -> str:
    """The changes as one JSON document."""
    return json_document(
        {"format": "insitu-calls-diff-1", "functions": [row._asdict() for row in rows[: limit or None]]}
    )
