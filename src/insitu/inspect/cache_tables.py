"""The page cache in a session: a row for each file, and for each part of one, each time that they were looked at."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from insitu.inspect.page_cache import FileCache, Segment
from insitu.kernel import procfs
from insitu.kernel.page_cache import PAGE, Counts
from insitu.session.directory import created_whole
from insitu.session.manifest import Manifest
from insitu.session.special_tables import CACHED_FILE, CACHED_RANGE
from insitu.session.writer import SessionWriter

__all__ = ["Look", "save"]


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
