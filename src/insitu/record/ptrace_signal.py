"""From siginfo_t, as ptrace(2) gives it, to a Signal (include/uapi/asm-generic/siginfo.h, of 64-bit machines)."""

from __future__ import annotations

import signal
import struct
from typing import Final

from insitu.syscalls.call import Signal

__all__ = ["signal_event"]

_HEAD: Final = struct.Struct("<iii4x")
_CHILD: Final = struct.Struct("<iIi4xqq")
_SENDER: Final = struct.Struct("<iIq")
_SYSCALL: Final = struct.Struct("<QiI")
_POLL: Final = struct.Struct("<qi")
_FAULTS: Final = (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGTRAP)
_BODY: Final = 16


def signal_event(ts_ns: int, pid: int, tid: int, info: bytes) -> Signal:
    """Returns the signal that ``info`` describes. Raises struct.error for fewer bytes than siginfo_t has."""
    number, errno, code = _HEAD.unpack_from(info)
    event = Signal(ts_ns, pid, tid, number, code, errno)
    if number == signal.SIGCHLD and code > 0:
        sender, uid, status, utime, stime = _CHILD.unpack_from(info, _BODY)
        return event._replace(sender_pid=sender, sender_uid=uid, status=status, utime=utime, stime=stime)
    if number in _FAULTS and 0 < code < 0x80:
        return event._replace(address=int.from_bytes(info[_BODY : _BODY + 8], "little"))
    if number == signal.SIGSYS and code > 0:
        address, nr, arch = _SYSCALL.unpack_from(info, _BODY)
        return event._replace(address=address, value=nr | arch << 32)
    if number == signal.SIGIO and code > 0:
        band, descriptor = _POLL.unpack_from(info, _BODY)
        return event._replace(value=band, status=descriptor)
    sender, uid, value = _SENDER.unpack_from(info, _BODY)
    return event._replace(sender_pid=sender, sender_uid=uid, value=value)
