"""ptrace(2) by request."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.call import Call
from insitu.syscalls.capture import Bytes, Capture, Choice, Linked
from insitu.syscalls.kinds.layout import Struct, hex_or_0
from insitu.syscalls.kinds.numbers import enum_text, flags_text
from insitu.syscalls.kinds.signals import siginfo_text, signal_text

__all__ = ["KINDS"]

# include/uapi/linux/ptrace.h
_TRACEME, _PEEKTEXT, _PEEKDATA, _PEEKUSER, _POKETEXT, _POKEDATA, _POKEUSER, _CONT, _KILL, _STEP = range(10)
_GETREGS, _SETREGS, _GETFPREGS, _SETFPREGS, _ATTACH, _DETACH, _SYSCALL = 12, 13, 14, 15, 16, 17, 24
_SETOPTIONS, _EVENTMSG, _GETSIGINFO, _SETSIGINFO, _GETREGSET, _SETREGSET = (
    0x4200,
    0x4201,
    0x4202,
    0x4203,
    0x4204,
    0x4205,
)
_SEIZE, _INTERRUPT, _LISTEN, _GETSIGMASK, _SETSIGMASK = 0x4206, 0x4207, 0x4208, 0x420A, 0x420B
_SYSCALL_INFO: Final = 0x420E
_WITH_SIGNAL: Final = (_CONT, _STEP, _SYSCALL, _DETACH, _LISTEN, 31, 32, 33)
_PEEKS: Final = (_PEEKTEXT, _PEEKDATA, _PEEKUSER)
_REGISTERS: Final = Struct(
    "r15 x64; r14 x64; r13 x64; r12 x64; rbp x64; rbx x64; r11 x64; r10 x64; r9 x64; r8 x64; rax x64; rcx x64; "
    "rdx x64; rsi x64; rdi x64; orig_rax x64; rip x64; cs x64; eflags x64; rsp x64; ss x64; fs_base x64; "
    "gs_base x64; "
    "ds x64; es x64; fs x64; gs x64"
)
_VECTOR: Final = Struct("iov_base ptr; iov_len ulong")


def _request(argument: Argument) -> int:
    return argument.other(0) & 0xFFFFFFFF


def _pid_only(call: Call) -> bool:
    return call.enter.args[0] & 0xFFFFFFFF in (_TRACEME,)


def _no_address(call: Call) -> bool:
    request = call.enter.args[0] & 0xFFFFFFFF
    return request in (_TRACEME, _ATTACH, _INTERRUPT, _KILL, _GETREGS, _SETREGS, _GETFPREGS, _SETFPREGS)


def _no_data(call: Call) -> bool:
    request = call.enter.args[0] & 0xFFFFFFFF
    return request in (_TRACEME, _ATTACH, _INTERRUPT, _KILL)


def _address(argument: Argument) -> str:
    request = _request(argument)
    if request in (_PEEKUSER, _POKEUSER):
        return _user_offset(argument.value)
    if request in (_GETREGSET, _SETREGSET):
        return enum_text(argument, "register_set", argument.value, "NT_???")
    if request in (_GETSIGMASK, _SETSIGMASK, _SYSCALL_INFO):
        return str(argument.value)
    return hexadecimal(argument.value)


_USER: Final = (
    "R15", "R14", "R13", "R12", "RBP", "RBX", "R11", "R10", "R9", "R8", "RAX", "RCX", "RDX", "RSI", "RDI", "ORIG_RAX",
    "RIP", "CS", "EFLAGS", "RSP", "SS", "FS_BASE", "GS_BASE", "DS", "ES", "FS", "GS",
)  # fmt: skip


def _user_offset(value: int) -> str:
    if value % 8 == 0 and value // 8 < len(_USER):
        return f"8*{_USER[value // 8]}"
    return f"offsetof(struct user, u_debugreg) + {value - 848}" if 848 < value < 912 else hex_or_0(value)


def _data(argument: Argument) -> str | None:
    request, value = _request(argument), argument.value
    if request in _PEEKS:
        if not argument.at_exit:
            return None
        number = argument.number(argument.long_size)
        return None if number is None else f"[{hex_or_0(number)}]"
    if request == _EVENTMSG:
        number = argument.number(argument.long_size) if argument.at_exit else None
        return None if number is None else f"[{number}]"
    if request == _GETSIGINFO:
        return siginfo_text(argument) if argument.at_exit else None
    if request == _GETREGS:
        if not argument.at_exit or argument.long_size != 8:
            return None
        return _REGISTERS.text(argument)
    if argument.at_exit:
        return None
    if request == _SETREGS:
        return _REGISTERS.text(argument)
    if request == _SETSIGINFO:
        return siginfo_text(argument)
    if request in (_SETOPTIONS, _SEIZE):
        return flags_text(argument, "ptrace_options", value)
    if request in _WITH_SIGNAL:
        return signal_text(argument, argument.signed) if 0 < value < 65 else str(argument.signed)
    if request in (_GETREGSET, _SETREGSET):
        return _VECTOR.text(argument)
    return hexadecimal(value)


_MEMORY: Final[tuple[tuple[int, Capture], ...]] = (
    *((request, Bytes(8)) for request in (*_PEEKS, _EVENTMSG)),
    (_GETSIGINFO, Bytes(128)), (_SETSIGINFO, Bytes(128)), (_GETREGS, Bytes(216)), (_SETREGS, Bytes(216)),
    (_GETREGSET, Linked(16, ())), (_SETREGSET, Linked(16, ())),
)  # fmt: skip
KINDS: Kinds = {
    "ptrace_pid": Kind(lambda a: str(a.signed), skipped=_pid_only),
    "ptrace_address": Kind(_address, skipped=_no_address),
    "ptrace_data": Kind(_data, Choice(0, _MEMORY), _no_data, null=True),
}
