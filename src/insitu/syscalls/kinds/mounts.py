"""Mounts, file systems that are being configured, quotas, swap."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Choice, String
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import descriptor, enum_text, flags_text
from insitu.syscalls.kinds.strings import quoted, string
from insitu.syscalls.kinds.structures import structure

__all__ = ["KINDS"]

_MS_MGC_VAL: Final = 0xC0ED0000
_MS_NO_TYPE: Final = 0x20 | 0x1000 | 0x2000 | 0xE0000 | 0x80000  # REMOUNT, BIND, MOVE, propagation
_MS_NO_DATA: Final = 0x1000 | 0x2000 | 0xE0000 | 0x80000
_SWAP_PRIORITY: Final = 0x7FFF
_PATH_MAX: Final = 4096

# include/uapi/linux/mount.h: enum fsconfig_command
_SET_FLAG, _SET_STRING, _SET_BINARY, _SET_PATH, _SET_PATH_EMPTY, _SET_FD = range(6)
_CREATE, _RECONFIGURE = 6, 7

# include/uapi/linux/quota.h: commands, the upper 24 bits of quotactl()'s
_Q_SYNC, _Q_QUOTAON, _Q_QUOTAOFF = 0x800001, 0x800002, 0x800003
_Q_GETFMT, _Q_GETINFO, _Q_SETINFO, _Q_GETQUOTA, _Q_SETQUOTA, _Q_GETNEXTQUOTA = range(0x800004, 0x80000A)
_WITH_ID: Final = (_Q_QUOTAON, _Q_GETQUOTA, _Q_SETQUOTA, _Q_GETNEXTQUOTA, 0x5803, 0x5804, 0x5809)
_WITHOUT_ADDRESS: Final = (_Q_SYNC, _Q_QUOTAOFF)


def _mount_type(argument: Argument) -> str | None:
    flags = argument.other(3)
    if flags & 0xFFFF0000 == _MS_MGC_VAL:
        flags &= 0xFFFF
    return None if flags & _MS_NO_TYPE else string(argument, argument.options.string_limit)


def _mount_data(argument: Argument) -> str | None:
    flags = argument.other(3)
    if flags & 0xFFFF0000 == _MS_MGC_VAL:
        flags &= 0xFFFF
    return None if flags & _MS_NO_DATA else string(argument, argument.options.string_limit)


def _mount_flags(argument: Argument) -> str:
    return flags_text(argument, "mount", argument.value & ((1 << 8 * argument.long_size) - 1))


def _fsconfig_key(argument: Argument) -> str | None:
    command = argument.other(1) & 0xFFFFFFFF
    return string(argument, argument.options.string_limit) if command <= _SET_FD else None


def _fsconfig_value(argument: Argument) -> str | None:
    command = argument.other(1) & 0xFFFFFFFF
    if command == _SET_STRING:
        return string(argument, argument.options.string_limit)
    if command in (_SET_PATH, _SET_PATH_EMPTY):
        return string(argument, _PATH_MAX - 1)
    if command == _SET_BINARY:
        size = argument.other(4) & 0xFFFFFFFF
        limit = min(size, argument.options.string_limit)
        data = argument.read(limit) if limit else b""
        return None if data is None else quoted(data, "all") + ("..." if size > limit else "")
    return None


def _fsconfig_aux(argument: Argument) -> str:
    command = argument.other(1) & 0xFFFFFFFF
    if command in (_SET_PATH, _SET_PATH_EMPTY):
        return "AT_FDCWD" if argument.signed == -100 else descriptor(argument, argument.signed)
    return descriptor(argument, argument.signed) if command == _SET_FD else str(argument.signed)


def _quota_command(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    if argument.options.constants == "raw":
        return hex_or_0(value)
    command = enum_text(argument, "quota_command", value >> 8)
    return f"QCMD({command}, {enum_text(argument, 'quota_type', value & 0xFF)})"


def _quota_of(call: Call) -> int:
    """The command: quotactl_fd() has its descriptor before it."""
    from insitu.syscalls.facts import facts_of

    at = 1 if facts_of(call.enter.abi).numbers.get("quotactl_fd") == call.enter.nr else 0
    return (call.enter.args[at] & 0xFFFFFFFF) >> 8


def _quota_id(argument: Argument) -> str:
    if _quota_of(argument.call) == _Q_QUOTAON:
        return enum_text(argument, "quota_format", argument.value & 0xFFFFFFFF)
    return str(argument.signed if argument.signed == -1 else argument.value & 0xFFFFFFFF)


def _quota_address(argument: Argument) -> str | None:
    if _quota_of(argument.call) == _Q_QUOTAON:
        return string(argument, _PATH_MAX - 1)
    return None


def _swap_flags(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    priority = value & _SWAP_PRIORITY
    flags = value & ~_SWAP_PRIORITY
    if argument.options.constants == "raw":
        return hex_or_0(value)
    text = flags_text(argument, "swap", flags) if flags else ""
    return f"{text}|{priority}" if text and priority else text or str(priority)


KINDS: Kinds = {
    "mount_type": Kind(_mount_type, String()),
    "mount_data": Kind(_mount_data, String()),
    "mount_flags": Kind(_mount_flags),
    "fsconfig_key": Kind(_fsconfig_key, String()),
    "fsconfig_value": Kind(
        _fsconfig_value,
        Choice(
            1,
            ((_SET_STRING, String()), (_SET_PATH, String(path=True)), (_SET_PATH_EMPTY, String(path=True))),
            Bytes(256),
        ),
    ),
    "fsconfig_aux": Kind(_fsconfig_aux),
    "mount_attr": structure(
        "attr_set flags64(mount_attr); attr_clr flags64(mount_attr); propagation flags64(mount); userns_fd u64"
    ),
    "quota_command": Kind(_quota_command),
    "quota_device": Kind(lambda a: string(a, _PATH_MAX - 1), String(path=True)),
    "quota_id": Kind(_quota_id, skipped=lambda call: _quota_of(call) not in _WITH_ID),
    "quota_address": Kind(
        _quota_address,
        String(path=True),
        skipped=lambda call: _quota_of(call) in _WITHOUT_ADDRESS,
    ),
    "swap_flags": Kind(_swap_flags),
}
