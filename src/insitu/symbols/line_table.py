"""Source lines and inlined functions of a file, from its DWARF: read by symbolic once, then kept on disk.

What is kept belongs to one state of one file: build ids can be written into any binary.
"""

import mmap
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from insitu.cache_home import own_cache
from insitu.files import write_whole
from insitu.symbols.elf import Elf
from insitu.symbols.make_symcache import make_symcache
from insitu.symbols.symcache import SYMCACHE_VERSION, Location, Locations, Row, Symcache

__all__ = ["LineTable"]

_DEBUG_SECTIONS: Final = (".debug_info", ".zdebug_info")
_PT_LOAD: Final = 1
_OUR_VERSION: Final = 2  # of what is handed to symbolic; 2: with split DWARF
_MAX_KEPT_BYTES: Final = 2 << 30
_MAX_LOST_S: Final = 60

U64 = NDArray[np.uint64]


class LineTable:
    """Lines of one file with DWARF."""

    def __init__(self, locations: Locations, load_address: int, missing_units: int = 0) -> None:
        self._locations = locations
        self._load_address = np.uint64(load_address)
        self.missing_units = missing_units
        """How many compilation units have no lines, because their .dwo or .dwp file was not found."""

    @staticmethod
    def present_in(elf: Elf) -> bool:
        """Whether the file holds DWARF."""
        return any((section := elf.section(name)) is not None and section.in_file for name in _DEBUG_SECTIONS)

    @classmethod
    def of(cls, elf: Elf, *, beside: Sequence[tuple[Path, Path]] = (), root: Path = Path("/")) -> "LineTable | None":
        """The lines of an ELF file; None if it has no DWARF, or one that cannot be read: ``elf.refused`` says why.

        Split DWARF is looked for beside ``elf``, at ``beside`` (paths and the roots that they are seen from), and
        where the compiler left it, below ``root``.
        """
        if not cls.present_in(elf):
            return None
        kept = _kept(elf)
        locations, missing = (kept, 0) if kept is not None else _made(elf, [(elf.path, elf.root), *beside], root)
        if locations is None:
            return None
        loads = elf.segments[elf.segments["type"] == _PT_LOAD]["vaddr"]
        return cls(locations, int(loads[0]) if len(loads) else 0, missing)

    def find(self, vaddrs: U64) -> list[tuple[Location, ...]]:
        """The source of each virtual address: the innermost inlined function first, the real one last."""
        # Addresses below the load address wrap to some that no table reaches.
        return self._locations.find(vaddrs - self._load_address)

    def rows(self, is_wanted: Callable[[str], bool]) -> list[Row]:
        """Where code of the source files that are wanted begins, inlined or not, by virtual address."""
        load = int(self._load_address)
        return [each._replace(address=each.address + load) for each in self._locations.rows(is_wanted)]


class _ForeignSymcache:
    """A symcache of a version that we do not read, asked through symbolic."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def find(self, addresses: U64) -> list[tuple[Location, ...]]:
        return [
            tuple(Location(at.symbol.encode(), at.full_path or "", at.line) for at in self._cache.lookup(address))
            for address in addresses.tolist()
        ]

    def rows(self, is_wanted: Callable[[str], bool]) -> list[Row]:
        return []  # symbolic finds lines by address only


def _cache_path(elf: Elf) -> Path | None:
    """Where the symcache of this file is kept; None where it cannot be."""
    directory = own_cache("symcache")
    if directory is None or not elf.identity:
        return None
    return Path(directory) / f"{elf.identity}.{SYMCACHE_VERSION}.{_OUR_VERSION}"


def _kept(elf: Elf) -> Symcache | None:
    """The symcache made earlier for this file; None if there is none that reads."""
    path = _cache_path(elf)
    try:
        if path is None:
            return None
        # Mapped: files in the cache are replaced, never cut, and only what is looked up is read.
        with path.open("rb") as file:
            return Symcache(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):
        return None


def _made(elf: Elf, beside: Sequence[tuple[Path, Path]], root: Path) -> tuple[Locations | None, int]:
    """The lines, and how many units they lack."""
    debug = [section for section in elf.sections if section.name.startswith((".debug_", ".zdebug_"))]
    sparse = [section for section in debug if not elf.is_there(section.offset, section.size)]
    if elf.descriptor is None or sparse:
        for section in sparse:
            elf.section_bytes(section)  # is refused
        return None, 0
    if elf.budget.lost_s > _MAX_LOST_S:
        elf.refused["lines"] = "other files took too long"
        return None, 0
    begin = time.monotonic()
    made = make_symcache(
        elf.descriptor,
        sum(section.size for section in debug if section.in_file),
        split=elf.section(".debug_addr") is not None,  # which split units need
        beside=beside,
        root=root,
    )
    if made.data is None:
        elf.refused["lines"] = made.failure
        elf.budget.lost_s += time.monotonic() - begin
        return None, 0
    try:
        table = Symcache(made.data)
    except ValueError:
        from symbolic import symcache

        of_symbolic: Any = symcache.SymCache
        return _ForeignSymcache(of_symbolic.from_bytes(made.data[:])), made.missing
    path_kept = _cache_path(elf)
    if path_kept is not None and not made.missing:  # else what is missing may be there next time
        _keep(made.data[:], path_kept)
    return table, made.missing


def _keep(data: bytes, path: Path) -> None:
    """Write a symcache for later; where that cannot be, it is made again next time."""
    try:
        write_whole(path, data)
        _trim(path.parent)
    except OSError:
        pass


def _trim(directory: Path) -> None:
    """Remove the symcaches that were not used for longest, where all together are too large."""
    kept = []
    for path in directory.iterdir():
        status = path.stat()
        kept.append((max(status.st_atime, status.st_mtime), status.st_size, path))
    total = 0
    for _, size, path in sorted(kept, reverse=True):
        total += size
        if total > _MAX_KEPT_BYTES:
            path.unlink()
