"""seccomp(2) by operation."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, Choice
from insitu.syscalls.kinds.filters import FILTER, seccomp_filter
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text

__all__ = ["KINDS"]

_FILTER, _ACTION, _SIZES = 1, 2, 3  # include/uapi/linux/seccomp.h
_SIZES_STRUCT: Final = Struct("seccomp_notif u16; seccomp_notif_resp u16; seccomp_data u16")


def _flags(argument: Argument) -> str:
    if argument.other(0) & 0xFFFFFFFF == _FILTER:
        return flags_text(argument, "seccomp_flags", argument.value & 0xFFFFFFFF)
    return hex_or_0(argument.value & 0xFFFFFFFF)


def _pointer(argument: Argument) -> str | None:
    operation = argument.other(0) & 0xFFFFFFFF
    if operation == _SIZES:
        return _SIZES_STRUCT.text(argument) if argument.at_exit else None
    if argument.at_exit:
        return None
    if operation == _FILTER:
        return seccomp_filter(argument)
    if operation == _ACTION:
        action = argument.number(4)
        return None if action is None else f"[{enum_text(argument, 'seccomp_action', action)}]"
    return hexadecimal(argument.value)


KINDS: Kinds = {
    "seccomp_flags": Kind(_flags),
    "seccomp_pointer": Kind(_pointer, Choice(0, ((_FILTER, FILTER), (_ACTION, Bytes(4)), (_SIZES, Bytes(6))))),
}
