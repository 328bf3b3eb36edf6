"""How much of files is in the page cache: of a file, of its parts, of whole trees; who maps a file.

Files are opened for reading and closed again; nothing of them is read.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Final, NamedTuple

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.page_cache import NONE, PAGE, Counts, PageCounter, nodes_of, summed

__all__ = [
    "FileCache",
    "Segment",
    "Selection",
    "Totals",
    "Walk",
    "cache",
    "file_systems",
    "mapped_by",
    "opened",
    "segments",
]

# A pipe that takes a file's place meanwhile must not keep us waiting, nor a terminal become ours.
_OPEN: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WHY: Final = {  # the kernel does not say what is cached
    errno.EPERM: "the kernel tells only its owner, who may write it, and root",
    errno.EOPNOTSUPP: "made of huge pages, which are no page cache",
    errno.ENODEV: "its file system has no page cache",
}


class FileCache(NamedTuple):
    """A file, and how many pages of it are in the page cache. ``size`` in bytes; ``stored`` of them on the disk."""

    path: str
    size: int
    stored: int
    counts: Counts
    device: int
    inode: int

    @property
    def pages(self) -> int:
        """The pages that its size takes."""
        return -(-self.size // PAGE)


@dataclass
class Selection:
    """Which files of a tree are looked at. ``first`` and ``end``: bytes of each file, whole pages; 0: to its end."""

    follow: bool = False
    one_file_system: bool = False
    ignore: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    most_bytes: int = 0
    first: int = 0
    end: int = 0

    def ignores(self, name: str) -> bool:
        """Whether a file or directory of this name is left out."""
        return bool(self.ignore) and any(fnmatchcase(name, each) for each in self.ignore)

    def takes(self, name: str) -> bool:
        """Whether a file of this name is looked at."""
        return not self.ignores(name) and (not self.only or any(fnmatchcase(name, each) for each in self.only))

    def part(self, size: int) -> tuple[int, int]:
        """The offset and length, in bytes, of what is looked at of a file of that size."""
        end = min(self.end or size, size)
        first = min(self.first // PAGE * PAGE, end)
        return first, end - first


@dataclass
class Totals:
    """Sums over files. ``unknown``: files of which the kernel does not tell, and why; ``failed``: not opened."""

    files: int = 0
    directories: int = 0
    size: int = 0
    counts: Counts = NONE
    unknown: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


class Walk:
    """Looks at files and trees, each file once, also where several hard links or paths lead to it."""

    def __init__(self, selection: Selection, progress: Callable[[int, str], None] = lambda files, path: None) -> None:
        self.totals = Totals()
        self._selection = selection
        self._progress = progress
        self._counter = PageCounter()
        self._seen: set[tuple[int, int]] = set()
        self._entered: set[tuple[int, int]] = set()

    def files(self, paths: Iterable[str]) -> Iterator[FileCache]:
        """Each file that is found. A path itself may be a link. Raises InsituError if one is missing."""
        for path in paths:
            try:
                status = os.stat(path)  # noqa: PTH116
            except (OSError, ValueError) as error:
                raise InsituError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
            if stat.S_ISDIR(status.st_mode):
                yield from self._tree(path, status.st_dev)
            elif stat.S_ISREG(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found = self._file(path, path, None, _OPEN)
                yield from self._summed([found] if found else [])
            else:
                raise InsituError(f"{path}: not a file, a directory or a block device")

    def _tree(self, root: str, device: int) -> Iterator[FileCache]:
        follow = 0 if self._selection.follow else os.O_NOFOLLOW
        waiting = [root]
        while waiting:
            path = waiting.pop()
            try:
                directory = os.open(path, _OPEN | os.O_DIRECTORY | (0 if path == root else follow))
            except OSError as error:
                self._failed(path, error)
                continue
            try:
                found = os.fstat(directory)
                key = found.st_dev, found.st_ino
                if key in self._entered or (self._selection.one_file_system and found.st_dev != device):
                    continue
                self._entered.add(key)
                self.totals.directories += 1
                files, below = self._directory(path.rstrip("/"), directory, _OPEN | follow)
                waiting += reversed(below)
            except OSError as error:  # it has been removed while it was read
                self._failed(path, error)
                continue
            finally:
                os.close(directory)
            yield from self._summed(files)

    def _directory(self, path: str, directory: int, flags: int) -> tuple[list[FileCache], list[str]]:
        """The files of a directory, and its directories."""
        selection, links = self._selection, self._selection.follow
        files, below = [], []
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                try:
                    if entry.is_dir(follow_symlinks=links):
                        if not selection.ignores(name):
                            below.append(f"{path}/{name}")
                    elif entry.is_file(follow_symlinks=links) and selection.takes(name):
                        found = self._file(f"{path}/{name}", name, directory, flags)
                        if found is not None:
                            files.append(found)
                except OSError as error:  # links that lead round in circles
                    self._failed(f"{path}/{name}", error)
        return files, below

    def _file(self, path: str, name: str, directory: int | None, flags: int) -> FileCache | None:
        """One file, unless it was seen before or is not wanted; ``name`` is where it is in ``directory``."""
        try:
            file = os.open(name, flags, dir_fd=directory)
        except OSError as error:
            self._failed(path, error)
            return None
        try:
            status = os.fstat(file)
            key = status.st_dev, status.st_ino
            size = status.st_size
            if not stat.S_ISREG(status.st_mode):
                if not stat.S_ISBLK(status.st_mode):
                    return None
                size = os.lseek(file, 0, os.SEEK_END)
            if status.st_nlink > 1 or self._selection.follow:
                if key in self._seen:
                    return None
                self._seen.add(key)
            if self._selection.most_bytes and size > self._selection.most_bytes:
                return None
            first, length = self._selection.part(size)
            return FileCache(path, length, status.st_blocks * 512, self._counter.count(file, first, length), *key)
        except OSError as error:
            if error.errno in _WHY:
                self.totals.unknown.append((path, _WHY[error.errno]))
            else:
                self._failed(path, error)
            return None
        finally:
            os.close(file)

    def _failed(self, path: str, error: OSError) -> None:
        if error.errno != errno.ENOENT:  # it has been removed since it was listed
            self.totals.failed.append((path, error.strerror or str(error)))

    def _summed(self, files: list[FileCache]) -> list[FileCache]:
        """The files, added to the totals."""
        if files:
            totals = self.totals
            totals.files += len(files)
            totals.size += sum(file.size for file in files)
            totals.counts = summed([totals.counts, *(file.counts for file in files)])
            self._progress(totals.files, files[-1].path)
        return files


@contextmanager
def opened(file: FileCache) -> Iterator[int]:
    """The file, open for reading. Raises OSError; ESTALE if another one is there now, which is not opened."""
    place = os.open(file.path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if (status.st_dev, status.st_ino) != (file.device, file.inode):
            raise OSError(errno.ESTALE, "another file is there now", file.path)
        descriptor = os.open(f"/proc/self/fd/{place}", _OPEN)
    finally:
        os.close(place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Segment(NamedTuple):
    """A part of a file. ``offset`` and ``length`` in bytes; ``nodes``: pages by NUMA node, if asked for."""

    offset: int
    length: int
    counts: Counts
    nodes: Counter[int]


def segments(
    file: FileCache, number: int, selection: Selection | None = None, *, numa: bool = False
) -> list[Segment]:
    """At most ``number`` parts of a file, or of what is looked at of it, in whole pages. Raises OSError."""
    counter = PageCounter()
    found = []
    with opened(file) as descriptor:
        first, length = (selection or Selection()).part(os.lseek(descriptor, 0, os.SEEK_END))
        step = max(1, -(-length // (PAGE * max(1, number)))) * PAGE
        for offset in range(first, first + length, step):
            part = min(step, first + length - offset)
            nodes = nodes_of(descriptor, offset, part) if numa else Counter[int]()
            found.append(Segment(offset, part, counter.count(descriptor, offset, part), nodes))
    return found


class Mapping(NamedTuple):
    """A process that maps a file. ``size``: bytes of its address space."""

    pid: int
    name: str
    size: int


def mapped_by(files: Iterable[FileCache]) -> dict[str, list[Mapping]]:
    """The processes that map each of the files, by path; of other users' processes only root sees the maps."""
    # A file system of several devices (btrfs) has another device number in /proc/PID/maps: there the path decides.
    wanted = {file.inode: file for file in files}
    found: dict[str, list[Mapping]] = {}
    if not wanted:
        return found
    for pid in procfs.pids():
        sizes: Counter[str] = Counter()
        try:
            for area in procfs.areas(pid):
                file = wanted.get(area.inode)
                if file is not None and (
                    os.makedev(area.major, area.minor) == file.device
                    or os.fsdecode(area.path) == os.path.realpath(file.path)
                ):
                    sizes[file.path] += area.end - area.start
            name = procfs.comm(pid).decode(errors="replace") if sizes else ""
        except (OSError, ValueError):
            continue
        for path, size in sizes.items():
            found.setdefault(path, []).append(Mapping(pid, name, size))
    return found


def file_systems() -> list[str]:
    """Where file systems on disks and in memory are mounted, each once: what the page cache is made of."""
    devices: set[str] = set()
    found = []
    # Names may hold what Python takes for the end of a line; blanks, newlines and backslashes are octal.
    for line in (procfs.text("/proc/self/mountinfo") or "").split("\n"):
        mounted, _, source = line.partition(" - ")
        words, (kind, device) = mounted.split(" "), (*source.split(" "), "", "")[:2]
        if len(words) > 4 and (device.startswith("/dev/") or kind == "tmpfs") and words[2] not in devices:
            path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
            if os.path.isdir(path):  # noqa: PTH112 - another mount may be on it
                devices.add(words[2])
                found.append(path)
    return found


def cache(*paths: str | os.PathLike[str]) -> list[FileCache]:
    """How much of each file is in the page cache, and of each file below a directory.

    Raises InsituError for a path that is not there. What cannot be opened is left out.
    """
    return list(Walk(Selection()).files([os.fspath(path) for path in paths]))
