"""What an address belongs to, and the pages of a range, as text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from insitu.inspect.address import Place
from insitu.inspect.page_runs import Run
from insitu.views.quantity import rest, size
from insitu.views.table import Column, Line, Table
from insitu.views.terminal import Block, Prose

__all__ = ["blocks", "document", "run_blocks", "run_document"]

_MOST_SHARERS = 5


def blocks(found: Place) -> Iterator[Block]:
    """The place in a sentence, then its source lines, mapping and physical page."""
    yield Prose([(f"{found.address:#x}: ", "bold"), (found.text, "bold")])
    for frame in found.source:
        inlined = " (inlined)" if frame.inlined else ""
        yield Prose([(f"  {frame.function}{inlined}  {frame.file}:{frame.line}", "cyan")])
    if found.area is not None:
        area = found.area
        name = area.path.decode(errors="replace") or "[anonymous]"
        at = f", offset {found.address - area.start + area.offset:#x} of the file" if area.inode else ""
        yield Prose([(f"  mapping {area.start:x}-{area.end:x} {area.permissions} {name}{at}", "")])
        yield from _page(found)


def _page(found: Place) -> Iterator[Line]:
    page = found.page
    if page is None:
        yield Prose([("  no page is there yet: the first access gets one", "")])
        return
    if not page.frame:
        yield Prose([(f"  page: {page.state}", "")])
        return
    times = "once" if page.mapped == 1 else f"{page.mapped:,} times"
    yield Prose([(f"  physical page {page.frame:#x}, mapped {times}: {page.state}", "")])
    yield Prose([(f"  its flags: {', '.join(page.flags)}", "")])
    if page.sharers:
        shown = ", ".join(f"{each.name}/{each.pid}" for each in page.sharers[:_MOST_SHARERS])
        left = len(page.sharers) - _MOST_SHARERS
        more = f" and {left:,} more" if left > 0 else ""
        yield Prose([(f"  also mapped by {shown}{more}", "")])


def document(found: Place) -> dict[str, Any]:
    """The same for JSON."""
    area, stack, page = found.area, found.stack, found.page
    return {
        "address": f"{found.address:#x}",
        "text": found.text,
        "symbol": found.symbol or None,
        "source": [frame._asdict() for frame in found.source],
        "mapping": {
            "start": f"{area.start:#x}",
            "end": f"{area.end:#x}",
            "permissions": area.permissions,
            "offset": area.offset,
            "path": area.path.decode(errors="replace"),
        }
        if area
        else None,
        "stack": {**stack._asdict(), "frame": [frame._asdict() for frame in stack.frame]} if stack else None,
        "page": {
            "frame": f"{page.frame:#x}" if page.frame else None,
            "mapped": page.mapped,
            "flags": list(page.flags),
            "state": page.state,
            "shared_with": [{"pid": each.pid, "name": each.name} for each in page.sharers],
        }
        if page
        else None,
        "notes": list(found.notes),
    }


def run_blocks(runs: Sequence[Run], limit: int) -> Iterator[Block]:
    """How many pages are in which state, and the runs, ``limit`` of them."""
    counts: Counter[str] = Counter()
    for run in runs:
        counts[run.state] += run.pages
    words = ", ".join(f"{pages:,} {state or 'not there yet'}" for state, pages in counts.most_common())
    whole = sum(counts.values())
    yield Prose([(f"{whole:,} {'page' if whole == 1 else 'pages'}: ", "bold"), (words, "")])
    yield []
    yield Table(
        [Column("address"), Column("pages"), Column("size"), Column("state", "left")],
        [
            [
                (f"{run.start:x}", ""),
                (f"{run.pages:,}", ""),
                (size(run.end - run.start), ""),
                (run.state or "not there yet", ""),
            ]
            for run in runs[: limit or None]
        ],
    )
    if limit and len(runs) > limit:
        yield Prose([(rest(len(runs) - limit, "run of pages", "runs of pages"), "dim")])


def run_document(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The same for JSON."""
    return [
        {"start": f"{run.start:#x}", "end": f"{run.end:#x}", "pages": run.pages, "state": run.state or None}
        for run in runs
    ]
