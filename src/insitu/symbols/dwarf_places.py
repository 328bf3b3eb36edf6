"""Places of parameters (see argument_places) by DWARF: what compilers have made of functions that only they call."""

from __future__ import annotations

from typing import Final

from insitu.symbols.dwarf_bytes import sleb128, uleb128

__all__ = ["places_of"]

_GENERAL: Final = (5, 4, 1, 2, 8, 9)
"""rdi, rsi, rdx, rcx, r8, r9 in DWARF (System V ABI, AMD64 supplement, figure 3.36)."""
_XMM0, _XMM15 = 17, 32
_REG0, _REG31, _BREG0, _BREG31, _FBREG, _PIECE, _STACK_VALUE = 0x50, 0x6F, 0x70, 0x8F, 0x91, 0x93, 0x9F
_UNKNOWN: Final = "?"


def places_of(location: bytes) -> tuple[str, ...] | None:
    """The places that a location description names; "?" for what is not an argument's register. None where it is in
    the function's frame, as without optimisation: what is put there after the entry was where the ABI says.

    Raises CorruptDwarfError.
    """
    found: list[str] = []
    at, place = 0, _UNKNOWN
    while at < len(location):
        opcode, at = location[at], at + 1
        if opcode == _FBREG:
            return None
        if opcode == _PIECE:
            size, at = uleb128(location, at)
            found.append(f"{place}:{size}")
            place = _UNKNOWN
        elif _REG0 <= opcode <= _REG31:
            place = _register(opcode - _REG0)
        elif _BREG0 <= opcode <= _BREG31:
            offset, at = sleb128(location, at)
            place = f"@{_register(opcode - _BREG0)}" if not offset and at == len(location) else _UNKNOWN
            if location[at : at + 1] == bytes([_STACK_VALUE]):
                place, at = (_UNKNOWN if offset else _register(opcode - _BREG0)), at + 1
        else:
            return (_UNKNOWN,)
    return tuple(found) or (place,)


def _register(number: int) -> str:
    if number in _GENERAL:
        return f"r{_GENERAL.index(number)}"
    return f"x{number - _XMM0}" if _XMM0 <= number <= _XMM15 else _UNKNOWN
