"""Looks up many addresses at once in a symcache, the table of source locations that symbolic makes of DWARF.

The layout is version 9 of the format that the crate symbolic-symcache documents. symbolic's own lookup takes one
address at a time, two to ten times as long, and once more its import.
"""

import os
from collections.abc import Callable
from mmap import mmap
from pathlib import PurePosixPath
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["SYMCACHE_VERSION", "Location", "Locations", "Row", "Symcache"]

SYMCACHE_VERSION: Final = 9

_HEADER: Final = np.dtype(
    [
        ("magic", "S4"),
        ("version", "<u4"),
        ("debug_id", "V32"),
        ("arch", "<u4"),
        ("files", "<u4"),
        ("functions", "<u4"),
        ("locations", "<u4"),
        ("ranges", "<u4"),
        ("string_bytes", "<u4"),
        ("reserved", "V16"),
    ]
)
_FILE: Final = np.dtype([("comp_dir", "<u4"), ("directory", "<u4"), ("name", "<u4"), ("source_server", "V12")])
_FUNCTION: Final = np.dtype([("name", "<u4"), ("comp_dir", "<u4"), ("entry_pc", "<u4"), ("lang", "<u4")])
_LOCATION: Final = np.dtype([("file", "<u4"), ("line", "<u4"), ("function", "<u4"), ("inlined_into", "<u4")])
_RANGE: Final = np.dtype("<u4")
_NONE: Final = 0xFFFF_FFFF
_MAX_INLINE_DEPTH: Final = 256
_MAX_LEB128_BYTES: Final = 5

U64 = NDArray[np.uint64]


class Location(NamedTuple):
    """A line of the source: ``function`` as DWARF names it (mangled where it says how), ``file`` and ``line``."""

    function: bytes
    file: str
    line: int


class Row(NamedTuple):
    """Where the code of a line begins: its address, and the source there, innermost inlined function first."""

    address: int
    chain: tuple[Location, ...]


class Locations(Protocol):
    """What knows the source of addresses."""

    def rows(self, is_wanted: Callable[[str], bool]) -> list[Row]:
        """Where code of the files that are wanted begins, inlined into other files' too, by address."""

    def find(self, addresses: U64) -> list[tuple[Location, ...]]:
        """The source of each address (counted from the file's load address): innermost inlined function first."""


class Symcache:
    """A symcache of version 9. Raises ValueError if ``data`` is not one, or is cut short."""

    def __init__(self, data: bytes | mmap) -> None:
        if len(data) < _HEADER.itemsize:
            raise ValueError("symcache is cut short")
        head = np.frombuffer(data, _HEADER, 1)[0]
        if head["magic"] != b"SYMC" or head["version"] != SYMCACHE_VERSION:
            raise ValueError("no symcache of this version")
        at = _HEADER.itemsize
        tables: list[NDArray[Any]] = []
        for dtype, field in (
            (_FILE, "files"),
            (_FUNCTION, "functions"),
            (_LOCATION, "locations"),
            (_RANGE, "ranges"),
        ):
            tables.append(np.frombuffer(data, dtype, int(head[field]), at))  # ValueError where the data ends before
            at = (at + tables[-1].nbytes + 7) & ~7
        self._files, self._functions, self._locations, self._ranges = tables
        # Those locations that ranges lead to come last, one for each range.
        self._first = len(self._locations) - len(self._ranges)
        if self._first < 0:
            raise ValueError("symcache is corrupt")
        self._strings = data[at : at + int(head["string_bytes"])]
        self._chains: dict[int, tuple[Location, ...]] = {}
        self._paths: dict[int, str] = {}

    def find(self, addresses: U64) -> list[tuple[Location, ...]]:
        """The source of each address (counted from the file's load address): innermost inlined function first."""
        row = np.searchsorted(self._ranges, addresses, side="right") - 1
        row[addresses > _NONE] = -1
        distinct, inverse = np.unique(row, return_inverse=True)
        chains = [self._chain(self._first + int(i)) if i >= 0 else () for i in distinct]
        return [chains[i] for i in inverse.tolist()]

    def rows(self, is_wanted: Callable[[str], bool]) -> list[Row]:
        """Where code of the files that are wanted begins, inlined into other files' too, by address."""
        files = [file for file in range(len(self._files)) if is_wanted(self._path(file))]
        at = np.arange(self._first, len(self._locations), dtype=np.int64)
        held = np.zeros(len(at), np.bool_)
        for _ in range(_MAX_INLINE_DEPTH):
            there = at < len(self._locations)
            if not there.any():
                break
            at[~there] = 0
            held |= there & np.isin(self._locations["file"][at], files)
            at = np.where(there, self._locations["inlined_into"][at], _NONE)
        rows = np.flatnonzero(held).tolist()
        return [Row(int(self._ranges[row]), self._chain(self._first + row)) for row in rows]

    def _chain(self, at: int) -> tuple[Location, ...]:
        chain = self._chains.get(at)
        if chain is None:
            chain = self._chains[at] = tuple(self._walk(at))
        return chain

    def _walk(self, at: int) -> list[Location]:
        chain: list[Location] = []
        while at < len(self._locations) and len(chain) < _MAX_INLINE_DEPTH:
            file, line, function, inlined_into = self._locations[at].tolist()
            if function >= len(self._functions):
                break
            name = self._string(self._functions[function].tolist()[0])
            chain.append(Location(name, self._path(file), line))
            at = inlined_into
        return chain

    def _path(self, file: int) -> str:
        path = self._paths.get(file)
        if path is None and file < len(self._files):
            parts = self._files[file].tolist()[:3]
            words = [self._string(part).decode(errors="replace") for part in parts if part != _NONE]
            path = self._paths[file] = os.path.normpath(PurePosixPath(*words)) if any(words) else ""
        return path or ""

    def _string(self, at: int) -> bytes:
        """The string at an offset: its length as LEB128, then its bytes."""
        length = 0
        for place, byte in enumerate(self._strings[at : at + _MAX_LEB128_BYTES]):
            length |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                start = at + place + 1
                return self._strings[start : start + length]
        return b""
