"""What goes into and out of the page cache of some files while one watches, and whether a scan uses it up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from insitu.inspect.page_cache import FileCache, Segment, segments
from insitu.kernel import procfs
from insitu.kernel.page_cache import NONE, Counts, summed

__all__ = ["PARTS", "Flow", "Look", "counted", "flow", "look", "refaults"]

PARTS: Final = 64
"""Parts of each file that are watched: what comes and goes within a part cancels out."""

_SCANS: Final = 0.5  # of what is cached, that comes and goes, while as much of the file is not there
_KEEPS: Final = 0.95


class Look(NamedTuple):
    """What was cached at one moment, by path and part; ``refaults``: see refaults()."""

    counts: Counts
    parts: Mapping[str, Sequence[Segment]]
    refaults: int | None


class Flow(NamedTuple):
    """Pages that came and went between two looks, or over several, as far as the looks show."""

    came: int
    went: int
    refaults: int | None
    """Pages of the machine that were read again after they had been evicted; None: not known."""

    def plus(self, other: Flow) -> Flow:
        """The sum."""
        both = None if self.refaults is None or other.refaults is None else self.refaults + other.refaults
        return Flow(self.came + other.came, self.went + other.went, both)

    def is_scan(self, cached: int, pages: int) -> bool:
        """Whether pages went as they came, more than are kept, of files of ``pages`` that do not fit."""
        most = max(self.came, self.went)
        return bool(cached) and cached < _KEEPS * pages and min(self.came, self.went) > _SCANS * max(most, cached)


def look(files: Sequence[FileCache]) -> Look:
    """Count now. A file that is gone has no parts."""
    parts = {}
    for file in files:
        try:
            parts[file.path] = segments(file, PARTS)
        except OSError:
            continue
    counts = summed([NONE, *(part.counts for each in parts.values() for part in each)])
    return Look(counts, parts, refaults())


def counted(files: Sequence[FileCache], seen: Look) -> list[FileCache]:
    """The files as they were at that moment, but for those that were gone."""
    found = []
    for file in files:
        if (parts := seen.parts.get(file.path)) is not None:
            counts = summed([NONE, *(part.counts for part in parts)])
            found.append(file._replace(size=sum(part.length for part in parts), counts=counts))
    return found


def flow(before: Look, after: Look) -> Flow:
    """What came and went between two looks."""
    came = went = 0
    for path, parts in after.parts.items():
        earlier = {part.offset: part.counts.cached for part in before.parts.get(path, ())}
        for part in parts:
            change = part.counts.cached - earlier.get(part.offset, 0)
            came += max(0, change)
            went += max(0, -change)
    known = before.refaults is not None and after.refaults is not None
    return Flow(came, went, after.refaults - before.refaults if known else None)  # type: ignore[operator]


def refaults() -> int | None:
    """Pages of files that were read again after they had been evicted, since boot (/proc/vmstat); None: not known."""
    text = procfs.text("/proc/vmstat") or ""
    words = dict(line.split(None, 1) for line in text.splitlines() if " " in line)
    # Before Linux 5.9 there is one number for files and anonymous memory.
    found = words.get("workingset_refault_file", words.get("workingset_refault"))
    return int(found) if found is not None and found.strip().isdecimal() else None
