"""Memory: residency, NUMA nodes and policies."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import c_int
from insitu.syscalls.capture import Bytes
from insitu.syscalls.kinds.arrays import array_text
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text

__all__ = ["KINDS"]

_MREMAP_MOVES: Final = 2 | 4  # MREMAP_FIXED, MREMAP_DONTUNMAP
_MODE_FLAGS: Final = 0xE000
_MOST_NODE_BYTES: Final = 4096


def _old_mmap(argument: Argument) -> str | None:
    """The six arguments of i386's first mmap(), which are in memory."""
    data = argument.read(24)
    if data is None:
        return None
    address, size, protection, flags, fd, offset = (
        int.from_bytes(data[at : at + 4], "little") for at in range(0, 24, 4)
    )
    words = (
        hexadecimal(address),
        str(size),
        flags_text(argument, "prot", protection),
        flags_text(argument, "map", flags),
        descriptor(argument, c_int(fd)),
        hex_or_0(offset),
    )
    return ", ".join(words)


def _mincore(argument: Argument) -> str | None:
    """Returns ``[1, 0]``: whether each page is resident. No more than -s of them without -v."""
    count = argument.count or 0
    short = count if argument.options.verbose else min(count, argument.options.string_limit)
    data = argument.read(min(short, 4096))
    if data is None:
        return None
    words = [str(byte & 1) if byte < 2 else f"{byte:#x}" for byte in data]
    return f"[{', '.join(words)}{', ...' if len(words) < count else ''}]"


def _nodes(argument: Argument) -> str | None:
    """Returns a node mask as longs, ``[0x00000000000001]``: strace(1) writes 16 digits with 0x among them."""
    size = argument.long_size
    # mm/mempolicy.c, get_nodes(): one bit less than it says
    count = -(-(argument.other(int(argument.given[0])) - 1) // (8 * size))
    if count <= 0:
        return "[]"
    if count > _MOST_NODE_BYTES // size:
        return None

    def word(at: Argument) -> str | None:
        value = at.number(size)
        return None if value is None else f"{value:#0{2 * size}x}" if value else "0" * (2 * size)

    return array_text(argument, size, count, word)


def _mempolicy(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    mode, flags = value & ~_MODE_FLAGS, value & _MODE_FLAGS
    if not flags:
        return enum_text(argument, "mempolicy", mode)
    short = replace(argument, options=replace(argument.options, constants="abbrev"))
    words = f"{enum_text(short, 'mempolicy', mode)}|{flags_text(short, 'mempolicy_mode', flags)}"
    return argument.named(hex_or_0(value), words)


def _mempolicy_at(argument: Argument) -> str | None:
    value = argument.number(4)
    if value is None:
        return None
    if argument.other(4) & 1:  # MPOL_F_NODE: a node's number
        return f"[{value}]"
    return f"[{_mempolicy(argument.at(value))}]"


def _page_status(argument: Argument) -> str | None:
    """Returns the node of each page, or the error that its move had: ``[0, -EFAULT]``."""

    def word(at: Argument) -> str | None:
        value = at.number(4, signed=True)
        if value is None:
            return None
        return at.named(str(value), f"-{at.facts.errno_name(-value)}") if -4096 < value < 0 else str(value)

    return array_text(argument, 4, argument.count or 0, word)


KINDS: Kinds = {
    "moved_to": Kind(lambda a: hexadecimal(a.value), skipped=lambda call: not call.enter.args[3] & _MREMAP_MOVES),
    "page_offset": Kind(lambda a: hex_or_0((a.value & 0xFFFFFFFF) * 4096)),
    "old_mmap": Kind(_old_mmap, Bytes(24)),
    "mincore": Kind(_mincore, Bytes(1)),
    "nodes": Kind(_nodes, Bytes(8)),
    "mempolicy": Kind(_mempolicy),
    "mempolicy_at": Kind(_mempolicy_at, Bytes(4)),
    "page_status": Kind(_page_status, Bytes(4)),
}
