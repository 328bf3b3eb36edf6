"""Reports on function calls as text and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from insitu.plurals import counted
from insitu.session.call_table import INTERRUPT
from insitu.valid_text import json_document
from insitu.views.calls.functions import UNTRACED, CalleeTime, FunctionCalls
from insitu.views.quantity import duration, percent, rest
from insitu.views.table import Column, Table
from insitu.views.terminal import Block, heat

__all__ = ["NotTraced", "callees_json", "callees_table", "functions_json", "functions_table"]

_MOST_NAMES: Final = 8
_COLUMNS: Final = (
    Column("self%"),
    Column("self"),
    Column("total"),
    Column("calls"),
    Column("mean"),
    Column("p50", spare=True),
    Column("p99", spare=True),
    Column("max"),
    Column("deviation", spare=True),
    Column("outliers", spare=True),
    Column("function", "left", names=True),
)


def functions_table(rows: Sequence[FunctionCalls], limit: int = 0) -> Iterator[Block]:
    """The functions by falling self time; at most ``limit`` (0: all)."""
    whole = sum(row.self_ns for row in rows)
    cells = []
    for row in rows[: limit or None]:
        share = percent(row.self_ns, whole)
        times = (row.self_ns, row.total_ns)
        spread = (row.mean_ns, row.p50_ns, row.p99_ns, row.max_ns, row.deviation_ns)
        cells.append(
            [
                (f"{share:.2f}", heat(share)),
                *((duration(each), "") for each in times),
                (str(row.calls), ""),
                *((duration(each), "") for each in spread),
                (str(row.outliers) if row.outliers else "-", ""),
                (row.function + " (interrupt)" * (row.category == INTERRUPT), ""),
            ]
        )
    yield Table(_COLUMNS, cells)
    if limit and len(rows) > limit:
        yield [(rest(len(rows) - limit, "function"), "dim")]


def functions_json(rows: Sequence[FunctionCalls], limit: int = 0) -> str:
    """The functions as one JSON document."""
    return json_document({"format": "insitu-calls-1", "functions": [row._asdict() for row in rows[: limit or None]]})


class NotTraced(NamedTuple):
    """What a function calls directly without being in a recording: by filters or depth; and what cannot be traced."""

    could_be: Sequence[str]
    cannot_be: Sequence[str]
    through_pointers: bool
    """Whether it calls others, which its code does not name."""

    @property
    def text(self) -> str:
        """The name of what is left of the function's time."""
        parts = [
            f"{what}: {', '.join([*names[:_MOST_NAMES], *(['...'] if len(names) > _MOST_NAMES else [])])}"
            for what, names in (("untraceable", self.cannot_be), ("not traced", self.could_be))
            if names
        ]
        return f"[{'; '.join(['itself', *parts, *(['calls through pointers'] * self.through_pointers)])}]"


def callees_table(
    function: str, calls: int, total_ns: int, parts: Sequence[CalleeTime], not_traced: NotTraced | None = None
) -> Iterator[Block]:
    """What the calls of a function consist of; ``not_traced`` None: its machine code is not known."""
    yield [
        (
            f"{function}: {counted(calls, 'call')}, {duration(total_ns)}, {duration(total_ns / max(calls, 1))} each",
            "bold",
        )
    ]
    columns = [Column("%"), Column("total"), Column("calls"), Column("each"), Column("in", "left", names=True)]
    rows = []
    for part in parts:
        share = percent(part.total_ns, total_ns)
        times = (duration(part.total_ns), str(part.calls), duration(part.total_ns / max(part.calls, 1)))
        name = part.function or (not_traced.text if not_traced else UNTRACED)
        rows.append([(f"{share:.2f}", heat(share)), *((each, "") for each in times), (name, "")])
    yield Table(columns, rows)


def callees_json(
    function: str, calls: int, total_ns: int, parts: Sequence[CalleeTime], not_traced: NotTraced | None = None
) -> str:
    """The same as one JSON document; of the untraced part ``function`` is null."""
    document: Mapping[str, object] = {
        "format": "insitu-callees-1",
        "function": function,
        "calls": calls,
        "total_ns": total_ns,
        "parts": [part._asdict() for part in parts],
        "untraceable": None if not_traced is None else [*not_traced.cannot_be],
        "calls_through_pointers": None if not_traced is None else not_traced.through_pointers,
        "not_traced": None if not_traced is None else [*not_traced.could_be],
    }
    return json_document(document)
