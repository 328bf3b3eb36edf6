"""prctl(2) by option: which arguments it has, and what they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Choice, String
from insitu.syscalls.kinds.filters import FILTER, seccomp_filter
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.signals import signal_text
from insitu.syscalls.kinds.strings import quoted, string

__all__ = ["KINDS"]

# include/uapi/linux/prctl.h
_SET_PDEATHSIG, _GET_PDEATHSIG, _GET_DUMPABLE, _SET_DUMPABLE, _GET_UNALIGN, _SET_UNALIGN = 1, 2, 3, 4, 5, 6
_GET_KEEPCAPS, _SET_KEEPCAPS, _GET_FPEMU, _SET_FPEMU, _GET_FPEXC, _SET_FPEXC, _GET_TIMING, _SET_TIMING = range(7, 15)
_SET_NAME, _GET_NAME, _GET_ENDIAN, _SET_ENDIAN, _GET_SECCOMP, _SET_SECCOMP = 15, 16, 19, 20, 21, 22
_CAPBSET_READ, _CAPBSET_DROP, _GET_TSC, _SET_TSC, _GET_SECUREBITS, _SET_SECUREBITS = 23, 24, 25, 26, 27, 28
_SET_TIMERSLACK, _GET_TIMERSLACK, _MCE_KILL, _MCE_KILL_GET, _SET_MM = 29, 30, 33, 34, 35
_SET_CHILD_SUBREAPER, _GET_CHILD_SUBREAPER, _SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS, _GET_TID_ADDRESS = (
    36,
    37,
    38,
    39,
    40,
)
_SET_THP_DISABLE, _GET_THP_DISABLE, _CAP_AMBIENT, _GET_SPECULATION, _SET_SPECULATION = 41, 42, 47, 52, 53
_SET_IO_FLUSHER, _GET_IO_FLUSHER, _DISPATCH, _SCHED_CORE = 57, 58, 59, 62
_SET_VMA, _SET_PTRACER = 0x53564D41, 0x59616D61
_AMBIENT_CLEAR_ALL: Final = 4
_SECCOMP_STRICT, _SECCOMP_FILTER = 1, 2

_COUNTS: Final = {
    _GET_DUMPABLE: 1, _GET_KEEPCAPS: 1, _GET_SECCOMP: 1, _GET_SECUREBITS: 1, _GET_TIMERSLACK: 1, _GET_TIMING: 1,
    31: 1, 32: 1, 43: 1, 44: 1,
    _SET_PDEATHSIG: 2, _GET_PDEATHSIG: 2, _SET_DUMPABLE: 2, _SET_KEEPCAPS: 2, _SET_NAME: 2, _GET_NAME: 2,
    _GET_ENDIAN: 2, _GET_FPEMU: 2, _GET_FPEXC: 2, _GET_UNALIGN: 2, _GET_TSC: 2, _SET_ENDIAN: 2, _SET_FPEMU: 2,
    _SET_FPEXC: 2,
    _SET_UNALIGN: 2, _SET_TSC: 2, _SET_TIMING: 2, _CAPBSET_READ: 2, _CAPBSET_DROP: 2, _SET_SECUREBITS: 2,
    _SET_TIMERSLACK: 2, _GET_CHILD_SUBREAPER: 2, _SET_CHILD_SUBREAPER: 2, _GET_TID_ADDRESS: 2, _SET_PTRACER: 2,
    _SET_SECCOMP: 3, _SET_IO_FLUSHER: 5, _GET_IO_FLUSHER: 5, _GET_SPECULATION: 2, _SET_SPECULATION: 3,
}  # fmt: skip
"""How many arguments are shown, with the option; 5 of others."""


def _option(argument: Argument) -> int:
    return argument.other(0) & 0xFFFFFFFF


def _count(call: Call) -> int:
    option, second = call.enter.args[0] & 0xFFFFFFFF, call.enter.args[1] & 0xFFFFFFFF
    if option == _SET_SECCOMP:
        return {_SECCOMP_STRICT: 2, _SECCOMP_FILTER: 3}.get(second, 5)
    return _COUNTS.get(option, 5)


def _skipped(index: int) -> Callable[[Call], bool]:
    return lambda call: index >= _count(call)


def _signal_at(argument: Argument) -> str | None:
    value = argument.number(4, signed=True)
    return None if value is None else f"[{signal_text(argument, value)}]"


def _name(argument: Argument) -> str | None:
    """At most 16 bytes with the NUL (TASK_COMM_LEN)."""
    data = argument.memory.read(argument.value, 16)
    if data is None:
        return None
    text, nul, _ = data.partition(b"\0")
    if nul:
        return quoted(text, argument.options.strings_in_hex)
    return quoted(data[:15], argument.options.strings_in_hex) + "..."


def _words(name: str, unknown: str = "") -> Callable[[Argument], str]:
    return lambda a: enum_text(a, name, a.value & 0xFFFFFFFFFFFFFFFF, unknown)


def _bits(name: str, unknown: str = "") -> Callable[[Argument], str]:
    return lambda a: flags_text(a, name, a.value & 0xFFFFFFFFFFFFFFFF, unknown)


def _pointer(argument: Argument) -> str | None:
    value = argument.number(argument.long_size)
    return None if value is None else f"[{hexadecimal(value)}]"


def _number_in_brackets(argument: Argument) -> str | None:
    value = argument.number(4)
    return None if value is None else f"[{value}]"


def _endian_at(argument: Argument) -> str | None:
    value = argument.number(4)
    return None if value is None else f"[{hex_or_0(value)}]"


def _tsc_at(argument: Argument) -> str | None:
    value = argument.number(4)
    return None if value is None else f"[{enum_text(argument, 'prctl_tsc', value)}]"


def _ptracer(argument: Argument) -> str:
    return "PR_SET_PTRACER_ANY" if argument.signed == -1 else str(argument.value & 0xFFFFFFFF)


_GIVEN: Final[dict[int, Callable[[Argument], str | None]]] = {
    _SET_PDEATHSIG: lambda a: signal_text(a, a.signed),
    _SET_DUMPABLE: _words("prctl_dumpable", "SUID_DUMP_???"),
    _SET_KEEPCAPS: lambda a: str(a.value),
    _SET_NAME: _name,
    _SET_SECCOMP: _words("seccomp_mode", "SECCOMP_MODE_???"),
    _CAPBSET_READ: _words("capability", "CAP_???"),
    _CAPBSET_DROP: _words("capability", "CAP_???"),
    _SET_SECUREBITS: _bits("securebits", "SECBIT_???"),
    _SET_TIMERSLACK: lambda a: str(a.long),
    _SET_CHILD_SUBREAPER: lambda a: str(a.value),
    _SET_TSC: _words("prctl_tsc", "PR_TSC_???"),
    _SET_UNALIGN: _bits("prctl_unalign", "PR_UNALIGN_???"),
    _SET_PTRACER: _ptracer,
    _SET_NO_NEW_PRIVS: lambda a: str(a.value),
    _SET_THP_DISABLE: lambda a: str(a.value),
    _MCE_KILL: _words("prctl_mce_kill", "PR_MCE_KILL_???"),
    _SET_MM: _words("prctl_mm", "PR_SET_MM_???"),
    _CAP_AMBIENT: _words("prctl_cap_ambient", "PR_CAP_AMBIENT_???"),
    _GET_SPECULATION: _words("prctl_spec", "PR_SPEC_???"),
    _SET_SPECULATION: _words("prctl_spec", "PR_SPEC_???"),
    _DISPATCH: _words("prctl_dispatch", "PR_SYS_DISPATCH_???"),
    _SCHED_CORE: _words("prctl_sched_core", "PR_SCHED_CORE_???"),
    _SET_VMA: _words("prctl_vma", "PR_SET_VMA_???"),
    _SET_IO_FLUSHER: lambda a: str(a.value),
}
"""The second argument, of those where it is given."""
_FILLED: Final[dict[int, Callable[[Argument], str | None]]] = {
    _GET_PDEATHSIG: _signal_at,
    _GET_NAME: _name,
    _GET_CHILD_SUBREAPER: _number_in_brackets,
    _GET_TID_ADDRESS: _pointer,
    _GET_ENDIAN: _endian_at,
    _GET_FPEMU: _endian_at,
    _GET_FPEXC: _endian_at,
    _GET_TSC: _tsc_at,
    _GET_UNALIGN: _endian_at,
}
"""The same, where the kernel writes it."""
_NAMES: Final = ((_SET_NAME, Bytes(16)), *((option, Bytes(16)) for option in _FILLED))


def _second(argument: Argument) -> str | None:
    option = _option(argument)
    filled = _FILLED.get(option)
    if filled is not None:
        if not argument.value:
            return "NULL"
        return filled(argument) if argument.at_exit else None
    if argument.at_exit:
        return None
    given = _GIVEN.get(option)
    return (
        hex_or_0(argument.value)
        if given is None
        else given(argument)
        if argument.value or option != _SET_NAME
        else "NULL"
    )


def _third(argument: Argument) -> str | None:
    option = _option(argument)
    second = argument.other(1) & 0xFFFFFFFF
    if option == _SET_SECCOMP and second == _SECCOMP_FILTER:
        return seccomp_filter(argument) if argument.value else "NULL"
    if option == _CAP_AMBIENT and second != _AMBIENT_CLEAR_ALL:
        return enum_text(argument, "capability", argument.value, "CAP_???")
    if option == _MCE_KILL and second == 1:
        return enum_text(argument, "prctl_mce_kill_policy", argument.value, "PR_MCE_KILL_???")
    if option == _SET_SPECULATION and argument.facts.constant("prctl_spec", second) is not None:
        return flags_text(argument, "prctl_spec_set", argument.value, "PR_SPEC_???")
    if option == _SET_MM:
        return hexadecimal(argument.value)
    if option == _SET_VMA:
        return hexadecimal(argument.value)
    if option == _SCHED_CORE:
        return str(argument.signed)
    return hex_or_0(argument.value)


def _fourth(argument: Argument) -> str | None:
    option = _option(argument)
    if option == _SET_VMA:
        return str(argument.value)
    if option == _SCHED_CORE:
        word = enum_text(argument, "prctl_pid_type", argument.value)
        return word if word.startswith("0") else f"{hex_or_0(argument.value)} /* {word} */"
    return hex_or_0(argument.value)


def _fifth(argument: Argument) -> str | None:
    option = _option(argument)
    if option == _SET_VMA and argument.value:
        return string(argument, 80)
    if option == _SET_VMA:
        return "NULL"
    if option == _SCHED_CORE:
        return hexadecimal(argument.value)
    return hex_or_0(argument.value)


def _returned(argument: Argument) -> str | None:
    option, value = _option(argument), argument.value & 0xFFFFFFFF
    if option == _GET_DUMPABLE:
        return f"{value} ({enum_text(argument, 'prctl_dumpable', value, 'SUID_DUMP_???')})"
    if option == _GET_SECCOMP:
        return f"{value} ({enum_text(argument, 'seccomp_mode', value, 'SECCOMP_MODE_???')})" if value else "0"
    if option == _MCE_KILL_GET:
        return f"{value} ({enum_text(argument, 'prctl_mce_kill_policy', value, 'PR_MCE_KILL_???')})"
    if option == _GET_SECUREBITS:
        return f"{value:#x} ({flags_text(argument, 'securebits', value)})" if value else "0"
    if option == _GET_SPECULATION:
        return f"{hex_or_0(value)} ({flags_text(argument, 'prctl_spec_get', value, 'PR_SPEC_???')})"
    return str(argument.long)


KINDS: Kinds = {
    "prctl_second": Kind(_second, Choice(0, _NAMES), _skipped(1), null=True),
    "prctl_third": Kind(_third, Choice(0, ((_SET_SECCOMP, FILTER),)), _skipped(2), null=True),
    "prctl_fourth": Kind(_fourth, skipped=_skipped(3)),
    "prctl_fifth": Kind(_fifth, Choice(0, ((_SET_VMA, String()),)), _skipped(4), null=True),
    "prctl_returned": Kind(_returned),
}
