"""Faults of guarded processes, explained: what was done to which block, by which instruction, with all stacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from insitu.debug import guard_records as records
from insitu.debug.guard_records import BlockRecord, FaultRecord, Origin
from insitu.errors import InsituError
from insitu.foreign_files import read_foreign
from insitu.kernel import procfs
from insitu.symbols.copied_stacks import NamedStack, StackCopy, named_stacks
from insitu.symbols.frame import Frame
from insitu.symbols.instructions import memory_access
from insitu.symbols.symbolizer import Symbolizer

__all__ = ["FAMILIES", "Block", "Call", "Fault", "explained", "place"]

FAMILIES: Final = {1: ("malloc", "free"), 2: ("new", "delete"), 3: ("new[]", "delete[]")}
"""enum family of debug/allocator/guard.h -> what allocates and what frees such blocks."""

_PAGE_FAULT: Final = 14  # X86_TRAP_PF and X86_TRAP_GP of arch/x86/include/asm/trapnr.h
_PROTECTION_FAULT: Final = 13
_WRITE: Final = 1 << 1  # X86_PF_WRITE and X86_PF_INSTR of arch/x86/include/asm/trap_pf.h
_FETCH: Final = 1 << 4
_LIBRARY_HEADERS: Final = "/include/c++/"
_LIBRARIES: Final = ("libc.so", "libc-", "libstdc++.so", "libc++.so", "libgcc_s.so", "ld-linux")
_LINES_AROUND: Final = 2
_MOST_SOURCE_BYTES: Final = 1 << 22
_FAR_BYTES: Final = 256  # from both of two blocks: neither is said to be overrun
_STACK_POINTER, _INSTRUCTION_POINTER = 7, 8  # in ptrace.SAMPLED_MASK's order
_FRAME_BYTES: Final = 1 << 16  # farther from the stack pointer than this, an access is not said to be the stack's
_NULL_BYTES: Final = 65536  # vm.mmap_min_addr: no more than this is taken for a null pointer with an offset


class Call(NamedTuple):
    """Where a block was allocated or freed: thread, CLOCK_MONOTONIC time and stack, innermost frame first."""

    tid: int
    ns: int
    stack: Sequence[Frame]


class Block(NamedTuple):
    """A block on the heap. ``family`` is a key of FAMILIES; ``freed`` is None while it is in use."""

    address: int
    size: int
    align: int
    family: int
    allocated: Call
    freed: Call | None


class Fault(NamedTuple):
    """One fault.

    ``kind``: overrun, underrun, use-after-free, double-free, invalid-free, mismatched-free; with ``access`` "found
    later", overrun and underrun are those whose bytes were found changed; between, more than 256 bytes from both of
    two blocks; executed, of a jump into a block in use; null, stack-overflow, or elsewhere, of a crash at an address
    in no block.
    ``access``: read, write, execute, "found later", "access" where that is not known, or "" where a call is at fault.
    ``size``: bytes of the access, 0 if not known. ``offset``: from the start of ``block`` to ``address``.
    ``signal_address``: the signal's si_addr, None where the processor says none. ``freed_by``: the family of the call
    that frees, 0: none. ``signal`` 0: the process went on, or was aborted. ``stack`` is empty where the fault was
    found as the process ended.
    """

    kind: str
    access: str
    address: int
    size: int
    offset: int
    pid: int
    tid: int
    name: str
    ns: int
    signal: int
    signal_address: int | None
    freed_by: int
    instruction: str
    registers: tuple[int, ...]
    stack: Sequence[Frame]
    source: Sequence[tuple[int, str]]
    """The lines around that of the frame to name (see `place`), with their numbers; none if the file is not here."""
    source_line: int
    block: Block | None
    before: Block | None
    after: Block | None


def explained(faults: Sequence[FaultRecord], library: Path) -> tuple[list[Fault], list[str]]:
    """The faults with named stacks, without frames of the ``library`` itself; and what could not be named, as notes.

    The files that the processes had mapped are read: they must still be there.
    """
    symbolizer = Symbolizer()
    found: list[Fault] = []
    notes: list[str] = []
    for each in faults:
        fault, lacking = _explained(each, str(library), symbolizer)
        found.append(fault)
        notes += lacking
    return found, list(dict.fromkeys([*notes, *symbolizer.notes]))


def _explained(record: FaultRecord, library: str, symbolizer: Symbolizer) -> tuple[Fault, Sequence[str]]:
    blocks = [record.block, record.before, record.after]
    origins = [origin for block in blocks if block for origin in (block.allocated, block.freed) if origin]
    copies = [_access_stack(record)]
    copies += [StackCopy(origin.tid, origin.registers, origin.stack, False) for origin in origins]
    try:
        areas = list(procfs.areas_of(record.maps, "the report of a fault"))
        stacks, notes = named_stacks(record.pid, areas, copies, symbolizer, offsets=True)
    except InsituError as error:
        stacks, notes = [NamedStack((), (), False)] * len(copies), [error.message]
    named = dict(zip(map(id, origins), stacks[1:], strict=True))
    access, address, size, instruction = _access(record)
    found_at_end = record.kind == records.DAMAGE and not record.family
    stack = () if found_at_end else _without(library, stacks[0].frames)
    if access == "execute":
        stack = [Frame(f"{record.registers[_INSTRUCTION_POINTER]:#x}", symbolized=False), *stack]
    source_line, source = _source(stack)
    made = [_block(block, named, library) if block else None for block in blocks]
    fault = Fault(
        _kind(record, access, address, size),
        access,
        address,
        size,
        address - made[0].address if made[0] else 0,
        record.pid,
        record.tid,
        record.name,
        record.ns,
        record.signal,
        record.address if record.trap == _PAGE_FAULT else None,
        record.family,
        instruction,
        record.registers,
        stack,
        source,
        source_line,
        *made,
    )
    # The copies of stacks of allocations are short on purpose: that one ends early is no news.
    return fault, [note for note in notes if "truncated" not in note]


def _access_stack(record: FaultRecord) -> StackCopy:
    """The stack at the fault; where a call led to what cannot be executed, that of the caller, at the call."""
    registers, stack = list(record.registers), record.stack
    if _is_jump(record) and len(stack) >= 8:
        registers[_INSTRUCTION_POINTER] = max(int.from_bytes(stack[:8], "little") - 1, 0)
        registers[_STACK_POINTER] += 8
        stack = stack[8:]
    return StackCopy(record.tid, tuple(registers), stack, False)


def _is_jump(record: FaultRecord) -> bool:
    return bool(record.signal and record.error & _FETCH and record.trap == _PAGE_FAULT)


def _kind(record: FaultRecord, access: str, address: int, size: int) -> str:
    if record.kind == records.ELSEWHERE:
        return _kind_elsewhere(record, address)
    named = {
        records.DOUBLE_FREE: "double-free",
        records.INVALID_FREE: "invalid-free",
        records.MISMATCH: "mismatched-free",
    }
    if record.kind in named:
        return named[record.kind]
    block = record.block
    if block is None:
        return "elsewhere"
    if _is_between(record, address, size):
        return "between"
    if access == "execute" and block.state != records.FREED:
        return "executed"
    if record.kind == records.ACCESS and block.state == records.FREED:
        return "use-after-free"
    # By where the page fault was: what begins before a block may end in it.
    return "underrun" if record.address < block.address else "overrun"


def _kind_elsewhere(record: FaultRecord, address: int) -> str:
    if record.trap != _PAGE_FAULT:
        return "elsewhere"
    if address < _NULL_BYTES:
        return "null"
    # Beside the stack pointer, and not in its page unless that is missing: the stack has no more room.
    pointer = record.registers[_STACK_POINTER]
    if -_FRAME_BYTES <= address - pointer < (0 if _is_writable(record.maps, pointer) else _FRAME_BYTES):
        return "stack-overflow"
    return "elsewhere"


def _is_writable(maps: bytes, address: int) -> bool:
    areas = procfs.areas_of(maps, "the report of a fault")
    return any(area.start <= address < area.end and "w" in area.permissions for area in areas)


def _is_between(record: FaultRecord, address: int, size: int) -> bool:
    block = record.block
    if block is None:
        return False
    other = record.before if address < block.address else record.after
    below, above = (other, block) if address < block.address else (block, other)
    if below is None or above is None:
        return False
    end = address + max(size, 1)
    return address - below.address - below.size > _FAR_BYTES and above.address - end > _FAR_BYTES


def _access(record: FaultRecord) -> tuple[str, int, int, str]:
    """Type of the access, its address and size, and the instruction."""
    if record.kind == records.DAMAGE:
        return "found later", record.address, 0, ""
    if not record.signal:
        return "", record.address, 0, ""
    if _is_jump(record):
        return "execute", record.address, 0, ""
    if record.trap == _PROTECTION_FAULT:
        # It has no address and no kind.
        found = memory_access(record.instruction, record.registers, None)
        if found is None or found.address is None:
            return "access", record.address, 0, found.text if found else ""
        return "write" if found.writes else "read", found.address, found.size, found.text
    kind = "write" if record.error & _WRITE else "read"
    found = memory_access(record.instruction, record.registers, record.address)
    if found is None:
        return kind, record.address, 0, ""
    if record.trap != _PAGE_FAULT:
        return "access", record.address, 0, found.text
    return kind, record.address if found.address is None else found.address, found.size, found.text


def _block(record: BlockRecord, named: dict[int, NamedStack], library: str) -> Block:
    def call(origin: Origin) -> Call:
        return Call(origin.tid, origin.ns, _without(library, named[id(origin)].frames))

    freed = call(record.freed) if record.freed else None
    return Block(record.address, record.size, record.align, record.family, call(record.allocated), freed)


def place(stack: Sequence[Frame]) -> Frame | None:
    """The frame to name: the innermost one with a source line outside the C and C++ libraries, else the innermost."""
    own = [
        frame
        for frame in stack
        if frame.module
        and not frame.module.rpartition("/")[2].startswith(_LIBRARIES)
        and _LIBRARY_HEADERS not in frame.file
    ]
    return next((frame for frame in own if frame.line), own[0] if own else stack[0] if stack else None)


def _source(stack: Sequence[Frame]) -> tuple[int, Sequence[tuple[int, str]]]:
    frame = place(stack)
    if frame is None or not frame.line:
        return 0, ()
    try:
        text = read_foreign(frame.file, _MOST_SOURCE_BYTES)
    except OSError:
        return 0, ()
    lines = text.decode("utf-8", "replace").split("\n")
    first = max(frame.line - 1 - _LINES_AROUND, 0)
    return frame.line, [
        (first + 1 + at, line.rstrip("\r")) for at, line in enumerate(lines[first : frame.line + _LINES_AROUND])
    ]


def _without(library: str, frames: Sequence[Frame]) -> Sequence[Frame]:
    """The frames without those of the allocator itself at their beginning."""
    at = 0
    while at < len(frames) and frames[at].module == library:
        at += 1
    return frames[at:]
