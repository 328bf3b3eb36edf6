"""The environment of a process: what it was started with, and what it has made of it since.

/proc/PID/environ is the memory in which the kernel put it at exec. Programs change their environment through the C
library, whose variable ``environ`` leads to the strings of now.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.kernel import procfs
from insitu.kernel.process_memory import ProcessMemory
from insitu.kernel.procfs import Area
from insitu.symbols.data_symbols import find_symbol
from insitu.symbols.elf import NO_ADDRESS
from insitu.symbols.module_files import ModuleFile, open_module
from insitu.symbols.process_map import Module

__all__ = ["Environment", "environment"]

_C_LIBRARY: Final = re.compile(rb".*/(libc\.so\.6|libc-[\d.]+\.so|ld-musl-.*\.so\.1)$")
_NAMES: Final = ("environ", "__environ")
_MOST_VARIABLES: Final = 10_000
_MOST_BYTES: Final = 1 << 22
_MOST_OF_ONE: Final = 1 << 17  # include/uapi/linux/binfmts.h: MAX_ARG_STRLEN


class Environment(NamedTuple):
    """Variables at the start and now, by name; ``now`` is None where it cannot be known."""

    start: Mapping[str, str]
    now: Mapping[str, str] | None

    def changes(self) -> dict[str, tuple[str | None, str | None]]:
        """Variables that differ: before and after, None where there was none, or is none any more."""
        if self.now is None:
            return {}
        names = dict.fromkeys([*self.start, *self.now])
        pairs = {name: (self.start.get(name), self.now.get(name)) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def environment(pid: int) -> Environment:
    """The environment of a process. Raises OSError: PermissionError, or no such process."""
    with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
        start = _variables(file.read(_MOST_BYTES).split(b"\0"))
    memory = ProcessMemory(unchanged=True)
    for address in _addresses(pid, list(procfs.areas(pid))):
        if (now := _read(pid, memory, address)) is not None:
            return Environment(start, now)
    return Environment(start, None)


def _variables(strings: list[bytes]) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in strings:
        name, is_one, value = each.partition(b"=")
        if is_one and name:
            # Of two with one name, getenv() finds the first.
            found.setdefault(name.decode(errors="replace"), value.decode(errors="replace"))
    return found


def _addresses(pid: int, areas: list[Area]) -> Iterator[int]:
    """Where ``environ`` may be: in the program (a copy, or linked statically), and in its C library."""
    try:
        program = procfs.exe(pid)[1].encode("utf-8", "surrogateescape")
    except OSError:
        program = b""
    seen: set[bytes] = set()
    for area in sorted(areas, key=lambda area: area.path != program):
        if area.path in seen or not (area.path == program or _C_LIBRARY.fullmatch(area.path)):
            continue
        seen.add(area.path)
        path = area.path.decode("utf-8", "surrogateescape")
        try:
            opened = open_module(Module(path, pid=pid, inode=(area.major, area.minor, area.inode)), live=True)
            if not isinstance(opened, ModuleFile):
                continue
            vaddr = int(opened.vaddrs_of(np.array([area.offset], np.uint64))[0])
            symbols = [find_symbol(opened.elf, name) for name in _NAMES]
        except (OSError, ValueError, InsituError):
            continue
        if vaddr != NO_ADDRESS:
            yield from (area.start + symbol[0] - vaddr for symbol in symbols if symbol is not None)


def _read(pid: int, memory: ProcessMemory, address: int) -> dict[str, str] | None:
    """The strings that ``environ`` leads to; None if it leads to none that can be read."""
    word = memory.read(pid, address, 8)
    at = struct.unpack("<Q", word)[0] if len(word) == 8 else 0
    if not at:
        return None
    strings: list[bytes] = []
    left = _MOST_BYTES
    while len(strings) < _MOST_VARIABLES and left > 0:
        word = memory.read(pid, at + 8 * len(strings), 8)
        if len(word) < 8:
            return None
        (place,) = struct.unpack("<Q", word)
        if not place:
            break
        strings.append(_string(pid, memory, place))
        left -= len(strings[-1])
    return _variables(strings)


def _string(pid: int, memory: ProcessMemory, at: int) -> bytes:
    found = b""
    while len(found) < _MOST_OF_ONE:
        part = memory.read(pid, at + len(found), 256)
        head, end, _ = part.partition(b"\0")
        found += head
        if end or not part:
            break
    return found
