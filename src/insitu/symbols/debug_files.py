"""Finds the separate debug file of an ELF file: by build id, by .gnu_debuglink, or embedded (.gnu_debugdata).

The directories are those of gdb ("Debugging Information in Separate Files") and of debuginfod's local cache.
"""

import lzma
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from insitu.cache_home import cache_home
from insitu.errors import InsituError
from insitu.symbols.elf import Elf

__all__ = ["embedded_symbols", "find_debug_file", "places_by_build_id"]

_DEBUG_DIRECTORY: Final = Path("/usr/lib/debug")
_CRC_CHUNK_BYTES: Final = 1 << 20
_MAX_EMBEDDED_BYTES: Final = 1 << 28


def find_debug_file(elf: Elf, path: Path, root: Path = Path("/")) -> Path | None:
    """The debug file of ``elf``, which lies at ``path`` as seen from ``root``; None if there is none that fits.

    A file fits if its build id is that of ``elf``; one without a build id, if its CRC is that of the debug link.
    """
    for candidate in _candidates(elf, path, root):
        if _fits(elf, candidate):
            return candidate
    return None


def embedded_symbols(elf: Elf) -> Elf | None:
    """The symbols that the file carries in .gnu_debugdata, an ELF file compressed with xz; None if it has none."""
    data = elf.section_bytes(".gnu_debugdata")
    if not data:
        return None
    try:
        image = lzma.LZMADecompressor(memlimit=_MAX_EMBEDDED_BYTES).decompress(data, _MAX_EMBEDDED_BYTES)
        return Elf(image, f"{elf.name} (.gnu_debugdata)")
    except (lzma.LZMAError, InsituError):
        return None


def places_by_build_id(build_id: str) -> Iterator[Path]:
    """Where a file with this build id, or its debug file, may be kept: the whole file first."""
    if len(build_id) <= 2:
        return
    directory = _DEBUG_DIRECTORY / ".build-id" / build_id[:2]
    yield _debuginfod_cache() / build_id / "executable"
    yield directory / build_id[2:]
    yield directory / f"{build_id[2:]}.debug"
    yield _debuginfod_cache() / build_id / "debuginfo"


def _candidates(elf: Elf, path: Path, root: Path) -> Iterator[Path]:
    roots = [root] if root == Path("/") else [root, Path("/")]
    if len(elf.build_id) > 2:
        for top in roots:
            name = f"{elf.build_id[2:]}.debug"
            yield _below(top, _DEBUG_DIRECTORY) / ".build-id" / elf.build_id[:2] / name
        yield _debuginfod_cache() / elf.build_id / "debuginfo"
    # The link's name comes from the file, which is not trusted: no path leads elsewhere.
    if elf.debug_link is not None and "/" not in elf.debug_link.name:
        name = elf.debug_link.name
        for top in roots:
            directory = _below(top, path.parent)
            yield directory / name
            yield directory / ".debug" / name
            yield _below(top, _DEBUG_DIRECTORY) / path.parent.relative_to(path.anchor) / name


def _below(root: Path, path: Path) -> Path:
    return root / path.relative_to(path.anchor) if path.is_absolute() else path


def _debuginfod_cache() -> Path:
    if chosen := os.environ.get("DEBUGINFOD_CACHE_PATH"):
        return Path(chosen)
    return Path(cache_home()) / "debuginfod_client"


def _fits(elf: Elf, candidate: Path) -> bool:
    try:
        found = Elf(candidate)
        if elf.build_id and found.build_id:
            # A link may name the stripped file itself, which would add nothing.
            return found.build_id == elf.build_id and found.section(".symtab") is not None
        return elf.debug_link is not None and _crc(candidate) == elf.debug_link.crc
    except (OSError, ValueError, InsituError):
        return False


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while chunk := file.read(_CRC_CHUNK_BYTES):
            crc = zlib.crc32(chunk, crc)
    return crc
