"""The files that guarded processes write (debug/allocator/guard_reports.c), as records.

They are written by the traced program: lengths are bounded, what is torn or damaged is left out and counted.
"""

from __future__ import annotations

import os
import signal as signal_module
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from insitu.foreign_files import read_foreign
from insitu.kernel import procfs
from insitu.symbols.preloaded import SAVED_AT

__all__ = [
    "ACCESS",
    "DAMAGE",
    "DOUBLE_FREE",
    "ELSEWHERE",
    "FREED",
    "INVALID_FREE",
    "MISMATCH",
    "BlockRecord",
    "Counts",
    "FaultRecord",
    "Origin",
    "Records",
    "read_records",
]

# enum fault_kind and enum state of debug/allocator/guard.h
ACCESS: Final = 1
ELSEWHERE: Final = 2
DOUBLE_FREE: Final = 3
INVALID_FREE: Final = 4
MISMATCH: Final = 5
DAMAGE: Final = 6
FREED: Final = 2
_LAST_FAMILY: Final = 3

_SIGNALS: Final = frozenset({0, *map(int, signal_module.Signals)})

_CHUNK: Final = struct.Struct("<4sIQ")
_FAULT: Final = struct.Struct("<4IiI4Q17Q16s16s")  # struct fault
_BLOCK: Final = struct.Struct("<4Q4I" + 2 * "8QQII")  # struct slot
_COUNTS: Final = struct.Struct("<10Q")  # struct counts
_ORIGIN_WORDS: Final = 11
_SAMPLED: Final = 17
_MOST_FILE_BYTES: Final = 1 << 26
_MOST_FILES: Final = 10_000
_MOST_FAULTS: Final = 1000
_MOST_BYTES: Final = 1 << 28
"""Of all files: any user may add some where a program of root runs."""


class Origin(NamedTuple):
    """Where and when a block was allocated or freed: registers (as ptrace.SAMPLED_MASK) and a copy of the stack."""

    tid: int
    ns: int
    registers: tuple[int, ...]
    stack: bytes


class BlockRecord(NamedTuple):
    """A block: [address, address + size), in pages [pages_start, pages_end)."""

    address: int
    size: int
    pages_start: int
    pages_end: int
    family: int
    align: int
    state: int
    allocated: Origin
    freed: Origin | None


class FaultRecord(NamedTuple):
    """A fault. ``block`` is the one concerned, ``before`` and ``after`` are its neighbours by address."""

    kind: int
    pid: int
    tid: int
    name: str
    ns: int
    signal: int
    code: int
    family: int
    address: int
    trap: int
    error: int
    registers: tuple[int, ...]
    instruction: bytes
    stack: bytes
    maps: bytes
    block: BlockRecord | None
    before: BlockRecord | None
    after: BlockRecord | None


class Counts(NamedTuple):
    """What a process did until it exited: struct counts."""

    blocks: int
    guarded: int
    freed: int
    live: int
    live_most: int
    bytes: int
    bytes_most: int
    no_memory: int
    no_mappings: int
    guard_pages: int


class Records(NamedTuple):
    """What all processes wrote; ``damaged``: files that end early or hold what cannot be."""

    faults: list[FaultRecord]
    counts: list[Counts]
    damaged: int


def read_records(directory: Path) -> Records:
    """All records of a directory, faults by time. Links and what is no regular file are passed over."""
    faults: list[FaultRecord] = []
    counts: list[Counts] = []
    damaged, left = 0, _MOST_BYTES
    for name in sorted(os.listdir(directory))[:_MOST_FILES]:  # noqa: PTH208
        content = _content(directory, name, min(left, _MOST_FILE_BYTES))
        if content is None:
            damaged += 1
            continue
        left -= len(content)
        try:
            for each in _parsed(content):
                if isinstance(each, FaultRecord):
                    if len(faults) >= _MOST_FAULTS:
                        raise ValueError("too many")
                    faults.append(each)
                else:
                    counts.append(each)
        except (ValueError, struct.error):
            damaged += 1
    return Records(sorted(faults, key=lambda fault: fault.ns), counts, damaged)


def _content(directory: Path, name: str, most: int) -> bytes | None:
    try:
        return read_foreign(name, most, root=directory, links=False)
    except OSError:
        return None


class _Chunks(NamedTuple):
    fault: bytes
    stacks: dict[int, bytearray]
    blocks: dict[int, bytes]
    maps: bytearray


def _parsed(content: bytes) -> Iterator[FaultRecord | Counts]:
    """Raises ValueError or struct.error at what is damaged, after all that comes before it."""
    at, chunks = 0, None
    while at < len(content):
        tag, which, size = _CHUNK.unpack_from(content, at)
        at += _CHUNK.size
        if size > len(content) - at:
            raise ValueError("torn")
        body = content[at : at + size]
        at += size
        if tag == b"CNTS":
            yield Counts(*_COUNTS.unpack(body))
        elif tag == b"FALT":
            chunks = _Chunks(body, {}, {}, bytearray())
        elif chunks is None:
            raise ValueError("no fault before")
        elif tag == b"STAK":
            chunks.stacks.setdefault(which, bytearray()).extend(body)
        elif tag == b"BLOK":
            chunks.blocks[which] = body
        elif tag == b"MAPS":
            chunks.maps.extend(body)
        elif tag == b"DONE":
            yield _fault(chunks)
            chunks = None
        else:
            raise ValueError("unknown chunk")
    if chunks is not None:
        raise ValueError("torn")


def _fault(chunks: _Chunks) -> FaultRecord:
    values = _FAULT.unpack(chunks.fault)
    kind, pid, tid, signal, code, family, address, trap, error, ns = values[:10]
    if family > _LAST_FAMILY or not ACCESS <= kind <= DAMAGE or signal not in _SIGNALS:
        raise ValueError("unknown family, kind or signal")
    if (signal != 0) != (kind in (ACCESS, ELSEWHERE)):
        raise ValueError("an access without its signal, or a signal without an access")
    try:
        list(procfs.areas_of(bytes(chunks.maps), "the report of a fault"))
    except OSError:
        raise ValueError("no /proc/PID/maps") from None
    blocks = [_block(chunks, which) if which in chunks.blocks else None for which in (1, 2, 3)]
    name = values[-1].partition(b"\0")[0].decode("utf-8", "replace")
    stack, maps = bytes(chunks.stacks.get(0, b"")), bytes(chunks.maps)
    registers, instruction = values[10:27], values[27]
    return FaultRecord(
        kind,
        pid,
        tid,
        name,
        ns,
        signal,
        code,
        family,
        address,
        trap,
        error,
        registers,
        instruction,
        stack,
        maps,
        *blocks,
    )


def _block(chunks: _Chunks, which: int) -> BlockRecord:
    values = _BLOCK.unpack(chunks.blocks[which])
    base, pages, user, size, family, state, _, align = values[:8]
    if not 1 <= family <= _LAST_FAMILY or state > FREED:
        raise ValueError("unknown family or state")
    allocated = _origin(values[8:], bytes(chunks.stacks.get(which << 4, b"")))
    freed = _origin(values[8 + _ORIGIN_WORDS :], bytes(chunks.stacks.get(which << 4 | 1, b"")))
    return BlockRecord(
        user,
        size,
        base,
        base + pages * os.sysconf("SC_PAGESIZE"),
        family,
        align,
        state,
        allocated,
        freed if state == FREED else None,
    )


def _origin(values: tuple[int, ...], stack: bytes) -> Origin:
    registers = [0] * _SAMPLED
    for place, value in zip(SAVED_AT, values[:8], strict=True):
        registers[place] = value
    return Origin(values[9], values[8], tuple(registers), stack)
