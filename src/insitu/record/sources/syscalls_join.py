"""From the records of the script (syscalls_script.py) to events: memory with its halves, losses in their place."""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from insitu.kernel.ring_buffer import BUSY, DISCARDED, record_stride
from insitu.record.sources.syscalls_map_words import EXECVE
from insitu.syscalls.call import (
    NOTHING,
    Enter,
    Event,
    Executed,
    Exit,
    Exited,
    Forked,
    LostHere,
    Memory,
    Pieces,
    Signal,
    Stopped,
    c_int,
)
from insitu.syscalls.call_word import ABI_SHIFT, ATTACHED, NUMBER_MASK, SEQUENCE, abis_of, following, number_of
from insitu.syscalls.capture_words import stack_pointer_of
from insitu.syscalls.descriptors import descriptor_arguments, open_on
from insitu.syscalls.exec_arguments import missing_arguments
from insitu.syscalls.facts import facts_of
from insitu.syscalls.sockets import Sockets, State, netlink_word

__all__ = ["Joiner"]

_HEAD: Final = struct.Struct("<I4xIIQII")
_HEADER: Final = struct.Struct("<I")
_SIGNED: Final = 1 << 63
# Fields whose bytes follow all fields: the last one of a record.
_PARTS: Final = ("data", "path", "user")

_new: Final = tuple.__new__  # makes Enter and Exit in half the time that they take, as no field is named
_NO_DESCRIPTOR: Final = 0xFFFFFFFF
_NO_NETLINK: Final = (0, 0, "")
"""Number of a call of the thread's, its descriptor, and Pieces.netlink."""

Fields = tuple[int, ...]
Read = Callable[[int, int, int], bytes]
"""(thread, address, size) -> up to size bytes."""


class _Thread:
    """A thread's last call: its word, whether it is open, and pieces of memory that wait for their half."""

    __slots__ = (
        *("arguments", "began_ns", "dies", "first", "made", "memory", "missing", "netlink", "open", "pid"),
        *("pieces", "sequence", "signals", "stack"),
    )

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.sequence = 1
        self.dies = False
        self.signals: list[Signal] = []
        self.arguments = 0
        self.began_ns = 0
        self.missing = 0
        self.netlink = _NO_NETLINK
        self.open = 0
        self.first = 0
        self.made: list[int] = []
        self.memory: Pieces | None = None
        self.pieces: list[tuple[int, int, bytes]] = []
        self.stack = 0


class Joiner:
    """Turns records into events, in the order of the records."""

    def __init__(self, layout: Mapping[str, Any], read: Read = lambda tid, address, size: b"") -> None:
        """``layout`` describes the records: probe/runtime/event_layout.py. ``read`` reads the memory of a thread
        that runs, as far as it still can."""
        self._read = read
        self.descriptors: dict[int, dict[int, str]] = {}
        """What descriptors are open on, by process."""
        self.sockets = Sockets()
        self.describes = 0
        """Whether calls have what their descriptors are open on: 1 for -y, 2 for -yy."""
        self._abis = abis_of(str(layout["machine"]))
        self._close = facts_of(self._abis[0]).numbers["close"]
        self._threads: dict[int, _Thread] = {}
        self._stack_ids: dict[tuple[int, bytes], int] = {}
        self._kinds: dict[int, tuple[Callable[..., None], Callable[..., Any], int, bool]] = {}
        self.events: list[Event] = []
        self.malformed = 0
        handlers: dict[str, Callable[..., None]] = {
            "memory": self._memory,
            "stack": self._stack,
            "began": self._began,
            "enter": self._enter,
            "enter_short": self._enter_short,
            "enter_memory": self._enter_memory,
            "exit": self._exit,
            "exit_memory": self._exit,
            "descriptor": self._descriptor,
            "socket": self._socket,
            "netlink": self._netlink,
            "forked": self._forked,
            "executed": self._executed,
            "program": self._program,
            "executable": lambda *fields: None,  # for sessions
            "exited": self._exited,
            "signal": self._signal,
            "sent": self._sent,
            "stopped": self._stopped,
            "killed": self._killed,
        }
        for number, kind in layout["kinds"].items():
            fields = kind["fields"]
            shape = struct.Struct(f"<{len(fields)}Q")
            has_part = fields[-1]["name"] in _PARTS
            self._kinds[int(number)] = (handlers[kind["label"]], shape.unpack_from, shape.size, has_part)

    def add(self, data: bytes, at: int = 0, most: int = sys.maxsize) -> int:
        """Append the events of up to ``most`` whole records from ``at`` on to ``events``; returns where they end."""
        kinds, head, head_size = self._kinds, _HEAD.unpack_from, _HEAD.size
        size = len(data)
        end = size - head_size
        while at <= end and most:
            most -= 1
            length, number, _, ts_ns, tid, pid = head(data, at)
            if length & (BUSY | DISCARDED):
                at += record_stride(length & ~(BUSY | DISCARDED))
                continue
            fields_at = at + head_size
            at += record_stride(length)
            found = kinds.get(number)
            if found is None or fields_at + found[2] > size:
                self.malformed += 1
                continue
            handle, unpack, fields_size, has_part = found
            if has_part:
                *fields, part = unpack(data, fields_at)
                begin = fields_at + fields_size
                handle(ts_ns, pid, tid, *fields, data[begin : begin + part])
            else:
                handle(ts_ns, pid, tid, *unpack(data, fields_at))
        return at if at <= end else size

    def _thread(self, pid: int, tid: int) -> _Thread:
        found = self._threads.get(tid)
        if found is None:
            found = self._threads[tid] = _Thread(pid)
        return found

    def _lost(self, ts_ns: int, count: int) -> None:
        self.events.append(LostHere(ts_ns, count))

    # Pieces

    def _memory(self, ts_ns: int, pid: int, tid: int, call: int, address: int, size: int, data: bytes) -> None:
        thread = self._thread(pid, tid)
        if thread.open == call and thread.missing == address:
            self._late(thread, tid, address, size, data)
        thread.pieces.append((call, address, data))

    def _late(self, thread: _Thread, tid: int, address: int, size: int, data: bytes) -> None:
        """What the entry should have read: BPF reads no page that is not in memory, and some calls do not either."""
        data = data or self._read(tid, address, size)
        thread.missing = 0
        if data and thread.memory is not None:
            thread.memory.pieces += ((address, data),)

    def _began(self, ts_ns: int, pid: int, tid: int, call: int, at_ns: int) -> None:
        self._thread(pid, tid).began_ns = at_ns

    def _stack(self, ts_ns: int, pid: int, tid: int, call: int, addresses: bytes) -> None:
        stack = (pid, addresses)
        self._thread(pid, tid).stack = self._stack_ids.setdefault(stack, len(self._stack_ids) + 1)

    @property
    def stacks(self) -> list[tuple[int, bytes]]:
        """Stacks by id, from 1 on: the process, and the addresses as u64, innermost first."""
        return list(self._stack_ids)

    def _taken(self, thread: _Thread, call: int, address: int = 0, data: bytes = b"") -> Pieces:
        """The pieces that came in front of a half of this call, and its own; those of lost halves are dropped."""
        own = ((address, data),) if data else ()
        if not thread.pieces:
            return Pieces(own)
        found = [(at, piece) for word, at, piece in thread.pieces if word == call and piece]
        thread.pieces.clear()
        return Pieces((*found, *own))

    # Halves

    def _entered(
        self, ts_ns: int, pid: int, tid: int, nr: int, call: int, args: Fields, address: int = 0, data: bytes = b""
    ) -> None:
        thread = self._threads.get(tid) or self._thread(pid, tid)
        sequence = call >> SEQUENCE
        # A call that ran when we attached may have returned before the programs knew of it.
        lost = 1 if thread.open and not thread.open & ATTACHED else 0
        if sequence > thread.sequence + 1:
            lost += 2 * (sequence - thread.sequence - 1)
        elif sequence <= thread.sequence:  # another thread of that number: the end of the one before is lost
            lost += 1
        if lost:
            self._lost(ts_ns, lost)
        memory: Memory = NOTHING
        thread.memory = None
        thread.missing = 0 if data else address
        if address or thread.pieces:
            memory = thread.memory = self._taken(thread, call, address, data)
        abi = self._abis[call >> ABI_SHIFT & 3]
        nr = number_of(abi, nr)
        if thread.netlink[:2] != (sequence, args[0] & 0xFFFFFFFF):
            thread.netlink = _NO_NETLINK
        if self.describes or thread.netlink[2]:
            used = [c_int(args[index]) for index in descriptor_arguments(abi, nr)]
            pieces = thread.memory.pieces if thread.memory is not None else ()
            memory = thread.memory = Pieces(pieces, self._known(pid, used), thread.netlink[2])
            thread.made.clear()
        ts_ns, thread.began_ns = thread.began_ns or ts_ns, 0
        pointer = stack_pointer_of(abi, nr, thread.memory.pieces) if thread.memory is not None else 0
        fields = (ts_ns, pid, tid, abi, nr, args, memory, thread.stack, call & ATTACHED != 0, pointer)
        self.events.append(_new(Enter, fields))
        thread.stack = 0
        thread.arguments = args[1]
        thread.open, thread.sequence, thread.first = call, sequence, args[0] & 0xFFFFFFFF

    def _enter(self, ts_ns: int, pid: int, tid: int, nr: int, call: int, *args: int) -> None:
        self._entered(ts_ns, pid, tid, nr, call, args)

    def _enter_short(self, ts_ns: int, pid: int, tid: int, call: int, *args: int) -> None:
        self._entered(ts_ns, pid, tid, call & NUMBER_MASK, call, (*args, 0, 0, 0))

    def _enter_memory(self, ts_ns: int, pid: int, tid: int, call: int, *rest: Any) -> None:
        self._entered(ts_ns, pid, tid, call & NUMBER_MASK, call, rest[:6], rest[6], rest[7])

    def _exit(self, ts_ns: int, pid: int, tid: int, call: int, ret: int, address: int = 0, data: bytes = b"") -> None:
        thread = self._threads.get(tid) or self._thread(pid, tid)
        if thread.open != call:
            self._lost(ts_ns, 1 + 2 * max(0, (call >> SEQUENCE) - thread.sequence - 1) + bool(thread.open))
            thread.pieces.clear()
            thread.open, thread.sequence = 0, call >> SEQUENCE
            return
        memory = self._taken(thread, call, address, data) if address or thread.pieces else NOTHING
        if thread.made or thread.netlink[2]:
            memory = Pieces(getattr(memory, "pieces", ()), self._known(pid, thread.made), thread.netlink[2])
        ret = ret - 2 * _SIGNED if ret & _SIGNED else ret
        self.events.append(_new(Exit, (ts_ns, pid, tid, ret, memory, False, False)))
        thread.open = 0
        self._deliver_sent(thread, ts_ns)
        if call & (NUMBER_MASK | 3 << ABI_SHIFT) == self._close and not ret and pid in self.descriptors:
            self.descriptors[pid].pop(c_int(thread.first), None)

    # Descriptors

    def _descriptor(self, ts_ns: int, pid: int, tid: int, call: int, fd: int, *rest: Any) -> None:
        mode, device, inode, fd2, inode2, path = rest
        known, thread = self.descriptors.setdefault(pid, {}), self._thread(pid, tid)
        for number, its_inode in ((c_int(fd), inode), (fd2, inode2)):
            if number != _NO_DESCRIPTOR:
                known[number] = self._opened(mode, device, its_inode, os.fsdecode(path))
                if thread.open == call:
                    thread.made.append(number)

    def _opened(self, mode: int, device: int, inode: int, path: str) -> str:
        from insitu.syscalls.descriptor_text import file_text

        if stat.S_ISSOCK(mode):
            self.sockets.opened(inode, path)
        link = os.fsencode(open_on(mode, inode, path))
        deleted = link.endswith(b" (deleted)")
        numbers = device >> 20, device & 0xFFFFF  # include/linux/kdev_t.h
        return file_text(link, mode, numbers, deleted=deleted, level=self.describes)

    def _socket(self, ts_ns: int, pid: int, tid: int, *fields: Any) -> None:
        self.sockets.add(State(*fields[:-1]), fields[-1])

    def _netlink(self, ts_ns: int, pid: int, tid: int, call: int, fd: int, protocol: int, port: int) -> None:
        """What the messages of the call are that comes next."""
        self._thread(pid, tid).netlink = (following(call), fd, netlink_word(protocol, port))

    def _known(self, pid: int, numbers: Iterable[int]) -> dict[int, str]:
        """What descriptors of a process are open on."""
        found = self.descriptors.get(pid)
        return {each: self.sockets.text(found[each]) for each in numbers if each in found} if found else {}

    # Everything else

    def _forked(self, ts_ns: int, pid: int, tid: int, child_pid: int, child_tid: int) -> None:
        self._threads.pop(child_tid, None)  # an earlier thread of that number, whose end is lost
        if child_pid == child_tid and pid in self.descriptors:
            self.descriptors[child_pid] = dict(self.descriptors[pid])
        self.events.append(Forked(ts_ns, pid, tid, child_pid, child_tid))

    def _executed(self, ts_ns: int, pid: int, tid: int, call: int, old_tid: int, strings: bytes) -> None:
        if old_tid != tid and old_tid in self._threads:
            self._threads[tid] = self._threads.pop(old_tid)
        thread = self._thread(pid, tid)
        if thread.open == call and thread.memory is not None and strings:
            late = missing_arguments(thread.memory, thread.arguments, strings, 8 if not call >> ABI_SHIFT & 3 else 4)
            thread.memory.pieces += tuple(late)
        self.events.append(Executed(ts_ns, pid, tid, old_tid))

    def _program(self, ts_ns: int, pid: int, tid: int, call: int, path: bytes) -> None:
        """The path of an execve(), which may not have been in memory at its entry."""
        thread = self._thread(pid, tid)
        if thread.open == call and thread.memory is not None and thread.missing:
            thread.memory.pieces += ((thread.missing, path + b"\0"),)
            thread.missing = 0

    def _exited(self, ts_ns: int, pid: int, tid: int, call: int, status: int) -> None:
        if tid == pid and not status and self._executing(pid):
            return  # execve() of another thread ends it, which then has its number
        thread = self._threads.pop(tid, None) or _Thread(pid)
        self._deliver_sent(thread, ts_ns)
        missing = 2 * ((call >> SEQUENCE) - thread.sequence)
        if missing > 0:
            self._lost(ts_ns, missing - 1 + bool(thread.open))  # the last call may never have returned
        if tid == pid:
            self.descriptors.pop(pid, None)
        self.events.append(Exited(ts_ns, pid, tid, status))

    def _executing(self, pid: int) -> bool:
        return any(
            each.pid == pid and each.open and each.open & NUMBER_MASK in EXECVE for each in self._threads.values()
        )

    # Signals

    def _signal(self, ts_ns: int, pid: int, tid: int, *fields: int) -> None:
        self.events.append(_signal_event(ts_ns, pid, tid, fields))

    def _sent(self, ts_ns: int, pid: int, tid: int, to_tid: int, to_pid: int, fatal: int, *fields: int) -> None:
        """A signal that is not delivered: it is ignored, or kills its process. Traced by ptrace(2) it would be, once
        the thread's call has returned."""
        signal, thread = _signal_event(ts_ns, to_pid, to_tid, fields), self._thread(to_pid, to_tid)
        thread.dies |= bool(fatal)
        if thread.open:
            thread.signals.append(signal)
        else:
            self.events.append(signal)

    def _deliver_sent(self, thread: _Thread, ts_ns: int) -> None:
        self.events += [signal._replace(ts_ns=ts_ns) for signal in thread.signals]
        thread.signals.clear()

    def flush(self, ts_ns: int) -> None:
        """Append the signals that wait for the return of a call: the recording ends."""
        for thread in self._threads.values():
            self._deliver_sent(thread, ts_ns)

    def _stopped(self, ts_ns: int, pid: int, tid: int, number: int) -> None:
        self.events.append(Stopped(ts_ns, pid, tid, number))

    def _killed(self, ts_ns: int, pid: int, tid: int, call: int, ret: int) -> None:
        """The call returns for the signal that kills the process; in its other threads it never does."""
        if self._thread(pid, tid).dies:
            self._exit(ts_ns, pid, tid, call, ret)


def _signal_event(ts_ns: int, pid: int, tid: int, fields: Sequence[int]) -> Signal:
    number, code, errno, *rest = fields
    return Signal(ts_ns, pid, tid, number, c_int(code), c_int(errno), *rest)
