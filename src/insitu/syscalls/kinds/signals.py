"""Signals: sets, actions, siginfo, alternate stacks."""

from __future__ import annotations

from typing import Final

from insitu.syscalls.argument import Argument, Kind, Kinds, hexadecimal
from insitu.syscalls.capture import Bytes, OnStack, Wide
from insitu.syscalls.kinds.layout import hex_or_0
from insitu.syscalls.kinds.numbers import flags_text
from insitu.syscalls.kinds.structures import structure

__all__ = ["KINDS", "set_text", "siginfo_text", "signal_text"]

_SIGNALS: Final = 64
_SIGCHLD: Final = 17
_SIGSYS: Final = 31
_SIGIO: Final = 29
_FAULTS: Final = {4: "ill", 8: "fpe", 11: "segv", 7: "bus", 5: "trap"}  # SIGILL, SIGFPE, SIGSEGV, SIGBUS, SIGTRAP
_CODES: Final = {**_FAULTS, _SIGCHLD: "cld", _SIGIO: "poll", _SIGSYS: "sys"}
_CLD_EXITED: Final = 1
_SI_TIMER: Final = -2
_SI_USER, _SI_TKILL = 0, -6
_SA_RESTORER: Final = 0x04000000
_HANDLERS: Final = {0: "SIG_DFL", 1: "SIG_IGN"}
_UC_SIGMASK: Final = 296
"""Offset in struct ucontext of x86-64, to which the stack pointer points (arch/x86/include/asm/sigframe.h)."""


def signal_text(argument: Argument, number: int) -> str:
    """Returns SIGCHLD, as -X wants it."""
    name = argument.facts.signal_name(number)
    return name if name == str(number) else argument.named(str(number), name)


def set_text(argument: Argument, data: bytes) -> str:
    """Returns ``[USR1 CHLD]``; ``~[KILL STOP]``, those that are missing, of a set that has most of them."""
    value = int.from_bytes(data, "little")
    count = min(8 * len(data), _SIGNALS)
    inverted = value.bit_count() >= count * 2 // 3
    if inverted:
        value = ~value
    names = (
        argument.named(str(number), argument.facts.signal_name(number).removeprefix("SIG"))
        for number in range(1, count + 1)
        if value >> (number - 1) & 1
    )
    return f"{'~' if inverted else ''}[{' '.join(names)}]"


def _set(argument: Argument) -> str | None:
    """A set whose size is the argument in parentheses; without that, of a long."""
    size = argument.other(int(argument.given[0])) if argument.given else argument.long_size
    if not size or size > 8 or size % argument.long_size:
        return None
    data = argument.read(size)
    return None if data is None else set_text(argument, data)


def _old_set(argument: Argument) -> str:
    """A set in the argument itself (i386's sigsuspend)."""
    return set_text(argument, (argument.value & 0xFFFFFFFF).to_bytes(4, "little"))


def _action(argument: Argument) -> str | None:
    """The kernel's struct sigaction (include/linux/signal_types.h)."""
    size = argument.long_size
    data = argument.read(3 * size + 8)
    if data is None:
        return None
    handler, flags, restorer = (int.from_bytes(data[at * size : (at + 1) * size], "little") for at in range(3))
    return _action_text(argument, handler, data[3 * size :], flags, restorer)


def _old_action(argument: Argument) -> str | None:
    """struct old_sigaction of i386: handler, mask, flags, restorer."""
    data = argument.read(16)
    if data is None:
        return None
    handler, _, flags, restorer = (int.from_bytes(data[at : at + 4], "little") for at in range(0, 16, 4))
    return _action_text(argument, handler, data[4:8], flags, restorer)


def _action_text(argument: Argument, handler: int, mask: bytes, flags: int, restorer: int) -> str:
    words = [
        f"sa_handler={_handler_text(argument, handler)}",
        f"sa_mask={set_text(argument, mask)}",
        f"sa_flags={flags_text(argument, 'sigaction', flags)}",
    ]
    if flags & _SA_RESTORER:
        words.append(f"sa_restorer={hexadecimal(restorer)}")
    return "{" + ", ".join(words) + "}"


def _handler_text(argument: Argument, handler: int) -> str:
    word = "SIG_ERR" if handler == (1 << 8 * argument.long_size) - 1 else _HANDLERS.get(handler)
    return argument.named(hex_or_0(handler), word) if word else hexadecimal(handler)


def _handler(argument: Argument) -> str:
    return _handler_text(argument, argument.value)


def _handler_returned(argument: Argument) -> str:
    text = _handler_text(argument, argument.value)
    return f"{hex_or_0(argument.value)} ({text})" if argument.value in _HANDLERS else text


def _mask_returned(argument: Argument) -> str:
    value = argument.value & 0xFFFFFFFF
    mask = set_text(argument, value.to_bytes(4, "little"))
    return f"{hex_or_0(value)} ({' '.join([*argument.given, 'mask'])} {mask})"


def _code_text(argument: Argument, number: int, code: int) -> str:
    facts = argument.facts
    word = facts.constant("si_code", code & 0xFFFFFFFF)
    if word is None and code > 0 and number in _CODES:
        word = facts.constant(f"si_code_{_CODES[number]}", code)
    raw = hex_or_0(code & 0xFFFFFFFF)
    return raw if word is None else argument.named(raw, word)


def siginfo_text(argument: Argument) -> str | None:
    """Returns a siginfo_t (include/uapi/asm-generic/siginfo.h): the members that its code has."""
    long = argument.long_size
    base = 16 if long == 8 else 12
    data = argument.read(base + 4 * long)
    if data is None:
        return None

    def number_at(offset: int, size: int = 4, *, signed: bool = True) -> int:
        return int.from_bytes(data[offset : offset + size], "little", signed=signed)

    number, error, code = number_at(0), number_at(4), number_at(8)
    if not number:
        return "{}"
    words = [f"si_signo={signal_text(argument, number)}", f"si_code={_code_text(argument, number, code)}"]
    if error:
        words.append(f"si_errno={argument.facts.errno_name(error)}")
    sender = [f"si_pid={number_at(base)}", f"si_uid={number_at(base + 4, signed=False)}"]
    value = number_at(base + 8, long, signed=False)
    sigval = [f"si_int={number_at(base + 8)}", f"si_ptr={hexadecimal(value)}"]
    if code == _SI_TIMER:
        words += [f"si_timerid={number_at(base):#x}", f"si_overrun={number_at(base + 4)}", *sigval]
    elif code in (_SI_USER, _SI_TKILL):
        words += sender
    elif code < 0:
        words += [*sender, *(sigval if value else [])]
    elif number == _SIGCHLD:
        status = number_at(base + 8)
        words += sender
        words.append(f"si_status={status if code == _CLD_EXITED else signal_text(argument, status)}")
        start = base + 16 if long == 8 else base + 12
        words += [f"si_utime={number_at(start, long)}", f"si_stime={number_at(start + long, long)}"]
    elif number in _FAULTS:
        words.append(f"si_addr={hexadecimal(number_at(base, long, signed=False))}")
    elif number == _SIGIO:
        words += [f"si_band={flags_text(argument, 'poll', number_at(base, long, signed=False))}"]
        words.append(f"si_fd={number_at(base + long)}")
    elif number_at(base) or number_at(base + 4):
        words += [*sender, *(sigval if value else [])]
    elif value:
        words += sigval
    return "{" + ", ".join(words) + "}"


def _frame(argument: Argument) -> str | None:
    """What sigreturn() restores: the signal mask from the frame on the stack."""
    data = argument.memory.read(argument.call.enter.stack_pointer + _UC_SIGMASK, 8)
    if data is None or len(data) < 8:
        return ""
    return f"{{mask={set_text(argument, data)}}}"


def _signal_returned(argument: Argument) -> str:
    """sigtimedwait() returns a signal."""
    name = argument.facts.signal_name(argument.signed)
    return str(argument.signed) if name == str(argument.signed) else f"{argument.signed} ({name})"


KINDS: Kinds = {
    "signal": Kind(lambda a: signal_text(a, a.signed)),
    "signal_returned": Kind(_signal_returned),
    "sigset": Kind(_set, Bytes(8)),
    "old_sigset": Kind(_set, Bytes(4)),
    "old_sigset_value": Kind(_old_set),
    "sigaction": Kind(_action, Wide(Bytes(32), Bytes(20))),
    "old_sigaction": Kind(_old_action, Bytes(16)),
    "handler": Kind(_handler),
    "handler_returned": Kind(_handler_returned),
    "mask_returned": Kind(_mask_returned),
    "siginfo": Kind(siginfo_text, Bytes(128)),
    "sigaltstack": structure("ss_sp ptr; ss_flags flags32(sigaltstack); ss_size ulong"),
    "sigframe": Kind(_frame, OnStack(8, _UC_SIGMASK), null=True),
}
