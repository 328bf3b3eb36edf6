"""Where DWARF says a variable is, as the fetch argument of a dynamic event (Documentation/trace/uprobetracer.rst)."""

from __future__ import annotations

from typing import Final, NamedTuple

from insitu.symbols.dwarf_bytes import CorruptDwarfError, fixed, sleb128, uleb128
from insitu.symbols.dwarf_scopes import CType
from insitu.symbols.registers import AARCH64, X86_64, Machine

__all__ = ["Located", "fetched", "located", "member_of"]

# As /sys/kernel/tracing takes them: arch/x86/kernel/ptrace.c (regoffset_table), by DWARF number.
_REGISTERS: Final = {
    X86_64: ("ax", "dx", "cx", "bx", "si", "di", "bp", "sp", *(f"r{number}" for number in range(8, 16))),
    AARCH64: (*(f"x{number}" for number in range(31)), "sp"),
}
# DW_OP_*
_ADDR, _LIT0, _REG0, _BREG0, _REGX, _FBREG, _BREGX = 0x03, 0x30, 0x50, 0x70, 0x90, 0x91, 0x92
_CFA, _VALUE = 0x9C, 0x9F
_CONSTANTS: Final = {0x08 + 2 * i + s: (1 << i, bool(s)) for i in range(4) for s in range(2)}  # DW_OP_const1u ...
_CONSTU, _CONSTS = 0x10, 0x11


class Located(NamedTuple):
    """Where a value is. ``form``: in a "register", in "memory" at register + offset, at the "address" ``offset`` of
    the file, or it is the "constant" ``offset``. ``path`` are further offsets, each after following a pointer."""

    form: str
    register: int = 0
    offset: int = 0
    path: tuple[int, ...] = ()


def located(expression: bytes, frame_base: bytes, cfa: tuple[int, int] | None) -> Located | None:
    """What a location expression says; None for what fetch arguments cannot do (values computed, in pieces, or known
    to the caller alone). ``cfa`` is the call frame's (register, offset) at the address."""
    try:
        return _located(expression, frame_base, cfa)
    except (CorruptDwarfError, IndexError):
        return None


def _located(block: bytes, frame_base: bytes, cfa: tuple[int, int] | None) -> Located | None:
    if not block:
        return None
    opcode, at = block[0], 1
    found: Located | None = None
    constant: int | None = None
    if _LIT0 <= opcode < _REG0:
        constant = opcode - _LIT0
    elif opcode in _CONSTANTS:
        constant, at = fixed(block, at, *_CONSTANTS[opcode])
    elif opcode in (_CONSTU, _CONSTS):
        constant, at = (uleb128 if opcode == _CONSTU else sleb128)(block, at)
    elif _REG0 <= opcode < _BREG0:
        found = Located("register", opcode - _REG0)
    elif opcode == _REGX:
        register, at = uleb128(block, at)
        found = Located("register", register)
    elif _BREG0 <= opcode < _REGX or opcode == _BREGX:
        register, at = (opcode - _BREG0, at) if opcode != _BREGX else uleb128(block, at)
        offset, at = sleb128(block, at)
        found = Located("memory", register, offset)
    elif opcode == _FBREG:
        offset, at = sleb128(block, at)
        base = _located(frame_base, b"", cfa) if frame_base else None
        if base is None or base.form not in ("register", "memory"):
            return None
        found = Located("memory", base.register, base.offset + offset)
    elif opcode == _CFA and cfa is not None:
        found = Located("memory", *cfa)
    elif opcode == _ADDR:
        address, at = fixed(block, at, 8)
        found = Located("address", 0, address)
    if block[at:] == bytes([_VALUE]):
        if constant is not None:
            return Located("constant", 0, constant)
        return Located("register", found.register) if found and found.form == "memory" and not found.offset else None
    return found if at == len(block) else None


def member_of(of: Located, offset: int, *, pointed: bool) -> Located | None:
    """A member at an offset of a struct there (``pointed``: of the struct that a pointer there points to)."""
    if pointed:
        return of._replace(path=(*of.path, offset)) if of.form != "constant" else None
    if of.path:
        return of._replace(path=(*of.path[:-1], of.path[-1] + offset))
    return of._replace(offset=of.offset + offset) if of.form in ("memory", "address") else None


def fetched(of: Located, kind: CType, machine: Machine, *, file_offset: int = -1) -> str | None:
    """The fetch argument with its type; None for what it cannot show: structs, and text in a register.

    ``file_offset`` is where an address of the file is in it (-1: nowhere, as of zeroed memory).
    """
    names = _REGISTERS.get(machine, ())
    if of.form in ("register", "memory") and of.register >= len(names):
        return None
    if of.form == "constant":
        text = f"\\{of.offset}"
    elif of.form == "register":
        text = f"%{names[of.register]}"
    elif of.form == "memory":
        text = f"{of.offset:+d}(%{names[of.register]})"
    elif file_offset < 0:
        return None
    else:
        text = f"@+{file_offset}"
    for offset in of.path:
        text = f"{offset:+d}({text})"
    if kind.kind == "array":
        return f"{text}:string" if kind.is_text and (of.form != "register" or of.path) else None
    if kind.is_text and kind.kind == "pointer":
        return f"+0({text}):string" if of.form != "constant" else None
    if kind.kind not in ("signed", "unsigned", "pointer", "float") or kind.size not in (1, 2, 4, 8):
        return None
    letter = {"signed": "s", "unsigned": "u"}.get(kind.kind, "x")
    return f"{text}:{letter}{8 * kind.size}"
