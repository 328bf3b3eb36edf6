"""A histogram of an event, as a table and as JSON."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from insitu.errors import InsituError, nearest
from insitu.views.quantity import percent, rest
from insitu.views.table import Cell, Column, Table
from insitu.views.terminal import Block, heat

__all__ = ["Entry", "blocks", "document", "sorted_entries"]


class Entry(Protocol):
    """An entry: keys (a stack is a tuple of functions, innermost first), hits, sums of values."""

    @property
    def keys(self) -> tuple[Any, ...]: ...
    @property
    def hits(self) -> int: ...
    @property
    def values(self) -> tuple[int, ...]: ...


def sorted_entries(
    entries: Sequence[Entry], keys: Sequence[str], values: Sequence[str], sort: str | None
) -> list[Entry]:
    """In the order of ``sort``: FIELD[.ascending|.descending]; by default the largest of the last value first.

    Raises InsituError (status 2) for a field that the histogram does not have.
    """
    name, _, order = (sort or (values[-1] if values else "hitcount")).partition(".")
    order = order or ("descending" if name not in keys else "ascending")
    if order not in ("ascending", "descending"):
        raise InsituError(f"--sort {sort}: .ascending or .descending", status=2)
    if name in ("hitcount", "hits"):
        found = sorted(entries, key=lambda entry: entry.hits)
    elif name in values:
        at = list(values).index(name)
        found = sorted(entries, key=lambda entry: entry.values[at])
    elif name in keys:
        at = list(keys).index(name)
        found = sorted(entries, key=lambda entry: (isinstance(entry.keys[at], str), entry.keys[at]))
    else:
        known = ("hitcount", *values, *keys)
        raise InsituError(
            f"--sort {name}: not in the histogram{nearest(name, known)}", remedy=", ".join(known), status=2
        )
    return found[::-1] if order == "descending" else found


def blocks(
    entries: Sequence[Entry],
    keys: Sequence[str],
    values: Sequence[str],
    *,
    hits: int,
    dropped: int,
    limit: int = 30,
) -> Iterator[Block]:
    """A line for each entry with its share of all hits, then the totals; 0: no ``limit``."""
    columns = [
        *(Column(title, "left" if _is_text(entries, at) else "right", fold=True) for at, title in enumerate(keys)),
        Column("hits"),
        Column("%"),
        *map(Column, values),
    ]
    rows: list[list[Cell]] = []
    shown = entries[: limit or None]
    for entry in shown:
        share = percent(entry.hits, hits)
        rows.append(
            [
                *((_text(key), "") for key in entry.keys),
                (f"{entry.hits:,}", ""),
                (f"{share:.1f}", heat(share)),
                *((f"{value:,}", "") for value in entry.values),
            ]
        )
    yield Table(columns, rows)
    if len(shown) < len(entries):
        yield [(rest(len(entries) - len(shown), "entry", "entries"), "dim")]
    events, table = "event" if hits == 1 else "events", "entry" if len(entries) == 1 else "entries"
    yield [(f"# {hits:,} {events} in {len(entries):,} {table}; {_dropped(dropped)}", "bold" if dropped else "dim")]


def _dropped(count: int) -> str:
    return f"{count:,} not counted: the histogram was full (--entries)" if count else "none dropped"


def _is_text(entries: Sequence[Entry], at: int) -> bool:
    return any(not isinstance(entry.keys[at], int) for entry in entries)


def _text(key: Any) -> str:
    return " < ".join(key) if isinstance(key, tuple) else str(key)


def document(
    event: str, entries: Sequence[Entry], keys: Sequence[str], values: Sequence[str], *, hits: int, dropped: int
) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "event": event,
        "hits": hits,
        "dropped": dropped,
        "entries": [
            {
                "key": dict(zip(keys, entry.keys, strict=True)),
                "hits": entry.hits,
                "sum": dict(zip(values, entry.values, strict=True)),
            }
            for entry in entries
        ],
    }
