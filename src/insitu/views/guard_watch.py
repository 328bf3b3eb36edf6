"""Writes of a watched address by stack: how often, and the last value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from insitu.debug.guard_faults import place
from insitu.symbols.frame import Frame
from insitu.views.terminal import Block

__all__ = ["write_blocks"]


def write_blocks(writes: Sequence[Mapping[str, Any]], *, most: int = 32) -> Iterator[Block]:
    """``writes`` have tid, name, before (None: not known), after and stack (frames, innermost first).

    ``most``: frames, 0: all.
    """
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for write in writes:
        key = tuple((frame["function"], frame["file"], frame["line"]) for frame in write["stack"])
        groups.setdefault(key, []).append(write)
    for key, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        last = group[-1]
        count = "1 write" if len(group) == 1 else f"{len(group):,} writes"
        who = f"{last['name']} ({last['tid']})"
        yield []
        before = "?" if last["before"] is None else f"{last['before']:#x}"
        frames = [
            Frame(frame["function"], frame["module"] or "", frame["file"] or "", frame["line"] or 0)
            for frame in last["stack"]
        ]
        named = place(frames)
        where = f" in {named.function}" if named else ""
        yield [(f"{count}{where}, the last one by {who}: {before} -> {last['after']:#x}", "bold")]
        for number, (function, file, line) in enumerate(key[: most or None]):
            source = f"  {file.rpartition('/')[2]}:{line}" if line else ""
            yield [(f"  #{number:<3}", "dim"), (function, ""), (source, "cyan")]
        if most and len(key) > most:
            yield [(f"  ... {len(key) - most} more; --max-frames 0 shows all", "dim")]
