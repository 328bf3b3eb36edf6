"""What a program can reach by itself: registers, live stacks, data, variables of threads; all but the heap.

The stacks of threads that have ended are kept by the C library for the next ones (nptl/allocatestack.c): what is left
on them keeps nothing alive, and neither does what is below a stack pointer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from insitu.inspect.heap.blocks import Heap
from insitu.inspect.heap.memory import WORD, without
from insitu.inspect.heap.snapshot import Snapshot, ThreadState
from insitu.kernel import procfs

__all__ = ["REGISTERS", "Root", "Roots", "roots"]

U64 = NDArray[np.uint64]

REGISTERS: Final = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "rip"),
)
_RED_ZONE: Final = 128  # below the stack pointer, that functions may use (System V ABI, AMD64 supplement)
# struct pthread of nptl/descr.h, x86-64: the thread control block's own address, twice, the thread id, and the DTV.
_SELF, _TID, _DTV = 16, 0x2D0, 8
_DESCRIPTOR_BYTES: Final = 0x900
_PAGE: Final = 4096
_DTV_HEADER: Final = 16  # what the DTV's address is after the beginning of its block


class Root(NamedTuple):
    """A range of addresses that is looked through. ``kind``: stack, data, memory (without a name)."""

    start: int
    end: int
    kind: str
    name: str


class Roots(NamedTuple):
    """Ranges of memory, and registers as (thread, register, value); ``own``: blocks that are the C library's."""

    ranges: Sequence[Root]
    registers: Sequence[tuple[ThreadState, str, int]]
    own: Sequence[int]


def roots(snapshot: Snapshot, heap: Heap) -> Roots:
    """All roots of a copied process."""
    writable = [area for area in snapshot.areas if area.permissions[:2] == "rw"]
    stacks = dict(_stacks(snapshot, writable))
    ended = list(_dead_stacks(snapshot, writable))
    dead = {area: end for area, end, _ in ended}
    found: list[Root] = []
    for area in writable:
        start, thread = stacks.get(area.start, (dead.get(area.start, area.start), None))
        name = area.path.decode(errors="replace")
        kind = "stack" if thread else "data" if area.inode else "memory"
        if thread:
            name = f"{thread.name}/{thread.tid}"
        pieces = without(start, area.end, heap.ranges)
        found += (Root(low, high, kind, name) for low, high in pieces)
    registers = [
        (thread, name, value)
        for thread in snapshot.threads
        for name, value in zip(REGISTERS, thread.registers, strict=True)
    ]
    descriptors = [thread.thread_pointer for thread in snapshot.threads] + [each for _, _, each in ended]
    tables = (snapshot.memory.word(descriptor + _DTV) - _DTV_HEADER for descriptor in descriptors)
    return Roots(found, registers, [address for address in tables if address > 0])


def _stacks(snapshot: Snapshot, writable: Sequence[procfs.Area]) -> Iterator[tuple[int, tuple[int, ThreadState]]]:
    """By the start of an area: where the live part of the stack in it begins, and whose it is."""
    lowest: dict[int, tuple[int, ThreadState]] = {}
    for thread in snapshot.threads:
        for area in writable:
            # A stack in a program's data or in a file is made by the program: all around it counts.
            if area.start <= thread.stack_pointer < area.end and not area.inode and area.path in (b"", b"[stack]"):
                live = max((thread.stack_pointer - _RED_ZONE) // WORD * WORD, area.start)
                if area.start not in lowest or live < lowest[area.start][0]:
                    lowest[area.start] = live, thread
    yield from lowest.items()


def _dead_stacks(snapshot: Snapshot, writable: Sequence[procfs.Area]) -> Iterator[tuple[int, int, int]]:
    """Areas that begin with a stack that no thread uses: start, end of the stack, thread descriptor in it."""
    guards = {area.end for area in snapshot.areas if area.permissions[:3] == "---"}
    live = {thread.thread_pointer for thread in snapshot.threads}
    for area in writable:
        if area.path or area.start not in guards or any(area.start <= each < area.end for each in live):
            continue
        for address, words in snapshot.memory.parts(area.start, area.end):
            where = np.arange(address, address + WORD * len(words), WORD, dtype=np.uint64)
            count = len(words) - _SELF // WORD
            if count <= 0:
                continue
            itself = (words[:count] == where[:count]) & (words[_SELF // WORD :] == where[:count])
            for found in where[np.flatnonzero(itself)].tolist():
                # The kernel clears the thread's id when it ends, pthread_join() makes it -1.
                if snapshot.memory.word(found + _TID) & 0xFFFFFFFF in (0, 0xFFFFFFFF):
                    yield area.start, min(-(-(found + _DESCRIPTOR_BYTES) // _PAGE) * _PAGE, area.end), found
