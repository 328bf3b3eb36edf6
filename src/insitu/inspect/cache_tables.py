"""The page cache in a session: a row for each file, and for each part of one, each time that they were looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from insitu.inspect.page_cache import FileCache, Segment
from insitu.kernel import procfs
from insitu.kernel.page_cache import PAGE, Counts
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.schema import Column, Table, register
from insitu.session.writer import SessionWriter

__all__ = ["CACHED_FILE", "CACHED_RANGE", "Look", "save"]

_COUNTS: Final = (
    Column("cached_bytes", "bytes", "in the page cache"),
    Column("dirty_bytes", "bytes", "not yet written; null: unknown, before Linux 6.5", nullable=True),
    Column("writeback_bytes", "bytes", "being written; null: unknown", nullable=True),
    Column("evicted_bytes", "bytes", "no longer in the page cache; null: unknown", nullable=True),
    Column("recently_evicted_bytes", "bytes", "of these, not long ago; null: unknown", nullable=True),
)

CACHED_FILE: Final = register(
    Table(
        "cached_file",
        "How much of a file is in the page cache (`insitu cache`).",
        (
            Column("ts_ns", "timestamp", "when it was counted"),
            Column("path", "path"),
            Column("size_bytes", "bytes", "its size, or that of the part that was asked for"),
            Column("stored_bytes", "bytes", "on the disk: less than its size where it has holes"),
            *_COUNTS,
        ),
    )
)

CACHED_RANGE: Final = register(
    Table(
        "cached_range",
        "How much of a part of a file is in the page cache (`insitu cache`).",
        (
            Column("ts_ns", "timestamp", "when it was counted"),
            Column("path", "path"),
            Column("offset", "file_offset"),
            Column("size_bytes", "bytes", "length of the part"),
            *_COUNTS,
            Column("nodes", "text", "with --numa: pages by NUMA node, as 0:12,1:3"),
        ),
    )
)

Look = tuple[int, Sequence[FileCache], Mapping[str, Sequence[Segment]]]
"""CLOCK_MONOTONIC nanoseconds, the files, and parts of files by path."""


def save(path: Path, looks: Sequence[Look]) -> int:
    """Make the session ``path``; returns how many rows of files it has. Raises InsituError, or OSError: disk full."""
    start = min((ts for ts, _, _ in looks), default=time.clock_gettime_ns(time.CLOCK_MONOTONIC))
    manifest = Manifest.here(
        procfs,
        sources=[{"id": "cache", "kind": "cache", "options": {}}],
        start_ns=start,
        start_realtime_ns=time.time_ns() - time.clock_gettime_ns(time.CLOCK_MONOTONIC) + start,
        end_ns=max((ts for ts, _, _ in looks), default=start),
    )
    rows = 0
    with created_whole(path, manifest, procfs) as session, SessionWriter.on_disk(session) as writer:
        for ts, files, parts in looks:
            rows += len(files)
            found = [(ts, _text(f.path), f.size, f.stored, *_bytes(f.counts)) for f in files]
            ranges = [
                (ts, _text(name), part.offset, part.length, *_bytes(part.counts), _nodes(part))
                for name, each in parts.items()
                for part in each
            ]
            writer.append_rows(CACHED_FILE, found)
            writer.append_rows(CACHED_RANGE, ranges)
        writer.finish()
    return rows


def _text(path: str) -> str:
    return os.fsencode(path).decode(errors="replace")


def _bytes(counts: Counts) -> list[int | None]:
    return [None if pages is None else pages * PAGE for pages in counts]


def _nodes(part: Segment) -> str:
    return ",".join(f"{node}:{pages}" for node, pages in sorted(part.nodes.items()))
