"""Modules, landlock, reboot and other calls of the kernel's own."""

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

_RESTART2: Final = 0xA1B2C3D4
_LANDLOCK_RULE: Final = 12


def _ruleset(argument: Argument) -> str | None:
    size = argument.other(1)
    access = argument.number(8)
    if size < 8 or access is None:
        return None
    more = ", ..." if size > 8 else ""
    return f"{{handled_access_fs={flags_text(argument, 'landlock_access_fs', access)}{more}}}"


def _rule(argument: Argument) -> str | None:
    """struct landlock_path_beneath_attr, which is packed."""
    if argument.other(1) & 0xFFFFFFFF != 1:
        return None
    data = argument.read(_LANDLOCK_RULE)
    if data is None:
        return None
    fd = int.from_bytes(data[8:12], "little", signed=True)
    access = flags_text(argument, "landlock_access_fs", int.from_bytes(data[:8], "little"))
    return f"{{allowed_access={access}, parent_fd={descriptor(argument, fd)}}}"


def _log(argument: Argument) -> str | None:
    """syslog(2): what a reading request returned."""
    if argument.other(0) & 0xFFFFFFFF not in (2, 3, 4) or argument.call.exit is None:
        return None
    if not argument.at_exit:
        return None
    count = max(argument.call.exit.ret, 0)
    limit = argument.options.string_limit
    data = argument.memory.read(argument.value, min(count, limit)) if count else b""
    return None if data is None else quoted(data, argument.options.strings_in_hex) + ("..." if count > limit else "")


def _action(argument: Argument) -> str:
    """The number, and its name in a comment."""
    value = argument.value & 0xFFFFFFFF
    word = argument.facts.constant("syslog", value) or argument.facts.unknown("syslog")
    return str(argument.signed) if argument.options.constants == "raw" else f"{argument.signed} /* {word} */"


def _without_buffer(call: Call) -> bool:
    return call.enter.args[0] & 0xFFFFFFFF in (0, 1, 5, 6, 7, 9, 10)


def _kexec_flags(argument: Argument) -> str:
    value = argument.value
    machine = enum_text(argument, "kexec_arch", value & 0xFFFF0000)
    rest = value & ~0xFFFF0000
    return f"{machine}|{flags_text(argument, 'kexec', rest)}" if rest else machine


def _user_desc(argument: Argument) -> str | None:
    """struct user_desc (arch/x86/include/uapi/asm/ldt.h)."""
    data = argument.read(16)
    if data is None:
        return None
    number, base, limit, flags = (int.from_bytes(data[at : at + 4], "little") for at in (0, 4, 8, 12))
    shown = "-1" if number == 0xFFFFFFFF else str(number)
    if argument.at_exit:
        return f"{{entry_number={shown}}}"
    bits = ("seg_32bit", "", "read_exec_only", "limit_in_pages", "seg_not_present", "useable")
    words = [f"entry_number={shown}", f"base_addr={hex_or_0(base)}", f"limit={limit:#08x}", f"seg_32bit={flags & 1}",
             f"contents={flags >> 1 & 3}"]  # fmt: skip
    at = 3
    for name in bits[2:]:
        words.append(f"{name}={flags >> at & 1}")
        at += 1
    return "{" + ", ".join(words) + "}"


def _thread_area(argument: Argument) -> str:
    """What set_thread_area() returns, and the entry that the kernel has chosen."""
    entry = argument.at(argument.other(0)).number(4, signed=True)
    return str(argument.signed) + ("" if entry is None else f" (entry_number={entry})")


KINDS: Kinds = {
    "landlock_ruleset": Kind(_ruleset, Bytes(8)),
    "landlock_rule": Kind(_rule, Bytes(_LANDLOCK_RULE)),
    "syslog_buffer": Kind(
        _log, Choice(0, tuple((action, Bytes(1, whole=False)) for action in (2, 3, 4))), _without_buffer
    ),
    "syslog_action": Kind(_action),
    "syslog_size": Kind(lambda a: str(a.signed), skipped=_without_buffer),
    "kexec_flags": Kind(_kexec_flags),
    "reboot_command": Kind(
        lambda a: string(a, a.options.string_limit),
        String(),
        lambda call: call.enter.args[2] & 0xFFFFFFFF != _RESTART2,
    ),
    "user_desc": Kind(_user_desc, Bytes(16)),
    "thread_area": Kind(_thread_area),
    "cachestat_range": structure("off u64; len u64"),
    "cachestat": structure("nr_cache u64; nr_dirty u64; nr_writeback u64; nr_evicted u64; nr_recently_evicted u64"),
}  # fmt: skip
