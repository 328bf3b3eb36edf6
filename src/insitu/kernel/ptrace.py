"""ptrace(2), and waiting for tracees. A tracee belongs to the thread that seized it: only that one may call these.

Sources: include/uapi/linux/ptrace.h, include/uapi/linux/audit.h, include/uapi/asm-generic/siginfo.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from typing import Final

__all__ = [
    "ENTRY",
    "EVENT_CLONE",
    "EVENT_EXEC",
    "EVENT_EXIT",
    "EVENT_FORK",
    "EVENT_SECCOMP",
    "EVENT_STOP",
    "EVENT_VFORK",
    "EVENT_VFORK_DONE",
    "EXIT",
    "O_EXITKILL",
    "O_FOLLOW",
    "O_TRACEEXIT",
    "O_TRACESECCOMP",
    "O_TRACE_THREADS",
    "SAMPLED_MASK",
    "SAMPLED_SP",
    "SECCOMP",
    "SYSCALL_STOP",
    "Registers",
    "Stops",
    "Waiter",
    "continue_",
    "detach",
    "event_message",
    "interrupt",
    "listen",
    "seize",
    "signal_info",
    "syscall",
]

_CONT: Final = 7
_POKEUSER: Final = 6
_DETACH: Final = 17
_SYSCALL: Final = 24
_GETEVENTMSG: Final = 0x4201
_GETSIGINFO: Final = 0x4202
_GETREGSET: Final = 0x4204
_SEIZE: Final = 0x4206
_INTERRUPT: Final = 0x4207
_LISTEN: Final = 0x4208
_GET_SYSCALL_INFO: Final = 0x420E

_O_TRACESYSGOOD: Final = 0x01
_O_TRACEFORK: Final = 0x02
_O_TRACEVFORK: Final = 0x04
_O_TRACECLONE: Final = 0x08
_O_TRACEEXEC: Final = 0x10
O_TRACEEXIT: Final = 0x40
O_TRACESECCOMP: Final = 0x80
O_EXITKILL: Final = 0x100000
O_FOLLOW: Final = _O_TRACESYSGOOD | _O_TRACEFORK | _O_TRACEVFORK | _O_TRACECLONE | _O_TRACEEXEC
"""Options that trace children and threads too, and tell stops at calls from SIGTRAP."""
O_TRACE_THREADS: Final = _O_TRACECLONE | _O_TRACEEXEC
"""Options that trace threads too, and report exec."""

EVENT_FORK: Final = 1
EVENT_VFORK: Final = 2
EVENT_CLONE: Final = 3
EVENT_EXEC: Final = 4
EVENT_VFORK_DONE: Final = 5
EVENT_EXIT: Final = 6
EVENT_SECCOMP: Final = 7
EVENT_STOP: Final = 128

SYSCALL_STOP: Final = 5 | 0x80
"""The signal of stops at a call's entry and exit: SIGTRAP, marked by PTRACE_O_TRACESYSGOOD."""

ENTRY: Final = 1
EXIT: Final = 2
SECCOMP: Final = 3
"""PTRACE_SYSCALL_INFO_*: ``Stops.op``."""

SAMPLED_MASK: Final = 0xFF01FF
"""The bits of perf_event_attr.sample_regs_user that Registers.as_samples() returns, and where SP is among them."""
SAMPLED_SP: Final = 7

_BLOCKING: Final = 0x40000000 | 0x20000000  # __WALL, __WNOTHREAD
_POLLING: Final = _BLOCKING | os.WNOHANG
_NT_PRSTATUS: Final = 1
_SIGINFO_BYTES: Final = 128
_INFO: Final = struct.Struct("<B3xIQQ7QII")  # struct ptrace_syscall_info, of an entry or a seccomp stop
_EXIT_INFO: Final = struct.Struct("<B3xIQQqB")
_ABIS: Final = {0xC000003E: "x86_64", 0x40000003: "i386", 0xC00000B7: "aarch64"}  # AUDIT_ARCH_*
_X32_BIT: Final = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
# ptrace(2) never waits. Were the interpreter's lock released for it, another thread would take that, and keep it for
# milliseconds, several times at each stop.
_ptrace = ctypes.PyDLL(None, use_errno=True).ptrace
_ptrace.restype = ctypes.c_long
_waitpid = _libc.waitpid
# These are called at every stop, twice as fast where there are no argtypes to check: requests and thread ids are
# C ints, addresses and data have to be given as c_void_p.
_NOTHING: Final = ctypes.c_void_p(0)


def _request(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    result: int = _ptrace(request, tid, ctypes.c_void_p(address), ctypes.c_void_p(data))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def seize(tid: int, options: int) -> None:
    """Become the tracer of a thread, without stopping it. Raises OSError (EPERM, ESRCH)."""
    _request(_SEIZE, tid, 0, options)


def interrupt(tid: int) -> None:
    """Stop a tracee with EVENT_STOP. Raises ProcessLookupError."""
    _request(_INTERRUPT, tid)


def syscall(tid: int, number: int = 0) -> bool:
    """Let a tracee run until the next entry to or exit from a call, with a signal delivered.

    Returns whether it was there: a stopped tracee may be killed at any time, which waiting then reports.
    """
    return bool(_ptrace(_SYSCALL, tid, _NOTHING, ctypes.c_void_p(number) if number else _NOTHING) >= 0)


def continue_(tid: int, number: int = 0) -> bool:
    """Let a tracee run until its next event or signal, as `syscall` does."""
    return bool(_ptrace(_CONT, tid, _NOTHING, ctypes.c_void_p(number) if number else _NOTHING) >= 0)


def listen(tid: int) -> bool:
    """Leave a tracee in its group stop until SIGCONT, as `syscall` does."""
    return bool(_ptrace(_LISTEN, tid, _NOTHING, _NOTHING) >= 0)


def detach(tid: int, number: int = 0) -> bool:
    """Let a tracee run untraced, with a signal delivered, as `syscall` does."""
    return bool(_ptrace(_DETACH, tid, _NOTHING, ctypes.c_void_p(number) if number else _NOTHING) >= 0)


def event_message(tid: int) -> int:
    """Returns what an event is about: the new thread's id, or after exec the former id of the calling thread,
    at an end the status, as wait(2) has it.

    Raises ProcessLookupError.
    """
    message = ctypes.c_ulong()
    _request(_GETEVENTMSG, tid, 0, ctypes.addressof(message))
    return message.value


def signal_info(tid: int) -> bytes:
    """Returns the siginfo_t (128 bytes) of the signal that is about to be delivered. Raises OSError."""
    buffer = ctypes.create_string_buffer(_SIGINFO_BYTES)
    _request(_GETSIGINFO, tid, 0, ctypes.addressof(buffer))
    return buffer.raw


class Waiter:
    """Waits for the tracees of the calling thread, and for no other children."""

    def __init__(self) -> None:
        self._status = ctypes.c_int()
        self._place = ctypes.byref(self._status)

    def wait(self, *, block: bool) -> tuple[int, int]:
        """Returns the thread that has stopped or ended, and its status as wait(2) has it.

        Thread 0: none has, or a signal came while waiting. Raises ChildProcessError if there are none.
        """
        tid: int = _waitpid(-1, self._place, _BLOCKING if block else _POLLING)
        if tid > 0:
            return tid, self._status.value
        code = ctypes.get_errno() if tid else errno.EINTR
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
        return 0, 0


class Stops:
    """What a tracee that has stopped at a call is about to do, or has done: PTRACE_GET_SYSCALL_INFO."""

    def __init__(self) -> None:
        self._buffer = bytearray(_INFO.size)
        self._c_buffer = (ctypes.c_char * _INFO.size).from_buffer(self._buffer)
        self._address = ctypes.c_void_p(ctypes.addressof(self._c_buffer))
        self._size = ctypes.c_void_p(_INFO.size)

    def read(self, tid: int) -> int:
        """Read the state of a stopped thread; returns ENTRY, EXIT, SECCOMP, 0 (another stop) or -1 (it has ended)."""
        if _ptrace(_GET_SYSCALL_INFO, tid, self._size, self._address) < 0:
            return -1
        return self._buffer[0]

    def call(self) -> tuple[str, int, tuple[int, ...], int, int]:
        """Returns, after ENTRY or SECCOMP: ABI, number, six arguments, instruction and stack pointers."""
        _, arch, ip, sp, nr, a, b, c, d, e, f, _, _ = _INFO.unpack(self._buffer)
        abi = _ABIS.get(arch, "")
        if abi == "x86_64" and nr & _X32_BIT and nr < 1 << 31:
            abi = "x32"
        return abi, nr, (a, b, c, d, e, f), ip, sp

    def abi(self) -> str:
        """Returns the ABI of the thread, whatever it has stopped for."""
        return _ABIS.get(int.from_bytes(self._buffer[4:8], "little"), "")

    def result(self) -> int:
        """Returns, after EXIT, what the call has returned: -4095 to -1 are errors."""
        result: int = _EXIT_INFO.unpack_from(self._buffer)[4]
        return result


class Registers:
    """The registers that hold a call's number, arguments and result, of a stopped tracee."""

    # struct user_regs_struct (arch/x86/include/asm/user_64.h) and its 32-bit form (user_32.h): words of each
    _SIZE: Final = 27 * 8
    _RAX: Final = 10
    _ORIG_RAX: Final = 15
    _ARGUMENTS: Final = (14, 13, 12, 7, 9, 8)
    _NARROW_SIZE: Final = 17 * 4
    _ORIG_EAX: Final = 11
    _NARROW_ARGUMENTS: Final = (0, 1, 2, 3, 4, 5)
    # In the order of enum perf_event_x86_regs: AX BX CX DX SI DI BP SP IP, R8 to R15.
    _SAMPLED: Final = (10, 5, 11, 12, 13, 14, 4, 19, 16, 9, 8, 7, 6, 3, 2, 1, 0)
    _NARROW_SAMPLED: Final = (6, 0, 1, 2, 3, 4, 5, 15, 12)

    def __init__(self) -> None:
        self._words = (ctypes.c_uint64 * 27)()
        self._narrow = (ctypes.c_uint32 * 17).from_buffer(self._words)
        self._iovec = (ctypes.c_uint64 * 2)(ctypes.addressof(self._words), self._SIZE)

    def read(self, tid: int) -> tuple[int, ...]:
        """Returns struct user_regs_struct as words: 27, of a 32-bit program 17. Raises OSError."""
        self._iovec[1] = self._SIZE
        _request(_GETREGSET, tid, _NT_PRSTATUS, ctypes.addressof(self._iovec))
        return tuple(self._narrow if self._iovec[1] == self._NARROW_SIZE else self._words)

    def call(self, tid: int) -> tuple[str, int, tuple[int, ...]] | None:
        """Returns ABI, number and arguments of the call that a thread was in when it stopped, None if in none.

        Raises OSError.
        """
        words = self.read(tid)
        if len(words) == len(self._narrow):
            nr = words[self._ORIG_EAX]
            return None if nr >> 31 else ("i386", nr, tuple(words[at] for at in self._NARROW_ARGUMENTS))
        nr = words[self._ORIG_RAX]
        abi = "x32" if nr & _X32_BIT else "x86_64"
        return None if nr >> 31 else (abi, nr, tuple(words[at] for at in self._ARGUMENTS))

    def as_samples(self, tid: int) -> tuple[int, ...]:
        """Returns a stopped thread's registers as PERF_SAMPLE_REGS_USER has those of SAMPLED_MASK. Raises OSError."""
        words = self.read(tid)
        if len(words) == len(self._narrow):
            return (
                *(words[at] for at in self._NARROW_SAMPLED),
                *[0] * (len(self._SAMPLED) - len(self._NARROW_SAMPLED)),
            )
        return tuple(words[at] for at in self._SAMPLED)

    @property
    def narrow(self) -> bool:
        """Whether what was read last is of a 32-bit program."""
        return self._iovec[1] == self._NARROW_SIZE

    def set_call(self, tid: int, nr: int) -> bool:
        """Make the call that is about to begin another one; -1: none. Returns whether the tracee was there."""
        return self._poke(tid, self._ORIG_RAX, nr)

    def set_result(self, tid: int, result: int) -> bool:
        """Change what the call that is about to return returns. Returns whether the tracee was there."""
        return self._poke(tid, self._RAX, result)

    def _poke(self, tid: int, word: int, value: int) -> bool:
        place, data = ctypes.c_void_p(8 * word), ctypes.c_void_p(value & 0xFFFFFFFFFFFFFFFF)
        return bool(_ptrace(_POKEUSER, tid, place, data) >= 0)
