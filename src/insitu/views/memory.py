"""The memory of a process in words and tables: what is behind its mappings, and who shares it."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from insitu.inspect.memory_map import COLUMNS, MemoryMap, totals
from insitu.views.quantity import rest, size
from insitu.views.table import Cell, Column, Line, Table
from insitu.views.terminal import Block, Prose

__all__ = ["blocks", "document"]

_ALWAYS: Final = ("private", "shared")
_RANKS: Final = {"pss": 1, "resident": 2}
"""Of columns that a narrow terminal has no room for, these are left out last."""
_SELDOM: Final = ("swapped", "huge", "locked", "hugetlb")
"""Columns that are shown only where there is any."""
_TITLES: Final = {"file": "file cache"}
_MOST_SHARERS: Final = 5


def blocks(found: MemoryMap, limit: int) -> Iterator[Block]:
    """The sums, what they belong to, and ``limit`` of the mappings, those with most memory first."""
    yield from _summary(found)
    columns = [name for name in COLUMNS if name not in _SELDOM or found.sizes[name].any()]
    yield []
    groups = totals(found)
    head = [Column("mappings"), *map(_column, columns), Column("belongs to", "left")]
    yield Table(
        head,
        [
            [(f"{each.mappings:,}", ""), *(_size(each.sizes[name]) for name in columns), (each.name, "")]
            for each in groups[: limit or None]
        ],
    )
    if limit and len(groups) > limit:
        yield [(rest(len(groups) - limit, "file or name", "files or names"), "dim")]
    yield []
    in_memory = found.sizes["resident"] + found.sizes["hugetlb"]
    order = sorted(range(len(found.areas)), key=lambda at: (-int(in_memory[at]), at))
    yield Table(
        [Column("address"), Column("", "left"), Column("size"), *map(_column, columns), *_last(found)],
        [_row(found, at, columns) for at in order[: limit or None]],
    )
    if limit and len(order) > limit:
        yield [(rest(len(order) - limit, "mapping", "mappings"), "dim")]


def _summary(found: MemoryMap) -> Iterator[Line]:
    sums = {name: int(found.sizes[name].sum()) for name in COLUMNS}
    count = len(found.areas)
    whole = sum(found.size(at) for at in range(count))
    pool = f" and {size(sums['hugetlb'])} of the pool of huge pages (hugetlb)" if sums["hugetlb"] else ""
    yield Prose(
        [
            (f"memory of {found.name} ({found.pid}): {size(sums['resident'])} resident{pool}", "bold"),
            (f" in {count:,} {'mapping' if count == 1 else 'mappings'} of {size(whole)} of addresses", ""),
        ]
    )
    words = [f"private {size(sums['private'])}", f"shared {size(sums['shared'])}"]
    words += [f"its share of all {size(found.pss)}", f"of files {size(sums['file'])}", f"dirty {size(sums['dirty'])}"]
    words += [f"{name} {size(sums[name])}" for name in _SELDOM if sums[name] and name != "hugetlb"]
    yield Prose([(f"  {', '.join(words)}", "")])
    by_node = _by_node(found)
    if len(by_node) > 1:
        yield Prose(
            [("  " + ", ".join(f"{size(many)} on node {node}" for node, many in sorted(by_node.items())), "")]
        )
    if found.sharers:
        shown = ", ".join(f"{size(each.bytes)} with {each.name}/{each.pid}" for each in found.sharers[:_MOST_SHARERS])
        left = len(found.sharers) - _MOST_SHARERS
        more = f" and {left:,} more {'process' if left == 1 else 'processes'}" if left > 0 else ""
        yield Prose([(f"  shared: {shown}{more}", "")])


def _by_node(found: MemoryMap) -> dict[int, int]:
    sums: dict[int, int] = {}
    for each in found.nodes.values():
        for node, many in each.items():
            sums[node] = sums.get(node, 0) + many
    return sums


def _column(name: str) -> Column:
    return Column(_TITLES.get(name, name), spare=name not in _ALWAYS, rank=_RANKS.get(name, 0))


def _last(found: MemoryMap) -> list[Column]:
    nodes = [Column("nodes", "left", spare=True)] if len(_by_node(found)) > 1 else []
    shared = [Column("with", "left", spare=True)] if found.sharers else []
    return [*nodes, *shared, Column("mapping", "left")]


def _row(found: MemoryMap, at: int, columns: Sequence[str]) -> list[Cell]:
    area = found.areas[at]
    row = [(f"{area.start:x}", ""), (area.permissions, ""), _size(found.size(at))]
    row += [_size(int(found.sizes[name][at])) for name in columns]
    if len(_by_node(found)) > 1:
        each = found.nodes.get(area.start, {})
        row.append((" ".join(f"{node}:{size(many)}" for node, many in sorted(each.items())), ""))
    if found.sharers:
        row.append((_with(found, at), ""))
    name = area.path.decode(errors="replace") or found.groups[at]
    return [*row, (f"{name} +{area.offset:#x}" if area.offset and name.startswith("/") else name, "")]


def _with(found: MemoryMap, at: int) -> str:
    """Who maps most of the pages of a mapping."""
    mine = sorted((-each.by_mapping[at], each.pid) for each in found.sharers if at in each.by_mapping)
    if not mine:
        return ""
    more = f" +{len(mine) - 1:,}" if len(mine) > 1 else ""
    name = next(each.name for each in found.sharers if each.pid == mine[0][1])
    return f"{name}/{mine[0][1]}{more}"


def _size(value: int) -> Cell:
    return (size(value), "") if value else ("", "")


def document(found: MemoryMap) -> dict[str, Any]:
    """The same for JSON: sizes in bytes."""
    return {
        "by_page": found.by_page,
        "pss": found.pss,
        "totals": [
            {"name": each.name, "mappings": each.mappings, "size": each.size, **each.sizes} for each in totals(found)
        ],
        "mappings": [
            {
                "start": f"{area.start:#x}",
                "end": f"{area.end:#x}",
                "permissions": area.permissions,
                "offset": area.offset,
                "path": area.path.decode(errors="replace"),
                "belongs_to": found.groups[at],
                **{name: int(found.sizes[name][at]) for name in COLUMNS},
                "nodes": {str(node): many for node, many in found.nodes.get(area.start, {}).items()},
            }
            for at, area in enumerate(found.areas)
        ],
        "shared_with": [
            {
                "pid": each.pid,
                "name": each.name,
                "bytes": each.bytes,
                "by_mapping": {f"{found.areas[at].start:#x}": many for at, many in each.by_mapping.items()},
            }
            for each in found.sharers
        ],
        "notes": list(found.notes),
    }
