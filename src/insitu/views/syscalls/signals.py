"""Signals and exits as strace(1) shows them: ``--- SIGCHLD {si_signo=...} ---``, ``+++ exited with 0 +++``."""

from __future__ import annotations

import signal

from insitu.syscalls.argument import hexadecimal
from insitu.syscalls.call import Signal, c_int
from insitu.syscalls.facts import Facts, facts_of

__all__ = ["code_name", "exit_text", "siginfo_text"]

# include/uapi/asm-generic/siginfo.h: the codes that any signal may have, then those of one signal.
_CODES = {
    0: "SI_USER",
    0x80: "SI_KERNEL",
    -1: "SI_QUEUE",
    -2: "SI_TIMER",
    -3: "SI_MESGQ",
    -4: "SI_ASYNCIO",
    -5: "SI_SIGIO",
    -6: "SI_TKILL",
    -7: "SI_DETHREAD",
    -60: "SI_ASYNCNL",
}
_CODES_OF = {
    signal.SIGILL: "ILL_ILLOPC ILL_ILLOPN ILL_ILLADR ILL_ILLTRP ILL_PRVOPC ILL_PRVREG ILL_COPROC ILL_BADSTK "
    "ILL_BADIADDR",
    signal.SIGFPE: "FPE_INTDIV FPE_INTOVF FPE_FLTDIV FPE_FLTOVF FPE_FLTUND FPE_FLTRES FPE_FLTINV FPE_FLTSUB",
    signal.SIGSEGV: "SEGV_MAPERR SEGV_ACCERR SEGV_BNDERR SEGV_PKUERR SEGV_ACCADI SEGV_ADIDERR SEGV_ADIPERR "
    "SEGV_MTEAERR SEGV_MTESERR",
    signal.SIGBUS: "BUS_ADRALN BUS_ADRERR BUS_OBJERR BUS_MCEERR_AR BUS_MCEERR_AO",
    signal.SIGTRAP: "TRAP_BRKPT TRAP_TRACE TRAP_BRANCH TRAP_HWBKPT TRAP_UNK TRAP_PERF",
    signal.SIGCHLD: "CLD_EXITED CLD_KILLED CLD_DUMPED CLD_TRAPPED CLD_STOPPED CLD_CONTINUED",
    signal.SIGPOLL: "POLL_IN POLL_OUT POLL_MSG POLL_ERR POLL_PRI POLL_HUP",
    signal.SIGSYS: "SYS_SECCOMP SYS_USER_DISPATCH",
}
_WITH_ADDRESS = (signal.SIGILL, signal.SIGFPE, signal.SIGSEGV, signal.SIGBUS)
_SI_TIMER = -2
_SENDER_ONLY = (0, -6)  # SI_USER, SI_TKILL
_CLD_EXITED = 1


def code_name(number: int, code: int) -> str:
    """Returns the name of a si_code of the signal ``number``; the code in hexadecimal if it has none."""
    names = _CODES_OF.get(signal.Signals(number), "").split() if number in _CODES_OF else []
    if 0 < code <= len(names):
        return names[code - 1]
    return _CODES.get(code) or f"{code & 0xFFFFFFFF:#x}"


def siginfo_text(event: Signal, facts: Facts) -> str:
    """Returns a siginfo_t: ``{si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=7, ...}``."""
    number, code = event.number, event.code
    members = [f"si_signo={facts.signal_name(number)}", f"si_code={code_name(number, code)}"]
    if event.errno:
        members.append(f"si_errno={facts.errno_name(event.errno)}")
    sender = [f"si_pid={event.sender_pid}", f"si_uid={event.sender_uid}"]
    value = event.value & 0xFFFFFFFFFFFFFFFF
    union = [f"si_value={{int={c_int(value)}, ptr={hexadecimal(value)}}}"]
    if code == _SI_TIMER:
        members += [f"si_timerid={hexadecimal(event.sender_pid)}", f"si_overrun={event.sender_uid}", *union]
    elif code <= 0:
        members += sender + (union if value and code not in _SENDER_ONLY else [])
    elif number == signal.SIGCHLD:
        status = str(event.status) if code == _CLD_EXITED else facts.signal_name(event.status)
        members += [*sender, f"si_status={status}", f"si_utime={event.utime}", f"si_stime={event.stime}"]
    elif number == signal.SIGSYS:
        syscall, arch = value & 0xFFFFFFFF, value >> 32
        members.append(f"si_call_addr={hexadecimal(event.address)}")
        members.append(f"si_syscall={_call(arch, syscall)}, si_arch={_ARCHITECTURES.get(arch, f'{arch:#x}')}")
    elif number in _WITH_ADDRESS:
        members.append(f"si_addr={hexadecimal(event.address)}")
    else:
        members += (sender if event.sender_pid or event.sender_uid else []) + (union if value else [])
    return "{" + ", ".join(members) + "}"


# include/uapi/linux/audit.h
_ARCHITECTURES = {0xC000003E: "AUDIT_ARCH_X86_64", 0x40000003: "AUDIT_ARCH_I386", 0xC00000B7: "AUDIT_ARCH_AARCH64"}
_ABIS = {0xC000003E: "x86_64", 0x40000003: "i386", 0xC00000B7: "aarch64"}


def _call(arch: int, number: int) -> str:
    known = facts_of(_ABIS[arch]).calls.get(number) if arch in _ABIS else None
    return f"__NR_{known.name}" if known else f"{number:#x}"


def exit_text(status: int, facts: Facts) -> str:
    """Returns how a thread ended, from its status as wait(2) has it."""
    number = status & 0x7F
    if not number:
        return f"+++ exited with {status >> 8 & 0xFF} +++"
    dumped = " (core dumped)" if status & 0x80 else ""
    return f"+++ killed by {facts.signal_name(number)}{dumped} +++"
