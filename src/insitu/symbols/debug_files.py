"""Finds the separate debug file of an ELF file: by build id, by .gnu_debuglink, or embedded (.gnu_debugdata).

The directories are those of gdb ("Debugging Information in Separate Files") and of debuginfod's local cache.
"""

import lzma
import time
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from insitu.errors import InsituError
from insitu.symbols import debuginfod
from insitu.symbols.elf import Elf
from insitu.symbols.read_budget import megabytes

__all__ = ["also_look_in", "embedded_symbols", "find_debug_file", "more_places", "places_by_build_id"]

_DEBUG_DIRECTORY: Final = Path("/usr/lib/debug")
_OUR_ROOT: Final = Path("/")
_CRC_CHUNK_BYTES: Final = 1 << 20
_MAX_CRC_S: Final = 60  # of a file on a disk that gives 100 MB/s: 6 GB
_MAX_LZMA_BYTES: Final = 1 << 28
_MAX_EMBEDDED_BYTES: Final = 1 << 26  # distributions embed some 100 kB


_more_directories: list[str] = []


def also_look_in(directories: Iterable[str]) -> None:
    """Look for debug files of this process's binaries there first; relative to each binary's directory."""
    _more_directories.extend(each for each in directories if each)


def more_places(name: str) -> list[Path]:
    """A file of that name in each of these directories; those with relative names are not meant."""
    return [Path(each.removeprefix("+"), name) for each in _more_directories if each.startswith(("/", "+/"))]


def find_debug_file(elf: Elf, path: Path, root: Path = Path("/")) -> Elf | None:
    """The debug file of ``elf``, which lies at ``path`` as seen from ``root``; None if there is none that fits.

    A file fits if its build id is that of ``elf``; one without a build id, if its CRC is that of the debug link.
    """
    for candidate, top in _candidates(elf, path, root):
        try:
            found = Elf(candidate, root=top, budget=elf.budget)
        except (OSError, ValueError, InsituError):
            continue
        if _fits(elf, found):
            return found
    return None


def embedded_symbols(elf: Elf) -> Elf | None:
    """The symbols that the file carries in .gnu_debugdata, an ELF file compressed with xz; None if it has none."""
    data = elf.section_bytes(".gnu_debugdata", _MAX_EMBEDDED_BYTES)
    if not data:
        return None
    try:
        packed = lzma.LZMADecompressor(memlimit=_MAX_LZMA_BYTES)
        image = packed.decompress(data, _MAX_EMBEDDED_BYTES)
        if len(image) == _MAX_EMBEDDED_BYTES or not elf.budget.take(len(image)):
            elf.refused[".gnu_debugdata"] = f"more than {megabytes(len(image))}"
            return None
        return Elf(image, f"{elf.name} (.gnu_debugdata)", budget=elf.budget)
    except (lzma.LZMAError, InsituError):
        return None


def places_by_build_id(build_id: str) -> Iterator[Path]:
    """Where a file with this build id, or its debug file, may be kept: the whole file first."""
    if len(build_id) <= 2:
        return
    directory = _DEBUG_DIRECTORY / ".build-id" / build_id[:2]
    yield debuginfod.cached(build_id, "executable")
    yield directory / build_id[2:]
    yield directory / f"{build_id[2:]}.debug"
    yield debuginfod.cached(build_id, "debuginfo")
    for kind in ("executable", "debuginfo"):
        if (path := debuginfod.fetched(build_id, kind)) is not None:
            yield path


def _candidates(elf: Elf, path: Path, root: Path) -> Iterator[tuple[Path, Path]]:
    """Where it may be, and the root directory that this is in."""
    for directory in _more_directories:
        # elfutils checks the CRC of debug links below directories that begin with "+": here it always is.
        base = path.parent / directory.removeprefix("+")
        if len(elf.build_id) > 2:
            yield base / ".build-id" / elf.build_id[:2] / f"{elf.build_id[2:]}.debug", _OUR_ROOT
        names = {elf.debug_link.name} if elf.debug_link is not None and "/" not in elf.debug_link.name else set()
        for name in sorted({*names, path.name, f"{path.name}.debug"}):
            yield base / name, _OUR_ROOT
    roots = dict.fromkeys([root, _OUR_ROOT])
    if len(elf.build_id) > 2:
        for top in roots:
            yield _DEBUG_DIRECTORY / ".build-id" / elf.build_id[:2] / f"{elf.build_id[2:]}.debug", top
        yield debuginfod.cached(elf.build_id, "debuginfo"), _OUR_ROOT
    # The link's name comes from the file, which is not trusted: no path leads elsewhere.
    if elf.debug_link is not None and "/" not in elf.debug_link.name:
        name = elf.debug_link.name
        for top in roots:
            yield path.parent / name, top
            yield path.parent / ".debug" / name, top
            yield _DEBUG_DIRECTORY / path.parent.relative_to(path.anchor) / name, top
    if len(elf.build_id) > 2 and (found := debuginfod.fetched(elf.build_id, "debuginfo")) is not None:
        yield found, _OUR_ROOT


def _fits(elf: Elf, found: Elf) -> bool:
    try:
        if elf.build_id and found.build_id:
            # A link may name the stripped file itself, which would add nothing.
            return found.build_id == elf.build_id and found.section(".symtab") is not None
        return elf.debug_link is not None and _crc(found) == elf.debug_link.crc
    except OSError:
        return False


def _crc(file: Elf) -> int | None:
    """The CRC-32 of a file's contents; None if they cannot be read whole."""
    if not file.is_there(0, file.size):
        return None
    crc = at = 0
    end = time.monotonic() + _MAX_CRC_S
    while chunk := file.read(at, _CRC_CHUNK_BYTES):
        crc = zlib.crc32(chunk, crc)
        at += len(chunk)
        if time.monotonic() > end:
            return None
    return crc
