"""Leaks in words: a verdict, what is lost by size and content, why a block is alive, who keeps how much alive."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from insitu.inspect.heap.allocations import StackGroup
from insitu.inspect.heap.contents import Group
from insitu.inspect.heap.holders import Holder, Step
from insitu.inspect.heap.leaks import Leaks
from insitu.inspect.heap.reachability import CLASSES, DEFINITE, INDIRECT, POSSIBLE, REACHABLE
from insitu.views.quantity import duration, percent, rest, size
from insitu.views.stack_lines import stack_lines
from insitu.views.table import Cell, Column, Line, Table
from insitu.views.terminal import Block, Prose

__all__ = ["blocks", "chain", "document", "holders", "verdict"]

_MOST_STEPS: Final = 40
"""Of a chain that are shown, from both ends, and of a stack."""


def blocks(
    found: Leaks, groups: Sequence[Group], limit: int, stacks: Sequence[StackGroup] | None = None
) -> Iterator[Block]:
    """The verdict, the sums of the classes, the groups and, if traced, the stacks: ``limit`` of each (0: all)."""
    snapshot = found.snapshot
    stopped = f"stopped for {duration(snapshot.stopped_ns)} while it was copied" if snapshot.stopped_ns else "a core"
    title = f"{snapshot.name} ({snapshot.pid})"
    yield Prose([(title, "bold"), (f": {size(snapshot.memory.size)} of memory, {stopped}", "")])
    yield Prose([(verdict(found, groups), "bold red" if found.totals[DEFINITE].blocks else "bold")])
    yield []
    yield _totals(found)
    if groups:
        yield []
        yield _table(groups[: limit or None])
        if limit and len(groups) > limit:
            yield [(rest(len(groups) - limit, "group", "groups"), "dim")]
    if stacks is not None:
        yield from _by_stack(groups, stacks, limit)


def _by_stack(groups: Sequence[Group], stacks: Sequence[StackGroup], limit: int) -> Iterator[Block]:
    """Where blocks were allocated, and how old they are."""
    for group in stacks[: limit or None]:
        ages = f"{duration(group.newest_ns)} to {duration(group.oldest_ns)}"
        style = "red" if group.kind == DEFINITE else "bold"
        yield []
        yield [
            (f"{_SHORT[group.kind]}: {group.bytes:,} bytes in {_blocks(group.blocks)}", style),
            (f", {ages if group.blocks > 1 else duration(group.oldest_ns)} old, allocated by", ""),
        ]
        yield from stack_lines(group.stack, _MOST_STEPS, "-o RUN.insitu keeps all")
    if limit and len(stacks) > limit:
        yield [(rest(len(stacks) - limit, "stack", "stacks"), "dim")]
    older = sum(group.blocks for group in groups) - sum(group.blocks for group in stacks)
    if older > 0:
        yield []
        yield [(f"Of {_blocks(older)} the allocation was not traced: they are older than the tracking.", "dim")]


def verdict(found: Leaks, groups: Sequence[Group]) -> str:
    """What is lost, in a sentence."""
    definite, indirect, possible, _ = found.totals
    every = sum(total.bytes for total in found.totals)
    if not sum(total.blocks for total in found.totals):
        return "The process has no blocks of malloc()."
    if not definite.blocks and not possible.blocks:
        return f"No leak: all {_blocks(found.totals[REACHABLE].blocks)} can be reached."
    words = []
    if definite.blocks:
        lost = definite.bytes + indirect.bytes
        many = definite.blocks + indirect.blocks
        words.append(f"Lost: {size(lost)} in {_blocks(many)} ({percent(lost, every):.1f} % of what is allocated)")
    if possible.blocks:
        begin = "possibly lost" if words else "Possibly lost"
        words.append(f"{begin}: {size(possible.bytes)} in {_blocks(possible.blocks)}")
    if groups and groups[0].kind == DEFINITE:
        words.append(f"most: {_group(groups[0])}")
    return "; ".join(words) + "."


def _group(group: Group) -> str:
    what = f"{_blocks(group.blocks)} of {group.size:,} bytes"
    inside = {"object": group.name, "text": f"text such as {group.name!r}", "zeros": "zeros"}.get(group.content)
    with_them = f" with {size(group.indirect_bytes)} that only they lead to" if group.indirect_blocks else ""
    return what + (f", {inside}" if inside else "") + with_them


def _blocks(number: int) -> str:
    return "1 block" if number == 1 else f"{number:,} blocks"


def _totals(found: Leaks) -> Table:
    rows: list[Sequence[Cell]] = [
        [(total.kind, ""), (f"{total.bytes:,}", ""), (f"{total.blocks:,}", "")] for total in found.totals
    ]
    rows.append([("free", "dim"), (f"{found.heap.free_bytes:,}", "dim"), (f"{found.heap.free_blocks:,}", "dim")])
    return Table([Column("", "left"), Column("bytes"), Column("blocks")], rows)


_SHORT: Final = {DEFINITE: "lost", INDIRECT: "indirectly", POSSIBLE: "possibly", REACHABLE: "reachable"}


def _table(groups: Sequence[Group]) -> Table:
    columns = [
        Column("class", "left"),
        Column("bytes"),
        Column("with them", spare=True),
        Column("blocks"),
        Column("size"),
    ]
    columns += [Column("content", "left"), Column("", "left"), Column("first", "left", spare=True, rank=1)]
    rows: list[Sequence[Cell]] = [
        [
            (_SHORT[group.kind], "red" if group.kind == DEFINITE else ""),
            (f"{group.bytes:,}", ""),
            (f"{group.indirect_bytes:,}" if group.indirect_bytes else "-", ""),
            (f"{group.blocks:,}", ""),
            (f"{group.size:,}", ""),
            (group.content, ""),
            (group.name, ""),
            (f"{group.example:#x}", "dim"),
        ]
        for group in groups
    ]
    return Table(columns, rows)


def chain(found: Leaks, block: int, steps: Sequence[Step]) -> Iterator[Line]:
    """Why a block is alive, or with what it is lost."""
    kind = int(found.verdicts.kind[block])
    address, length = int(found.heap.addresses[block]), int(found.heap.sizes[block])
    yield [(f"{address:#x}, {length:,} bytes: {CLASSES[kind]}", "bold")]
    if kind == DEFINITE:
        yield [("  No chain of pointers leads to it from a root.", "")]
        return
    if kind == INDIRECT:
        yield [(f"  It is lost with {steps[0].address:#x}, which nothing leads to:", "")]
    shown = steps
    left = len(steps) - _MOST_STEPS
    for index, step in enumerate(shown):
        if left > 0 and _MOST_STEPS // 2 <= index < len(steps) - _MOST_STEPS // 2:
            if index == _MOST_STEPS // 2:
                yield [(f"  ... {left:,} more blocks", "dim")]
            continue
        inside = f"+{step.offset:#x}" if step.offset else ""
        where = step.where or "(lost)"
        yield Prose(
            [
                (f"  {where}", ""),
                (" -> ", "dim"),
                (f"{step.address:#x}{inside}", ""),
                (f"  {step.size:,} bytes", "dim"),
            ]
        )


def holders(found: Leaks, rows: Sequence[tuple[Holder, str, str]], limit: int) -> Iterator[Block]:
    """Which blocks keep how much alive, with what leads to each and what is in it."""
    reached = sum(total.bytes for total in found.totals[POSSIBLE:])
    yield Prose([(f"{size(reached)} can be reached; freed together with each of these would be", "bold")])
    columns = [Column("bytes"), Column("%"), Column("blocks"), Column("block", "left"), Column("size")]
    columns += [Column("content", "left"), Column("held by", "left")]
    cells: list[Sequence[Cell]] = [
        [
            (f"{holder.bytes:,}", ""),
            (f"{percent(holder.bytes, reached):.1f}", ""),
            (f"{holder.blocks:,}", ""),
            (f"{holder.address:#x}", ""),
            (f"{holder.size:,}", ""),
            (inside, ""),
            (root, ""),
        ]
        for holder, inside, root in rows[: limit or None]
    ]
    yield Table(columns, cells)


def document(found: Leaks, groups: Sequence[Group], stacks: Sequence[StackGroup] | None = None) -> dict[str, Any]:
    """The same for JSON; "stacks" only if allocations were traced."""
    heap, snapshot = found.heap, found.snapshot
    by_stack = [
        {**group._asdict(), "kind": CLASSES[group.kind], "stack": [frame._asdict() for frame in group.stack]}
        for group in stacks or ()
    ]
    return {
        **({"stacks": by_stack} if stacks is not None else {}),
        "pid": snapshot.pid,
        "name": snapshot.name,
        "verdict": verdict(found, groups),
        "stopped_ns": snapshot.stopped_ns,
        "copied_bytes": snapshot.memory.size,
        "classes": [total._asdict() for total in found.totals],
        "heap": {
            "arenas": heap.arenas,
            "mapped_blocks": int(heap.mapped.sum()),
            "free_bytes": heap.free_bytes,
            "free_blocks": heap.free_blocks,
            "damaged": [each._asdict() for each in heap.damaged],
        },
        "groups": [{**group._asdict(), "kind": CLASSES[group.kind], "bytes": group.bytes} for group in groups],
        "notes": list(snapshot.notes),
    }
