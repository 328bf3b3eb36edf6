"""Memory faults as text: the verdict in words, then access, allocation, free and neighbours; and as JSON."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Sequence
from typing import Any, Final

from insitu.debug.guard_faults import FAMILIES, Block, Call, Fault, place
from insitu.symbols.frame import Frame
from insitu.symbols.instructions import is_canonical
from insitu.views.quantity import duration
from insitu.views.stack_lines import stack_lines
from insitu.views.terminal import Block as Shown
from insitu.views.terminal import Line, Prose

__all__ = ["blocks", "document", "verdict"]

_TITLES: Final = {
    "overrun": "Heap overrun",
    "underrun": "Heap underrun",
    "between": "Heap access between blocks",
    "executed": "Jump into the heap",
    "use-after-free": "Use after free",
    "double-free": "Double free",
    "invalid-free": "Invalid free",
    "mismatched-free": "Mismatched free",
    "null": "Null pointer",
    "stack-overflow": "Stack overflow",
    "elsewhere": "Crash outside the guarded heap",
}
_VERBS: Final = {"read": "read", "write": "wrote", "execute": "executed", "access": "accessed"}
_COUNT_BYTES: Final = 8  # the Itanium C++ ABI, 2.7 Array Operator new Cookies: a size_t, or the alignment if larger
# In the order of ptrace.SAMPLED_MASK
_REGISTERS: Final = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "rip"),
    *(f"r{number}" for number in range(8, 16)),
)


def verdict(fault: Fault) -> str:
    """What happened, in one sentence."""
    if fault.access == "found later" and fault.block:
        return f"{_TITLES[fault.kind]}{_damage(fault, fault.block)}"
    return f"{_TITLES[fault.kind]}{_place(fault.stack)}: {fault.name} ({fault.pid}) {_deed(fault)}"


def _deed(fault: Fault) -> str:
    block = fault.block
    if fault.kind == "double-free" and block:
        first = _place(block.freed.stack) if block.freed else ""
        return (
            f"freed {_sized(block)} a second time (first freed{first})" if first else f"freed {_sized(block)} twice"
        )
    if fault.kind == "invalid-free":
        if block is None:
            return (
                f"freed {fault.address:#x}, which is on the stack or in static data, or no allocation has returned it"
            )
        return f"freed {fault.address:#x}, {_position(fault, block, 1)}{_array(fault, block)}"
    if fault.kind == "mismatched-free" and block:
        made, freed = FAMILIES[block.family][0], FAMILIES[fault.freed_by][1]
        return f"freed {_sized(block)} by {freed}, but it is from {made}"
    what = f"{_VERBS[fault.access]} " + (_count(fault.size) if fault.size else "memory")
    if block is None and fault.signal and fault.signal_address is None:
        if not is_canonical(fault.address):
            return f"{what} at {fault.address:#x}, not a canonical address"
        return "ran an instruction that the processor refused: a general protection fault, which has no address"
    if block is None:
        return f"{what} at {fault.address:#x}"
    if fault.kind == "between":
        return f"{what} {_between(fault, block)}"
    return f"{what} {_position(fault, block, fault.size)}"


def _array(fault: Fault, block: Block) -> str:
    """What to add where the address is that of the first element: new[] keeps their number in front of it."""
    made, freed = FAMILIES[block.family]
    if (
        made != "new[]"
        or fault.freed_by == block.family
        or fault.offset not in (_COUNT_BYTES, max(_COUNT_BYTES, block.align))
    ):
        return ""
    return f" from {made}, whose elements begin there: free them by {freed}, not by {FAMILIES[fault.freed_by][1]}"


def _damage(fault: Fault, block: Block) -> str:
    """What was overwritten without being stopped, and when that was noticed."""
    call = FAMILIES[fault.freed_by][1] if fault.freed_by else ""
    when = f"noticed at {call}{_place(fault.stack)}" if call else "noticed as the process ended"
    deed = f"{when}: {fault.name} ({fault.pid}) overwrote"
    if fault.kind == "between":
        return f", {deed} a byte {_between(fault, block)}"
    past = fault.offset - block.size
    where = f"{_count(-fault.offset)} before its start" if past < 0 else f"{_far(past)} after its end"
    return f" of {_sized(block)}{_place(block.allocated.stack, 'from')}, {deed} the byte {where}"


def _far(past: int) -> str:
    return _count(past) if past else "directly"


def _between(fault: Fault, block: Block) -> str:
    """How far the access is from the blocks on both sides."""
    below, above = (fault.before, block) if fault.offset < 0 else (block, fault.after)
    words = []
    for side, word in ((below, "after the end of"), (above, "before the start of")):
        if side:
            far = fault.address - side.address - side.size if side is below else side.address - fault.address
            freed = ", freed" if side.freed else ""
            words.append(f"{_count(far)} {word} {_sized(side)}{_place(side.allocated.stack, 'from')}{freed}")
    return " and ".join(words)


def _position(fault: Fault, block: Block, size: int) -> str:
    """Where the access is, from the nearer end of the block."""
    freed = f", which was freed{_place(block.freed.stack)}" if block.freed else ""
    if fault.offset < 0:
        before = f"{_count(-fault.offset)} before the start of"
        return f"{before} {_sized(block)}{freed}"
    past = fault.offset - block.size
    if past >= 0:
        return f"{_far(past)} after the end of {_sized(block)}{freed}"
    if size > -past and not block.freed:
        return f"at byte {fault.offset} of {_sized(block)}, {_count(size + past)} of it beyond the end"
    return f"at byte {fault.offset} of {_sized(block)}{freed}"


def _sized(block: Block) -> str:
    return f"a block of {_count(block.size)}"


def _count(size: int) -> str:
    return f"{size:,} byte{'' if size == 1 else 's'}"


def _place(stack: Sequence[Frame], word: str = "in") -> str:
    frame = place(stack)
    if frame is None:
        return ""
    return f" {word} {frame.function}" + (f" ({frame.file.rpartition('/')[2]}:{frame.line})" if frame.line else "")


def blocks(fault: Fault, *, most: int = 32) -> Iterator[Shown]:
    """Everything that is known of a fault. ``most``: frames of a stack, 0: all."""
    yield Prose([(verdict(fault), "bold red")])
    if fault.signal:
        where = ", no address" if fault.signal_address is None else f" at address {fault.signal_address:#x}"
        yield [(f"  {signal.Signals(fault.signal).name}{where}", "")]
    if fault.instruction:
        yield [("  instruction: ", "dim"), (fault.instruction, "")]
        names = [name for name in _REGISTERS if re.search(_spellings(name), fault.instruction)]
        if names:
            values = (f"{name} {fault.registers[_REGISTERS.index(name)]:#x}" for name in names)
            yield [("  registers:   ", "dim"), ("  ".join(values), "")]
    if fault.access == "found later" and fault.kind != "between":
        option = "--before" if fault.kind == "underrun" else "--exact"
        yield [(f"  {option} stops the program at the instruction that does it", "yellow")]
    yield from _source(fault)
    doing = "the access" if fault.signal else "the call"
    if fault.stack or fault.access != "found later":
        yield [(f"  {doing}, by thread {fault.tid}:", "bold")]
        yield from _stack(fault.stack, most)
    if fault.block:
        yield from _history(fault, fault.block, most)
    for word, block in (("before", fault.before), ("after", fault.after)):
        if block:
            yield [(f"  the block {word} it: {_described(block)}{_by(block.allocated)}", "dim")]
    yield []


def _spellings(name: str) -> str:
    """A pattern for the parts of a register too: eax, ax, al, ah; r8d, r8w, r8b."""
    if name[1:].isdigit():
        return rf"\b{name}[dwb]?\b"
    short = name[1:]
    low = rf"|{short[0]}[lh]" if short.endswith("x") else rf"|{short}l"
    return rf"\b(?:[re]?{short}{low})\b"


def _source(fault: Fault) -> Iterator[Line]:
    for number, text in fault.source:
        here = number == fault.source_line
        yield [(f"  {'>' if here else ' '} {number:5}  ", "dim"), (text.expandtabs(4), "bold" if here else "dim")]


def _history(fault: Fault, block: Block, most: int) -> Iterator[Line]:
    yield [(f"  the block: {_described(block)}", "bold")]
    if block.freed:
        yield [(f"  freed {_before(fault, block.freed)} by thread {block.freed.tid}:", "bold")]
        yield from _stack(block.freed.stack, most)
    yield [(f"  allocated {_before(fault, block.allocated)} by thread {block.allocated.tid}:", "bold")]
    yield from _stack(block.allocated.stack, most)


def _described(block: Block) -> str:
    state = "freed" if block.freed else "in use"
    return f"{_count(block.size)} at {block.address:#x}, from {FAMILIES[block.family][0]}, {state}"


def _by(call: Call) -> str:
    return f", allocated{_place(call.stack)}" if call.stack else ""


def _before(fault: Fault, call: Call) -> str:
    return f"{duration(max(fault.ns - call.ns, 0))} before"


def _stack(stack: Sequence[Frame], most: int) -> Iterator[Line]:
    return stack_lines(stack, most, "--max-frames 0 shows all")


def document(fault: Fault) -> dict[str, Any]:
    """The same for JSON."""
    return {
        "verdict": verdict(fault),
        "kind": fault.kind,
        "access": fault.access or None,
        "address": f"{fault.address:#x}",
        "size_bytes": fault.size or None,
        "offset_bytes": fault.offset if fault.block else None,
        "pid": fault.pid,
        "tid": fault.tid,
        "name": fault.name,
        "ts_ns": fault.ns,
        "signal": fault.signal or None,
        "signal_address": f"{fault.signal_address:#x}" if fault.signal and fault.signal_address is not None else None,
        "freed_by": FAMILIES[fault.freed_by][1] if fault.freed_by else None,
        "instruction": fault.instruction or None,
        "registers": {name: f"{value:#x}" for name, value in zip(_REGISTERS, fault.registers, strict=True)},
        "stack": [frame._asdict() for frame in fault.stack],
        "block": _block(fault.block),
        "before": _block(fault.before),
        "after": _block(fault.after),
    }


def _block(block: Block | None) -> dict[str, Any] | None:
    if block is None:
        return None
    return {
        "address": f"{block.address:#x}",
        "size_bytes": block.size,
        "alignment": block.align,
        "family": FAMILIES[block.family][0],
        "allocated": _call(block.allocated),
        "freed": _call(block.freed) if block.freed else None,
    }


def _call(call: Call) -> dict[str, Any]:
    return {"tid": call.tid, "ts_ns": call.ns, "stack": [frame._asdict() for frame in call.stack]}
