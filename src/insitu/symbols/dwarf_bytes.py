"""Reads DWARF's numbers from bytes: LEB128, and pointers in the encodings of .eh_frame (LSB, DW_EH_PE_*)."""

from typing import Final

__all__ = ["CorruptDwarfError", "fixed", "pointer", "sleb128", "uleb128"]

_MAX_LEB128_BYTES: Final = 10  # 64 bits in groups of 7


class CorruptDwarfError(Exception):
    """The bytes are not valid DWARF; the entry that they belong to is left out."""


def uleb128(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned LEB128 number at ``at`` and the offset after it."""
    value, end = _leb128(data, at)
    return value, end


def sleb128(data: bytes, at: int) -> tuple[int, int]:
    """A signed LEB128 number at ``at`` and the offset after it."""
    value, end = _leb128(data, at)
    bits = 7 * (end - at)
    return (value - (1 << bits) if value >> (bits - 1) else value), end


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(data[at : at + _MAX_LEB128_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise CorruptDwarfError("LEB128 number without an end")


def fixed(data: bytes, at: int, size: int, signed: bool = False) -> tuple[int, int]:
    """A little-endian number of ``size`` bytes at ``at`` and the offset after it."""
    end = at + size
    if at < 0 or end > len(data):
        raise CorruptDwarfError("number beyond the end")
    return int.from_bytes(data[at:end], "little", signed=signed), end


# Low four bits of DW_EH_PE_*: size in bytes (0: an address's) and signedness. 1 and 9 are LEB128.
_FORMATS: Final = {0x0: (0, False), 0x2: (2, False), 0x3: (4, False), 0x4: (8, False)} | {
    0x8: (0, True),
    0xA: (2, True),
    0xB: (4, True),
    0xC: (8, True),
}
_PCREL, _DATAREL, _ALIGNED, _OMIT = 0x10, 0x30, 0x50, 0xFF


def pointer(data: bytes, at: int, encoding: int, address: int, base: int = 0, word_bytes: int = 8) -> tuple[int, int]:
    """An encoded pointer at ``at`` and the offset after it.

    ``address`` is the virtual address of data[0], ``base`` what DW_EH_PE_datarel counts from, ``word_bytes`` the
    size of an address. An indirect pointer
    comes out as the address of the pointer: what it points to is only known in the running process.
    """
    if encoding == _OMIT:
        return 0, at
    if encoding & 0x70 == _ALIGNED:
        at += -(address + at) % word_bytes
        return fixed(data, at, word_bytes)
    origin = 0
    if encoding & 0x70 == _PCREL:
        origin = address + at
    elif encoding & 0x70 == _DATAREL:
        origin = base
    kind = encoding & 0x0F
    if kind == 0x1:
        value, end = uleb128(data, at)
    elif kind == 0x9:
        value, end = sleb128(data, at)
    elif kind in _FORMATS:
        size, signed = _FORMATS[kind]
        value, end = fixed(data, at, size or word_bytes, signed)
    else:
        raise CorruptDwarfError(f"pointer encoding {encoding:#x}")
    return (value + origin) & (1 << 8 * word_bytes) - 1, end
