"""Classic BPF programs, of sockets and of seccomp, as the macros of include/uapi/linux/filter.h write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.capture import Linked, Wide
from insitu.syscalls.kinds.bpf_instructions import MOST_INSTRUCTIONS, code_text, instructions
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text

__all__ = ["FILTER", "KINDS", "classic_instructions", "seccomp_filter", "socket_constant", "socket_filter"]

_AD_OFF, _NET_OFF, _LL_OFF = 0xFFFFF000, 0xFFF00000, 0xFFE00000
FILTER: Final = Wide(
    Linked(16, ((8, 0, 2, Linked(8, (), MOST_INSTRUCTIONS)),)),
    Linked(8, ((4, 0, 2, Linked(8, (), MOST_INSTRUCTIONS)),)),
)
"""struct sock_fprog."""


Constant = Callable[[Argument, int, int], str | None]
"""(argument, code, operand) -> the operand's name, None where it is a number."""


def socket_constant(argument: Argument, code: int, value: int) -> str | None:
    """Returns the name of a load's offset that means the packet's metadata."""
    if code & 7 or code & 0xE0 != 0x20:  # BPF_LD|BPF_ABS
        return None
    if value >= _AD_OFF:
        return f"SKF_AD_OFF+{enum_text(argument, 'bpf_ancillary', value - _AD_OFF)}"
    if value >= _NET_OFF:
        return f"SKF_NET_OFF+{value - _NET_OFF}"
    return f"SKF_LL_OFF+{value - _LL_OFF}" if value >= _LL_OFF else None


def _seccomp_constant(argument: Argument, code: int, value: int) -> str | None:
    if code & 7 != 6:  # BPF_RET
        return None
    action, data = value & 0xFFFF0000, value & 0xFFFF
    word = enum_text(argument, "seccomp_action", action)
    return f"{word}|{data:#x}" if data else word


def classic_instructions(argument: Argument, address: int, count: int, constant: Constant) -> str:
    """Returns ``[BPF_STMT(BPF_RET|BPF_K, 0)]``; the address without -v. ``constant``: what an operand means."""

    def one(argument: Argument, data: bytes) -> str:
        code, value = int.from_bytes(data[:2], "little"), int.from_bytes(data[4:8], "little")
        words = [code_text(argument, code, extended=False), constant(argument, code, value) or hex_or_0(value)]
        jump = bool(data[2] or data[3])
        if jump:
            words += [hex_or_0(data[2]), hex_or_0(data[3])]
        return f"{'BPF_JUMP' if jump else 'BPF_STMT'}({', '.join(words)})"

    return instructions(argument, address, count, one)


def _program(argument: Argument, constant: Constant) -> str | None:
    """struct sock_fprog: ``{len=4, filter=[BPF_STMT(...), BPF_JUMP(...)]}``."""
    size = argument.long_size
    length, address = argument.number(2), argument.number(size, size)
    if length is None or address is None:
        return None
    return f"{{len={length}, filter={classic_instructions(argument, address, length, constant)}}}"


def socket_filter(argument: Argument) -> str | None:
    """Returns a struct sock_fprog of a socket."""
    return _program(argument, socket_constant)


def seccomp_filter(argument: Argument) -> str | None:
    """Returns a struct sock_fprog of seccomp(2)."""
    return _program(argument, _seccomp_constant)


KINDS: Kinds = {"seccomp_filter": Kind(seccomp_filter, FILTER), "socket_filter": Kind(socket_filter, FILTER)}
