"""What the engines deliver: calls entered and left, signals, exits. Times are CLOCK_MONOTONIC, in ns.

Memory that a call's arguments point to comes along as pieces, read at entry and at exit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

__all__ = [
    "Call",
    "Enter",
    "Event",
    "Executed",
    "Exit",
    "Exited",
    "Forked",
    "LostHere",
    "Memory",
    "Pieces",
    "Signal",
    "Stopped",
    "c_int",
    "path_at",
]


_PATH_MAX: Final = 4096


def c_int(value: int) -> int:
    """Returns the lower 32 bits of a register as a C int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class Memory(Protocol):
    """What a process' memory held at one moment, as far as it is known."""

    def read(self, address: int, size: int) -> bytes | None:
        """Returns up to ``size`` bytes from ``address`` on, fewer where no more is known; None where nothing is."""


class Pieces:
    """Memory that was read while the process ran: (address, bytes) pieces, which may overlap: a path may also be
    the first of the arguments, and is a longer piece then. Of pieces that hold as much, the last one counts.

    ``descriptors`` are the file descriptors that were looked up at the same moment, and what they were open on.
    """

    __slots__ = ("descriptors", "netlink", "pieces")

    def __init__(
        self,
        pieces: Iterable[tuple[int, bytes]] = (),
        descriptors: Mapping[int, str] = MappingProxyType({}),
        netlink: str = "",
    ) -> None:
        self.pieces: tuple[tuple[int, bytes], ...] = tuple(pieces)
        self.descriptors = descriptors
        self.netlink = netlink
        """Protocol of the netlink socket that the call is about, "" of other calls (socket_tables.py)."""

    def read(self, address: int, size: int) -> bytes | None:
        """See Memory."""
        found: bytes | None = None
        for start, data in reversed(self.pieces):
            offset = address - start
            if 0 <= offset < len(data) or (offset == 0 and not data):
                held = data[offset : offset + size]
                if len(held) == size:
                    return held
                if found is None or len(held) > len(found):
                    found = held
        return found


NOTHING = Pieces()


class Enter(NamedTuple):
    """A thread has entered a call. ``abi``: "x86_64", "x32", "i386", "aarch64"."""

    ts_ns: int
    pid: int
    tid: int
    abi: str
    nr: int
    args: tuple[int, ...]
    """Six, as in the registers: unsigned 64 bits (32 bits for i386)."""
    memory: Memory = NOTHING
    stack: int = 0
    """Its call stack, as an id of the engine's."""
    attached: bool = False
    """Whether it was already running when the engine attached, or goes on by restart_syscall(2) of the kernel."""
    stack_pointer: int = 0
    """0: not known. Of sigreturn(2), which has its frame there."""


def path_at(enter: Enter, address: int) -> str | None:
    """Returns the path that an argument points to, None if it could not be read.

    Bytes that are not UTF-8 are lone surrogates, as in os.fsdecode().
    """
    data = enter.memory.read(address, _PATH_MAX)
    return None if data is None else data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


class Exit(NamedTuple):
    """A thread's call has returned. ``ret`` is signed; -4095 to -1 are errors."""

    ts_ns: int
    pid: int
    tid: int
    ret: int
    memory: Memory = NOTHING
    injected: bool = False
    """Whether fault injection changed what the call returned or did."""
    delayed: bool = False
    """Whether fault injection delayed it."""


class Signal(NamedTuple):
    """A signal is delivered to a thread (siginfo_t of sigaction(2))."""

    ts_ns: int
    pid: int
    tid: int
    number: int
    code: int = 0
    errno: int = 0
    sender_pid: int = 0
    sender_uid: int = 0
    status: int = 0
    """Of SIGCHLD: exit status or signal."""
    utime: int = 0
    stime: int = 0
    """Of SIGCHLD: clock ticks."""
    address: int = 0
    """Of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP."""
    value: int = 0
    """Of timers and sigqueue()."""


class Stopped(NamedTuple):
    """A thread was stopped by a signal (ptrace only)."""

    ts_ns: int
    pid: int
    tid: int
    number: int


class Exited(NamedTuple):
    """A thread has ended. ``status`` is as wait(2) has it: exit code << 8, or the signal, + 128 with a core dump."""

    ts_ns: int
    pid: int
    tid: int
    status: int


class Forked(NamedTuple):
    """A thread has made another one, or a process (``child_pid == child_tid``)."""

    ts_ns: int
    pid: int
    tid: int
    child_pid: int
    child_tid: int


class Executed(NamedTuple):
    """A process runs another program. ``old_tid`` was the thread's number before: execve() makes it the leader's."""

    ts_ns: int
    pid: int
    tid: int
    old_tid: int
    exe: bytes = b""
    """The path of its file. In files of the ptrace engine."""
    arguments: bytes = b""
    """The beginning of its arguments, each with a zero byte. In files of the ptrace engine."""


class LostHere(NamedTuple):
    """``records`` were lost before this time, and after the event before."""

    ts_ns: int
    records: int


Event = Enter | Exit | Signal | Stopped | Exited | Forked | Executed | LostHere


class Call(NamedTuple):
    """A call with both its halves; ``exit`` is None while it runs, or where it never returned."""

    enter: Enter
    exit: Exit | None = None

    @property
    def failed(self) -> bool:
        """Whether it returned an error."""
        return self.exit is not None and -4096 < self.exit.ret < 0

    @property
    def dur_ns(self) -> int | None:
        """How long it took."""
        return None if self.exit is None else self.exit.ts_ns - self.enter.ts_ns
