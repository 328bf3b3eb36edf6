"""The pages of all CPUs as records, a window of time after another, of bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from insitu.convert.file_bytes import FileBytes
from insitu.convert.trace_pages import END_NS, PageLayout, TraceRecords, decode_pages

__all__ = ["windows"]

_WINDOW_BYTES: Final = 16 << 20


def windows(files: Mapping[int, FileBytes], layout: PageLayout) -> Iterator[TraceRecords]:
    """The records of one file of pages for each CPU: a window of time after another, of bounded memory.

    A window ends where the first CPU has so many pages in it; the last page of another CPU may have later records.
    """
    pages = {cpu: len(data) // layout.page_bytes for cpu, data in files.items()}
    step = max(_WINDOW_BYTES // layout.page_bytes // max(len(files), 1), 1)
    done = dict.fromkeys(files, 0)
    while any(done[cpu] < count for cpu, count in pages.items()):
        ends = {
            cpu: _page_time(files[cpu], done[cpu] + step, layout)
            for cpu, count in pages.items()
            if done[cpu] + step < count
        }
        first = min(ends, key=ends.__getitem__, default=-1)
        until_ns = ends.get(first, END_NS)
        parts = []
        for cpu, data in files.items():
            upto = pages[cpu] if first < 0 else _pages_until(data, until_ns, done[cpu], done[cpu] + step, layout)
            upto = done[cpu] + step if cpu == first else upto
            parts.append((cpu, done[cpu], min(upto, pages[cpu])))
            done[cpu] = parts[-1][2]
        yield _decoded(files, parts, layout, until_ns)


def _decoded(
    files: Mapping[int, FileBytes], parts: Sequence[tuple[int, int, int]], layout: PageLayout, until_ns: int
) -> TraceRecords:
    """The records of pages of each CPU: (CPU, first page, page after the last)."""
    size = layout.page_bytes
    memory = np.empty(sum(high - low for _, low, high in parts) * size, np.uint8)
    at, cpus = 0, []
    for cpu, low, high in parts:
        read = files[cpu].into(low * size, memory.data[at : at + (high - low) * size]) // size
        at += read * size
        cpus.append(np.full(read, cpu, np.int32))
    return decode_pages(memory[:at], np.concatenate(cpus), layout, until_ns)


def _page_time(data: FileBytes, page: int, layout: PageLayout) -> int:
    at = page * layout.page_bytes + layout.timestamp_at
    return min(int.from_bytes(data[at : at + 8], "little"), END_NS)


def _pages_until(data: FileBytes, until_ns: int, low: int, high: int, layout: PageLayout) -> int:
    """How many pages begin before a time: at least ``low``, and ``high`` at most."""
    high = min(high, len(data) // layout.page_bytes)
    while low < high:
        middle = (low + high) // 2
        if _page_time(data, middle, layout) < until_ns:
            low = middle + 1
        else:
            high = middle
    return low
