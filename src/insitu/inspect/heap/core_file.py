"""Memory, areas and registers of a process from its core file.

Sources: fs/binfmt_elf.c of the kernel (NT_PRSTATUS, NT_PRPSINFO, NT_FILE), include/uapi/linux/elfcore.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.inspect.heap.memory import Memory
from insitu.inspect.heap.snapshot import Snapshot, ThreadState
from insitu.kernel import procfs
from insitu.symbols.elf import Elf

__all__ = ["read_core"]

_ET_CORE: Final = 4
_EM_X86_64: Final = 62
_PT_LOAD, _PT_NOTE = 1, 4
_NT_PRSTATUS, _NT_PRPSINFO, _NT_FILE = 1, 3, 0x46494C45
_MOST_NOTE_BYTES: Final = 64 << 20
_MOST_THREADS: Final = 1 << 16
# struct elf_prstatus and elf_prpsinfo of x86-64
_STATUS_PID, _STATUS_REGISTERS, _STATUS_BYTES = 32, 112, 336
_INFO_PID, _INFO_NAME, _INFO_BYTES = 24, 40, 136
_WORD: Final = 8
_USER_END: Final = 1 << 47


class _File(NamedTuple):
    """A part of a file that is mapped, from an offset in bytes on."""

    start: int
    end: int
    offset: int
    path: bytes


def read_core(path: Path, most_bytes: int = 0) -> Snapshot:
    """The process that a core file is of; ``most_bytes``: 0 is half of the memory that is available.

    Raises InsituError, or OSError if the file cannot be read.
    """
    elf = Elf(path)
    if elf.type != _ET_CORE:
        raise InsituError(f"{path}: not a core file")
    if elf.machine != _EM_X86_64:
        raise InsituError(f"{path}: the core of a 32-bit program or another architecture")
    loads = elf.segments[elf.segments["type"] == _PT_LOAD]
    loads = loads[(loads["vaddr"] < _USER_END) & (loads["memsz"] < _USER_END - loads["vaddr"])]
    pid, name = 0, path.name
    threads: list[ThreadState] = []
    files: list[_File] = []
    for kind, data in _notes(elf):
        if kind == _NT_PRSTATUS and len(data) >= _STATUS_BYTES and len(threads) < _MOST_THREADS:
            threads.append(_thread(data))
        elif kind == _NT_PRPSINFO and len(data) >= _INFO_BYTES:
            (pid,) = struct.unpack_from("<i", data, _INFO_PID)
            name = data[_INFO_NAME : _INFO_NAME + 16].partition(b"\0")[0].decode(errors="replace")
        elif kind == _NT_FILE:
            files = list(_files(data))
    if not threads:
        raise InsituError(f"{path} has no registers of threads: it was cut off")
    areas = _areas(loads, files)
    memory, cut = _memory(elf, loads, most_bytes or procfs.available_memory() // 2)
    notes = [f"{path} was cut off: {cut >> 20:,} MiB of memory are missing"] if cut else []
    return Snapshot(pid, name, areas, threads, memory, 0, notes, False)


def _notes(elf: Elf) -> Iterator[tuple[int, bytes]]:
    """Type and contents of each note."""
    for segment in elf.segments[elf.segments["type"] == _PT_NOTE]:
        data = elf.read(int(segment["offset"]), min(int(segment["filesz"]), _MOST_NOTE_BYTES))
        at = 0
        while at + 12 <= len(data):
            name_bytes, size, kind = struct.unpack_from("<III", data, at)
            begin = at + 12 + -(-name_bytes // 4) * 4
            yield kind, data[begin : begin + size]
            at = begin + -(-size // 4) * 4


def _thread(status: bytes) -> ThreadState:
    (tid,) = struct.unpack_from("<i", status, _STATUS_PID)
    words = struct.unpack_from("<27Q", status, _STATUS_REGISTERS)
    return ThreadState(tid, "thread", (*words[:15], words[16]), words[19], words[21])


def _files(data: bytes) -> Iterator[_File]:
    """The mapped files."""
    if len(data) < 16:
        return
    count, page = struct.unpack_from("<QQ", data)
    count = min(count, (len(data) - 16) // 24)
    names = data[16 + 24 * count :].split(b"\0", count)
    for index, name in zip(range(count), names, strict=False):
        start, end, offset = struct.unpack_from("<QQQ", data, 16 + 24 * index)
        if start < end < _USER_END and offset * page < _USER_END:
            yield _File(start, end, offset * page, name)


def _areas(loads: np.ndarray, files: Sequence[_File]) -> list[procfs.Area]:
    """The mapped areas, as /proc/PID/maps would show them, without the names that the kernel gives."""
    by_start = {file.start: file for file in files}
    areas = []
    for load in loads:
        start, flags = int(load["vaddr"]), int(load["flags"])
        permissions = "".join(letter if flags & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))
        file = by_start.pop(start, _File(start, 0, 0, b""))
        end = start + int(load["memsz"])
        areas.append(procfs.Area(start, end, f"{permissions}p", file.offset, 0, 0, bool(file.path), file.path))
    # gcore leaves out what is as in the file: code, and constants, which are not told apart.
    areas += [procfs.Area(*file[:2], "r-xp", file.offset, 0, 0, 1, file.path) for file in by_start.values()]
    return sorted(areas)


def _memory(elf: Elf, loads: np.ndarray, most_bytes: int) -> tuple[Memory, int]:
    """What the core has of memory that is no code, and how many bytes of it the file lacks."""
    loads = np.sort(loads[(loads["filesz"] > 0) & ((loads["flags"] & 1) == 0)], order="vaddr")
    loads = loads[loads["filesz"] <= loads["memsz"]]
    loads = loads[(loads["vaddr"] % _WORD == 0) & (loads["filesz"] % _WORD == 0)]
    loads = loads[np.append(loads["vaddr"][:-1] + loads["filesz"][:-1] <= loads["vaddr"][1:], True)[: len(loads)]]
    there = np.minimum(loads["filesz"], np.maximum(elf.size - loads["offset"].astype(np.int64), 0).astype(np.uint64))
    sizes = (there // np.uint64(_WORD) * np.uint64(_WORD)).astype(np.uint64)
    needed = int(sizes.sum())
    if needed > most_bytes:
        raise InsituError(
            f"{elf.name} has {needed >> 20:,} MiB of memory; a copy of it may take {most_bytes >> 20:,} MiB",
            remedy="--max-memory SIZE allows more",
        )
    words = np.empty(needed // _WORD, np.uint64)
    at = 0
    for offset, size in zip(loads["offset"].tolist(), sizes.tolist(), strict=True):
        data = np.frombuffer(elf.read(offset, size), np.uint64)
        words[at : at + len(data)] = data
        at += size // _WORD
    return Memory(words, loads["vaddr"].astype(np.uint64), sizes), int((loads["filesz"] - sizes).sum())
