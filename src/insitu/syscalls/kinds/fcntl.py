"""fcntl(2) by command."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Choice
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.signals import signal_text

__all__ = ["KINDS"]

# include/uapi/asm-generic/fcntl.h, include/uapi/linux/fcntl.h
_DUPFD, _GETFD, _SETFD, _GETFL, _SETFL, _GETLK, _SETLK, _SETLKW, _SETOWN, _GETOWN, _SETSIG, _GETSIG = range(12)
_GETLK64, _SETLK64, _SETLKW64, _SETOWN_EX, _GETOWN_EX, _GETOWNER_UIDS = 12, 13, 14, 15, 16, 17
_OFD_GETLK, _OFD_SETLK, _OFD_SETLKW = 36, 37, 38
_SETLEASE, _GETLEASE, _NOTIFY, _CANCELLK, _DUPFD_CLOEXEC, _SETPIPE, _GETPIPE = (
    1024,
    1025,
    1026,
    1029,
    1030,
    1031,
    1032,
)
_ADD_SEALS, _GET_SEALS, _GET_HINT, _SET_HINT, _GET_FILE_HINT, _SET_FILE_HINT = 1033, 1034, 1035, 1036, 1037, 1038
_NONE: Final = (_GETFD, _GETFL, _GETOWN, _GETSIG, _GETLEASE, _GETPIPE, _GET_SEALS)
_HINTS: Final = (_GET_HINT, _GET_FILE_HINT)

_LOCK: Final = "l_type enum16(fcntl_lock); l_whence enum16(seek, SEEK_???); l_start {0}; l_len {0}"
_LOCKS: Final = {"long": Struct(_LOCK.format("long")), "i64": Struct(_LOCK.format("i64"))}
_FOUND: Final = {
    "long": Struct(_LOCK.format("long") + "; l_pid int"),
    "i64": Struct(_LOCK.format("i64") + "; l_pid int"),
}
_OWNER: Final = Struct("type enum32(fcntl_owner); pid int")


def _command(argument: Argument) -> int:
    return argument.other(1) & 0xFFFFFFFF


def _lock(argument: Argument, *, found: bool, wide: bool) -> str | None:
    return (_FOUND if found else _LOCKS)["i64" if wide else "long"].text(argument)


def _value(argument: Argument) -> str | None:
    command, value = _command(argument), argument.value
    number = value & 0xFFFFFFFF
    wide = command in (_GETLK64, _SETLK64, _SETLKW64, _OFD_GETLK, _OFD_SETLK, _OFD_SETLKW) and argument.long_size == 4
    if command in (_GETLK, _GETLK64, _OFD_GETLK, _GETOWN_EX, _GETOWNER_UIDS, *_HINTS):
        if not value:
            return "NULL"
        if not argument.at_exit:
            return None
        if command == _GETOWN_EX:
            return _OWNER.text(argument)
        if command == _GETOWNER_UIDS:
            data = argument.read(8)
            return (
                None
                if data is None
                else f"[{int.from_bytes(data[:4], 'little')}, {int.from_bytes(data[4:], 'little')}]"
            )
        if command in _HINTS:
            hint = argument.number(8)
            return None if hint is None else f"[{enum_text(argument, 'rw_hint', hint, 'RWH_WRITE_LIFE_???')}]"
        return _lock(argument, found=True, wide=wide)
    if argument.at_exit:
        return None
    if command in (_SETLK, _SETLKW, _SETLK64, _SETLKW64, _OFD_SETLK, _OFD_SETLKW):
        return _lock(argument, found=False, wide=wide) if value else "NULL"
    if command == _SETOWN_EX:
        return _OWNER.text(argument) if value else "NULL"
    if command in (_SET_HINT, _SET_FILE_HINT):
        hint = argument.number(8) if value else None
        return (
            hexadecimal(value) if hint is None else f"[{enum_text(argument, 'rw_hint', hint, 'RWH_WRITE_LIFE_???')}]"
        )
    if command == _SETFD:
        return flags_text(argument, "fd", number)
    if command == _SETFL:
        return flags_text(argument, "open", number)
    if command == _NOTIFY:
        return flags_text(argument, "notify", number)
    if command == _SETLEASE:
        return enum_text(argument, "fcntl_lock", number)
    if command == _ADD_SEALS:
        return flags_text(argument, "fcntl_seal", number)
    if command == _SETSIG:
        return signal_text(argument, argument.signed)
    if command in (_SETOWN, _SETPIPE):
        return str(argument.signed)
    if command in (_DUPFD, _DUPFD_CLOEXEC):
        return str(argument.long)
    return hex_or_0(value)


def _skipped(call: Call) -> bool:
    return call.enter.args[1] & 0xFFFFFFFF in _NONE


def _returned(argument: Argument) -> str | None:
    command, value = _command(argument), argument.value & 0xFFFFFFFF
    if command in (_DUPFD, _DUPFD_CLOEXEC):
        return descriptor(argument, argument.signed)
    if command == _GETFD:
        return f"{value:#x} (flags {flags_text(argument, 'fd', value)})" if value else "0"
    if command == _GETFL:
        return f"{hex_or_0(value)} (flags {flags_text(argument, 'open', value)})"
    if command == _GETLEASE:
        return f"{hex_or_0(value)} ({enum_text(argument, 'fcntl_lock', value)})"
    if command == _GET_SEALS:
        return f"{value:#x} (seals {flags_text(argument, 'fcntl_seal', value)})" if value else "0"
    if command == _GETSIG and value:
        return f"{value} ({signal_text(argument, argument.signed)})"
    return str(argument.long)


_ADDRESSES: Final = tuple(
    (command, Bytes(size))
    for command, size in (
        (_GETLK, 32), (_SETLK, 32), (_SETLKW, 32), (_GETLK64, 32), (_SETLK64, 32), (_SETLKW64, 32), (_OFD_GETLK, 32),
        (_OFD_SETLK, 32), (_OFD_SETLKW, 32), (_SETOWN_EX, 8), (_GETOWN_EX, 8), (_GETOWNER_UIDS, 8), (_GET_HINT, 8),
        (_SET_HINT, 8), (_GET_FILE_HINT, 8), (_SET_FILE_HINT, 8),
    )
)  # fmt: skip

KINDS: Kinds = {
    "fcntl_value": Kind(_value, Choice(1, _ADDRESSES), _skipped, null=True),
    "fcntl_returned": Kind(_returned),
}
