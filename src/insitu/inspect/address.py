"""What an address of a process belongs to: function, variable, frame of a thread's stack; and its physical page."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from insitu.errors import InsituError
from insitu.inspect.memory_map import Sharer, mappings_of, who_maps
from insitu.inspect.page_runs import state_of
from insitu.inspect.stopped_threads import capture
from insitu.inspect.variable_names import VariableNames
from insitu.kernel import procfs, ptrace
from insitu.kernel.physical_pages import FLAGS, PAGE, Frames, PageMap, frame_of
from insitu.kernel.procfs import Area
from insitu.symbols.copied_stacks import StackCopy, frames_at, samples_of
from insitu.symbols.frame import Frame
from insitu.symbols.process_map import ProcessMap
from insitu.symbols.symbolizer import Symbolizer
from insitu.symbols.unwind import CUT, Unwinder

__all__ = ["PhysicalPage", "Place", "StackPlace", "place"]

_USER_END, _KERNEL = 1 << 47, (1 << 64) - (1 << 47)  # x86-64 without five-level page tables
_GUARD_GAP: Final = 256 * PAGE  # mm/mmap.c: stack_guard_gap
_MOST_DEPTH: Final = 2000


class StackPlace(NamedTuple):
    """Where in the stack of a thread: ``frame`` is empty below the stack pointer, where nothing is in use.

    ``number`` counts frames from the innermost; ``offset`` is in bytes from where the frame begins, or from the stack
    pointer. ``is_outermost``: also what lies above, such as arguments, the environment and thread-local variables.
    """

    tid: int
    name: str
    number: int
    frame: Sequence[Frame]
    offset: int
    is_outermost: bool


class PhysicalPage(NamedTuple):
    """The page behind an address. ``frame`` is 0 without root; ``mapped``: how often it is mapped."""

    frame: int
    mapped: int
    flags: Sequence[str]
    sharers: Sequence[Sharer]
    state: str
    """As of page_runs."""


class Place(NamedTuple):
    """What an address belongs to; ``area`` is None where nothing is mapped, ``text`` says what it is in words."""

    address: int
    text: str
    area: Area | None
    symbol: str
    source: Sequence[Frame]
    stack: StackPlace | None
    page: PhysicalPage | None
    notes: Sequence[str]


def place(pid: int, address: int) -> Place:
    """What an address belongs to. Where it may be in a stack, the process is stopped for some milliseconds.

    Raises InsituError: no such process, another user's, or one without memory.
    """
    areas = mappings_of(pid)
    at = bisect.bisect_right(areas, address, key=lambda area: area.start) - 1
    area = areas[at] if at >= 0 and address < areas[at].end else None
    if area is None:
        return Place(address, _unmapped(areas, at, address), None, "", (), None, None, ())
    notes: list[str] = []
    stack = None
    if area.path in (b"[stack]", b"") and "w" in area.permissions:
        try:
            stack = _in_stack(pid, area, address)
        except InsituError as error:
            notes.append(f"stacks: {error.message}" + (f" ({error.remedy})" if error.remedy else ""))
    symbol, source = ("", ()) if stack else _symbol(pid, area, address)
    page, note = _page(pid, address, at)
    notes += [note] if note else []
    text = _text(areas, at, area, symbol, stack, page)
    return Place(address, text, area, symbol, source, stack, page, notes)


def _unmapped(areas: Sequence[Area], below: int, address: int) -> str:
    if address >= _USER_END:
        return "an address of the kernel" if address >= _KERNEL else "no address: the processor does not take it"
    if address < PAGE:
        return "not mapped: a null pointer, or a member of what one leads to"
    above = areas[below + 1] if below + 1 < len(areas) else None
    if above is not None and above.path == b"[stack]" and above.start - address <= _GUARD_GAP:
        return "not mapped: below the main stack, which grows when it is touched, up to its limit"
    words = []
    if below >= 0:
        words.append(f"{address - areas[below].end:,} bytes after the end of {_name(areas[below])}")
    if above is not None:
        words.append(f"{above.start - address:,} bytes before {_name(above)}")
    return f"not mapped: {', '.join(words)}"


def _name(area: Area) -> str:
    return f"{area.path.decode(errors='replace') or '[anonymous]'} ({area.start:x}-{area.end:x})"


def _text(
    areas: Sequence[Area], at: int, area: Area, symbol: str, stack: StackPlace | None, page: PhysicalPage | None
) -> str:
    name = area.path.decode(errors="replace")
    if page is not None and page.state == "guard":
        return "a guard page: touching it is SIGSEGV (MADV_GUARD_INSTALL)"
    if stack is not None:
        whose = f"the stack of thread {stack.name}/{stack.tid}"
        if not stack.frame:
            return f"{whose}, {-stack.offset:,} bytes below the stack pointer: not in use"
        above = ", or above it: arguments, environment, thread-local variables" if stack.is_outermost else ""
        return f"{whose}, frame #{stack.number} {stack.frame[0].function}, byte {stack.offset:,}{above}"
    if area.permissions.startswith("---"):
        after = areas[at + 1] if at + 1 < len(areas) and areas[at + 1].start == area.end else None
        below = f", just below {_name(after)}, as below a thread's stack" if after and not after.path else ""
        return f"inaccessible memory (PROT_NONE): touching it is SIGSEGV{below}"
    if symbol:
        return f"{symbol}  {name}"
    if name == "[heap]":
        return "the heap (brk), of which malloc's blocks are made: insitu leaks shows these"
    if name == "[stack]":
        return "the main thread's stack"
    if not name and "w" not in area.permissions and page is not None and page.state == "private, anonymous":
        return "anonymous memory that was written, and has been made read-only since (mprotect): a write is SIGSEGV"
    if not name:
        return "anonymous memory: an arena or large block of malloc, a stack, or the program's own"
    if name.startswith("/"):
        return f"{name}, which has no symbol there"
    return f"the kernel's {name}" if name.startswith("[v") else name


def _symbol(pid: int, area: Area, address: int) -> tuple[str, Sequence[Frame]]:
    """The function or variable with the offset in it, and the source lines."""
    spaces = ProcessMap()
    spaces.execed_with(pid, 0, [area])
    found = spaces.latest(pid, address)
    if found is not None and "x" in area.permissions:
        mapping, module = found
        symbolizer = Symbolizer()
        offset = address - mapping.start + mapping.offset
        if (function := symbolizer.function(module, offset, address)) is not None:
            name, distance, _ = function
            return f"{name}+{distance:#x}" if distance else name, symbolizer.source(module, offset)
    try:
        return VariableNames(pid, list(procfs.areas(pid))).name(address), ()
    except OSError:
        return "", ()


def _in_stack(pid: int, area: Area, address: int) -> StackPlace | None:
    """Where in a thread's stack; None if no stack pointer is in the area. Raises InsituError."""
    try:
        found = capture(pid, pid)
    except ProcessLookupError:
        raise InsituError(f"no process {pid}", remedy="ps -e lists processes") from None
    for copy in found.copies:
        pointer = copy.registers[ptrace.SAMPLED_SP]
        if area.start <= pointer < area.end:
            name = procfs.comm(copy.tid).decode(errors="replace")
            if address < pointer:
                return StackPlace(copy.tid, name, -1, (), address - pointer, False)
            number, frame, offset, is_outermost = _frame(pid, found.areas, copy, address)
            return StackPlace(copy.tid, name, number, frame, offset, is_outermost)
    return None


def _frame(pid: int, areas: Sequence[Area], copy: StackCopy, address: int) -> tuple[int, Sequence[Frame], int, bool]:
    spaces, symbolizer = ProcessMap(), Symbolizer()
    epoch = spaces.execed_with(pid, 0, [area for area in areas if "x" in area.permissions])
    unwinder = Unwinder(spaces, symbolizer.open_module, frame_pointers=True, max_depth=_MOST_DEPTH, mark_cut=True)
    sample = samples_of([copy], epoch)
    pointers = unwinder.stack_pointers(sample)
    bounds, addresses = unwinder.unwind(sample)
    frames = frames_at(spaces, symbolizer, pid, epoch, bounds, addresses)
    if len(addresses) and addresses[-1] == CUT:
        frames.pop()
    number = min(bisect.bisect_right(pointers, address) - 1, len(frames) - 1)
    return number, frames[number], address - pointers[number], number == len(frames) - 1


def _page(pid: int, address: int, at: int) -> tuple[PhysicalPage | None, str]:
    """The page behind an address, None if there is none; and what cannot be known."""
    number = np.array([address // PAGE], np.int64)
    if address >= _USER_END:
        return None, ""
    try:
        with PageMap(pid) as pages:
            words = pages.at(number)
    except OSError:
        return None, "physical pages of others' processes need root: sudo insitu ..."
    frames = frame_of(words)
    if not frames[0] or not int(words[0]) >> 63:
        state = state_of(words, None)
        note = "the physical page needs root: sudo insitu ..." if int(words[0]) >> 63 else ""
        return (
            PhysicalPage(
                0,
                0,
                (),
                (),
                state,
            )
            if state
            else None
        ), note
    try:
        known = Frames.of(frames)
    except PermissionError:
        return PhysicalPage(0, 0, (), (), state_of(words, None)), "the physical page needs root: sudo insitu ..."
    names = [name for bit, name in FLAGS.items() if int(known.flags[0]) >> bit & 1]
    sharers, note = who_maps(pid, frames, np.array([at])) if known.mapped[0] > 1 else ([], "")
    return PhysicalPage(int(frames[0]), int(known.mapped[0]), names, sharers, state_of(words, known)), note
