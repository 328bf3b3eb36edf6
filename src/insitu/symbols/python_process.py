"""Finds CPython in a process: its program or libpython, and where in memory that has its state."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import numpy as np

from insitu.errors import InsituError
from insitu.kernel.procfs import Area
from insitu.symbols.data_symbols import find_symbol
from insitu.symbols.elf import NO_ADDRESS
from insitu.symbols.module_files import ModuleFile, open_module
from insitu.symbols.process_map import Module
from insitu.symbols.python_frames import Interpreter, Read, interpreter_at

__all__ = ["PythonFinder"]

_FILE: Final = re.compile(rb"(?:.*/)?(?:lib)?python3?(?:\.\d+)?[a-z]*(?:\.so[.\d]*)?(?: \(deleted\))?$", re.DOTALL)
_MOST_FILES: Final = 64
_RUNTIME, _VERSION = "_PyRuntime", "Py_Version"


class PythonFinder:
    """Looks interpreters up, and each file of one once."""

    def __init__(self) -> None:
        self._files: dict[tuple[int, int, int, int], tuple[int, int] | None] = {}

    def interpreter(self, pid: int, areas: Iterable[Area], read: Read) -> Interpreter | None:
        """The one in a process with these mapped areas; None where there is none whose memory we can read."""
        seen: set[bytes] = set()
        for area in areas:
            if area.path in seen or not _FILE.match(area.path):
                continue
            seen.add(area.path)
            file = area.major, area.minor, area.inode, area.offset
            if file not in self._files:
                if len(self._files) >= _MOST_FILES:
                    self._files.clear()
                self._files[file] = _in_file(pid, area)
            if distances := self._files[file]:
                runtime, version = (area.start + distance for distance in distances)
                if found := interpreter_at(read, runtime, int.from_bytes(read(version, 8), "little")):
                    return found
        return None


def _in_file(pid: int, area: Area) -> tuple[int, int] | None:
    """How far _PyRuntime and Py_Version are from the start of a file's first area; None for another file."""
    path = area.path.decode("utf-8", "surrogateescape")
    try:
        opened = open_module(Module(path, pid=pid, inode=(area.major, area.minor, area.inode)), live=True)
        if not isinstance(opened, ModuleFile):
            return None
        runtime, version = (find_symbol(opened.elf, name) for name in (_RUNTIME, _VERSION))
        vaddr = int(opened.vaddrs_of(np.array([area.offset], np.uint64))[0])
    except (OSError, ValueError, InsituError):
        return None
    if runtime is None or version is None or vaddr == NO_ADDRESS:
        return None
    return runtime[0] - vaddr, version[0] - vaddr
