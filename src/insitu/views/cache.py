"""How much of files is in the page cache, as a sentence, a table and a strip for each file."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from insitu.inspect.cache_flow import Flow, Look
from insitu.inspect.page_cache import FileCache, Segment, Totals
from insitu.inspect.page_cache import Mapping as Mapped
from insitu.kernel.page_cache import PAGE, Counts, summed
from insitu.views import quantity
from insitu.views.quantity import percent, size
from insitu.views.table import Cell, Column, Line, Table
from insitu.views.terminal import Block, Prose

__all__ = ["blocks", "document", "flow_line", "flow_title", "flow_verdict", "strip"]

_BARS: Final = "▁▂▃▄▅▆▇█"
_NOTHING: Final = "·"
_NARROW: Final = 10  # characters of a strip in a line of 80
_MOST_LISTED: Final = 3  # of the files that were not looked at, and of the processes that map a file
_DOES_NOT_FIT: Final = (
    "The file does not fit into what memory is left for it: each page is evicted before it is used again."
)
_WHAT_HELPS: Final = (
    "What helps: more memory (or memory.max of its cgroup); reading it once for all that need it, or every other "
    "time backwards; O_DIRECT, or posix_fadvise(POSIX_FADV_DONTNEED) behind the reader, which leaves the cache to "
    "other files."
)


def blocks(
    totals: Totals,
    files: Sequence[FileCache],
    parts: Mapping[str, Sequence[Segment]],
    mappings: Mapping[str, Sequence[Mapped]],
) -> Iterator[Block]:
    """The sums in words, ``files`` as a table, the parts of a single file, and what was not looked at."""
    yield Prose([(_sentence(totals), "bold")])
    if files:
        yield []
        yield _table(files, parts)
        if totals.files > len(files):
            yield [(quantity.rest(totals.files - len(files), "file"), "dim")]
    numa = any(part.nodes for each in parts.values() for part in each)
    for file in files if numa or totals.files == 1 else ():
        if len(parts.get(file.path, ())) > 1:
            yield []
            yield from _parts(file, parts[file.path], len(files) > 1)
    for file in files:
        if found := mappings.get(file.path):
            yield []
            yield _mapped(file, found, len(files) > 1)
    for listed, what in ((totals.unknown, "not known"), (totals.failed, "not opened")):
        if listed:
            yield []
            yield from _left_out(listed, what)


def _sentence(totals: Totals) -> str:
    cached, dirty, writeback, _, lately = (None if pages is None else pages * PAGE for pages in totals.counts)
    assert cached is not None
    where = f" in {totals.directories:,} {_plural('directory', 'directories', totals.directories)}"
    what = f"{totals.files:,} {_plural('file', 'files', totals.files)}{where if totals.directories else ''}"
    words = [f"{what}: {size(min(cached, totals.size))} of {size(totals.size)} in the page cache"]
    words[0] += f" ({percent(min(cached, totals.size), totals.size):.1f} %)"
    for value, name in ((dirty, "dirty"), (writeback, "being written"), (lately, "evicted not long ago")):
        if value:
            words.append(f"{size(value)} {name}")
    return "; ".join(words)


def _plural(one: str, several: str, number: int) -> str:
    return one if number == 1 else several


def _table(files: Sequence[FileCache], parts: Mapping[str, Sequence[Segment]]) -> Table:
    columns = [
        Column("cached"),
        Column("of"),
        Column("%"),
        Column("dirty", spare=True),
        Column("evicted", spare=True),
    ]
    strips = {file.path: strip(parts.get(file.path, ())) for file in files}
    wide = any(strips.values())
    columns += [Column("where", "left")] if wide else []
    columns.append(Column("file", "left"))
    rows: list[Sequence[Cell]] = []
    for file in files:
        cached = min(file.counts.cached * PAGE, file.size)
        row: list[Cell] = [(size(cached), ""), (size(file.size), ""), (f"{percent(cached, file.size):.1f}", "")]
        row += [_pages(file.counts.dirty), _pages(file.counts.evicted)]
        row += [(strips[file.path], "")] if wide else []
        holes = file.stored < file.size - PAGE and file.stored < file.size // 2
        row.append((file.path + (f" (sparse: {size(file.stored)} on the disk)" if holes else ""), ""))
        rows.append(row)
    return Table(columns, rows)


def _pages(pages: int | None) -> Cell:
    """Pages as bytes; "-" for none, "?" for what is not known."""
    if pages is None:
        return "?", "dim"
    return (size(pages * PAGE), "") if pages else ("-", "dim")


def strip(parts: Sequence[Segment]) -> str:
    """A character for each part of a file: how much of it is cached, from "·" (nothing) to a full block (all)."""
    return "".join(_bar(part) for part in parts)


def _bar(part: Segment) -> str:
    cached, whole = part.counts.cached, -(-part.length // PAGE)
    if not cached:
        return _NOTHING
    # A full block is for all of it alone.
    return _BARS[-1] if cached >= whole else _BARS[cached * (len(_BARS) - 1) // whole]


def _parts(file: FileCache, parts: Sequence[Segment], named: bool) -> Iterator[Block]:
    nodes = sorted({node for part in parts for node in part.nodes})
    if named:
        yield [(f"# parts of {file.path}", "bold")]
    columns = [Column("offset"), Column("length"), Column("cached"), Column("%"), Column("dirty"), Column("evicted")]
    columns += [Column(f"node {node}") for node in nodes]
    rows: list[Sequence[Cell]] = []
    for part in parts:
        cached = min(part.counts.cached * PAGE, part.length)
        row: list[Cell] = [(size(part.offset), ""), (size(part.length), ""), _pages(part.counts.cached)]
        row += [(f"{percent(cached, part.length):.1f}", ""), _pages(part.counts.dirty), _pages(part.counts.evicted)]
        row += [_pages(part.nodes[node]) for node in nodes]
        rows.append(row)
    yield Table(columns, rows)


def _mapped(file: FileCache, found: Sequence[Mapped], named: bool) -> Line:
    texts = [f"{each.name}/{each.pid} ({size(each.size)})" for each in found[:_MOST_LISTED]]
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return Prose([(f"# {file.path if named else 'it'} is mapped by {', '.join(texts)}{more}", "")])


def _left_out(listed: Sequence[tuple[str, str]], what: str) -> Iterator[Line]:
    count = len(listed)
    yield [(f"# {what}: {count:,} {_plural('file', 'files', count)}", "yellow")]
    for path, why in listed[:_MOST_LISTED]:
        yield [(f"#   {path}: {why}", "dim")]
    if count > _MOST_LISTED:
        yield [(f"#   and {count - _MOST_LISTED:,} more", "dim")]


def flow_title() -> Line:
    """What stands above the lines of flow_line()."""
    names = ("seconds", "cached", "read in", "evicted", "dirty", "refaults")
    return [("# " + "".join(f"{name:>11}" for name in names), "bold"), ("  where", "bold")]


def flow_line(seconds: float, now: Look, change: Flow) -> Line:
    """One interval: what is cached, and what came and went."""
    dirty = now.counts.dirty
    cells = (
        f"{seconds:.1f}",
        size(now.counts.cached * PAGE),
        size(change.came * PAGE),
        size(change.went * PAGE),
        "?" if dirty is None else size(dirty * PAGE),
        "?" if change.refaults is None else size(change.refaults * PAGE),
    )
    one = next(iter(now.parts.values()), ()) if len(now.parts) == 1 else ()
    return [("  " + "".join(f"{cell:>11}" for cell in cells), ""), (f"  {strip(_joined(one))}", "")]


def _joined(parts: Sequence[Segment]) -> list[Segment]:
    """Parts put together, so that a strip of them fits beside the figures."""
    step = -(-len(parts) // _NARROW) or 1
    groups = [parts[at : at + step] for at in range(0, len(parts), step)]
    return [
        Segment(each[0].offset, sum(part.length for part in each), summed([p.counts for p in each]), Counter())
        for each in groups
    ]


def flow_verdict(files: Sequence[FileCache], now: Look, total: Flow) -> Iterator[Line]:
    """What the whole time showed, in words; nothing where nothing came and went."""
    pages = sum(file.pages for file in files)
    if not total.is_scan(now.counts.cached, pages):
        return
    came, kept = size(total.came * PAGE), size(now.counts.cached * PAGE)
    yield []
    what = f"at least {came} were read in and as much was evicted, while {kept} of {size(pages * PAGE)} stay."
    yield Prose([(f"A scan goes through the page cache: {what}", "bold")])
    if total.refaults:
        again = size(total.refaults * PAGE)
        yield Prose([(f"{again} were read again after they had been evicted (the whole machine).", "")])
    yield Prose([(_DOES_NOT_FIT, "")])
    yield Prose([(_WHAT_HELPS, "")])


def document(
    totals: Totals,
    files: Sequence[FileCache],
    parts: Mapping[str, Sequence[Segment]],
    mappings: Mapping[str, Sequence[Mapped]],
) -> dict[str, Any]:
    """The same for JSON, in bytes; null is not known."""
    return {
        "format": "insitu-cache-1",
        "page_size": PAGE,
        "files": totals.files,
        "directories": totals.directories,
        "size": totals.size,
        **_document(totals.counts),
        "listed": [
            {
                "path": file.path,
                "size": file.size,
                "stored": file.stored,
                **_document(file.counts),
                "parts": [
                    {"offset": part.offset, "size": part.length, **_document(part.counts), "nodes": dict(part.nodes)}
                    for part in parts.get(file.path, ())
                ],
                "mapped_by": [each._asdict() for each in mappings.get(file.path, ())],
            }
            for file in files
        ],
        "unknown": [{"path": path, "why": why} for path, why in totals.unknown],
        "failed": [{"path": path, "why": why} for path, why in totals.failed],
    }


def _document(counts: Counts) -> dict[str, int | None]:
    return {name: None if pages is None else pages * PAGE for name, pages in counts._asdict().items()}
