"""USDT probes of a binary: the notes that <sys/sdt.h> leaves in .note.stapsdt.

A note holds three addresses (of the probe's nop, of the section .stapsdt.base when the note was made, and of the
probe's semaphore or 0) and three zero-ended strings: provider, name, operands.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from insitu.symbols.elf import Elf

__all__ = ["UsdtProbe", "usdt_probes"]

_NOTE = struct.Struct("<III")  # Elf32_Nhdr, Elf64_Nhdr
_ADDRESSES = {4: struct.Struct("<III"), 8: struct.Struct("<QQQ")}  # by the bytes of an address
_STAPSDT = 3  # NT_STAPSDT
_MAX_PROBES = 1 << 16
_MAX_BYTES = 1 << 24


class UsdtProbe(NamedTuple):
    """One location of a probe (a name may have several). Addresses are the binary's own; ``semaphore`` may be 0."""

    provider: str
    name: str
    address: int
    semaphore: int
    operands: str


def usdt_probes(elf: Elf) -> list[UsdtProbe]:
    """The probes in the order of their notes; a damaged note ends the list."""
    notes = elf.section_bytes(".note.stapsdt", _MAX_BYTES)
    addresses = _ADDRESSES[elf.layout.word_bytes]
    mask = (1 << 8 * elf.layout.word_bytes) - 1
    base = elf.section(".stapsdt.base")
    found: list[UsdtProbe] = []
    at = 0
    while at + _NOTE.size <= len(notes) and len(found) < _MAX_PROBES:
        name_bytes, description_bytes, kind = _NOTE.unpack_from(notes, at)
        name_at = at + _NOTE.size
        begin = name_at + (name_bytes + 3 & ~3)
        end = begin + description_bytes
        if end > len(notes):
            break
        at = begin + (description_bytes + 3 & ~3)
        if kind != _STAPSDT or notes[name_at : name_at + name_bytes].rstrip(b"\0") != b"stapsdt":
            continue
        strings = notes[begin + addresses.size : end].split(b"\0", 3)
        if description_bytes < addresses.size or len(strings) < 3:
            break
        address, noted_base, semaphore = addresses.unpack_from(notes, begin)
        # Prelinking moves the sections but not the addresses in notes: the base section shows by how much.
        moved = base.address - noted_base if base else 0
        provider, name, operands = (text.decode(errors="replace") for text in strings[:3])
        found.append(
            UsdtProbe(
                provider,
                name,
                address + moved & mask,
                semaphore + moved & mask if semaphore else 0,
                operands,
            )
        )
    return found
