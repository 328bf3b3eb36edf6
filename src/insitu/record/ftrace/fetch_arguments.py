"""Where DWARF says a variable is, as the fetch argument of a dynamic event (Documentation/trace/uprobetracer.rst)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, sleb128, uleb128
from insitu.symbols.dwarf_c_types import CType
from insitu.symbols.registers import AARCH64, X86_64, Machine

__all__ = ["MOST_ELEMENTS", "Located", "fetched", "located", "part_of", "pointed_at", "why_not"]

MOST_ELEMENTS: Final = 64  # MAX_ARRAY_LEN

# As /sys/kernel/tracing takes them: arch/x86/kernel/ptrace.c (regoffset_table), by DWARF number.
_REGISTERS: Final = {
    X86_64: ("ax", "dx", "cx", "bx", "si", "di", "bp", "sp", *(f"r{number}" for number in range(8, 16))),
    AARCH64: (*(f"x{number}" for number in range(31)), "sp"),
}
# DW_OP_*
_ADDR, _DEREF, _PLUS, _LIT0, _REG0, _BREG0, _REGX, _FBREG, _BREGX = (
    0x03,
    0x06,
    0x23,
    0x30,
    0x50,
    0x70,
    0x90,
    0x91,
    0x92,
)
_PIECE, _CFA, _VALUE, _IMPLICIT = 0x93, 0x9C, 0x9F, 0x9E
_CONSTANTS: Final = {0x08 + 2 * i + s: (1 << i, bool(s)) for i in range(4) for s in range(2)}  # DW_OP_const1u ...
_CONSTU, _CONSTS = 0x10, 0x11
_WHY: Final = {
    0xA0: "it points to something that is optimized out",  # DW_OP_implicit_pointer, and that of GNU
    0xF2: "it points to something that is optimized out",
    0xA3: "only its value at the function's beginning is known",  # DW_OP_entry_value, and that of GNU
    0xF3: "only its value at the function's beginning is known",
}
_MOST_PIECES: Final = 64

Form = Literal["register", "memory", "address", "constant", "sum", "pieces"]


class Located(NamedTuple):
    """Where a value is: in a "register" (from byte ``offset`` of it on), in "memory" at register + offset, at the
    "address" ``offset`` of the file, or in "pieces" (bytes of each, and where it is); or it is the "constant"
    ``offset`` or the "sum" of register and offset. ``is_address``: it is the address itself, not what is there.
    ``path`` are further offsets, each after following a pointer."""

    form: Form
    register: int = 0
    offset: int = 0
    path: tuple[int, ...] = ()
    pieces: tuple[tuple[int, Located | None], ...] = ()
    is_address: bool = False


def located(expression: bytes, frame_base: bytes, cfa: tuple[int, int] | None) -> Located | None:
    """What a location expression says; None for what fetch arguments cannot do (values computed, or known to the
    caller alone). ``cfa`` is the call frame's (register, offset) at the address."""
    try:
        return _located(expression, frame_base, cfa)
    except (CorruptDwarfError, IndexError):
        return None


def why_not(expression: bytes) -> str:
    """Why what is at a location cannot be shown."""
    return _WHY.get(expression[0] if expression else 0, "it would have to be computed")


def _located(block: bytes, frame_base: bytes, cfa: tuple[int, int] | None) -> Located | None:
    found, at = _operation(block, 0, frame_base, cfa) if block else (None, 0)
    if block[at : at + 1] == bytes([_PIECE]):
        return _pieces(block, frame_base, cfa)
    return found if at == len(block) else None


def _pieces(block: bytes, frame_base: bytes, cfa: tuple[int, int] | None) -> Located | None:
    pieces: list[tuple[int, Located | None]] = []
    at = 0
    while at < len(block) and len(pieces) < _MOST_PIECES:
        found = None
        if block[at] != _PIECE:  # else nothing is known of the piece
            found, at = _operation(block, at, frame_base, cfa)
        if block[at] != _PIECE:
            return None
        size, at = uleb128(block, at + 1)
        pieces.append((size, found))
    return Located("pieces", pieces=tuple(pieces))


def _operation(block: bytes, at: int, frame_base: bytes, cfa: tuple[int, int] | None) -> tuple[Located | None, int]:
    """One value and what is done to it; its end is where the first operation that is not understood begins."""
    opcode = block[at]
    found: Located | None = None
    after = at + 1
    if _LIT0 <= opcode < _REG0:
        found = Located("constant", 0, opcode - _LIT0)
    elif opcode in _CONSTANTS:
        constant, after = fixed(block, after, *_CONSTANTS[opcode])
        found = Located("constant", 0, constant)
    elif opcode in (_CONSTU, _CONSTS):
        constant, after = (uleb128 if opcode == _CONSTU else sleb128)(block, after)
        found = Located("constant", 0, constant)
    elif opcode == _IMPLICIT:
        size, after = uleb128(block, after)
        constant, after = fixed(block, after, size) if size <= 8 else (0, after + size)
        return (Located("constant", 0, constant) if size <= 8 else None), after
    elif _REG0 <= opcode < _BREG0 or opcode == _REGX:
        register, after = (opcode - _REG0, after) if opcode != _REGX else uleb128(block, after)
        return Located("register", register), after
    elif _BREG0 <= opcode < _REGX or opcode == _BREGX:
        register, after = (opcode - _BREG0, after) if opcode != _BREGX else uleb128(block, after)
        offset, after = sleb128(block, after)
        found = Located("memory", register, offset)
    elif opcode == _FBREG:
        offset, after = sleb128(block, after)
        base = _located(frame_base, b"", cfa) if frame_base else None
        if base is not None and base.form in ("register", "memory"):
            found = Located("memory", base.register, base.offset + offset)
    elif opcode == _CFA and cfa is not None:
        found = Located("memory", *cfa)
    elif opcode == _ADDR:
        address, after = fixed(block, after, 8)
        found = Located("address", 0, address)
    return _changed(found, block, after) if found is not None else (None, at)


def _changed(found: Located, block: bytes, at: int) -> tuple[Located | None, int]:
    """What pointers followed and offsets added make of an address; DW_OP_stack_value ends it."""
    while at < len(block):
        if block[at] == _DEREF and found.form != "constant":
            found = found._replace(path=(*found.path, 0))
            at += 1
        elif block[at] == _PLUS:
            more, at = uleb128(block, at + 1)
            found = _moved(found, more)
        else:
            break
    if found.form == "constant":
        # Without DW_OP_stack_value it would be an address.
        return (found, at + 1) if block[at : at + 1] == bytes([_VALUE]) else (None, at)
    if block[at : at + 1] != bytes([_VALUE]):
        return found, at
    if found.path and not found.path[-1]:  # what was read there last is the value
        return found._replace(path=found.path[:-1]), at + 1
    if not found.path and found.form == "memory":
        return found._replace(form="sum") if found.offset else Located("register", found.register), at + 1
    return found._replace(is_address=True), at + 1


def _moved(of: Located, by: int) -> Located:
    if of.path:
        return of._replace(path=(*of.path[:-1], of.path[-1] + by))
    return of._replace(offset=of.offset + by)


def pointed_at(pointer: Located, offset: int) -> Located | None:
    """What is ``offset`` bytes after where a pointer there points to."""
    if pointer.is_address:
        return _moved(pointer._replace(is_address=False), offset)
    if pointer.form == "sum":
        return _moved(pointer._replace(form="memory"), offset)
    if pointer.form in ("constant", "pieces") or (pointer.form == "register" and pointer.offset):
        return None
    return pointer._replace(path=(*pointer.path, offset))


def part_of(whole: Located, offset: int, size: int) -> Located | None:
    """A part of a struct or array there: ``size`` bytes from ``offset`` on."""
    if whole.is_address or whole.form in ("constant", "sum"):
        return None
    if whole.form != "pieces":
        return _moved(whole, offset) if whole.path or whole.form != "register" or offset + size <= 8 else None
    for length, piece in whole.pieces:
        if offset < length:
            return part_of(piece, offset, size) if piece is not None and offset + size <= length else None
        offset -= length
    return None


def fetched(
    of: Located,
    kind: CType,
    machine: Machine,
    *,
    bits: tuple[int, int] | None = None,
    static: Callable[[int], str] = lambda address: "",
) -> str | None:
    """The fetch argument with its type; None for what it cannot show: structs, and text in a register.

    ``bits`` are the lowest bit and the width of a bit field in ``kind``; ``static`` gives what stands for an address
    of the file (empty: nothing, as for zeroed memory).
    """
    names = _REGISTERS.get(machine, ())
    if of.is_address or of.form == "sum":
        # A computed address can only be followed: to text.
        there = pointed_at(of, 0) if kind.kind == "pointer" and kind.is_text else None
        return fetched(there, kind._replace(kind="array"), machine, static=static) if there is not None else None
    if of.form in ("register", "memory") and of.register >= len(names):
        return None
    low = 8 * of.offset if of.form == "register" and not of.path else 0  # of a part of a register
    if of.form == "constant":
        text = f"\\{of.offset}"
    elif of.form == "register":
        text = f"%{names[of.register]}"
    elif of.form == "memory":
        text = f"{of.offset:+d}(%{names[of.register]})"
    elif of.form == "address":
        text = static(of.offset)
    else:
        text = ""  # in pieces
    if not text:
        return None
    for offset in of.path:
        text = f"{offset:+d}({text})"
    in_memory = bool(of.path) or of.form in ("memory", "address")
    if kind.kind == "array":
        return _array(text, kind) if in_memory else None
    if kind.is_text and kind.kind == "pointer":
        return f"+0({text}):string" if of.form != "constant" else None
    if bits is None and not low:
        suffix = _suffix(kind)
        return f"{text}:{suffix}" if suffix else None
    # In bits of what holds it, always unsigned.
    first, width = bits or (0, 8 * kind.size)
    if of.form == "constant" or kind.kind not in ("signed", "unsigned", "pointer") or (low and kind.kind == "signed"):
        return None
    holds = 64 if low else 8 * kind.size
    return f"{text}:b{width}@{low + first}/{holds}" if low + first + width <= holds else None


def _array(text: str, kind: CType) -> str | None:
    if kind.is_text:
        return f"{text}:string"
    suffix = _suffix(kind.target) if kind.target is not None else ""
    return f"{text}:{suffix}[{kind.length}]" if suffix and 0 < kind.length <= MOST_ELEMENTS else None


def _suffix(kind: CType) -> str:
    """The kernel's type of a number; empty for what is none."""
    if kind.kind not in ("signed", "unsigned", "pointer", "float") or kind.size not in (1, 2, 4, 8):
        return ""
    letter = {"signed": "s", "unsigned": "u"}.get(kind.kind, "x")
    return f"{letter}{8 * kind.size}"
