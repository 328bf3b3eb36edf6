"""Source lines and inlined functions of an address, from DWARF through symbolic's SymCache, which is kept on disk."""

import os
import tempfile
from pathlib import Path
from typing import Any, Final, NamedTuple

from insitu.symbols.elf import Elf

__all__ = ["LineTable", "Location"]

# What a debug file needs to hold for its lines to be worth reading.
_DEBUG_SECTIONS: Final = (".debug_info", ".zdebug_info")
_PT_LOAD = 1


class Location(NamedTuple):
    """A place in the source: ``function`` as DWARF names it (mangled where it says how), ``file`` and ``line``."""

    function: bytes
    file: str
    line: int


class LineTable:
    """Lines of one file with DWARF."""

    def __init__(self, cache: Any, load_address: int) -> None:
        self._cache = cache
        self._load_address = load_address

    @staticmethod
    def present_in(elf: Elf) -> bool:
        """Whether the file holds DWARF."""
        return any((section := elf.section(name)) is not None and section.in_file for name in _DEBUG_SECTIONS)

    @classmethod
    def of(cls, elf: Elf, path: Path) -> "LineTable | None":
        """The lines of the ELF file ``elf`` at ``path``; None if it has no DWARF, or a corrupt one."""
        if not cls.present_in(elf):
            return None
        cache = _kept(elf.build_id) or _made(path, elf.build_id)
        loads = elf.segments[elf.segments["type"] == _PT_LOAD]["vaddr"]
        return cls(cache, int(loads[0]) if len(loads) else 0) if cache is not None else None

    def find(self, vaddr: int) -> list[Location]:
        """The source of one virtual address: the innermost inlined function first, the real one last."""
        if vaddr < self._load_address:
            return []
        found = self._cache.lookup(vaddr - self._load_address)
        return [Location(at.symbol.encode(), at.full_path or "", at.line) for at in found]


def _cache_path(build_id: str) -> Path:
    from symbolic.symcache import SYMCACHE_LATEST_VERSION

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "insitu" / "symcache" / f"{build_id}.{SYMCACHE_LATEST_VERSION}"


def _kept(build_id: str) -> Any:
    """The symcache made earlier for the file with this build id; None if there is none that opens."""
    from symbolic.exceptions import SymbolicError
    from symbolic.symcache import SymCache

    if not build_id:
        return None
    try:
        path = _cache_path(build_id)
        opened: Any = SymCache.open  # has no types
        return opened(str(path)) if path.stat().st_size else None
    except (OSError, SymbolicError):
        return None


def _made(path: Path, build_id: str) -> Any:
    from symbolic.debuginfo import Archive
    from symbolic.exceptions import SymbolicError

    try:
        cache = next(Archive.open(os.fsencode(path)).iter_objects()).make_symcache()
    except (OSError, StopIteration, SymbolicError):
        return None
    if build_id:
        _keep(cache, _cache_path(build_id))
    return cache


def _keep(cache: Any, path: Path) -> None:
    """Write a symcache for later; where that cannot be, it is made again next time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                cache.dump_into(file)
            except BaseException:
                Path(file.name).unlink()
                raise
        Path(file.name).replace(path)
    except OSError:
        pass
